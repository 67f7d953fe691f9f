"""A table of networks that people have, each put through all that the package does; one process per network.

    python benchmarks/applications.py --out benchmarks/results/applications.json
    python benchmarks/applications.py MobileNetV2 transfer --out applications.json
    python benchmarks/applications.py --table --out benchmarks/results/applications.json

Networks of keras.applications and KerasHub have random weights and small images: whether all works is asked, not how
robust they are. `fer` and `nsfwjs` are trained, and need `--networks`, the folder of `benchmarks/networks.py`. A cell
is "yes", a figure, or the error. It goes on where it was stopped.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from machine import describe
from zoo import ENVIRONMENT, NAMES, TRAINED, bounds_of, build, images, in_policy, settled

import keras_rar
from keras_rar import attacks

CHECKS = (
    "input", "ε", "update", "frozen weights kept", "map", "twin", "noise", "attack", "evaluate", "save and load",
    "export", "bfloat16",
)  # fmt: skip
RADII = (0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
RIGHT = ("yes", "—", "none needed", "β = ")
"""How the cells of a network begin with which all works; noise and attack are figures."""


def radius(network, x, y, k, ends):
    """The largest ε, as a share of the range, at which noise leaves 60 % of the k highest pixels.

    Beyond it an attack has nothing to find. The maps of random weights change with much less than trained ones.
    """
    maps = functools.partial(keras_rar.saliency_map, network, y=y, m=3, baseline=ends["baseline"])
    noise = np.random.default_rng(2).choice([-1, 1], size=x.shape) * (ends["bounds"][1] - ends["bounds"][0])
    before = maps(x)
    for share in RADII:
        after = maps(np.clip(x + share * noise, *ends["bounds"]).astype("float32"))
        if np.mean(keras_rar.metrics.topk_intersection(before, after, k)) >= 0.6:
            break
    return share


def checks(name, folder):
    """Yields the name of each check and its outcome."""
    network, bounds = build(name, folder), bounds_of(name)
    x = images(network.input_shape[1:], bounds)
    span, ends = bounds[1] - bounds[0], {"bounds": bounds, "baseline": bounds[0]}
    if name not in TRAINED:
        settled(network, x, RADII[0] * span)
    y = network.predict(x, verbose=0).argmax(axis=1)
    k = int(np.prod(network.input_shape[1:3])) // 8
    share = radius(network, x, y, k, ends)
    epsilon = share * span
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=name not in TRAINED)

    def wrapped(base):
        model = keras_rar.wrap(base, "ig_topk", epsilon=epsilon, steps=1, seed=0, **ends)
        model.compile(keras.optimizers.SGD(1e-4), loss)
        return model

    sides = " × ".join(map(str, network.input_shape[1:]))
    yield "input", lambda: f"{sides} in [{bounds[0]:g}, {bounds[1]:g}]"
    yield "ε", lambda: f"{share:g}"

    weights = [np.array(weight) for weight in network.get_weights()]

    def update():
        model = wrapped(network)
        found = model.train_on_batch(x, y, return_dict=True)
        if not np.isfinite(found["loss"]) or model.skipped_updates:
            return f"loss {found['loss']}, {model.skipped_updates} skipped"
        changed = sum(np.any(a != b) for a, b in zip(weights, network.get_weights(), strict=True))
        return "yes" if changed else "nothing changed"

    yield "update", update

    def kept():
        if name != "transfer":
            return "—"
        frozen = next(layer for layer in network.layers if isinstance(layer, keras.Model)).weights
        pairs = zip(weights, network.weights, strict=True)
        moved = [now.path for old, now in pairs if any(now is w for w in frozen) and np.any(old != np.array(now))]
        return f"no: {moved[0]}" if moved else "yes"

    yield "frozen weights kept", kept
    network.set_weights(weights)

    def a_map():
        found = keras_rar.saliency_map(network, x, y, m=4, baseline=bounds[0])
        return "yes" if np.isfinite(found).all() and np.all(found.std(axis=(1, 2)) > 0) else "flat or not finite"

    yield "map", a_map

    def twin():
        found = attacks.TopKAttack(k, epsilon, steps=1, step_size=epsilon, m=2, **ends)
        agreement = found.twin_agreement(network, x, y)
        which = "none needed" if agreement.beta is None else f"β = {agreement.beta:g}, maps {agreement.maps:.3f}"
        return agreement.warning or which

    yield "twin", twin
    options = {"steps": 10, "m": 3, **ends}
    found = {}

    def attacked(attack):
        found[type(attack)] = float(attack(network, x, y).scores["topk_intersection"].mean())
        return f"{found[type(attack)]:.3f}"

    yield "noise", lambda: attacked(attacks.RandomAttack(epsilon, k_report=k, **options))
    yield "attack", lambda: attacked(attacks.TopKAttack(k, epsilon, step_size=epsilon / 4, **options))

    def evaluate():
        options = {"steps": 3, "m": 2, "pgd_steps": 3, "attacked": 2, "other_maps": (), **ends}
        report = keras_rar.evaluate_robustness(network, x, y, epsilon=epsilon, k=k, progress=False, **options)
        return "yes" if np.isfinite(report.summary()["topk_intersection"]["mean"]) else "not finite"

    yield "evaluate", evaluate

    with tempfile.TemporaryDirectory() as scratch:
        file, served = Path(scratch) / "model.keras", Path(scratch) / "served"

        def saved():
            model = wrapped(network)
            model.save(file)
            again = keras.saving.load_model(file)
            np.testing.assert_allclose(again.predict(x, verbose=0), network.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
            return "yes"

        def exported():
            keras_rar.export_saved_model(wrapped(network), str(served))
            again = tf.saved_model.load(str(served))
            np.testing.assert_allclose(np.asarray(again.serve(x)), network.predict(x, verbose=0), rtol=1e-4, atol=1e-5)
            return "yes"

        yield "save and load", saved
        yield "export", exported

    def bfloat16():
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            base = in_policy(build(name, folder)) if name in TRAINED else settled(build(name, folder), x, epsilon)
            model = wrapped(base)
            loss = model.train_on_batch(x, y, return_dict=True)["loss"]
            return "yes" if np.isfinite(loss) and not model.skipped_updates else f"loss {loss}"
        finally:
            keras.config.set_dtype_policy(before)

    yield "bfloat16", bfloat16


def run(name, folder):
    """The outcome of each check, what it warned of, and its processor seconds."""
    outcomes, seconds = {}, {}
    for check, outcome in checks(name, folder):
        start = time.process_time()
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                outcomes[check] = outcome()
            said = {str(w.message) for w in caught if issubclass(w.category, (RuntimeWarning, UserWarning))}
            if said:
                outcomes[f"{check}, warned"] = sorted(said)
        except Exception as error:  # what the table is for
            outcomes[check] = f"{type(error).__name__}: {str(error)[:300]}"
        seconds[check] = round(time.process_time() - start, 1)
        print(name, check, outcomes[check], seconds[check], "s", file=sys.stderr, flush=True)
    return {"outcomes": outcomes, "seconds": seconds}


def faults(outcomes):
    """The cells that are not as they must be: errors, faults in words, an attack that finds no more than noise."""
    cells = [(check, outcomes[check]) for check in CHECKS if check not in ("input", "ε")]
    wrong = [f"{check}: {cell}" for check, cell in cells if not cell.startswith((*RIGHT, "0.", "1."))]
    if not wrong and not float(outcomes["attack"]) < float(outcomes["noise"]):
        wrong.append(f"attack: {outcomes['attack']}, and noise {outcomes['noise']}")
    return wrong


def in_its_process(name, folder):
    """What `run` finds, in a process of its own."""
    command = [sys.executable, __file__, "--job", name, "--networks", str(folder)]
    environment = {**os.environ, **ENVIRONMENT.get(name, {})}
    job = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)  # noqa: S603
    return json.loads(job.stdout.splitlines()[-1])


def table(results):
    lines = ["| network | " + " | ".join(CHECKS) + " |", "|---" * (len(CHECKS) + 1) + "|"]
    for name in NAMES:
        if name in results:
            cells = [results[name]["outcomes"][check] for check in CHECKS]
            lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *NAMES], metavar="NETWORK")
    parser.add_argument("--networks", type=Path, default=Path("networks"), help="folder of fer.keras and nsfwjs.keras")
    parser.add_argument("--out", type=Path, default=Path("applications.json"))
    parser.add_argument("--table", action="store_true", help="print what the file holds, run nothing")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        print("\n" + json.dumps(run(arguments.job, arguments.networks)))
        return
    found = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"machine": describe(), "networks": {}}
    for name in () if arguments.table else arguments.names or NAMES:
        if name in found["networks"]:
            continue
        try:
            found["networks"][name] = in_its_process(name, arguments.networks)
        except subprocess.CalledProcessError as error:  # a crash: the others go on
            print(name, error, file=sys.stderr, flush=True)
            continue
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found["networks"]))


if __name__ == "__main__":
    main()
