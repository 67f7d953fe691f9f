"""How many nodes IG needs in training: its error against rule and number of nodes, on a trained network.

    python benchmarks/nodes.py MODEL.keras --out benchmarks/results/nodes.json

Both integrals of the methods: that of the loss from x to x*, and that of the label's logit from the baseline to x. On
images that trials hold out, against 500 Gauss-Legendre nodes. The cost of an integral is proportional to its nodes.
"""

import argparse
import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from machine import describe
from study import split

import keras_rar
from keras_rar import quadrature
from keras_rar.attacks import PGDAttack
from keras_rar.core.gradients import repeat_labels
from keras_rar.core.labels import label_logit

NODES = (1, 2, 3, 5, 10, 20, 50)


def integrals(model, x, y):
    """Of each integral: the function, start and end."""
    labels = tf.constant(y, tf.int32)

    def scored(score):
        def f(z):
            logits = model(z)
            return score(repeat_labels(labels, tf.shape(logits)[0]), logits)

        return f

    x_star = PGDAttack(0.1, steps=10, step_size=0.025, restarts=0)(model, x, y).x_adv
    return {
        "loss, x to x*": (scored(tf.nn.sparse_softmax_cross_entropy_with_logits), x, tf.constant(x_star)),
        "logit of the label, 0 to x": (scored(label_logit), tf.zeros_like(x), x),
    }


def errors(f, start, end, rule, exact):
    """Completeness gap in units of the total of the exact map, and distance of the maps in units of its L1 norm."""
    maps = keras_rar.integrated_gradients(f, start, end, rule, chunk=5)
    gap = np.abs(keras_rar.completeness_gap(f, start, end, maps)).sum() / np.abs(exact.sum(axis=(1, 2, 3))).sum()
    return {"completeness gap": float(gap), "map": float(np.abs(maps - exact).sum() / np.abs(exact).sum())}


def rules(name):
    """A rule by its numbers of nodes."""
    panels = {m: m - 1 if name == "trapezoid" else m for m in NODES}
    return {m: quadrature.get(name, number) for m, number in panels.items() if number > 0}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    x, y = (part[: arguments.images] for part in split(arguments.data_dir)[1])
    model = keras.saving.load_model(arguments.model, compile=False)
    results = {"machine": describe(), "images": len(x), "errors": {}}
    print("| integral | rule | nodes | completeness gap | error of the map |\n|---|---|---|---|---|")
    for integral, (f, start, end) in integrals(model, tf.constant(x), y).items():
        exact = keras_rar.integrated_gradients(f, start, end, quadrature.gauss_legendre(500), chunk=5).numpy()
        for name in quadrature.RULES:
            for m, rule in rules(name).items():
                found = errors(f, start, end, rule, exact)
                results["errors"].setdefault(integral, {}).setdefault(name, {})[m] = found
                shown = " | ".join(f"{100 * value:.1f} %" for value in found.values())
                print(f"| {integral} | {name} | {m} | {shown} |", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
