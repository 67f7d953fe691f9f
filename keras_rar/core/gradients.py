"""Gradients with respect to the input, and integrated gradients."""

from collections.abc import Callable

import tensorflow as tf

from keras_rar.core.quadrature import QuadratureRule

ScalarFunction = Callable[[tf.Tensor], tf.Tensor]


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
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(z)
        value = f(z)
    return tape.gradient(value, z, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def integrated_gradients(
    f: ScalarFunction,
    x: tf.Tensor,
    x_prime: tf.Tensor,
    rule: QuadratureRule,
    *,
    chunk: int | None = None,
) -> tf.Tensor:
    """Integrated gradients of `f` along the segment from `x` to `x_prime`.

    `IGᵢ(x, x′) = (x′ᵢ − xᵢ) ∫₀¹ ∂f/∂zᵢ (x + α(x′ − x)) dα ≈ (x′ᵢ − xᵢ) Σₖ wₖ ∂f/∂zᵢ(x + αₖ(x′ − x))`
    (Sundararajan et al. 2017; between two inputs as in Chen et al. 2019, sec. 2).

    Completeness: `Σᵢ IGᵢ = f(x′) − f(x)`, up to the error of the rule (`completeness_gap`). IG is 0 at
    `x_prime = x`. It can be differentiated in θ, x and x′. Costs a forward and a backward pass for each
    node and example; the memory is that of `chunk` nodes as long as nothing differentiates through it.

    Args:
        f: Function `(n, ...) -> (n,)`. It receives `n = nodes · batch` points, nodes folded into the batch:
            row `i` belongs to example `i % batch`.
        x: Tensor of shape `(batch, ...)`, the start of the segment.
        x_prime: Tensor of the shape of `x`, its end.
        rule: A `QuadratureRule`, such as `keras_rar.quadrature.right(50)`.
        chunk: Number of nodes to evaluate at once. Defaults to all.

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
    x = tf.convert_to_tensor(x)
    x_prime = tf.cast(x_prime, x.dtype)
    if not x.dtype.is_floating:
        raise TypeError(f"`x` must be floating point, to have gradients. Received: dtype={x.dtype.name}")
    if not x.shape.is_compatible_with(x_prime.shape):
        raise ValueError(
            f"`x` and `x_prime` must have the same shape. Received: x.shape={x.shape}, x_prime.shape={x_prime.shape}"
        )
    average = tf.zeros_like(x)
    for nodes, weights in rule.chunks(chunk):
        points = _segment_points(x, x_prime, nodes)
        gradients = input_gradient(f, tf.reshape(points, tf.concat([[-1], tf.shape(x)[1:]], 0)))
        average += tf.tensordot(tf.constant(weights, x.dtype), tf.reshape(gradients, tf.shape(points)), 1)
    return (x_prime - x) * average


def _segment_points(x: tf.Tensor, x_prime: tf.Tensor, nodes: tuple[float, ...]) -> tf.Tensor:
    """`x + αₖ(x′ − x)`, of shape `(nodes, batch, ...)`."""
    alpha = tf.reshape(tf.constant(nodes, x.dtype), [len(nodes)] + [1] * x.shape.rank)
    return x + alpha * (x_prime - x)


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
