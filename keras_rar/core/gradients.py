"""Functions of inputs, in one stage or two, and their gradients."""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

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
        return self.rest(self.stem(floating("z", z)))


def floating(name: str, value: Any, dtype: tf.DType | None = None) -> tf.Tensor:
    """A tensor, an array or nested lists of floats as a tensor that has gradients, in its own precision or in `dtype`.

    Args:
        name: Name of the argument, for the error.
        value: Tensor, NumPy array, or nested lists.
        dtype: Floating-point dtype to cast to. Defaults to that of `value`, for lists float32.

    Returns:
        Tensor of a floating-point dtype.

    Raises:
        TypeError: If `value` holds no floating-point numbers: the derivative in an integer is not defined.

    Example:

    >>> floating("x", np.ones([1, 2])).dtype
    tf.float64
    """
    tensor = tf.convert_to_tensor(value)
    if not tensor.dtype.is_floating:
        raise TypeError(f"`{name}` must be floating point, to have gradients. Received: dtype={tensor.dtype.name}")
    return tensor if dtype is None or tensor.dtype == dtype else tf.cast(tensor, dtype)


def input_gradient(f: ScalarFunction, z: tf.Tensor) -> tf.Tensor:
    """The gradient `∂f(zᵢ)/∂zᵢ` of each example, differentiable again in θ and in z.

    Args:
        f: Function `(n, ...) -> (n,)`, each row of its result depending on the same row only.
        z: Tensor of shape `(n, ...)`.

    Returns:
        Tensor of the shape of `z`; zeros where `f` does not depend on `z`.

    Raises:
        TypeError: If `z` is not floating point.

    Example:

    >>> input_gradient(lambda z: tf.reduce_sum(z**2, axis=1), tf.constant([[1.0, 3.0]])).numpy()
    array([[2., 6.]], dtype=float32)
    """
    return value_and_gradient(f, z)[1]


def value_and_gradient(f: ScalarFunction, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """`f(z)` and `input_gradient(f, z)`, of one forward pass."""
    z = floating("z", z)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(z)
        value = f(z)
    return value, tape.gradient(value, z, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def repeat_labels(y: tf.Tensor, n: tf.Tensor) -> tf.Tensor:
    """Labels of shape `(batch, ...)` repeated for `n` folded points: row `i` is `y[i % batch]`."""
    y = tf.convert_to_tensor(y)
    batch = tf.shape(y)[0]
    repeats = tf.where(batch > 0, n // tf.maximum(batch, 1), 1)
    return tf.tile(y, tf.concat([[repeats], tf.ones([tf.rank(y) - 1], tf.int32)], 0))
