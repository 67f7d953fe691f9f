"""What the map term does to a network with batch normalisation, with its statistics frozen and without.

`python benchmarks/batch_statistics.py --out benchmarks/results/batch_statistics.json`: 100 updates of `ig_topk` from
the adversarially trained ResNet-20 of `benchmarks/trained`, on Fashion-MNIST, and accuracies on test images after them.
"""

import argparse
import json
from pathlib import Path

import keras
import networks
import numpy as np
from machine import describe

import keras_rar
from keras_rar.attacks import PGDAttack

UPDATES = 100


def trained(setting, x, y):
    """The network after the updates, and what the training reported."""
    keras.utils.set_random_seed(0)
    network = networks.resnet20()
    begun = keras.saving.load_model(Path(__file__).parent / "trained/resnet20_madry.keras", compile=False)
    network.set_weights(begun.get_weights())
    maps = {"epsilon": 0.1, "k": 100, "factor": 4.0, "steps": 2, "m": 1}
    model = keras_rar.wrap(network, "ig_topk", seed=0, batch_statistics=setting, **maps)
    rate = keras.optimizers.schedules.CosineDecay(2e-4, UPDATES, warmup_target=2e-3, warmup_steps=UPDATES // 4)
    model.compile(keras.optimizers.Adam(rate), networks.LOSS, metrics=["accuracy"])
    history = model.fit(x[: 100 * UPDATES], y[: 100 * UPDATES], batch_size=100, verbose=0).history
    return network, {name: round(values[0], 3) for name, values in history.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--dtype", default="mixed_bfloat16")
    arguments = parser.parse_args()
    keras.config.set_dtype_policy(arguments.dtype)
    (x, y), (x_test, y_test) = networks.fashion()
    results = {"machine": describe(), "updates": UPDATES, "dtype": arguments.dtype}
    attack = PGDAttack(0.1, steps=10, step_size=0.02)
    for name in ("frozen", "updated"):
        network, history = trained(name, x, y)
        natural = np.mean(network.predict(x_test[:1000], verbose=0).argmax(axis=1) == y_test[:1000])
        adversarial = attack(network, x_test[:500], y_test[:500]).robust.mean()
        results[name] = {"training": history, "natural": round(float(natural), 3)}
        results[name]["adversarial"] = round(float(adversarial), 3)
        print(name, results[name], flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
