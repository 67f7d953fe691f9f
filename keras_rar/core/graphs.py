"""How a computation is laid out in a TensorFlow graph."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def body(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the body of a loop so that TensorFlow does not inline it.

    TensorFlow replaces some kernels by faster ones for a CPU, above all the derivative of max-pooling. It does so only
    if it visits the operations in the order of the computation, and it visits those of an inlined loop in any order:
    the kernels that it misses are ten times as slow.

    Args:
        function: A function of tensors that returns tensors. Gradients must be taken inside of it.

    Returns:
        The function: outside of a graph as it is, in a graph as one operation.

    Example:

    >>> float(body(lambda x: x + 1.0)(tf.constant(1.0)))
    2.0
    """
    if tf.executing_eagerly():
        return function
    return tf.function(function, autograph=False, experimental_attributes={"_noinline": True})


def loop(
    step: Callable[..., Any],
    state: Sequence[Any],
    *,
    first: tf.Tensor | int,
    last: tf.Tensor | int,
    steps: int,
    shapes: Sequence[Any] | None = None,
) -> Any:
    """Some iterations of a loop that can be paused: `state ← step(k, *state)` for k from `first` to before `last`.

    Args:
        step: Function of the number of the iteration and of the state that returns the state. It is a `body`.
        state: What an iteration begins with, tensors or tuples of them.
        first: The first iteration, from 0; an integer tensor, so that one graph serves all.
        last: The iteration to stop before.
        steps: Most iterations, known when it is compiled, as XLA needs.
        shapes: What the graph knows of the shapes of the state. Defaults to those of `state`.

    Returns:
        The state after.

    Example:

    >>> [int(value) for value in loop(lambda k, total: [total + k], [tf.constant(0)], first=1, last=4, steps=9)]
    [6]
    """
    one = body(step)
    known = tf.nest.map_structure(lambda value: value.shape, tuple(state)) if shapes is None else shapes
    _, *state = tf.while_loop(
        lambda k, *_: k < last,
        lambda k, *state: (k + 1, *one(k, *state)),
        (tf.convert_to_tensor(first), *state),
        shape_invariants=(tf.TensorShape([]), *known),
        maximum_iterations=steps,
        parallel_iterations=1,
    )
    return state


def in_parts(function: Callable[..., tf.Tensor], rows: Sequence[tf.Tensor], size: int) -> tf.Tensor:
    """Apply a function to at most `size` rows at a time.

    All parts have one size: the last row is repeated where the batch cannot be divided evenly.

    Args:
        function: Function of tensors of shape `(n, ...)` that returns a tensor of the shape of the first. Each row of
            the result may depend on the same rows only.
        rows: Its arguments, tensors of shape `(batch, ...)`.
        size: Positive integer.

    Returns:
        What the function returns for the whole batch.

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
    """The same tensor with a batch size that the graph does not know.

    TensorFlow's optimizer turns sums of tensors of known shapes into operations with a temporary variable, which fail
    in nested loops.
    """
    x = tf.convert_to_tensor(x)
    return known_as(x, [None, *x.shape[1:]])


def known_as(x: tf.Tensor, shape: Any) -> tf.Tensor:
    """The same tensor, of whose shape the graph knows only `shape`."""
    x = tf.convert_to_tensor(x)
    if tf.executing_eagerly():
        return x
    return tf.raw_ops.PlaceholderWithDefault(input=x, shape=shape)
