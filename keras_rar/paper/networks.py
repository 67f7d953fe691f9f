"""The networks of the paper (Chen et al. 2019, appendix)."""

import keras

from keras_rar.threshold import firm_threshold


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
        initializer: Name of a Keras initializer of the weights, with biases of 0: `"glorot_uniform"` learns far
            faster. Defaults to the paper's, a truncated normal of standard deviation 0.1, and biases of 0.1.
        threshold: `width` of a `keras_rar.firm_threshold` to begin with. Defaults to none, as in the paper.

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
