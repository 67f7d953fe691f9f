"""Train the two networks of `examples/try.py` and four to compare, by wrap, compile and fit; measure on test images."""

import argparse
import json
import time
from pathlib import Path

import keras

import keras_rar
from keras_rar.paper import datasets

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
LATE = {name: {"begin": 0.8} for name in ("ig_norm", "ig_sum_norm", "ig_topk")}  # adversarial training first
METHODS = {"natural": {}, "madry": {}, **LATE, "ig_topk, from the start": {}}


def small_cnn(seed=0):
    """A network of 30,000 parameters."""
    keras.utils.set_random_seed(seed)
    first, second = (keras.layers.Conv2D(filters, 5, activation="relu") for filters in (16, 32))
    convolutions = [first, keras.layers.MaxPooling2D(2), second, keras.layers.MaxPooling2D(2), keras.layers.Flatten()]
    dense = [keras.layers.Dense(32, "relu"), keras.layers.Dense(10)]
    return keras.Sequential([keras.Input((28, 28, 1)), *convolutions, *dense])


def trained(name, x, y, epochs):
    options = {"epsilon": 0.1, "seed": 0, **METHODS[name]}
    model = keras_rar.wrap(small_cnn(), method=name.partition(",")[0], **options)
    rate = keras.optimizers.schedules.CosineDecayRestarts(2e-3, 0.8 * epochs * len(x) / 50, t_mul=0.25)  # a cycle each
    model.compile(keras.optimizers.Adam(rate), LOSS, metrics=["accuracy"])
    start = time.process_time()
    model.fit(x, y, batch_size=50, epochs=epochs, verbose=2)
    return keras_rar.unwrap(model), time.process_time() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a run of seconds that only shows that it works")
    parser.add_argument("--only", choices=METHODS, nargs="+", default=list(METHODS))
    parser.add_argument("--out", type=Path, default=Path("try_train"), help="folder for the networks and the table")
    arguments = parser.parse_args()
    (x, y), (x_test, y_test) = datasets.load("fashion_mnist_mini")
    epochs, settings, rows = 10, {"epsilon": 0.1, "steps": 20, "m": 10, "k": 100, "attacked": 100}, {}
    if arguments.smoke:
        (x, y, x_test, y_test), epochs = (part[:100] for part in (x, y, x_test, y_test)), 1
        settings |= {"steps": 2, "m": 2, "attacked": 4, "pgd_steps": 2, "noise": 0, "other_maps": (), "faithful": 0}
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        network, seconds = trained(name, x, y, epochs)
        network.save(arguments.out / f"{name.replace(', ', '-').replace(' ', '_')}.keras")
        report = keras_rar.evaluate_robustness(network, x_test, y_test, **settings)
        rows[name] = {"processor_seconds": round(seconds), **report.summary()}
        content = {"epochs": epochs, "protocol": report.protocol, "versions": report.versions, "table": rows}
        (arguments.out / "try_train.json").write_text(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
