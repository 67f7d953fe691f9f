"""Integrated gradients along a segment."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_rar.core.accumulation import Variables, folded, gradients_and_values, weighted_sum
from keras_rar.core.gradients import Layered, ScalarFunction, Staged, floating, value_and_product
from keras_rar.core.quadrature import QuadratureRule
from keras_rar.core.sizes import total


def integrated_gradients(
    f: ScalarFunction,
    x: tf.Tensor,
    x_prime: tf.Tensor,
    rule: QuadratureRule,
    *,
    chunk: int | None = None,
    variables: Variables = True,
) -> tf.Tensor:
    """Integrated gradients of `f` along the segment from `x` to `x_prime`.

    `IGᵢ(x, x′) = (x′ᵢ − xᵢ) ∫₀¹ ∂f/∂zᵢ (x + α(x′ − x)) dα ≈ (x′ᵢ − xᵢ) Σₖ wₖ ∂f/∂zᵢ(x + αₖ(x′ − x))`
    (Sundararajan et al. 2017; between two inputs as in Chen et al. 2019, sec. 2).

    Completeness: `Σᵢ IGᵢ = f(x′) − f(x)`, up to the error of the rule (`completeness_gap`). IG is 0 at
    `x_prime = x`. It can be differentiated in θ, x and x′. It costs a forward and a backward pass per node and
    example, and three times as much with its derivative. With `chunk`, the memory is that of `chunk` nodes, also for
    the derivative. The derivative then costs a third more (in the inputs alone, half more), and it does not reach
    tensors that `f` closes over, unless they are variables.

    Of a `keras_rar.core.gradients.Layered` function `f = rest ∘ front` with `h = front(z)` the attributions are those
    of h, in its shape (Chen et al. 2019): `IG_h(x, x′) = Σₖ wₖ ∂f/∂h(zₖ) ∘ J_h(zₖ)(x′ − x)` at the same points
    zₖ. They are complete too, and where `h = z` they are IG.

    Args:
        f: Function `(n, ...) -> (n,)`. It receives `n = nodes · batch` points, with the nodes folded into the batch:
            row `i` belongs to example `i % batch`. Of a `Staged` function, only `rest` is computed at each node.
        x: Tensor of shape `(batch, ...)`, the start of the segment.
        x_prime: Tensor of the shape of `x`, its end.
        rule: A `QuadratureRule`, such as `keras_rar.quadrature.right(50)`.
        chunk: Positive integer, how many nodes to evaluate at once. Defaults to all.
        variables: Whether the chunked derivative reaches variables too, or the list of those that it reaches. An attack
            throws those gradients away: `False` saves their cost. Defaults to `True`.

    Returns:
        Tensor of the shape of `x`, or of h.

    Raises:
        TypeError: If `x` or `x_prime` is not floating point.
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
    variables: Variables = True,
    groups: int = 1,
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """`integrated_gradients`, and the values of `f` at the nodes, which cost nothing more.

    Args:
        f: As for `integrated_gradients`.
        x: As for `integrated_gradients`.
        x_prime: As for `integrated_gradients`.
        rule: As for `integrated_gradients`.
        chunk: As for `integrated_gradients`.
        variables: As for `integrated_gradients`.
        groups: Where nodes go in chunks, the examples go in so many groups of equal size, one at a time, and `f`
            receives the points of a group. Defaults to `1`.

    Returns:
        IG, as `integrated_gradients`, and the values, `(nodes, batch)`, or `None` if the nodes are evaluated in chunks.

    Raises:
        TypeError: As `integrated_gradients`.
        ValueError: As `integrated_gradients`.

    Example:

    >>> x, x_prime = tf.constant([[0.0]]), tf.constant([[2.0]])
    >>> attributions_and_values(lambda z: z[:, 0] ** 2, x, x_prime, right(2))[1].numpy()
    array([[1.],
           [4.]], dtype=float32)
    """
    x = floating("x", x)
    x_prime = floating("x_prime", x_prime, x.dtype)
    if not x.shape.is_compatible_with(x_prime.shape):
        raise ValueError(
            f"`x` and `x_prime` must have the same shape. Received: x.shape={x.shape}, x_prime.shape={x_prime.shape}"
        )

    def points(ks, start, end):
        """`x + αₖ(x′ − x)`."""
        alpha = tf.reshape(tf.gather(tf.constant(rule.nodes, start.dtype), ks), [-1] + [1] * start.shape.rank)
        return start + alpha * (end - start)

    def products(ks, start, end):
        """`points` as a product of matrices, which is twice as fast on a CPU where they are large."""
        alpha = tf.gather(tf.constant(rule.nodes, start.dtype), ks)
        return tf.tensordot(tf.stack([tf.ones_like(alpha), alpha], axis=1), tf.stack([start, end - start]), 1)

    if isinstance(f, Layered):
        return _at_layer(f, points, x, x_prime, rule, chunk=chunk, variables=variables, groups=groups)
    summed = functools.partial(
        gradients_and_values, weights=rule.weights, chunk=chunk, variables=variables, groups=groups
    )
    if not isinstance(f, Staged):
        gradient, values = summed(f, points, (x, x_prime))
        return (x_prime - x) * gradient, values
    start = f.stem(x)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x_prime)
        end = f.stem(x_prime)
    # A GPU may round the factors of products to 10 bits.
    gradient, values = summed(f.rest, points if tf.config.list_physical_devices("GPU") else products, (start, end))
    return (x_prime - x) * tape.gradient(end, x_prime, output_gradients=gradient), values


def _at_layer(
    f: Layered,
    points: Callable[..., tf.Tensor],
    x: tf.Tensor,
    x_prime: tf.Tensor,
    rule: QuadratureRule,
    **options: Any,
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """`Σₖ wₖ ∂f/∂h(zₖ) ∘ J_h(zₖ)(x′ − x)`, in the shape of h."""

    def evaluate(ks, x, x_prime):
        z = points(ks, x, x_prime)
        values, products = value_and_product(f, folded(z), folded(tf.broadcast_to(x_prime - x, tf.shape(z))))
        before = tf.shape(z)[:2]
        return tf.reshape(values, before), tf.reshape(products, tf.concat([before, tf.shape(products)[1:]], 0))

    return weighted_sum(evaluate, (x, x_prime), rule.weights, lambda: f.front(x), **options)


def completeness_gap(f: ScalarFunction, x: tf.Tensor, x_prime: tf.Tensor, attributions: tf.Tensor) -> tf.Tensor:
    """How far attributions are from complete: `Σᵢ IGᵢ − (f(x′) − f(x))`.

    It is zero for exact IG; its size shows whether the rule has enough nodes.

    Args:
        f: Function `(n, ...) -> (n,)`.
        x: Tensor of shape `(batch, ...)`.
        x_prime: Tensor of the shape of `x`.
        attributions: Tensor of the shape of `x`.

    Returns:
        Tensor of shape `(batch,)`, in the units of `f`.

    Raises:
        TypeError: If `x`, `x_prime` or `attributions` is not floating point.

    Example:

    >>> x, x_prime = tf.zeros([1, 1]), tf.ones([1, 1])
    >>> f = lambda z: tf.reduce_sum(z**2, axis=1)
    >>> completeness_gap(f, x, x_prime, integrated_gradients(f, x, x_prime, right(2))).numpy()
    array([0.5], dtype=float32)
    """
    x = floating("x", x)
    change = f(floating("x_prime", x_prime, x.dtype)) - f(x)
    return total(floating("attributions", attributions, change.dtype)) - change
