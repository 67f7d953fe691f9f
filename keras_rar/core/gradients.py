"""Gradients with respect to the input, and integrated gradients."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_rar.core import checks, graphs
from keras_rar.core.quadrature import QuadratureRule

ScalarFunction = Callable[[tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Staged:
    """A function in two stages, `f = rest ∘ stem`, of which the first is affine, `stem(z) = A z + b`.

    On a segment the stem is computed at its two ends only, and its transpose once: `stem(x + αd) =
    stem(x) + α(stem(x′) − stem(x))`, and `Σₖ wₖ ∇f(zₖ) = Aᵀ Σₖ wₖ ∇rest(stem(zₖ))`. That is exact, for any
    number of nodes. In a network of images it saves the convolution of the image, at each node four times.

    Args:
        stem: Function `(n, ...) -> (n, ...)`, affine in each row.
        rest: Function `(n, ...) -> (n,)` of what the stem returns.

    Example:

    >>> f = Staged(lambda z: 2.0 * z, lambda h: tf.reduce_sum(h**2, axis=1))
    >>> float(f(tf.constant([[1.0, 2.0]]))[0])
    20.0
    """

    stem: Callable[[tf.Tensor], tf.Tensor]
    rest: ScalarFunction

    def __call__(self, z: tf.Tensor) -> tf.Tensor:
        return self.rest(self.stem(z))


def input_gradient(f: ScalarFunction, z: tf.Tensor) -> tf.Tensor:
    """The gradient `∂f(zᵢ)/∂zᵢ` of each example, differentiable again in θ and in z.

    Args:
        f: Function `(n, ...) -> (n,)`, each row of its result depending on the same row only.
        z: Tensor of shape `(n, ...)`.

    Returns:
        Tensor of the shape of `z`; zeros where `f` does not depend on `z`.

    Example:

    >>> input_gradient(lambda z: tf.reduce_sum(z**2, axis=1), tf.constant([[1.0, 3.0]])).numpy()
    array([[2., 6.]], dtype=float32)
    """
    return _value_and_gradient(f, z)[1]


def _value_and_gradient(f: ScalarFunction, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(z)
        value = f(z)
    return value, tape.gradient(value, z, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def integrated_gradients(
    f: ScalarFunction,
    x: tf.Tensor,
    x_prime: tf.Tensor,
    rule: QuadratureRule,
    *,
    chunk: int | None = None,
    variables: bool = True,
) -> tf.Tensor:
    """Integrated gradients of `f` along the segment from `x` to `x_prime`.

    `IGᵢ(x, x′) = (x′ᵢ − xᵢ) ∫₀¹ ∂f/∂zᵢ (x + α(x′ − x)) dα ≈ (x′ᵢ − xᵢ) Σₖ wₖ ∂f/∂zᵢ(x + αₖ(x′ − x))`
    (Sundararajan et al. 2017; between two inputs as in Chen et al. 2019, sec. 2).

    Completeness: `Σᵢ IGᵢ = f(x′) − f(x)`, up to the error of the rule (`completeness_gap`). IG is 0 at
    `x_prime = x`. It can be differentiated in θ, x and x′. Costs a forward and a backward pass for each
    node and example, and as much again, twice, where something differentiates through it. With `chunk` the
    memory, of the derivative too, is that of `chunk` nodes; the derivative then costs a third as much again
    (half as much, of the input alone), and does not reach what `f` closes over, other than variables.

    Args:
        f: Function `(n, ...) -> (n,)`. It receives `n = nodes · batch` points, nodes folded into the batch:
            row `i` belongs to example `i % batch`. Of a `Staged` function only `rest` is computed at each node.
        x: Tensor of shape `(batch, ...)`, the start of the segment.
        x_prime: Tensor of the shape of `x`, its end.
        rule: A `QuadratureRule`, such as `keras_rar.quadrature.right(50)`.
        chunk: Positive integer, number of nodes to evaluate at once. Defaults to all.
        variables: Whether the chunked derivative reaches variables too: `False` spares an attack the cost of
            gradients that it would throw away. Defaults to `True`.

    Returns:
        Tensor of the shape of `x`.

    Raises:
        TypeError: If `x` is not floating point.
        ValueError: If `x` and `x_prime` differ in shape, or `chunk` is not a positive integer.

    Example:

    >>> x, x_prime = tf.constant([[0.0, 0.0]]), tf.constant([[1.0, 2.0]])
    >>> integrated_gradients(lambda z: tf.reduce_sum(z**2, axis=1), x, x_prime, midpoint(1)).numpy()
    array([[1., 4.]], dtype=float32)
    """
    return attributions_and_values(f, x, x_prime, rule, chunk=chunk, variables=variables)[0]


def attributions_and_values(
    f: ScalarFunction,
    x: tf.Tensor,
    x_prime: tf.Tensor,
    rule: QuadratureRule,
    *,
    chunk: int | None = None,
    variables: bool = True,
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """`integrated_gradients`, and the values of `f` at the nodes, which come for nothing.

    Args:
        f: As for `integrated_gradients`.
        x: As for `integrated_gradients`.
        x_prime: As for `integrated_gradients`.
        rule: As for `integrated_gradients`.
        chunk: As for `integrated_gradients`.
        variables: As for `integrated_gradients`.

    Returns:
        IG, in the shape of `x`, and the values, `(nodes, batch)`, or `None` where the nodes go in chunks.

    Example:

    >>> x, x_prime = tf.constant([[0.0]]), tf.constant([[2.0]])
    >>> attributions_and_values(lambda z: z[:, 0] ** 2, x, x_prime, right(2))[1].numpy()
    array([[1.],
           [4.]], dtype=float32)
    """
    x = tf.convert_to_tensor(x)
    x_prime = tf.cast(x_prime, x.dtype)
    if not x.dtype.is_floating:
        raise TypeError(f"`x` must be floating point, to have gradients. Received: dtype={x.dtype.name}")
    if not x.shape.is_compatible_with(x_prime.shape):
        raise ValueError(
            f"`x` and `x_prime` must have the same shape. Received: x.shape={x.shape}, x_prime.shape={x_prime.shape}"
        )

    def points(ks, start, end):
        """`x + αₖ(x′ − x)`."""
        alpha = tf.reshape(tf.gather(tf.constant(rule.nodes, start.dtype), ks), [-1] + [1] * start.shape.rank)
        return start + alpha * (end - start)

    def products(ks, start, end):
        """The same as a product of matrices, which on a processor is twice as fast where they are large."""
        alpha = tf.gather(tf.constant(rule.nodes, start.dtype), ks)
        return tf.tensordot(tf.stack([tf.ones_like(alpha), alpha], axis=1), tf.stack([start, end - start]), 1)

    summed = functools.partial(gradients_and_values, weights=rule.weights, chunk=chunk, variables=variables)
    if not isinstance(f, Staged):
        total, values = summed(f, points, (x, x_prime))
        return (x_prime - x) * total, values
    start = f.stem(x)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x_prime)
        end = f.stem(x_prime)
    # A GPU would round the factors of the products to 10 bits.
    total, values = summed(f.rest, points if tf.config.list_physical_devices("GPU") else products, (start, end))
    return (x_prime - x) * tape.gradient(end, x_prime, output_gradients=total), values


def weighted_gradients(
    f: ScalarFunction,
    points: Callable[..., tf.Tensor],
    inputs: tuple[tf.Tensor, ...],
    weights: Sequence[float],
    *,
    chunk: int | None = None,
    variables: bool = True,
) -> tf.Tensor:
    """`Σₖ wₖ ∇f(zₖ)` over points made from the inputs: the sum behind integrated gradients and SmoothGrad.

    Args:
        f: Function `(n, ...) -> (n,)`, of points folded into the batch.
        points: Function `(ks, *inputs)` that returns the points of the indices `ks`, `(len(ks), batch, ...)`.
        inputs: Tensors of shape `(batch, ...)`; the sum can be differentiated in them, and in variables.
        weights: The weights wₖ.
        chunk: Positive integer, number of points an example to evaluate at once. Defaults to all.
        variables: Whether the chunked derivative reaches variables too. Defaults to `True`.

    Returns:
        Tensor of shape `(batch, ...)`.

    Example:

    >>> noisy = lambda ks, x: x + tf.cast(ks, x.dtype)[:, tf.newaxis, tf.newaxis]
    >>> f = lambda z: tf.reduce_sum(z**2, axis=1)
    >>> weighted_gradients(f, noisy, (tf.zeros([1, 2]),), [0.5, 0.5]).numpy()
    array([[1., 1.]], dtype=float32)
    """
    return gradients_and_values(f, points, inputs, weights, chunk=chunk, variables=variables)[0]


def gradients_and_values(
    f: ScalarFunction,
    points: Callable[..., tf.Tensor],
    inputs: tuple[tf.Tensor, ...],
    weights: Sequence[float],
    *,
    chunk: int | None = None,
    variables: bool = True,
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """`weighted_gradients`, and the values at the points, `(points, batch)`, or `None` where they go in chunks."""
    dtype = inputs[0].dtype
    rounds = -(-len(weights) // (len(weights) if chunk is None else checks.positive_int("chunk", chunk)))
    size = -(-len(weights) // rounds)  # the same number each round: the last points are repeated with weight 0
    indices = tf.constant(np.minimum(np.arange(rounds * size), len(weights) - 1).reshape(rounds, size), tf.int32)
    padded = np.pad(np.asarray(weights, "float64"), (0, rounds * size - len(weights)))
    scale = float(np.abs(padded).max())  # so that equal weights are 1 and exact, in bfloat16 too
    shares = tf.constant(padded.reshape(rounds, size) / scale, dtype)

    def part(k, *inputs):
        if rounds > 1:
            inputs = tuple(graphs.of_unknown_batch(value) for value in inputs)
        z = points(indices[k], *inputs)
        values, gradients = _value_and_gradient(f, tf.reshape(z, tf.concat([[-1], tf.shape(z)[2:]], 0)))
        total = tf.tensordot(shares[k], tf.reshape(gradients, tf.shape(z)), 1)
        return scale * total, tf.reshape(values, tf.shape(z)[:2])

    if rounds == 1:
        return part(0, *inputs)

    reaches_variables = variables  # the name that `tf.custom_gradient` hands them over by is the same

    @tf.custom_gradient
    def total(*inputs):
        def backward(upstream, variables=None):
            sources = [*inputs, *((variables or []) if reaches_variables else [])]

            def derivatives(k):
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(sources)
                    value = tf.reduce_sum(upstream * part(k, *inputs)[0])
                found = tape.gradient(value, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
                return [tf.convert_to_tensor(gradient) for gradient in found]

            found = _sum_over(rounds, derivatives, sources)
            in_inputs, in_variables = found[: len(inputs)], found[len(inputs) :]
            if variables is None:
                return in_inputs
            return in_inputs, in_variables if reaches_variables else [None] * len(variables)

        return _sum_over(rounds, lambda k: [part(k, *inputs)[0]], inputs[:1])[0], backward

    return total(*inputs), None


def _sum_over(rounds: int, terms: Callable[[tf.Tensor], list[tf.Tensor]], like: Sequence[Any]) -> list[tf.Tensor]:
    """`Σₖ terms(k)`, one k at a time; the sums have the shapes of `like`."""
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


def repeat_labels(y: tf.Tensor, n: tf.Tensor) -> tf.Tensor:
    """Labels of shape `(batch, ...)` repeated for `n` folded points: row `i` is `y[i % batch]`."""
    batch = tf.shape(y)[0]
    repeats = tf.where(batch > 0, n // tf.maximum(batch, 1), 1)
    return tf.tile(y, tf.concat([[repeats], tf.ones([tf.rank(y) - 1], tf.int32)], 0))


def completeness_gap(f: ScalarFunction, x: tf.Tensor, x_prime: tf.Tensor, attributions: tf.Tensor) -> tf.Tensor:
    """How far attributions are from complete: `Σᵢ IGᵢ − (f(x′) − f(x))`.

    Zero for exact IG; its size says whether the rule has enough nodes.

    Args:
        f: Function `(n, ...) -> (n,)`.
        x: Tensor of shape `(batch, ...)`.
        x_prime: Tensor of the shape of `x`.
        attributions: Tensor of the shape of `x`.

    Returns:
        Tensor of shape `(batch,)`, in the units of `f`.

    Example:

    >>> x, x_prime = tf.zeros([1, 1]), tf.ones([1, 1])
    >>> f = lambda z: tf.reduce_sum(z**2, axis=1)
    >>> completeness_gap(f, x, x_prime, integrated_gradients(f, x, x_prime, right(2))).numpy()
    array([0.5], dtype=float32)
    """
    total = tf.reduce_sum(tf.reshape(attributions, [tf.shape(attributions)[0], -1]), axis=1)
    return total - (f(tf.convert_to_tensor(x_prime)) - f(tf.convert_to_tensor(x)))
