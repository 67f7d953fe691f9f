"""How a computation is put in a TensorFlow graph."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def body(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, in a graph one node that stays one: for what a loop computes.

    In a loop that it can look into, TensorFlow meets the nodes in any order, and replaces some kernels of a
    processor, the derivative of max-pooling above all, only if it meets them in that of the computation: the others
    stay ten times as slow.

    Args:
        function: A function of tensors that returns tensors. What differentiates must be inside it.

    Example:

    >>> float(body(lambda x: x + 1.0)(tf.constant(1.0)))
    2.0
    """
    if tf.executing_eagerly():
        return function
    return tf.function(function, autograph=False, experimental_attributes={"_noinline": True})


def of_unknown_batch(x: tf.Tensor) -> tf.Tensor:
    """The tensor itself, with a batch that the graph does not know.

    Of sums of known shapes TensorFlow's optimizer makes operations with a temporary variable, which fail in nested
    loops.
    """
    return known_as(x, [None, *x.shape[1:]])


def known_as(x: tf.Tensor, shape: Any) -> tf.Tensor:
    """The tensor itself, of which the graph knows no more than `shape`."""
    if tf.executing_eagerly():
        return x
    return tf.raw_ops.PlaceholderWithDefault(input=x, shape=shape)
