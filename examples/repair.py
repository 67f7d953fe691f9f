"""Repair a trained network: from natural weights of the paper's CNN to robust maps, in minutes, by `fit` alone."""

import argparse
import json
import time
from pathlib import Path

import keras

import keras_rar
from keras_rar.paper import datasets, networks
from keras_rar.paper.precision import fastest_policy

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
BEGIN = 0.88  # adversarial training first, and one cycle of the rate for each


def fitted(model, x, y, epochs, rate):
    first = BEGIN * epochs * len(x) // 100
    cycles = keras.optimizers.schedules.CosineDecayRestarts(rate, first, t_mul=1 / BEGIN - 1, m_mul=1 / 3)
    model.compile(keras.optimizers.Adam(cycles, beta_2=0.99, clipnorm=10.0, use_ema=True), LOSS, metrics=["accuracy"])
    start = time.perf_counter()
    model.fit(x, y, batch_size=100, epochs=epochs, verbose=2)
    return round(time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", type=Path, default=Path("natural.keras"), help="trained first if it is not there")
    parser.add_argument("--out", type=Path, default=Path("repair"), help="folder for the network and the table")
    parser.add_argument("--attacked", type=int, default=50, help="images whose maps are attacked, a minute each")
    parser.add_argument("--smoke", action="store_true", help="a run of seconds that only shows that it works")
    arguments = parser.parse_args()
    (x, y), (x_test, y_test) = datasets.load("fashion_mnist_mini" if arguments.smoke else "fashion_mnist")
    settings = {"protocol": "paper", "dataset": "fashion_mnist", "attacked": arguments.attacked, "other_maps": ()}
    if arguments.smoke:
        (x, y), x_test, y_test = (x[:300], y[:300]), x_test[:20], y_test[:20]
        settings |= {"steps": 2, "m": 2, "pgd_steps": 2, "attacked": 2, "noise": 0, "faithful": 0}
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(fastest_policy())  # bfloat16, where the processor is fast in it
    network = networks.cnn()
    if arguments.network.exists():
        network.set_weights(keras.saving.load_model(arguments.network, compile=False).get_weights())
    else:
        fitted(network, x, y, 1 if arguments.smoke else 4, 2e-3)
        network.save(arguments.network)
    model = keras_rar.wrap(network, epsilon=0.1, k=100, factor=3.0, steps=2, m=1, begin=BEGIN, seed=0)
    seconds = fitted(model, x, y, 1 if arguments.smoke else 3, 3e-3)
    keras.config.set_dtype_policy("float32")
    (repaired := networks.cnn()).set_weights(network.get_weights())
    arguments.out.mkdir(parents=True, exist_ok=True)
    repaired.save(arguments.out / "repaired.keras")
    report = keras_rar.evaluate_robustness(repaired, x_test, y_test, **settings)
    (arguments.out / "repair.json").write_text(json.dumps({"seconds": seconds, "summary": report.summary()}, indent=1))
    print(f"{report}\n{seconds} seconds of fit")


if __name__ == "__main__":
    main()
