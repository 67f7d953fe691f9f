"""Does IG-SUM-NORM keep more of the maps than adversarial training of the same accuracy? Trainings of many lengths.

    python benchmarks/claim.py --out FOLDER                    # every point that FOLDER does not have yet: a day
    python benchmarks/claim.py --out FOLDER --methods madry    # the curve that the others are compared with: an hour
    python benchmarks/claim.py --out FOLDER --table

The paper's network on all of Fashion-MNIST, without a threshold. Adversarial training loses maps as it goes on, so
methods are compared at equal adversarial accuracy: a method's point with the line between the points of `madry` around
it, which are its curve along rate and epochs. Measured on test images, 1,000 predictions and 48 maps, by the default
attack. Nothing is chosen by these numbers.
"""

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np
from machine import describe

import keras_rar
from keras_rar.evaluation.intervals import with_interval
from keras_rar.paper import datasets, networks
from keras_rar.paper.precision import fastest_policy
from keras_rar.training import Phase, train

INNER = {"epsilon": 0.1, "steps": 5, "step_size": 0.04}
EXACT = {"m": 10, "attack_m": 5, "rule": "midpoint"}
CYCLE = {"learning_rate": 2e-3, "schedule": "one_cycle", "average": True}
SLOW = {"learning_rate": 1e-4, "schedule": "constant", "average": False}  # the paper's rate
MEASURES = ("natural_accuracy", "adversarial_accuracy", "topk_intersection", "kendall_tau")


def points():
    """Name -> method, its options, epochs, settings of the rate, seed; what decides most comes first."""
    found = {}
    weights = {"madry": {"": {}}}
    for method, weight in (("ig_norm", "factor"), ("ig_sum_norm", "beta")):
        weights[method] = {f", {weight} {value:g}": {weight: value} for value in (1.0, 0.1, 10.0)}
    for epochs in (4, 2, 1, 8):
        for method, options in weights.items():
            for said, weight in options.items():
                found[f"{method}{said}, {epochs} epochs"] = (method, weight, epochs, CYCLE, 0)
    for seed in (1, 2):
        for method, options in weights.items():
            said, weight = next(iter(options.items()))
            found[f"{method}{said}, 4 epochs, seed {seed}"] = (method, weight, 4, CYCLE, seed)
    for method, options in weights.items():
        said, weight = next(iter(options.items()))
        for epochs in (4, 16):
            found[f"{method}{said}, {epochs} epochs at 1e-4"] = (method, weight, epochs, SLOW, 0)
        if method != "madry":
            found[f"{method}{said}, 4 epochs, exact nodes"] = (method, {**weight, **EXACT}, 4, CYCLE, 0)
    return found


def measured(method, options, epochs, rate, seed, small):
    """One point: the accuracies and the maps of a network that is trained for it, and the seconds of the training."""
    (x, y), (x_test, y_test) = datasets.load("fashion_mnist_mini" if small else "fashion_mnist")
    settings = {"epsilon": 0.1, "steps": 100, "m": 20, "k": 100, "attacked": 48, "other_maps": ("gradient",)}
    if small:
        x, y, x_test, y_test = x[:200], y[:200], x_test[:50], y_test[:50]
        settings |= {"steps": 2, "m": 2, "attacked": 2, "noise": 0, "faithful": 0, "other_maps": (), "pgd_steps": 2}
    keras.config.set_dtype_policy(fastest_policy())  # bfloat16, where the processor is fast in it
    keras.utils.set_random_seed(seed)
    network = networks.cnn(initializer="glorot_uniform")
    start = time.process_time()
    phase = Phase(method, epochs, {**INNER, **options})
    train(network, x, y, [phase], batch_size=50, seed=seed, verbose=0, **rate)
    seconds = time.process_time() - start
    keras.config.set_dtype_policy("float32")
    (exact := networks.cnn()).set_weights(network.get_weights())
    report = keras_rar.evaluate_robustness(exact, x_test[:1000], y_test[:1000], progress=False, **settings)
    return {"seconds": round(seconds), "summary": report.summary(), "warnings": report.warnings}


def at_equal_accuracy(found, rows):
    """The top-k intersection of a row minus that of `madry` at its adversarial accuracy; `None` beyond the curve."""
    accuracy, maps = (lambda row, name=name: row["summary"][name]["mean"] for name in MEASURES[1:3])
    curve = sorted((accuracy(row), maps(row)) for name, row in rows.items() if name.startswith("madry"))
    if not curve or not curve[0][0] <= accuracy(found) <= curve[-1][0]:
        return None
    return maps(found) - float(np.interp(accuracy(found), *zip(*curve, strict=True)))


def table(rows):
    """Markdown, in the order of adversarial accuracy."""
    lines = [
        "| | processor time | natural accuracy | adversarial accuracy | top-k intersection | Kendall's tau "
        "| top-k − Madry of equal accuracy |",
        "|---" * 7 + "|",
    ]
    for name, row in sorted(rows.items(), key=lambda pair: pair[1]["summary"]["adversarial_accuracy"]["mean"]):
        cells = [with_interval(measure, row["summary"][measure]) for measure in MEASURES]
        difference = None if name.startswith("madry") else at_equal_accuracy(row, rows)
        said = "" if difference is None else f"{100 * difference:+.1f} points".replace("-", "−")
        lines.append(f"| {name} | {row['seconds']} s | {' | '.join(cells)} | {said} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["madry", "ig_norm", "ig_sum_norm"])
    parser.add_argument("--most", type=float, default=np.inf, help="epochs; longer trainings are left out")
    parser.add_argument("--out", type=Path, default=Path("claim"))
    parser.add_argument("--table", action="store_true", help="print what the folder holds, run nothing")
    parser.add_argument("--smoke", action="store_true", help="a run of seconds that only shows that it works")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "claim.json"
    content = json.loads(file.read_text()) if file.exists() else {"rows": {}}
    for name, (method, options, epochs, rate, seed) in points().items():
        left_out = arguments.table or method not in arguments.methods or epochs > arguments.most
        if left_out or name in content["rows"]:
            continue
        content["rows"][name] = measured(method, options, epochs, rate, seed, arguments.smoke)
        content["machine"] = describe()
        file.write_text(json.dumps(content, indent=1) + "\n")
        print(name, {m: round(content["rows"][name]["summary"][m]["mean"], 3) for m in MEASURES}, flush=True)
    print(table(content["rows"]))


if __name__ == "__main__":
    main()
