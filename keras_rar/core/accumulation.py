"""Weighted sums of gradients over many points, computed at once or in chunks, with exact derivatives."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_rar.core import checks, graphs
from keras_rar.core.gradients import ScalarFunction, floating, value_and_gradient

Variables = bool | Sequence[tf.Variable]
"""Whether a derivative reaches variables, or the list of those that it reaches."""


def weighted_gradients(
    f: ScalarFunction,
    points: Callable[..., tf.Tensor],
    inputs: tuple[tf.Tensor, ...],
    weights: Sequence[float],
    *,
    chunk: int | None = None,
    variables: Variables = True,
    factors: Callable[..., tf.Tensor] | None = None,
) -> tf.Tensor:
    """The weighted sum of the gradients of `f` at points that are made from the inputs.

    `Σₖ wₖ ∇f(zₖ)`: integrated gradients and SmoothGrad are such sums. Costs a forward and a backward pass per point
    and example.

    Args:
        f: Function `(n, ...) -> (n,)`; it receives the points folded into the batch.
        points: Function `(ks, *inputs)` that returns the points of the indices `ks`, `(len(ks), batch, ...)`.
        inputs: Tuple of tensors of shape `(batch, ...)`; the sum can be differentiated in them, and in variables.
        weights: The weights wₖ.
        chunk: Positive integer, how many points per example to evaluate at once. Defaults to all.
        variables: Whether the chunked derivative reaches variables too, or the list of those that it reaches: it costs
            nothing for the others. Defaults to `True`, all of them.
        factors: Function as `points`, of what each gradient is multiplied by: `Σₖ wₖ cₖ ⊙ ∇f(zₖ)`. Defaults to 1.

    Returns:
        Tensor of shape `(batch, ...)`.

    Raises:
        TypeError: If an input is not floating point.
        ValueError: If `chunk` is not a positive integer.

    Example:

    >>> noisy = lambda ks, x: x + tf.cast(ks, x.dtype)[:, tf.newaxis, tf.newaxis]
    >>> f = lambda z: tf.reduce_sum(z**2, axis=1)
    >>> weighted_gradients(f, noisy, (tf.zeros([1, 2]),), [0.5, 0.5]).numpy()
    array([[1., 1.]], dtype=float32)
    """
    return gradients_and_values(f, points, inputs, weights, chunk=chunk, variables=variables, factors=factors)[0]


def gradients_and_values(
    f: ScalarFunction,
    points: Callable[..., tf.Tensor],
    inputs: tuple[tf.Tensor, ...],
    weights: Sequence[float],
    *,
    chunk: int | None = None,
    variables: Variables = True,
    factors: Callable[..., tf.Tensor] | None = None,
    groups: int = 1,
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """`weighted_gradients`, and the values of `f` at the points, which cost nothing more.

    Args:
        f: As for `weighted_gradients`.
        points: As for `weighted_gradients`.
        inputs: As for `weighted_gradients`.
        weights: As for `weighted_gradients`.
        chunk: As for `weighted_gradients`.
        variables: As for `weighted_gradients`.
        factors: As for `weighted_gradients`.
        groups: As for `weighted_sum`.

    Returns:
        The sum, and the values, a tensor of shape `(points, batch)`, or `None` if the points are evaluated in chunks.

    Example:

    >>> f = lambda z: tf.reduce_sum(z**2, axis=1)
    >>> gradients_and_values(f, lambda ks, x: x[tf.newaxis], (tf.ones([1, 2]),), [1.0])[1].numpy()
    array([[2.]], dtype=float32)
    """

    def evaluate(ks, *inputs):
        z = points(ks, *inputs)
        values, gradients = value_and_gradient(f, folded(z))
        gradients = tf.reshape(gradients, tf.shape(z))
        gradients = gradients if factors is None else factors(ks, *inputs) * gradients
        return tf.reshape(values, tf.shape(z)[:2]), gradients

    inputs = tuple(floating("inputs", value) for value in inputs)
    return weighted_sum(evaluate, inputs, weights, lambda: inputs[0], chunk=chunk, variables=variables, groups=groups)


def folded(z: tf.Tensor) -> tf.Tensor:
    """Points `(points, batch, ...)` with the first two axes made one.

    Example:

    >>> folded(tf.zeros([2, 3, 4])).shape
    TensorShape([6, 4])
    """
    return tf.reshape(z, tf.concat([[-1], tf.shape(z)[2:]], 0))


def weighted_sum(
    evaluate: Callable[..., tuple[tf.Tensor, tf.Tensor]],
    inputs: tuple[tf.Tensor, ...],
    weights: Sequence[float],
    like: Callable[[], tf.Tensor],
    *,
    chunk: int | None = None,
    variables: Variables = True,
    groups: int = 1,
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """`Σₖ wₖ v(zₖ)` of a vector v of each point, and a value of each point.

    Args:
        evaluate: Function `(ks, *inputs)` that returns, for the points of the indices `ks`, their values,
            `(len(ks), batch)`, and their vectors, `(len(ks), batch, ...)`.
        inputs: As for `weighted_gradients`.
        weights: As for `weighted_gradients`.
        like: Function that returns a tensor of the shape of the sum; called where points go in chunks.
        chunk: As for `weighted_gradients`.
        variables: As for `weighted_gradients`.
        groups: Where points go in chunks, the batch goes in so many groups of equal size. Defaults to `1`.

    Returns:
        The sum, and the values, `(points, batch)`, or `None` if the points are evaluated in chunks.

    Example:

    >>> evaluate = lambda ks, x: (tf.ones([1, 1]), x[tf.newaxis])
    >>> weighted_sum(evaluate, (tf.constant([[2.0]]),), [0.5], lambda: tf.zeros([1, 1]))[0].numpy()
    array([[1.]], dtype=float32)
    """
    inputs = tuple(floating("inputs", value) for value in inputs)
    dtype = inputs[0].dtype
    rounds = -(-len(weights) // (len(weights) if chunk is None else checks.positive_int("chunk", chunk)))
    size = -(-len(weights) // rounds)  # every round has the same size: the last point is repeated with weight 0
    indices = tf.constant(np.minimum(np.arange(rounds * size), len(weights) - 1).reshape(rounds, size), tf.int32)
    padded = np.pad(np.asarray(weights, "float64"), (0, rounds * size - len(weights)))
    scale = float(np.abs(padded).max())  # equal weights become 1, which is exact, also in bfloat16
    shares = tf.constant(padded.reshape(rounds, size) / scale, dtype)

    def part(k, *inputs):
        values, vectors = evaluate(indices[k], *inputs)
        return scale * tf.tensordot(shares[k], vectors, 1), values

    if rounds == 1:
        return part(0, *inputs)

    def of_a_group(k, *inputs):
        each = tf.shape(inputs[0])[0] // groups
        rows = k // rounds * each + tf.range(each)
        found = part(k % rounds, *(tf.gather(value, rows) for value in inputs))[0]
        return tf.scatter_nd(rows[:, tf.newaxis], found, tf.concat([[groups * each], tf.shape(found)[1:]], 0))

    of_all = lambda k, *inputs: part(k, *inputs)[0]  # noqa: E731
    return summed(of_all if groups == 1 else of_a_group, inputs, groups * rounds, variables, like), None


def summed(
    part: Callable[..., tf.Tensor],
    inputs: tuple[tf.Tensor, ...],
    rounds: int,
    variables: Variables = True,
    like: Callable[[], tf.Tensor] | None = None,
) -> tf.Tensor:
    """`Σₖ part(k, *inputs)` over some rounds, one at a time, also for its derivative.

    Args:
        part: Function `(k, *inputs)` that returns a tensor, of one shape for all k.
        inputs: Tuple of tensors of shape `(batch, ...)`; the sum can be differentiated in them, and in variables.
        rounds: Positive integer, k runs from 0 to before it.
        variables: As for `weighted_gradients`.
        like: Function that returns a tensor of the shape of the sum. Defaults to the first input.

    Returns:
        Tensor of that shape.

    Example:

    >>> summed(lambda k, x: tf.cast(k, x.dtype) * x, (tf.constant([[1.0, 2.0]]),), 3).numpy()
    array([[3., 6.]], dtype=float32)
    """
    inputs = tuple(floating("inputs", value) for value in inputs)
    wanted = variables  # `tf.custom_gradient` passes an argument of the same name

    def known(k, *inputs):
        return part(k, *(graphs.of_unknown_batch(value) for value in inputs))

    @tf.custom_gradient
    def total(*inputs):
        def backward(upstream, variables=None):
            reached = [variable for variable in variables or [] if _is_among(variable, wanted)]
            sources = [*inputs, *reached]

            def derivatives(k):
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(sources)
                    value = tf.reduce_sum(upstream * known(k, *inputs))
                found = tape.gradient(value, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
                return [tf.convert_to_tensor(gradient) for gradient in found]

            found = _sum_over(rounds, derivatives, sources)
            in_inputs, in_variables = found[: len(inputs)], found[len(inputs) :]
            if variables is None:
                return in_inputs
            found_of = {id(variable): value for variable, value in zip(reached, in_variables, strict=True)}
            return in_inputs, [found_of.get(id(variable)) for variable in variables]

        return _sum_over(rounds, lambda k: [known(k, *inputs)], [inputs[0] if like is None else like()])[0], backward

    return total(*inputs)


def _is_among(variable: tf.Variable, wanted: Variables) -> bool:
    """Whether a derivative reaches a variable; of a variable with a copy on each replica it reaches each."""
    if isinstance(wanted, bool):
        return wanted
    copies = tf.distribute.get_strategy().experimental_local_results
    return any(variable is copy for other in wanted for copy in (other, *copies(other)))


def _sum_over(rounds: int, terms: Callable[[tf.Tensor], list[tf.Tensor]], like: Sequence[Any]) -> list[tf.Tensor]:
    """`Σₖ terms(k)`, computed for one k at a time; the sums have the shapes of `like`."""
    sums = [tf.zeros_like(tf.convert_to_tensor(value)) for value in like]

    @graphs.body
    def step(k, sums):
        found = [graphs.known_as(term, [None] * len(term.shape)) for term in terms(k)]
        return k + 1, [total + term for total, term in zip(sums, found, strict=True)]

    _, sums = tf.while_loop(
        lambda k, sums: k < rounds,
        step,
        (tf.constant(0), sums),
        shape_invariants=(tf.TensorShape([]), [tf.TensorShape([None] * len(value.shape)) for value in like]),
        maximum_iterations=rounds,
        parallel_iterations=1,
    )
    return [tf.ensure_shape(total, value.shape) for total, value in zip(sums, like, strict=True)]
