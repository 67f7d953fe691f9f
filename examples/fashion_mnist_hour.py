"""Robust predictions and explanations within an hour: Fashion-MNIST, the paper's network, two cores.

Trains, then measures with the paper's protocol, which takes longer than the training. Started again, it goes on where
it was stopped.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import keras

import keras_rar
from keras_rar.paper import datasets, networks
from keras_rar.paper.training import Phase, train
from keras_rar.report import markdown_table

PAPER = {"natural_accuracy": 85.44, "adversarial_accuracy": 70.26, "topk_intersection": 72.08, "kendall_tau": 0.6747}
THRESHOLD = 0.102  # somewhat more than ε
WHOLE = {"steps": 5, "step_size": 0.04}  # in all 2 ε: across the ball, from anywhere in it


def phases(quick, threshold):
    """Adversarial training, then IGR of maps from the threshold on, so that no segment crosses it."""
    epochs, factor = (2, 24.0) if quick else (5, 64.0)
    maps = {"ascend": "objective", "factor": factor, "baseline": threshold or 0.0}
    return [Phase("madry", 4, WHOLE), Phase("igr", epochs, {**WHOLE, **maps})]


def network(policy, threshold):
    keras.config.set_dtype_policy(policy)
    return networks.cnn(initializer="glorot_uniform", threshold=threshold)


def table(out):
    """All results in a folder as Markdown."""
    results = {path.parent.name: json.loads(path.read_text()) for path in sorted(out.glob("*/result.json"))}
    named = {f"{name}, {result['seconds'] / 60:.0f} minutes": result["summary"] for name, result in results.items()}
    return markdown_table(named)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--attacked", type=int, default=300, help="test images whose map is attacked")
    parser.add_argument("--dtype", default="mixed_bfloat16", help="policy of the training; the result is in float32")
    parser.add_argument("--data-dir", type=Path, help="folder of the official files; found or downloaded by default")
    parser.add_argument("--out", type=Path, default=Path("fashion_mnist_hour"))
    parser.add_argument("--quick", action="store_true", help="train for 12 minutes only")
    parser.add_argument("--plain", action="store_true", help="without the threshold, as in the paper")
    parser.add_argument("--smoke", action="store_true", help="a run of seconds that only shows that it works")
    parser.add_argument("--table", action="store_true", help="print all results in --out, run nothing")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(arguments.out))
        return
    threshold = None if arguments.plain else THRESHOLD
    plan = phases(arguments.quick, threshold)
    name, changes = "fashion_mnist", {"attacked": arguments.attacked}
    if arguments.smoke:
        name, plan = "fashion_mnist_mini", [dataclasses.replace(phase, epochs=1) for phase in plan]
        changes = {"attacked": 4, "steps": 2, "m": 4, "pgd_steps": 2}
    (x, y), (x_test, y_test) = datasets.load(name, data_dir=arguments.data_dir)
    if arguments.smoke:
        x, y, x_test, y_test = x[:200], y[:200], x_test[:20], y_test[:20]
    kind = ("plain_" if arguments.plain else "") + ("quick" if arguments.quick else "seed")
    folder = arguments.out / f"{kind}{arguments.seed}"
    trained = network(arguments.dtype, threshold)
    seconds = train(trained, x, y, plan, dataset="fashion_mnist", seed=arguments.seed, folder=folder)
    print(f"Training took {seconds / 60:.1f} minutes.")
    model = network("float32", threshold)
    model.set_weights(trained.get_weights())
    model.save(folder / "model.keras")
    report = keras_rar.evaluate_robustness(
        model, x_test, y_test, protocol="paper", dataset="fashion_mnist", path=folder / "report.npz", **changes
    )
    print(f"{report.to_markdown()}\nThe paper's IG-SUM-NORM: {PAPER}")
    report.plot().savefig(folder / "report.png", dpi=150)
    result = {"seconds": seconds, "protocol": report.protocol, "summary": report.summary()}
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
