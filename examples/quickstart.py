"""Train the paper's network in four ways, three of them robust, then attack the explanations of each."""

import argparse
import json
from pathlib import Path

import keras

import keras_rar
from keras_rar.evaluation.intervals import markdown_table
from keras_rar.paper import datasets, networks
from keras_rar.reports import plotting

TRAINING = {"epsilon": 0.1, "steps": 4, "step_size": 0.04, "m": 3, "attack_m": 1}
PROTOCOL = keras_rar.Protocol("quickstart", epsilon=0.1, pgd_steps=20, steps=30, m=20, k=100, k_report=100, attacked=50)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
NAMES = {"natural": "natural", "madry": "Madry", "ig_sum_norm": "IG-SUM-NORM", "ig_topk": "IG-TOP-K"}
CLASSES = ["T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]


def train(method, x, y, epochs):
    print(f"\nTraining: {NAMES[method]}")
    keras.utils.set_random_seed(0)
    model = keras_rar.wrap(networks.cnn(), method, seed=0, **TRAINING)
    model.compile(keras.optimizers.Adam(1e-3), LOSS, metrics=["accuracy"])
    model.fit(x, y, batch_size=50, epochs=epochs)
    return keras_rar.unwrap(model)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a run of seconds that only shows that it works")
    parser.add_argument("--out", type=Path, default=Path("quickstart"), help="folder for the table and the picture")
    arguments = parser.parse_args()
    (x, y), (x_test, y_test) = datasets.load("fashion_mnist_mini")
    x_test, y_test, protocol = x_test[:500], y_test[:500], PROTOCOL
    if arguments.smoke:
        x, y, x_test, y_test = x[:200], y[:200], x_test[:40], y_test[:40]
        protocol = protocol.changed(steps=2, m=4, pgd_steps=2, attacked=8, noise=0, other_maps=(), faithful=0)
    reports = {}
    for method, name in NAMES.items():
        network = train(method, x, y, epochs=3)
        print(f"\nAttacks on: {name}")
        reports[name] = keras_rar.evaluate_robustness(network, x_test, y_test, protocol=protocol)
    print(f"\n{markdown_table(reports)}\n\nMean [95 % interval] over test images, at epsilon = {PROTOCOL.epsilon}.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    summary = {name: report.summary() for name, report in reports.items()}
    table = {"protocol": reports["natural"].protocol, "table": summary}
    (arguments.out / "quickstart.json").write_text(json.dumps(table, indent=2))
    pictured = {name: reports[name] for name in ("natural", "IG-TOP-K")}
    shown = sorted(set.intersection(*(set(report.examples["index"].tolist()) for report in pictured.values())))[:1]
    figure = plotting.plot_maps(pictured, shown, class_names=CLASSES) if shown else reports["natural"].plot()
    figure.savefig(arguments.out / "quickstart.png", dpi=150)
    print(f"Maps before and after the attack: {arguments.out / 'quickstart.png'}")


if __name__ == "__main__":
    main()
