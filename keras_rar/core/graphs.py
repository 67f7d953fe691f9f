"""How a computation is laid out in a TensorFlow graph."""

import concurrent.futures
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


def outside(function: Callable[[], Any]) -> Any:
    """Call a function that makes variables as if no graph was being made.

    A function that makes variables while TensorFlow traces it is traced a second time, and each of its variables costs
    a branch of the graph. What a thread of its own makes belongs to no graph. Under a strategy of distribution, which
    such a thread would not know, the function is called as it is.

    Args:
        function: A function without arguments. It may use no tensor of the graph that is being made.

    Returns:
        What the function returns.

    Example:

    >>> made = []
    >>> f = tf.function(lambda x: x * (made or outside(lambda: made.append(tf.Variable(2.0))) or made)[0])
    >>> float(f(tf.constant(3.0))), len(made)
    (6.0, 1)
    """
    if tf.executing_eagerly() or tf.distribute.has_strategy():
        return function()
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(function).result()


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
    batch, parts, each = _parts(like, size)
    indices = tf.reshape(tf.minimum(tf.range(parts * each), batch - 1), [parts, each])
    of_a_part = body(lambda part: function(*(tf.gather(value, part) for value in rows)))
    found = tf.map_fn(
        of_a_part,
        indices,
        parallel_iterations=1,
        fn_output_signature=tf.TensorSpec([indices.shape[1], *like.shape[1:]], like.dtype),
    )
    return tf.reshape(found, tf.concat([[-1], tf.shape(like)[1:]], 0))[:batch]


def sums_in_parts(
    function: Callable[..., tuple[Sequence[tf.Tensor], Sequence[tf.Tensor]]],
    rows: Sequence[tf.Tensor],
    weights: tf.Tensor,
    size: int | tf.Tensor,
    *,
    results: Sequence[tf.TensorSpec],
    sums: Sequence[Any],
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Results of each example, and sums over examples, computed for at most `size` examples at a time.

    All parts have one size: the last row is repeated, with the weight 0, where the batch cannot be divided evenly.

    Args:
        function: Function of rows of the arguments and of the weights that returns two lists: the results of these
            examples, tensors of shape `(n, ...)`, and weighted sums over them. Gradients must be taken inside of it.
        rows: Its arguments, tensors of shape `(batch, ...)`.
        weights: Tensor of shape `(batch,)`.
        size: Positive integer, or an integer tensor.
        results: The shape of each result, without the batch, and its dtype.
        sums: Tensors or variables of the shapes and dtypes of the sums.

    Returns:
        The results, tensors of shape `(batch, ...)`, and the sums.

    Example:

    >>> x = tf.constant([1.0, 2.0, 3.0])
    >>> f = lambda x, w: ([2.0 * x], [tf.reduce_sum(w * x)])
    >>> squares, total = sums_in_parts(f, [x], x, 2, results=[tf.TensorSpec([], x.dtype)], sums=[tf.constant(0.0)])
    >>> squares[0].numpy(), float(total[0])
    (array([2., 4., 6.], dtype=float32), 14.0)
    """
    rows = [tf.convert_to_tensor(value) for value in rows]
    batch, parts, each = _parts(rows[0], size)
    found = [tf.zeros([batch + 1, *spec.shape], spec.dtype) for spec in results]  # the last row is thrown away
    totals = [tf.zeros_like(tf.convert_to_tensor(value)) for value in sums]

    @body
    def step(k, found, totals):
        at = k * each + tf.range(each)
        of_examples = tf.minimum(at, batch - 1)
        share = tf.where(at < batch, tf.gather(weights, of_examples), tf.zeros([], weights.dtype))
        values, terms = function(*(tf.gather(value, of_examples) for value in rows), share)
        into = tf.minimum(at, batch)[:, tf.newaxis]
        found = [tf.tensor_scatter_nd_update(old, into, new) for old, new in zip(found, values, strict=True)]
        terms = [known_as(term, [None] * len(term.shape)) for term in terms]  # see `of_unknown_batch`
        return k + 1, found, [total + term for total, term in zip(totals, terms, strict=True)]

    rank_only = [tf.TensorShape([None] * len(value.shape)) for value in totals]
    _, found, totals = tf.while_loop(
        lambda k, *_: k < parts,
        step,
        (tf.constant(0), found, totals),
        shape_invariants=(tf.TensorShape([]), [value.shape for value in found], rank_only),
        maximum_iterations=parts,
        parallel_iterations=1,
    )
    return [value[:batch] for value in found], [
        tf.ensure_shape(total, value.shape) for total, value in zip(totals, sums, strict=True)
    ]


def _parts(like: tf.Tensor, size: int | tf.Tensor) -> tuple[Any, Any, Any]:
    """The rows of a batch, in how many parts of at most `size` they go, and the rows of each part."""
    batch = tf.shape(like)[0] if like.shape[0] is None else like.shape[0]
    parts = (batch + size - 1) // size
    parts = tf.maximum(parts, 1) if tf.is_tensor(parts) else max(parts, 1)
    return batch, parts, (batch + parts - 1) // parts


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
