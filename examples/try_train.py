"""Train the two small networks of `examples/try.py`, and two more to compare with, by wrap, compile and fit alone.

Settings were chosen on 1,000 held-out training images. The numbers that are written are of test images.
"""

import argparse
import json
import time
from pathlib import Path

import keras

import keras_rar
from keras_rar.paper import datasets

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
METHODS = {"natural": {}, "madry": {}, "ig_topk": {"begin": 0.8}, "ig_topk, from the start": {}}


def small_cnn():
    """A network of 30,000 parameters."""
    keras.utils.set_random_seed(0)
    layers = [keras.Input((28, 28, 1))]
    for filters in (16, 32):
        layers += [keras.layers.Conv2D(filters, 5, activation="relu"), keras.layers.MaxPooling2D(2)]
    return keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(32, "relu"), keras.layers.Dense(10)])


def trained(name, x, y, epochs):
    options = {"epsilon": 0.1, "seed": 0, **METHODS[name]}
    model = keras_rar.wrap(small_cnn(), method=name.partition(",")[0], **options)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, epochs * len(x) // 50)
    model.compile(keras.optimizers.Adam(rate), LOSS, metrics=["accuracy"])
    begin = time.process_time()
    model.fit(x, y, batch_size=50, epochs=epochs, verbose=2)
    return keras_rar.unwrap(model), time.process_time() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a run of seconds that only shows that it works")
    parser.add_argument("--out", type=Path, default=Path("try_train"), help="folder for the networks and the table")
    arguments = parser.parse_args()
    (x, y), (x_test, y_test) = datasets.load("fashion_mnist_mini")
    epochs, settings, rows = 10, {"epsilon": 0.1, "steps": 20, "m": 10, "k": 100, "attacked": 100}, {}
    if arguments.smoke:
        (x, y, x_test, y_test), epochs = (part[:100] for part in (x, y, x_test, y_test)), 1
        settings |= {"steps": 2, "m": 2, "attacked": 4, "pgd_steps": 2}
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in METHODS:
        network, seconds = trained(name, x, y, epochs)
        network.save(arguments.out / f"{name.replace(', ', '-').replace(' ', '_')}.keras")
        report = keras_rar.evaluate_robustness(network, x_test, y_test, **settings)
        rows[name] = {"processor_seconds": round(seconds), **report.summary()}
        (arguments.out / "try_train.json").write_text(json.dumps({"epochs": epochs, "table": rows}, indent=2))


if __name__ == "__main__":
    main()
