"""What the last runs of `strong`, in the map that is reported, add on a network whose IG needs many nodes.

    python benchmarks/last_run.py --out benchmarks/results/last_run.json

The adversarially trained ResNet-20 of `benchmarks/trained`, training images of Fashion-MNIST: the two ascents of the
ensemble, from the input alone, with 10 nodes while they search, without and with their last runs, and the plain top-k
attack of as many steps on the map of 100 nodes.
"""

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np
from machine import describe

from keras_rar.attacks import EnsembleAttack, TopKAttack
from keras_rar.paper import datasets

TRAINED = Path(__file__).parent / "trained"
MEASURES = ("topk_intersection", "kendall_tau", "spearman_rho")


class Ascents(EnsembleAttack):
    """The ascents of the ensemble alone."""

    def members(self, shape):
        return ("topk", "rank")


class WithoutLast(Ascents):
    """As they were before they ended in the map that is reported."""

    def _ends_as_reported(self, name):
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    network = keras.saving.load_model(TRAINED / "resnet20_madry.keras", compile=False)
    x, y = datasets.load("fashion_mnist", "train")
    x, y = x[: 4 * arguments.images], y[: 4 * arguments.images]
    rows = np.flatnonzero(network.predict(x, verbose=0).argmax(axis=1) == y)[: arguments.images]
    options = {"k": 100, "steps": arguments.steps, "rule": "right", "m": 100, "restarts": 0}
    attacks = {
        "without": WithoutLast(0.1, **options),
        "with": Ascents(0.1, **options),
        "plain": TopKAttack(epsilon=0.1, step_size=0.01, keep="topk_intersection", **options),
    }
    results = {"machine": describe(), "images": arguments.images}
    for name, attack in attacks.items():
        start = time.process_time()
        found = attack(network, x[rows], y[rows])
        results[name] = {measure: np.round(found.scores[measure].astype(float), 4).tolist() for measure in MEASURES}
        results[name]["seconds per image"] = round((time.process_time() - start) / len(rows), 1)
        print(name, {measure: float(np.mean(results[name][measure])) for measure in MEASURES}, flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
