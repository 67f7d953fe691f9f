"""A threshold that networks can begin with, where inputs have an empty background."""

import keras

from keras_rar.core import checks


def firm_threshold(width: float) -> keras.Sequential:
    """Layers that show a network nothing of small inputs, and large ones as they are.

    `s(x) = 0` up to `width`, `2 (x − width)` up to `2 width`, and `x` from there on (firm shrinkage, Gao & Bruce 1997).
    Where inputs have a background of exact zeros and `width` is at least ε, an attack on it changes nothing, neither
    predictions nor maps. A soft threshold, `max(x − width, 0)`, does that too, but takes something from every input
    and so makes maps, x times a gradient, more sensitive to x.

    It is knowledge of the data and of ε: it does nothing for photographs, and beyond ε it protects nothing. Between 0
    and `width` its gradient is 0, though an attack may raise an input above: a network behind it looks more robust than
    it is, little so within ε and much so beyond. Measure it with `PGDAttack(…, softplus_beta=30)` too.

    Args:
        width: Float > 0, in units of the inputs, somewhat more than ε.

    Returns:
        A `keras.Sequential` of layers of Keras, without weights, for inputs >= 0 of any shape: the first layer of your
        network.

    Raises:
        ValueError: If `width` is not positive.

    Example:

    >>> network = keras.Sequential([keras.Input((4,)), firm_threshold(0.125), keras.layers.Dense(3)])
    >>> firm_threshold(0.125)(np.array([0.0, 0.125, 0.1875, 0.25, 1.0])).numpy()
    array([0.   , 0.   , 0.125, 0.25 , 1.   ], dtype=float32)
    """
    checks.positive_float("width", width)
    return keras.Sequential(
        [
            keras.layers.Rescaling(1.0, offset=-width),
            keras.layers.ReLU(),
            keras.layers.Rescaling(-1.0, offset=width),
            keras.layers.LeakyReLU(negative_slope=0.5),
            keras.layers.Rescaling(-2.0, offset=2 * width),
        ],
        name="firm_threshold",
    )
