"""How a computation is put in a TensorFlow graph."""

from collections.abc import Callable, Sequence
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


def in_parts(function: Callable[..., tf.Tensor], rows: Sequence[tf.Tensor], size: int) -> tf.Tensor:
    """A function of rows that do not depend on each other, of at most `size` of them at a time.

    The parts are of one size: the last row is repeated where they do not go in evenly.

    Args:
        function: Function of tensors of shape `(n, ...)` that returns one, of the shape of the first.
        rows: Its arguments, of shape `(batch, ...)`.
        size: Positive integer.

    Example:

    >>> in_parts(lambda x: x + 1.0, [tf.constant([1.0, 2.0, 3.0])], 2).numpy()
    array([2., 3., 4.], dtype=float32)
    """
    rows = [tf.convert_to_tensor(value) for value in rows]
    like = rows[0]
    batch = tf.shape(like)[0] if like.shape[0] is None else like.shape[0]
    parts = (batch + size - 1) // size
    parts = tf.maximum(parts, 1) if tf.is_tensor(parts) else max(parts, 1)
    each = (batch + parts - 1) // parts
    indices = tf.reshape(tf.minimum(tf.range(parts * each), batch - 1), [parts, each])
    of_a_part = body(lambda part: function(*(tf.gather(value, part) for value in rows)))
    found = tf.map_fn(
        of_a_part,
        indices,
        parallel_iterations=1,
        fn_output_signature=tf.TensorSpec([indices.shape[1], *like.shape[1:]], like.dtype),
    )
    return tf.reshape(found, tf.concat([[-1], tf.shape(like)[1:]], 0))[:batch]


def of_unknown_batch(x: tf.Tensor) -> tf.Tensor:
    """The tensor itself, with a batch that the graph does not know.

    Of sums of known shapes TensorFlow's optimizer makes operations with a temporary variable, which fail in nested
    loops.
    """
    x = tf.convert_to_tensor(x)
    return known_as(x, [None, *x.shape[1:]])


def known_as(x: tf.Tensor, shape: Any) -> tf.Tensor:
    """The tensor itself, of which the graph knows no more than `shape`."""
    x = tf.convert_to_tensor(x)
    if tf.executing_eagerly():
        return x
    return tf.raw_ops.PlaceholderWithDefault(input=x, shape=shape)
