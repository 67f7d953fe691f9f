"""Where Kendall's tau is lost under attack: on the background of exact zeros, or among the pixels of the object.

    python benchmarks/background.py plain.keras threshold.keras --out benchmarks/results/background.json

The top-k attack on the first correct images of the 5,000 that trials hold out. Then tau is taken again with the
background of the perturbed map at 0, as it is in the clean one, and with the object's pixels in their clean order.
"""

import argparse
import json
from pathlib import Path

import keras
import numpy as np
from machine import describe
from scipy import stats
from study import VALIDATION, split


def parts(clean, perturbed, background):
    """Tau; with the background at 0; with the object in order; among the object's pixels alone."""
    zeroed, ordered = perturbed.copy(), perturbed.copy()
    zeroed[background] = 0
    ranks = stats.rankdata(clean[~background], method="ordinal").astype(int) - 1
    ordered[~background] = np.sort(perturbed[~background])[ranks]
    pairs = ((clean, perturbed), (clean, zeroed), (clean, ordered), (clean[~background], perturbed[~background]))
    return [stats.kendalltau(*pair).statistic for pair in pairs]


def measure(model, images):
    x, y = split()[1]
    y_predicted = model.predict(x[: 2 * images], verbose=0).argmax(axis=1)
    rows = np.flatnonzero(y_predicted == y[: 2 * images])[:images]
    found = VALIDATION.attribution_attack(784)(model, x[rows], y[rows])
    flat = [array.reshape(len(rows), -1) for array in (found.map_before, found.map_after, x[rows] == 0)]
    values = np.mean([parts(*row) for row in zip(*flat, strict=True)], axis=0).tolist()
    names = ("tau", "tau, background at 0", "tau, object in order", "tau of the object alone")
    return {**dict(zip(names, values, strict=True)), "background": float(np.mean(flat[2])), "images": len(rows)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = {"machine": describe()}
    for path in arguments.models:
        results[path.stem] = measure(keras.saving.load_model(path, compile=False), arguments.images)
        print(path.stem, results[path.stem], flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
