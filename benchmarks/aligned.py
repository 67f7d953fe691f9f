"""Do maps of robust networks lie more on what people would point at? The share of a map on the object of the image.

    python benchmarks/aligned.py                 # measure what is not measured yet, print the tables
    python benchmarks/aligned.py --table         # the tables of the results file

The networks of `examples/networks`, on the test images in the package; maps of the label's logit. Two regions stand for
what people point at: the pixels that are not black, and the mean shape of the class, where the mean of its training
images exceeds half its maximum. Controls are a map that is the same everywhere, the plain input, networks that were not
trained, and the mean shape of another class. Some minutes; it goes on where it was stopped, by the values of each
image in an `.npz` beside the results.
"""

import argparse
import json
import sys
from pathlib import Path

import keras
import numpy as np
from machine import describe
from shares import cell, share_on

import keras_rar
from keras_rar.core.saliency_methods import IntegratedGradients
from keras_rar.evaluation.intervals import mean_with_interval
from keras_rar.paper import datasets

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import try_train

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "aligned.json"
NETWORKS = ("natural", "madry", "ig_norm", "ig_sum_norm", "ig_topk")
SEEDS = (0, 1, 2)  # of the networks that are not trained
NODES = keras_rar.quadrature.midpoint(20)
MAPS = {
    "gradient": "gradient",
    "SmoothGrad": "smoothgrad",
    "IG from grey": IntegratedGradients(NODES, baseline=0.5),
    "IG from black": IntegratedGradients(NODES),
}
REGIONS = {
    "object": "The pixels that are not black",
    "shape": "The mean shape of the class",
    "other": "The mean shape of another class",
}
UNIFORM, INPUT, UNTRAINED = "the same everywhere", "the plain input", "not trained"


def shapes(x, y):
    """Where the mean image of each class exceeds half its maximum: booleans `(classes, height, width)`."""
    means = np.stack([x[y == label].mean(axis=0)[..., 0] for label in range(y.max() + 1)])
    return means > means.max(axis=(1, 2), keepdims=True) / 2


def regions(x, y, shape_of, seed=0):
    """The regions of each image, `(n, height, width)`; of the other class a random one."""
    other = (y + np.random.default_rng(seed).integers(1, len(shape_of), size=len(y))) % len(shape_of)
    return {"object": x[..., 0] > 0, "shape": shape_of[y], "other": shape_of[other]}


def measure(network, x, y, where):
    """The share of each kind of map on each region, image by image, and whether the network is right."""
    found = {"right": (network.predict(x, verbose=0, batch_size=500).argmax(axis=1) == y).astype("float64")}
    for name, method in MAPS.items():
        maps = keras_rar.saliency_map(network, x, y, method=method)
        found |= {f"{name}, {region}": share_on(maps, pixels) for region, pixels in where.items()}
    return found


def controls(x, where):
    """Shares of maps that need no network."""
    ones, images = np.ones(x.shape[:3]), x[..., 0]
    rows = {UNIFORM: ones, INPUT: images}
    return {
        row: {f"{name}, {region}": share_on(maps, pixels) for name in MAPS for region, pixels in where.items()}
        for row, maps in rows.items()
    }


def summaries(values):
    """Means and paired differences from natural, with intervals: of all images, and of those that all get right."""
    rows = {row: values[row] for row in (UNIFORM, INPUT)}
    seeds = [values[f"untrained {seed}"] for seed in SEEDS]
    rows[UNTRAINED] = {key: np.mean([each[key] for each in seeds], axis=0) for key in seeds[0] if key != "right"}
    rows |= {name: {k: v for k, v in values[name].items() if k != "right"} for name in NETWORKS}
    right = np.all([values[name]["right"] > 0 for name in NETWORKS], axis=0)
    own = {name: {m: rows[name][f"{m}, shape"] - rows[name][f"{m}, other"] for m in MAPS} for name in rows}

    def summary(where):
        intervals = {row: {k: mean_with_interval(v[where]) for k, v in of.items()} for row, of in rows.items()}
        against = {
            row: {k: mean_with_interval((v - rows["natural"][k])[where]) for k, v in of.items()}
            for row, of in rows.items()
            if row != "natural"
        }
        return {"shares": intervals, "minus natural": against}

    return {
        "accuracy": {name: mean_with_interval(values[name]["right"]) for name in NETWORKS},
        "all": summary(slice(None)),
        "all right": summary(right),
        "own minus other shape": {row: {m: mean_with_interval(v) for m, v in of.items()} for row, of in own.items()},
    }


def cells(of, keys, signed=False):
    return " | ".join(cell(of[key], signed) for key in keys)


def table(results):
    """A table of shares per region, one of differences from natural, and one of own against another class's shape."""
    parts = []
    for region in ("object", "shape"):
        maps = [name for name in MAPS if (name, region) != ("IG from black", "object")]  # 1, whatever the network
        keys = [f"{name}, {region}" for name in maps]
        lines = [f"| {REGIONS[region]}: | {' | '.join(maps)} |", "|---" * (len(maps) + 1) + "|"]
        for row, of in results["all"]["shares"].items():
            lines.append(f"| {row} | {cells(of, keys)} |")
        parts.append(lines)
        lines = [f"| {REGIONS[region]}, minus natural: | {' | '.join(maps)} |", lines[1]]
        lines += [
            f"| {row} | {cells(results['all']['minus natural'][row], keys, True)} |"
            for row in (UNTRAINED, *NETWORKS[1:])
        ]
        parts.append(lines)
    lines = [f"| Own minus another class's shape: | {' | '.join(MAPS)} |", "|---" * (len(MAPS) + 1) + "|"]
    lines += [f"| {row} | {cells(of, MAPS, True)} |" for row, of in results["own minus other shape"].items()]
    return "\n\n".join("\n".join(lines) for lines in [*parts, lines])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--images", type=int, default=1000, help="test images")
    parser.add_argument("--table", action="store_true", help="print what the file holds, run nothing")
    arguments = parser.parse_args()
    if arguments.table:
        return print(table(json.loads(arguments.out.read_text())))
    (x_train, y_train), (x, y) = datasets.load("fashion_mnist_mini")
    x, y = x[: arguments.images], y[: arguments.images]
    where, archive = regions(x, y, shapes(x_train, y_train)), arguments.out.with_suffix(".npz")
    kept = dict(np.load(archive)) if archive.exists() else {}
    if kept and len(next(iter(kept.values()))) != len(x):
        raise SystemExit(f"{archive} is of another number of images: give another --out")
    values = controls(x, where)
    for name in (*NETWORKS, *(f"untrained {seed}" for seed in SEEDS)):
        found = {key.removeprefix(f"{name}: "): row for key, row in kept.items() if key.startswith(f"{name}: ")}
        if not found:
            *_, seed = name.split()
            path = ROOT / "examples" / "networks" / f"{name}.keras"
            network = keras.saving.load_model(path) if path.exists() else try_train.small_cnn(int(seed))
            found = measure(network, x, y, where)
            kept |= {f"{name}: {key}": row for key, row in found.items()}
            np.savez_compressed(archive, **kept)
            print(name, {key: round(float(np.nanmean(row)), 3) for key, row in found.items()}, flush=True)
        values[name] = found
    results = {"machine": describe(), "images": len(x), **summaries(values)}
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
