"""Prototype heads on frozen features, natural and robust: accuracy, and how far an attack moves what they say.

    python benchmarks/prototypes.py --seeds 0 1 2 --out benchmarks/results/prototypes.json
    python benchmarks/prototypes.py --maps --out benchmarks/results/prototypes.json

Heads of `prototype_head.py` on the convolutions of the networks of `examples/networks`. It writes after each network
and goes on where it was stopped. `--table` prints the tables of docs/research/prototypes.md. Which attacks to run was
chosen on training images that the heads did not see.
"""

import argparse
import functools
import itertools
import json
import operator
from pathlib import Path

import keras
import numpy as np
import prototype_head
import tensorflow as tf
from machine import describe

import keras_rar
from keras_rar.attacks import PGDAttack, RandomAttack, TopKAttack
from keras_rar.evaluation.intervals import cell, mean_with_interval
from keras_rar.metrics import topk_intersection
from keras_rar.paper import datasets

NETWORKS = Path(__file__).parents[1] / "examples" / "networks"
ROWS = {"natural": "NATURAL", "madry": "Madry", "ig_sum_norm": "IG-SUM-NORM", "ig_topk": "IG-TOP-K"}
MAPS = {"which": (prototype_head.which, 5), "where": (prototype_head.where, 78)}  # 78 pixels are a tenth
MEMBERS = {"topk": (TopKAttack, None), "topk, soft": (TopKAttack, 3.0), "swap": (prototype_head.SwapAttack, None)}
EPSILON, SOFT = 0.1, 3.0
STEPS = {"steps": 50, "restarts": 1}
COLUMNS = ("index", "topk_intersection", "kendall_tau", "topk_intersection.noise", "kendall_tau.noise")
COMPARED = {"": 1, "which": 0, "where": 0, "IG": 0}
"""The column of a table in which networks are compared with the natural one."""
QUICK = {"epsilon": EPSILON, "k": 100, "other_maps": (), "faithful": 0, "progress": False}


def rounded(values):
    return np.round(np.asarray(values, float), 4).tolist()


def accuracies(model, x, y):
    """Right, and right under PGD through the network and through its soft maximum: the worst of both, per image."""
    attack = PGDAttack(EPSILON, steps=50, restarts=1)
    found = attack(model, x, y)
    soft = attack(prototype_head.softened(model, SOFT), x, y).x_adv
    robust = found.robust & (model.predict(soft, verbose=0).argmax(axis=1) == y)
    return {"natural": rounded(found.correct), "adversarial": rounded(robust), "first": rounded(found.robust)}


def stability(model, x, y, name):
    """What is left of the k highest entries of a map: under each attack, and under what is no attack."""
    explain, k = MAPS[name]
    options = {**STEPS, "saliency": explain, "keep": "topk_intersection", "softplus_beta": None}
    found = {}
    for member, (attack, beta) in MEMBERS.items():
        smooth = None if beta is None else prototype_head.softened(model, beta)
        found[member] = attack(k=k, epsilon=EPSILON, **options)(model, x, y, gradient_model=smooth)
    scores = {member: result.scores["topk_intersection"] for member, result in found.items()}
    worst = np.argmin(list(scores.values()), axis=0)
    moved = np.stack([result.x_adv for result in found.values()])[worst, np.arange(len(x))]
    noise = RandomAttack(EPSILON, k_report=k, **options)(model, x, y).scores["topk_intersection"]
    rng = np.random.default_rng(0)
    uniform = np.clip(x + rng.uniform(-EPSILON, EPSILON, x.shape), 0, 1).astype("float32")
    before, after, at_random = (explain(model, tf.constant(z), y) for z in (x, moved, uniform))
    of_class = {c: np.flatnonzero(y == c) for c in np.unique(y)}
    another = np.array([of_class[c][(np.searchsorted(of_class[c], i) + 1) % len(of_class[c])] for i, c in enumerate(y)])
    pairs = {"attack": after, "uniform noise": at_random, "another image": tf.gather(before, another)}
    rows = {column: rounded(topk_intersection(before, maps, k)) for column, maps in pairs.items()}
    first, last = (most_similar(model, z, y) for z in (x, moved))
    rows |= {"worst of noise": rounded(noise), "same prototype": rounded(first == last)}
    return rows | {"members": {member: rounded(values) for member, values in scores.items()}}


def most_similar(model, x, y):
    """The most similar prototype of the label, per image."""
    found = prototype_head.similarities(model, tf.constant(x))[1].numpy()
    return np.where(np.asarray(y)[:, None] == prototype_head.CLASS, found, -np.inf).argmax(axis=1)


def measured(model, x, y, x_test, y_test):
    row = accuracies(model, x_test, y_test)
    row["correct"] = rounded(model.predict(x, verbose=0).argmax(axis=1) == y)
    return row | {name: stability(model, x, y, name) for name in MAPS}


def of_maps(models, x, y):
    """What is left of IG of whole networks under the quick protocol, image by image."""
    found = {}
    for kind, model in models.items():
        report = keras_rar.evaluate_robustness(model, x, y, **QUICK)
        found[kind] = {name: rounded(report.per_example[name]) for name in COLUMNS}
    return found


def over_heads(results, name, *keys):
    """One number per image: the mean over the heads of a network of what is under these keys."""
    rows = [row for key, row in results["heads"].items() if key.rpartition(", ")[0] == name]
    return np.mean([functools.reduce(operator.getitem, keys, row) for row in rows], axis=0)


def table(title, head, rows):
    """Mean [95 % interval] of numbers per image, and of one column the paired difference to NATURAL.

    Args:
        title: What stands over the names.
        head: Titles of the columns.
        rows: Lists of arrays by the name of a network, one per column.
    """
    lines = [f"| {' | '.join([title, *head, f'{head[COMPARED[title]]}: − NATURAL'])} |", "|---" * (len(head) + 2) + "|"]
    for name, row in rows.items():
        cells = [cell("share", mean_with_interval(values)) for values in row]
        gain = row[COMPARED[title]] - rows["NATURAL"][COMPARED[title]]
        cells.append("" if name == "NATURAL" else cell("share", mean_with_interval(gain), signed=True))
        lines.append(f"| {name} | {' | '.join(text.rpartition(' (')[0] for text in cells)} |")
    return "\n".join(lines)


def tables(results):
    """Accuracies; what is left of which prototypes and of where they are; IG of the whole networks."""
    names = {name: row for name, row in ROWS.items() if f"{name}, 0" in results["heads"]}
    shared = np.all([row["correct"] for row in results["heads"].values()], axis=0)
    measures = {"natural": "natural accuracy", "adversarial": "adversarial accuracy"}
    rows = {row: [over_heads(results, name, measure) for measure in measures] for name, row in names.items()}
    found = [table("", list(measures.values()), rows)]
    columns = ["attack", "worst of noise", "uniform noise", "another image"]
    for title in MAPS:
        rows = {row: [over_heads(results, name, title, c)[shared] for c in columns] for name, row in names.items()}
        found.append(table(title, columns, rows))
    whole = {name: results["maps"][f"{name}, 0"] for name in names if f"{name}, 0" in results["maps"]}
    if whole:
        heads = {"prototypes": "prototype head", "dense": "its own head"}
        measure = "topk_intersection"
        of_ig = {name: [np.array(row[kind][measure], float) for kind in heads] for name, row in whole.items()}
        known = np.all([np.isfinite(values) for row in of_ig.values() for values in row], axis=0)
        rows = {names[name]: [values[known] for values in row] for name, row in of_ig.items()}
        found.append(table("IG", list(heads.values()), rows))
    return "\n\n".join(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the heads")
    parser.add_argument("--images", type=int, default=64, help="whose explanations are attacked")
    parser.add_argument("--tested", type=int, default=200, help="test images for the accuracies")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--only", choices=ROWS, nargs="+", default=list(ROWS))
    parser.add_argument("--maps", action="store_true", help="IG of the whole networks, with this head and their own")
    parser.add_argument("--out", type=Path, default=Path("prototypes.json"))
    parser.add_argument("--table", action="store_true", help="print the tables of what is there")
    arguments = parser.parse_args()
    if arguments.table:
        return print(tables(json.loads(arguments.out.read_text())))
    (x, y), (x_test, y_test) = datasets.load("fashion_mnist_mini")
    networks = {name: keras.saving.load_model(NETWORKS / f"{name}.keras", compile=False) for name in ROWS}
    right = [network.predict(x_test, verbose=0).argmax(axis=1) == y_test for network in networks.values()]
    images = np.flatnonzero(np.all(right, axis=0))[: arguments.images]
    results = {"machine": describe(), "epsilon": EPSILON, **STEPS, "images": images.tolist(), "heads": {}, "maps": {}}
    if arguments.out.exists():
        results = json.loads(arguments.out.read_text())
    for seed, name in itertools.product(arguments.seeds, arguments.only):
        done = results["maps" if arguments.maps else "heads"]
        if f"{name}, {seed}" in done:
            continue
        model, patches = prototype_head.with_prototypes(networks[name], x, y, arguments.epochs, seed)
        if arguments.maps:
            found = of_maps({"prototypes": model, "dense": networks[name]}, x_test[images], y_test[images])
        else:
            tested = x_test[: arguments.tested], y_test[: arguments.tested]
            found = {**measured(model, x_test[images], y_test[images], *tested), "patches": patches}
        done[f"{name}, {seed}"] = found
        arguments.out.write_text(json.dumps(results) + "\n")
        print(name, seed, flush=True)


if __name__ == "__main__":
    main()
