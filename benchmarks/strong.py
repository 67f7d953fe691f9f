"""The ensemble against the attack of the paper's protocol, on training images: which member is the worst, how often.

`python benchmarks/strong.py natural=examples/networks/natural.keras --count 8 --out strong.json`.
Each network is added to the file when it is measured. Both attacks have the twin of `--beta`, so that the difference is
the attack's.

`python benchmarks/strong.py nsfwjs=networks/nsfwjs.keras --estimate --out benchmarks/results/strong_224.json`: what an
image costs under each protocol, from the time of a few steps, for networks on which the whole would take too long.
"""

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np

from keras_rar.attacks import EnsembleAttack, TopKAttack
from keras_rar.paper import datasets

PASSES = {"strong": 102_000, "paper": 60_000, "quick": 3_600}  # for one map: see tests/evaluation/test_protocols.py
MEASURES = ("topk_intersection", "kendall_tau", "spearman_rho")


def correct_images(network, count):
    """The last training images that the network gets right: settings may be chosen on them, results are not of them."""
    (x, y), _ = datasets.load("fashion_mnist_mini" if network.count_params() < 50_000 else "fashion_mnist")
    x, y = x[-100:], y[-100:]
    right = network.predict(x, verbose=0).argmax(axis=1) == y
    return x[right][:count], y[right][:count]


def means(scores):
    return {measure: round(float(np.nanmean(scores[measure])), 3) for measure in MEASURES}


def timed(attack, network, x, y):
    """What it finds, and the processor seconds of one image."""
    began = time.process_time()
    found = attack(network, x, y)
    return found, round((time.process_time() - began) / len(x), 2)


def measured(network, count, beta):
    x, y = correct_images(network, count)
    options = {"epsilon": 0.1, "k": 100, "softplus_beta": beta}
    found, strong_seconds = timed(EnsembleAttack(**options), network, x, y)
    paper, paper_seconds = timed(TopKAttack(**options, step_size=0.01), network, x, y)
    quick_seconds = timed(TopKAttack(**options, steps=30, m=20), network, x, y)[1]
    seconds = {"strong": strong_seconds, "paper": paper_seconds, "quick": quick_seconds}
    worst = {
        measure: {name: int(np.sum(found.worst[measure] == index)) for index, name in enumerate(found.members)}
        for measure in MEASURES
    }
    weaker = {m: int(np.sum(found.scores[m] > paper.scores[m] + 1e-6)) for m in MEASURES}
    return {
        "images": len(x),
        "softplus_beta": beta,
        "strong": means(found.scores),
        "paper": means(paper.scores),
        "members": {name: means(scores) for name, scores in found.member_scores.items()},
        "worst": worst,
        "images on which paper was worse than strong": weaker,
        "queries": found.queries,
        "processor seconds an image, with compilation": seconds,
    }


def estimated(network, nodes=20, few=(1, 3)):
    """Processor seconds of one image under each protocol: the passes that it takes, times those of a pass in a step."""
    x = np.random.default_rng(0).uniform(size=(1, *network.input_shape[1:])).astype("float32")
    y = network.predict(x, verbose=0).argmax(axis=1)
    runs = [
        TopKAttack(k=1000, epsilon=0.03, steps=steps, m=nodes, softplus_beta=10.0, step_size=0.001) for steps in few
    ]
    for _ in range(2):  # the first compiles
        seconds = [timed(run, network, x, y)[1] for run in runs]
    each = (seconds[1] - seconds[0]) / (few[1] - few[0]) / (6 * nodes)
    return {
        "input": list(network.input_shape[1:]),
        "processor seconds of a pass": round(each, 4),
        "processor minutes of an image, estimated": {name: round(each * n / 60) for name, n in PASSES.items()},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--beta", type=float, default=10.0)
    parser.add_argument("--estimate", action="store_true", help="only the cost of an image, from a few steps")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/strong.json"))
    arguments = parser.parse_args()
    for name, file in (pair.split("=", 1) for pair in arguments.networks):
        results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
        network = keras.models.load_model(file, compile=False)
        found = estimated(network) if arguments.estimate else measured(network, arguments.count, arguments.beta)
        results[name] = found
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")
        print(name, json.dumps(results[name]))
