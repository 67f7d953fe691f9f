"""Where the segment of an IG begins: at a value, or for some features at the input itself."""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_rar.core.gradients import floating


def is_itself(baseline: Any) -> np.ndarray:
    """Which entries of a baseline are the input itself: those that are `None`.

    Args:
        baseline: Float, or nested lists of floats and `None`, or an array with NaN for `None`.

    Returns:
        Booleans of the shape of the baseline.

    Example:

    >>> is_itself([0.5, None]).tolist()
    [False, True]
    """
    return np.isnan(np.asarray(baseline, "float64"))  # None becomes NaN


def start_of(baseline: Any, x: tf.Tensor) -> tf.Tensor:
    """The baseline as a point per example: `bᵢ`, and `xᵢ` where the baseline is `None`.

    A feature whose segment has no length gets no share: its attribution is exactly 0, and the network sees its own
    value all along the segment. So IG explains the others given it, such as numbers beside the index of a category.

    Args:
        baseline: Float; or nested lists of floats and `None`, or a tensor with NaN for `None`, that broadcast to one
            input.
        x: Tensor of shape `(batch, ...)`.

    Returns:
        Tensor of the shape of `x`.

    Example:

    >>> start_of([0.5, None], tf.constant([[1.0, 2.0], [3.0, 4.0]])).numpy()
    array([[0.5, 2. ],
           [0.5, 4. ]], dtype=float32)
    """
    x = floating("x", x)
    if tf.is_tensor(baseline):
        return tf.where(tf.math.is_nan(baseline), x, tf.cast(baseline, x.dtype))
    values = np.asarray(baseline, "float64")  # None becomes NaN
    start = tf.broadcast_to(tf.constant(values, x.dtype), tf.shape(x))
    return tf.where(np.isnan(values), x, start) if np.isnan(values).any() else start


def starts_of(baseline: Any, x: np.ndarray) -> np.ndarray:
    """`start_of` as an array of the dtype of `x`.

    Args:
        baseline: Float, or nested lists of floats and `None`.
        x: Array of shape `(batch, ...)`.

    Returns:
        Array of the shape of `x`, not to be written to.

    Example:

    >>> starts_of([0.5, None], np.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[0.5, 2.0], [0.5, 4.0]]
    """
    x, values = np.asarray(x), np.asarray(baseline, "float64")
    start = np.broadcast_to(values.astype(x.dtype), x.shape)
    return np.where(np.isnan(values), x, start) if np.isnan(values).any() else start
