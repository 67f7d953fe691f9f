"""Train the paper's network twice, naturally and with IG-SUM-NORM, then attack both on test images."""

import argparse
import json
from pathlib import Path

import keras
import numpy as np

import keras_rar
from keras_rar.paper import datasets, networks

TRAINING = {"epsilon": 0.1, "steps": 4, "step_size": 0.04, "m": 3, "attack_m": 1}
STRONGER = {"epsilon": 0.1, "steps": 40, "step_size": 0.01, "m": 20}
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
COLUMNS = ["natural accuracy", "PGD accuracy", "mean |IG(x,x*)|_1", "mean |l(x*)-l(x)|"]


def train(method, x, y, epochs):
    print(f"\n{method}")
    keras.utils.set_random_seed(0)
    model = keras_rar.wrap(networks.cnn(), method, seed=0, **TRAINING)
    model.compile(keras.optimizers.Adam(1e-3), LOSS, metrics=["accuracy"])
    model.fit(x, y, batch_size=50, epochs=epochs)
    return keras_rar.unwrap(model)


def measure(network, x, y):
    """One row a test image, one column a number of the table; x* from PGD on the loss."""
    attacker = keras_rar.wrap(network, "madry", seed=1, **STRONGER)
    attacker.compile(loss=LOSS)
    rows = []
    for i in range(0, len(x), 50):
        clean, labels = x[i : i + 50], y[i : i + 50]
        x_star = attacker.perturb(clean, labels)
        right = [network.predict_on_batch(images).argmax(axis=1) == labels for images in (clean, x_star)]
        ig_l1 = np.abs(attacker.attributions(clean, x_star, labels)).sum(axis=(1, 2, 3))
        change = attacker.objective(clean, x_star, labels) - attacker.objective(clean, clean, labels)
        rows.append(np.stack([*right, ig_l1, np.abs(change)], axis=1))
    return np.concatenate(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a run of seconds that only shows that it works")
    parser.add_argument("--out", type=Path, help="a JSON file to write the table to")
    arguments = parser.parse_args()
    (x, y), (x_test, y_test) = datasets.load("fashion_mnist_mini")
    if arguments.smoke:
        x, y, x_test, y_test = x[:200], y[:200], x_test[:50], y_test[:50]
    networks_by_method = {method: train(method, x, y, epochs=3) for method in ("natural", "ig_sum_norm")}
    print(f"\n{len(x_test)} test images, mean ± 95 % interval; attack: {STRONGER}\n")
    print(" " * 12 + "".join(f"{column:>22}" for column in COLUMNS))
    table = {}
    for method, network in networks_by_method.items():
        rows = measure(network, x_test, y_test)
        mean, interval = rows.mean(axis=0), 1.96 * rows.std(axis=0) / np.sqrt(len(rows))
        print(f"{method:12}" + "".join(f"{f'{a:.3f} ± {b:.3f}':>22}" for a, b in zip(mean, interval, strict=True)))
        table[method] = dict(zip(COLUMNS, np.stack([mean, interval], axis=1).round(4).tolist(), strict=True))
    if arguments.out:
        arguments.out.write_text(json.dumps({"images": len(x_test), "attack": STRONGER, "table": table}, indent=2))


if __name__ == "__main__":
    main()
