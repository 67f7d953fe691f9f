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


def fitted(model, x, y, epochs, rate):
    steps = epochs * -(-len(x) // 100)
    cycle = keras.optimizers.schedules.CosineDecay(rate / 10, steps, warmup_target=rate, warmup_steps=steps // 10)
    model.compile(keras.optimizers.Adam(cycle, beta_2=0.99, clipnorm=10.0), LOSS, metrics=["accuracy"])
    start = time.perf_counter()
    model.fit(x, y, batch_size=100, epochs=epochs, verbose=2)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", type=Path, default=Path("natural.keras"), help="trained first if it is not there")
    parser.add_argument("--out", type=Path, default=Path("repair"), help="folder for the network and the table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a run of seconds that only shows that it works")
    arguments = parser.parse_args()
    data = "fashion_mnist_mini" if arguments.smoke else "fashion_mnist"
    (x, y), (x_test, y_test) = datasets.load(data)
    settings = {"protocol": "paper", "dataset": "fashion_mnist", "attacked": 100}
    if arguments.smoke:
        x, y, x_test, y_test = x[:300], y[:300], x_test[:20], y_test[:20]
        settings |= {"steps": 2, "m": 2, "pgd_steps": 2, "attacked": 2, "noise": 0, "other_maps": (), "faithful": 0}
    keras.utils.set_random_seed(arguments.seed)
    if not arguments.network.exists():
        natural = networks.cnn()
        fitted(natural, x, y, 1 if arguments.smoke else 4, 2e-3)
        natural.save(arguments.network)
    weights = keras.saving.load_model(arguments.network, compile=False).get_weights()
    keras.config.set_dtype_policy(fastest_policy())  # bfloat16, where the processor is fast in it
    model = keras_rar.wrap(networks.cnn(), "ig_topk", epsilon=0.1, k=100, steps=2, m=1, begin=0.5, seed=arguments.seed)
    model.base_model.set_weights(weights)
    seconds = fitted(model, x, y, 2, 1e-3)
    keras.config.set_dtype_policy("float32")
    repaired = networks.cnn()
    repaired.set_weights(model.base_model.get_weights())
    arguments.out.mkdir(parents=True, exist_ok=True)
    repaired.save(arguments.out / f"repaired-seed{arguments.seed}.keras")
    report = keras_rar.evaluate_robustness(repaired, x_test, y_test, **settings)
    content = {"seconds": round(seconds), "versions": report.versions, "summary": report.summary()}
    (arguments.out / f"seed{arguments.seed}.json").write_text(json.dumps(content, indent=1) + "\n")
    print(f"{report}\n{seconds:.0f} seconds of fit")


if __name__ == "__main__":
    main()
