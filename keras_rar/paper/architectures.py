"""The networks of the paper (Chen et al. 2019, appendix)."""

from typing import Any

import keras

from keras_rar.core import checks
from keras_rar.networks.standardization import PerImageStandardization
from keras_rar.networks.threshold import firm_threshold


def cnn(
    input_shape: tuple[int, int, int] = (28, 28, 1),
    classes: int = 10,
    *,
    initializer: str | None = None,
    threshold: float | None = None,
) -> keras.Model:
    """The network of the MNIST and Fashion-MNIST experiments; logits out.

    `conv 5×5×32 → max-pool 2 → conv 5×5×64 → max-pool 2 → dense 1024 → dense classes`, ReLU between,
    3,274,634 parameters for 28 × 28 × 1 and ten classes.

    Args:
        input_shape: Height, width, channels. Defaults to `(28, 28, 1)`.
        classes: Number of classes. Defaults to `10`.
        initializer: Name of a Keras initializer of the weights; biases are then 0. `"glorot_uniform"` learns far
            faster than the paper's. Defaults to the paper's: a truncated normal of standard deviation 0.1, and biases
            of 0.1.
        threshold: `width` of a `keras_rar.firm_threshold` as the first layer. Defaults to none, as in the paper.

    Returns:
        A `keras.Sequential`.

    Example:

    >>> cnn().count_params()
    3274634
    """

    def initial():
        if initializer is not None:
            return {"kernel_initializer": initializer}
        return {
            "kernel_initializer": keras.initializers.TruncatedNormal(stddev=0.1),
            "bias_initializer": keras.initializers.Constant(0.1),
        }

    return keras.Sequential(
        [
            keras.Input(input_shape),
            *([] if threshold is None else [firm_threshold(threshold)]),
            keras.layers.Conv2D(32, 5, padding="same", activation="relu", **initial()),
            keras.layers.MaxPooling2D(2, padding="same"),
            keras.layers.Conv2D(64, 5, padding="same", activation="relu", **initial()),
            keras.layers.MaxPooling2D(2, padding="same"),
            keras.layers.Flatten(),
            keras.layers.Dense(1024, activation="relu", **initial()),
            keras.layers.Dense(classes, **initial()),
        ],
        name="cnn",
    )


def resnet(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 43,
    *,
    units: int = 2,
    filters: tuple[int, int, int, int] = (16, 16, 32, 64),
    weight_decay: float = 0.0,
) -> keras.Model:
    """The network of the GTSRB experiments and, with one unit per stage, of the Flower experiments; logits out.

    `standardise → conv 3×3 → three stages of residual units → average over the image → dense`, for inputs in 0 to 255.
    The second and third stage each halve height and width. Each convolution of a unit has a leaky ReLU of slope 0.1
    before it, and there is no batch normalisation. Where the number of channels changes, the shortcut is an average
    pooling, padded with channels of zeros.

    Args:
        input_shape: Height, width, channels. Defaults to `(32, 32, 3)`, GTSRB's; Flower's are `(128, 128, 3)`.
        classes: Number of classes. Defaults to `43`, GTSRB's; Flower has 17.
        units: Number of residual units per stage, positive. Defaults to `2`, GTSRB's; Flower has 1.
        filters: Channels of the first convolution and of the stages. Defaults to `(16, 16, 32, 64)`.
        weight_decay: w in the penalty `w/2 ‖θ‖²` on all kernels, which Keras adds to the loss. Defaults to `0.0`.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If `units` is not a positive integer, or `weight_decay` is negative.

    Example:

    >>> resnet().count_params(), resnet((128, 128, 3), 17, units=1).count_params()
    (173723, 75265)
    """
    checks.positive_int("units", units)
    checks.nonnegative_float("weight_decay", weight_decay)
    penalty = keras.regularizers.L2(weight_decay / 2) if weight_decay else None

    def convolution(x: Any, channels: int, strides: int = 1) -> Any:
        initializer = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
        return keras.layers.Conv2D(
            channels,
            3,
            strides=strides,
            padding="same",
            use_bias=False,
            kernel_initializer=initializer,
            kernel_regularizer=penalty,
        )(x)

    def residual_unit(x: Any, channels: int, strides: int, is_first: bool) -> Any:
        """Two convolutions; the shortcut of the very first unit begins after the activation."""
        activated = _leaky(x)
        shortcut = _shortcut(activated if is_first else x, channels, strides)
        x = convolution(activated, channels, strides)
        return keras.layers.Add()([convolution(_leaky(x), channels), shortcut])

    inputs = keras.Input(input_shape)
    x = convolution(PerImageStandardization()(inputs), filters[0])
    for stage, channels in enumerate(filters[1:]):
        for unit in range(units):
            x = residual_unit(x, channels, 2 if stage > 0 and unit == 0 else 1, is_first=stage == unit == 0)
    x = keras.layers.GlobalAveragePooling2D()(_leaky(x))
    initializer = keras.initializers.VarianceScaling(1.0, "fan_in", "uniform")
    outputs = keras.layers.Dense(classes, kernel_initializer=initializer, kernel_regularizer=penalty)(x)
    return keras.Model(inputs, outputs, name="resnet")


def _leaky(x: Any) -> Any:
    return keras.layers.LeakyReLU(negative_slope=0.1)(x)


def _shortcut(x: Any, channels: int, strides: int) -> Any:
    """The input itself, or averaged over windows, with channels of zeros before and after it, if there must be more."""
    height, width, before = x.shape[1:]
    if channels == before:
        return x
    padding = (channels - before) // 2
    height, width = height // strides, width // strides
    x = keras.layers.AveragePooling2D(strides, padding="valid")(x)
    x = keras.layers.Reshape((height * width, before, 1))(x)
    x = keras.layers.ZeroPadding2D(((0, 0), (padding, padding)))(x)
    return keras.layers.Reshape((height, width, channels))(x)
