"""Networks that people have, for `benchmarks/applications.py`: how each is built, its bounds, and what it needs."""

import keras
import numpy as np

from keras_rar.networks.copies import operations

APPLICATIONS = {
    "MobileNetV2": 64, "MobileNetV3Small": 64, "ResNet50V2": 64, "EfficientNetB0": 64, "ConvNeXtTiny": 32,
    "DenseNet121": 64, "VGG16": 32,
}  # fmt: skip
"""Networks of keras.applications, and the side of their images."""
HUB = {"KerasHub ResNet": "resnet", "KerasHub ViT": "vit"}
TRAINED = ("fer", "nsfwjs")
"""Files of the folder that `benchmarks/networks.py` makes; their outputs are probabilities."""
NAMES = (*APPLICATIONS, "transfer", *HUB, *TRAINED)
BOUNDS = {"EfficientNetB0": (0.0, 255.0), "transfer": (0.0, 255.0), "fer": (-1.0, 1.0)}
"""Where they are not [0, 1]."""
ENVIRONMENT = {"fer": {"TF_ENABLE_ONEDNN_OPTS": "0"}}
"""TensorFlow 2.21 with oneDNN ends with a segmentation fault when Keras itself trains `fer` on some AMD processors."""


def bounds_of(name):
    return BOUNDS.get(name, (0.0, 1.0))


def build(name, folder):
    """The network, with random weights unless it is a trained one."""
    keras.utils.set_random_seed(0)
    if name in TRAINED:
        return keras.saving.load_model(folder / f"{name}.keras", compile=False)
    if name in HUB:
        return hub(HUB[name])
    if name == "transfer":
        return transfer()
    size = APPLICATIONS[name]
    options = {"include_preprocessing": False} if name in ("ConvNeXtTiny", "MobileNetV3Small") else {}
    make = getattr(keras.applications, name)
    return make(input_shape=(size, size, 3), weights=None, classes=10, classifier_activation=None, **options)


def transfer():
    """A new head on a frozen base; augmentation and scaling are inside, so that it takes images of [0, 255]."""
    base = keras.applications.MobileNetV2(input_shape=(64, 64, 3), include_top=False, weights=None, pooling="avg")
    base.trainable = False
    augmentation = [keras.layers.RandomFlip("horizontal"), keras.layers.RandomTranslation(0.1, 0.1)]
    layers = [*augmentation, keras.layers.Rescaling(1 / 127.5, -1), base, keras.layers.Dense(10, dtype="float32")]
    return keras.Sequential([keras.Input((64, 64, 3)), *layers])


def hub(kind):
    """A small classifier of KerasHub."""
    import keras_hub

    if kind == "vit":
        backbone = keras_hub.models.ViTBackbone(
            image_shape=(32, 32, 3), patch_size=8, num_layers=4, num_heads=4, hidden_dim=64, mlp_dim=128
        )
        return keras_hub.models.ViTImageClassifier(backbone=backbone, num_classes=10, preprocessor=None)
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64], input_conv_kernel_sizes=[3], stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[2, 2], stackwise_num_strides=[1, 2], block_type="basic_block",
        image_shape=(32, 32, 3),
    )  # fmt: skip
    return keras_hub.models.ResNetImageClassifier(backbone=backbone, num_classes=10, preprocessor=None)


def images(shape, bounds, n=4):
    """Smooth random images within bounds."""
    noise = np.random.default_rng(0).uniform(size=(n, 8, 8, shape[-1])).astype("float32")
    smooth = np.clip(np.asarray(keras.ops.image.resize(noise, shape[:2])), 0, 1)
    return (bounds[0] + (bounds[1] - bounds[0]) * smooth).astype("float32")


def settled(network, x, epsilon):
    """Batch statistics and a last layer that fit the images, as after training: each is a class of its own.

    The predictions of random weights change with nearly any step, and a step that changes them is no attack on maps.
    So the last layer is the linear regression of the classes of noisy images.
    """
    frozen = [layer for layer in network.layers if not layer.trainable]
    for layer in operations(network):
        layer.trainable = True
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    network(x, training=True)
    for layer in frozen:
        layer.trainable = False
    rng = np.random.default_rng(1)
    noisy = np.concatenate([x, *(x + epsilon * rng.choice([-1, 1], size=x.shape).astype("float32") for _ in range(8))])
    last = next(layer for layer in reversed(network.layers) if layer.weights)
    features = keras.Model(network.inputs[0], last.input)(noisy, training=False)  # else Keras augments them
    features = np.asarray(features, "float64").reshape(len(noisy), -1)
    classes = np.tile(np.eye(len(x), 10), (9, 1))
    mean, spread = features.mean(axis=0), features.std()
    centred = (features - mean) / spread
    kernel = centred.T @ np.linalg.solve(centred @ centred.T + np.eye(len(centred)), classes - 0.1) / spread
    last.set_weights([10 * kernel.reshape(last.kernel.shape), 10 * (0.1 - mean @ kernel)])
    return network


def in_policy(network):
    """A network that was saved in float32, in the policy that is set, but for its last layer."""
    for layer in operations(network):
        if layer is not network.layers[-1] and isinstance(layer, keras.layers.Layer):
            layer.dtype_policy = keras.config.dtype_policy()
    return network
