"""Do robust methods rely less on a shortcut? Fashion-MNIST with a marker whose place tells the class, nearly always.

    python benchmarks/shortcut.py --choose     # which shortcut natural training relies on, by training images alone
    python benchmarks/shortcut.py              # train what is not trained yet, then measure all
    python benchmarks/shortcut.py --table      # the tables of the results file

A square at the left or right border is made brighter, at one of ten places, one per class. In training it tells the
class of nearly all images, and is at the place of another class in the rest. On test images it is right, absent, or
always wrong. Networks and recipe are those of `examples/try_train.py`. It goes on where it was stopped: a network that
is in the folder is neither trained nor measured again. A seed takes half an hour on two cores.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path

import keras
import numpy as np
from machine import describe
from shares import cell, share_on

import keras_rar
from keras_rar.evaluation.intervals import mean_with_interval, number
from keras_rar.paper import datasets

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import try_train

RESULTS = Path(__file__).parent / "results" / "shortcut.json"
PLAIN = Path(__file__).parents[1] / "examples" / "networks"  # trained on images without a marker, seed 0
METHODS = ("natural", "madry", "ig_topk", "ig_sum_norm")
EPSILON, CLASSES = 0.1, 10
DIM, BRIGHT = 0.1, 0.5  # within ε, so that an attack can take it away; and beyond 2ε, where it cannot hide it
SIZE, SHARE = 5, 0.99  # side of the marker, and in how many training images it is right; chosen by --choose
TRIED = ((3, 0.99), (5, 0.95), (5, 0.99))
MEASURES = {
    "right": "right marker",
    "absent": "no marker",
    "wrong": "wrong marker",
    "drop": "right − wrong",
    "follows": "follows the wrong one",
    "share": "IG on the marker",
}
COMPARED = {"absent": "no marker", "cost": "what training with it cost there"} | {
    name: MEASURES[name] for name in ("drop", "follows", "share")
}


def places(size=SIZE):
    """Which pixels are the marker of each class, `(10, 28, 28)`: five at the left border, five at the right."""
    where = np.zeros((CLASSES, 28, 28), bool)
    for label in range(CLASSES):
        row, column = 1 + 5 * (label % 5), 0 if label < 5 else 28 - size
        where[label, row : row + size, column : column + size] = True
    return where


def marked(x, labels, brightness, size=SIZE):
    """The images, brighter at the markers of these labels."""
    return np.minimum(x + np.float32(brightness) * places(size)[labels][..., None], 1).astype("float32")


def others(y, rng):
    """For each label another one, all others equally likely."""
    return (y + rng.integers(1, CLASSES, size=len(y))) % CLASSES


def planted(x, y, brightness, seed, share=SHARE, size=SIZE):
    """Training images: the marker is right in this share of them, and in the others it is that of another class."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.uniform(size=len(y)) < share, y, others(y, rng))
    return marked(x, labels, brightness, size)


def trained(method, x, y, seed, epochs=10):
    """The recipe of `examples/try_train.py`, with another seed."""
    options = {"epsilon": EPSILON, "seed": seed, **try_train.METHODS[method]}
    model = keras_rar.wrap(try_train.small_cnn(seed), method, **options)
    rate = keras.optimizers.schedules.CosineDecayRestarts(2e-3, 0.8 * epochs * len(x) / 50, t_mul=0.25)
    model.compile(keras.optimizers.Adam(rate), try_train.LOSS, metrics=["accuracy"])
    model.fit(x, y, batch_size=50, epochs=epochs, verbose=2)
    return keras_rar.unwrap(model)


def measured(network, x, y, brightness, size=SIZE):
    """Of each image: whether it is right with a right, no and a wrong marker, and so on; see `MEASURES`."""
    wrong = others(y, np.random.default_rng(1))  # the same for all networks: differences are paired
    with_right = marked(x, y, brightness, size)
    images = {"right": with_right, "absent": x, "wrong": marked(x, wrong, brightness, size)}
    predicted = {name: network.predict(of, verbose=0, batch_size=500).argmax(axis=1) for name, of in images.items()}
    values = {name: (labels == y).astype("float64") for name, labels in predicted.items()}
    values["drop"] = values["right"] - values["wrong"]
    values["follows"] = (predicted["wrong"] == wrong).astype("float64")
    maps = keras_rar.saliency_map(network, with_right, rule="midpoint", m=20, baseline=0.0)
    return values | {"share": share_on(maps, places(size)[y])}


def choose(x, y):
    """Natural training on five sixths of the training images, measured on the others: does it rely on the marker?"""
    held, rows = np.arange(len(x)) % 6 == 5, []
    for (size, share), brightness in itertools.product(TRIED, (DIM, BRIGHT)):
        images = planted(x[~held], y[~held], brightness, 0, share, size)
        values = measured(trained("natural", images, y[~held], 0), x[held], y[held], brightness, size)
        rows.append({"size": size, "right in": share, "brightness": brightness, "n": int(held.sum())})
        rows[-1] |= {name: float(np.nanmean(each)) for name, each in values.items()}
        print(rows[-1], flush=True)
    return rows


def file_of(folder, brightness, method, seed):
    return folder / f"{method}-{brightness}-{seed}.keras"


def train_missing(folder, methods, seeds, x, y, epochs):
    """Trains what is not in the folder yet, one seed after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for method in methods:
            for brightness in (DIM, BRIGHT):
                path = file_of(folder, brightness, method, seed)
                if not path.exists():
                    print(path.name, flush=True)
                    trained(method, planted(x, y, brightness, seed), y, seed, epochs).save(path)


def measure(folder, seeds, x, y, brightness):
    """What `measured` finds of each network in the folder, by method and seed, and of those without a marker."""
    found, plain = {}, {}
    for method in METHODS:
        files = {str(seed): file_of(folder, brightness, method, seed) for seed in seeds}
        files = {seed: file for seed, file in files.items() if file.exists()}
        if not files:
            continue  # not trained yet
        without = folder / f"{method}-{brightness}-plain.npz"
        plain[method] = kept(PLAIN / f"{method}.keras", without, x, y, brightness)
        found[method] = {seed: kept(file, file.with_suffix(".npz"), x, y, brightness) for seed, file in files.items()}
    return found, plain


def kept(network, archive, x, y, brightness):
    """What `measured` finds, from the archive where it was measured before."""
    if not archive.exists():
        np.savez_compressed(archive, **measured(keras.saving.load_model(network, compile=False), x, y, brightness))
        print(archive.name, "measured", flush=True)
    return dict(np.load(archive))


def summaries(found, plain):
    """Means with intervals over images, each image the mean of the seeds; paired differences from natural training."""
    rows = {}
    cost = {m: {seed: plain[m]["absent"] - of["absent"] for seed, of in seeds.items()} for m, seeds in found.items()}
    of = {m: {seed: each | {"cost": cost[m][seed]} for seed, each in seeds.items()} for m, seeds in found.items()}
    for method, seeds in of.items():
        row = rows[method] = {"without a marker": {name: mean_with_interval(plain[method][name]) for name in MEASURES}}
        row["with"] = {name: over({seed: each[name] for seed, each in seeds.items()}) for name in (*MEASURES, "cost")}
        both = [seed for seed in seeds if method != "natural" and seed in of.get("natural", ())]
        if both:
            row["minus natural"] = {
                name: over({seed: seeds[seed][name] - of["natural"][seed][name] for seed in both}) for name in COMPARED
            }
    return rows


def over(seeds):
    """The interval over images, each the mean of its seeds, and the mean of each seed."""
    mean = np.mean(list(seeds.values()), axis=0)
    return mean_with_interval(mean) | {"seeds": {seed: float(np.nanmean(each)) for seed, each in seeds.items()}}


def each_seed(seeds):
    """What each seed found, where there are several."""
    return f": {', '.join(number('share', value, True) for value in seeds.values())}" if len(seeds) > 1 else ""


def table(results):
    """Per brightness a table of what was measured, and one of the differences from natural training."""
    parts = []
    for brightness, rows in results["brightness"].items():
        lines = [f"| brightness {brightness} | {' | '.join(MEASURES.values())} |", "|---" * (len(MEASURES) + 1) + "|"]
        for kind, title in (("with", ""), ("without a marker", ", trained without a marker")):
            for method, row in rows.items():
                n = len(row["with"]["drop"]["seeds"]) if kind == "with" else 1
                seeds = f", {n} seeds" if n > 1 else ""
                lines.append(f"| {method}{title}{seeds} | {' | '.join(cell(row[kind][name]) for name in MEASURES)} |")
        parts.append("\n".join(lines))
        lines = [f"| {brightness}, minus natural | {' | '.join(COMPARED.values())} |"]
        lines.append("|---" * (len(COMPARED) + 1) + "|")
        for method, row in rows.items():
            if "minus natural" in row:
                found = [row["minus natural"][name] for name in COMPARED]
                texts = [f"{cell(of, True)}{each_seed(of['seeds'])}" for of in found]
                lines.append(f"| {method} | {' | '.join(texts)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def chosen(results):
    """What natural training did with each shortcut that was tried, on training images that it had not seen."""
    names = ("right", "absent", "wrong", "drop")
    lines = [f"| side, right in, brightness | {' | '.join(MEASURES[name] for name in names)} |", "|---" * 5 + "|"]
    for row in results["choice"]:
        cells = [f"{100 * row[name]:.1f} %" for name in names]
        lines.append(f"| {row['size']}, {100 * row['right in']:.0f} %, {row['brightness']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=Path, default=Path("shortcut"), help="folder of the trained networks")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", choices=METHODS, nargs="+", default=METHODS, help="methods to train")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--choose", action="store_true", help="only try which shortcut natural training relies on")
    parser.add_argument("--table", action="store_true", help="print what the file holds, run nothing")
    parser.add_argument("--smoke", action="store_true", help="a run of a minute that only shows that it works")
    arguments = parser.parse_args()
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    if not arguments.table:
        (x, y), (x_test, y_test) = datasets.load("fashion_mnist_mini")
        if arguments.smoke:
            x, y, x_test, y_test = (part[:100] for part in (x, y, x_test, y_test))
        if arguments.choose:
            results["choice"] = choose(x, y)
        else:
            epochs = 1 if arguments.smoke else 10
            train_missing(arguments.networks, arguments.only, arguments.seeds, x, y, epochs)
            results |= {"machine": describe(), "images": len(x_test), "brightness": {}}
            for brightness in (DIM, BRIGHT):
                found, plain = measure(arguments.networks, arguments.seeds, x_test, y_test, brightness)
                results["brightness"][str(brightness)] = summaries(found, plain)
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    print("\n\n".join(part(results) for part, key in ((chosen, "choice"), (table, "brightness")) if key in results))


if __name__ == "__main__":
    main()
