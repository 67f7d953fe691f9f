"""Attack a trained network harder than its report did, and look for masked gradients.

    python benchmarks/stronger.py MODEL.keras --out benchmarks/results/stronger.json

On test images of Fashion-MNIST, the first 1,000 for predictions and the first correct ones for maps. Started again, it
goes on where it was stopped.
"""

import argparse
import hashlib
import json
from pathlib import Path

import keras
import numpy as np
from machine import describe

import keras_rar
from keras_rar.attacks import PGDAttack
from keras_rar.evaluation.intervals import mean_with_interval
from keras_rar.paper import datasets, networks
from keras_rar.training import Phase, train

EPSILON = 0.1
RADII = (0.05, 0.15, 0.2, 0.3, 0.5, 1.0)  # beside that of the protocol
MEASURES = ("topk_intersection", "kendall_tau")
MAPS = {  # what is changed in the paper's protocol, with a fifth of its nodes; the longest last
    "100 iterations": {},
    "softplus 10": {"softplus_beta": 10.0},
    "softplus 30": {"softplus_beta": 30.0},
    "k = 50": {"k": 50, "k_report": 50},
    "k = 200": {"k": 200, "k_report": 200},
    "mass centre": {"attack": "mass_center"},
    "random": {"attack": "random"},
    "300 iterations, 3 restarts": {"steps": 300, "restarts": 3},
}


def predictions(model, x, y, data_dir):
    """Accuracy under adversaries, name by name."""
    attack = {"epsilon": EPSILON, "step_size": 0.01, "restarts": 0, "objectives": ("crossentropy",)}
    yield "PGD-20, cross-entropy", lambda: PGDAttack(**attack, steps=20)(model, x, y).robust
    for objective in ("crossentropy", "margin"):
        options = {**attack, "steps": 100, "restarts": 5, "objectives": (objective,)}
        yield f"PGD-100, {objective}, 5 restarts", lambda options=options: PGDAttack(**options)(model, x, y).robust
    for radius in RADII:
        options = {**attack, "epsilon": radius, "step_size": radius / 8, "steps": 20}
        yield f"PGD-20, epsilon {radius}", lambda options=options: PGDAttack(**options)(model, x, y).robust
        if has_threshold(model):
            leaks = PGDAttack(**{**options, "restarts": 1})
            name = f"PGD-20 through a leaking threshold, epsilon {radius}"
            yield name, lambda leaks=leaks: through(leaking(model), model, x, y, leaks)
    if has_threshold(model):
        yield "PGD-100 through a leaking threshold", lambda: through(leaking(model), model, x, y)
    yield "100 corners of the ball at random", lambda: corners(model, x, y)
    yield "from another network", lambda: transferred(model, x, y, data_dir)


def has_threshold(model):
    return not model.layers[0].weights


def smooth_behind(model):
    """The softplus twin of all but the threshold."""
    threshold, *layers = model.layers
    rest = keras.Sequential([keras.Input(model.input_shape[1:]), *layers])
    return keras.Sequential([keras.Input(model.input_shape[1:]), threshold, keras_rar.softplus_twin(rest)])


def corners(model, x, y, draws=100):
    """Which images none of many random corners of the ball fools: an attack without gradients."""
    rng, robust = np.random.default_rng(0), np.ones(len(x), bool)
    for _ in range(draws):
        moved = np.clip(x + EPSILON * rng.choice([-1, 1], x.shape), 0, 1).astype("float32")
        robust &= model.predict(moved, verbose=0, batch_size=500).argmax(axis=1) == y
    return robust


def leaking(model, slope=0.1):
    """The network with a slope below its threshold, where its own gradient is 0."""

    def leaky(layer):
        if type(layer) is keras.layers.ReLU:
            return keras.layers.LeakyReLU(slope, name=layer.name)
        return type(layer).from_config(layer.get_config())

    twin = keras.models.clone_model(model, clone_function=leaky, recursive=True)
    twin.set_weights(model.get_weights())
    return twin


def through(other, model, x, y, attack=None):
    """Which images a network gets right where PGD leads on another one."""
    attack = attack or PGDAttack(EPSILON, steps=100, step_size=0.01, restarts=1)
    found = attack(other, x, y)
    return model.predict(found.x_adv, verbose=0, batch_size=500).argmax(axis=1) == y


def transferred(model, x, y, data_dir):
    """Which images are right where PGD leads on another network: no threshold, an epoch of adversarial training."""
    keras.utils.set_random_seed(17)
    other = networks.cnn(initializer="glorot_uniform")
    x_train, y_train = datasets.load("fashion_mnist", "train", data_dir=data_dir)
    train(other, x_train, y_train, [Phase("madry", 1)], dataset="fashion_mnist", seed=17)
    return through(other, model, x, y)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--attacked", type=int, default=50, help="images whose maps are attacked")
    parser.add_argument("--images", type=int, default=1000, help="images whose predictions are attacked")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    model = keras.saving.load_model(arguments.model)
    weights = b"".join(weight.tobytes() for weight in model.get_weights())
    of = {"sha256 of the weights": hashlib.sha256(weights).hexdigest(), "images": arguments.images}
    of |= {"model": arguments.model.parent.name, "attacked": arguments.attacked}
    x, y = (part[: arguments.images] for part in datasets.load("fashion_mnist", "test", data_dir=arguments.data_dir))
    found = Found(arguments.out, of)
    for name, robust in predictions(model, x, y, arguments.data_dir):
        if name not in found:
            found.keep(name, {"accuracy": robust().astype("float64")})
    found.keep_worst(["accuracy"])
    variants = MAPS
    if has_threshold(model):
        behind = {
            "softplus behind the threshold alone": {"gradient_model": smooth_behind(model)},
            "softplus behind a leaking threshold": {"gradient_model": smooth_behind(leaking(model))},
        }
        variants = {**behind, **MAPS}
    for name, changes in variants.items():
        if name not in found:
            report = keras_rar.evaluate_robustness(
                model,
                x,
                y,
                protocol="paper",
                dataset="fashion_mnist",
                attacked=arguments.attacked,
                m=20,
                pgd_steps=1,
                **changes,
            )
            found.keep(name, {measure: report.values(measure) for measure in MEASURES})
    found.keep_worst(MEASURES)


class Found:
    """What was found: means in a `.json`, and beside it, in a `.npz`, the value of each image."""

    def __init__(self, out, of):
        self.out, self.archive = out, out.with_suffix(".npz")
        self.results, self.values = {"machine": describe(), "of": of}, {}
        before = json.loads(out.read_text()) if out.exists() else self.results
        if before["of"] != of:
            raise SystemExit(f"{out} is of {before['of']}: give another --out")
        if self.archive.exists():  # or nothing is known of the images
            self.results, self.values = before, dict(np.load(self.archive))

    def __contains__(self, name):
        return name in self.results

    def keep(self, name, values):
        self.results[name] = {measure: mean_with_interval(array, seed=0) for measure, array in values.items()}
        self.values |= {f"{name}: {measure}": array for measure, array in values.items()}
        np.savez_compressed(self.archive, **self.values)
        self.out.write_text(json.dumps(self.results, indent=2) + "\n")
        print(name, self.results[name], flush=True)

    def keep_worst(self, measures):
        """For each image the worst that any of the attacks in the ball of the protocol, and with its k, found."""
        known = [name for name in self.results if f"{name}: {measures[0]}" in self.values]
        names = [name for name in known if "epsilon" not in name and "k = " not in name]
        arrays = {measure: [self.values[f"{name}: {measure}"] for name in names] for measure in measures}
        self.keep(f"the worst of all, {measures[0]}", {measure: np.min(of, axis=0) for measure, of in arrays.items()})


if __name__ == "__main__":
    main()
