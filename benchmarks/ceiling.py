"""How much of a map's top k survives an attack that moves x alone, and leaves every gradient as it is.

    python benchmarks/ceiling.py MODEL.keras --out benchmarks/results/ceiling.json

IG from a baseline of 0 is what a network sees of x, x itself or what its threshold leaves, times a mean gradient.
Here the k highest pixels lose ε and the others gain it, within the valid range, and the gradient stays: what
would be left of this network's top k if its mean gradients did not move at all. It is no bound for other networks: one
whose k highest pixels stand out more, or whose gradients move against x, keeps more.
"""

import argparse
import json
from pathlib import Path

import keras
import numpy as np
from machine import describe

import keras_rar
from keras_rar.evaluation.intervals import mean_with_interval
from keras_rar.metrics import topk_intersection
from keras_rar.paper import datasets

EPSILON, K = 0.1, 100


def moved(model, x, maps):
    """The maps where x alone has moved."""
    highest = maps >= np.sort(maps, axis=1)[:, -K, None]
    x_moved = np.where(highest, np.maximum(x - EPSILON, 0), np.minimum(x + EPSILON, 1))
    before, after = x, x_moved
    if not model.layers[0].weights:
        before, after = (model.layers[0](z.reshape(-1, 28, 28, 1)).numpy().reshape(x.shape) for z in (x, x_moved))
    return maps * np.divide(after, before, out=np.zeros_like(x), where=before > 1e-6)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    x, y = datasets.load("fashion_mnist", "test", data_dir=arguments.data_dir)
    results = {"machine": describe()}
    for path in arguments.models:
        model = keras.saving.load_model(path, compile=False)
        rows = np.flatnonzero(model.predict(x[:1000], verbose=0).argmax(axis=1) == y[:1000])[: arguments.images]
        maps = np.abs(keras_rar.saliency_map(model, x[rows], y[rows], m=100, normalize=False)).reshape(len(rows), -1)
        found = np.asarray(topk_intersection(maps, moved(model, x[rows].reshape(len(rows), -1), maps), k=K))
        name = "/".join(path.parts[-2:])
        results[name] = mean_with_interval(found.astype("float64"), seed=0)
        print(name, results[name], flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
