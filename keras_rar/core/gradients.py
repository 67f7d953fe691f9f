"""Functions of inputs, in one stage or two stages, and their gradients."""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

ScalarFunction = Callable[[tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Staged:
    """A function in two stages, `f = rest ∘ stem`. The first stage is affine: `stem(z) = A z + b`.

    On a segment, the stem is computed at the two ends only, and its transpose once: `stem(x + αd) =
    stem(x) + α(stem(x′) − stem(x))`, and `Σₖ wₖ ∇f(zₖ) = Aᵀ Σₖ wₖ ∇rest(stem(zₖ))`. This is exact for any
    number of nodes. A network for images is spared its first convolution, four times per node.

    Args:
        stem: Function `(n, ...) -> (n, ...)`, affine in each row.
        rest: Function `(n, ...) -> (n,)` of the result of the stem.

    Example:

    >>> f = Staged(lambda z: 2.0 * z, lambda h: tf.reduce_sum(h**2, axis=1))
    >>> float(f(tf.constant([[1.0, 2.0]]))[0])
    20.0
    """

    stem: Callable[[tf.Tensor], tf.Tensor]
    rest: ScalarFunction

    def __call__(self, z: tf.Tensor) -> tf.Tensor:
        return self.rest(self.stem(floating("z", z)))


@dataclasses.dataclass(frozen=True)
class Layered:
    """A function in two stages, `f = rest ∘ front`, whose attributions are those of what the first stage returns.

    Args:
        front: Function `(n, ...) -> (n, ...)`, each row of its result one of the same row: h.
        rest: Function `(n, ...) -> (n,)` of h.

    Example:

    >>> f = Layered(lambda z: z[:, :1] * z[:, 1:], lambda h: 2.0 * h[:, 0])
    >>> float(f(tf.constant([[3.0, 4.0]]))[0])
    24.0
    """

    front: Callable[[tf.Tensor], tf.Tensor]
    rest: ScalarFunction

    def __call__(self, z: tf.Tensor) -> tf.Tensor:
        return self.rest(self.front(floating("z", z)))


def floating(name: str, value: Any, dtype: tf.DType | None = None) -> tf.Tensor:
    """Convert a tensor, an array or nested lists of floats to a tensor in which gradients can be taken.

    Args:
        name: Name of the argument, for the error.
        value: Tensor, NumPy array, or nested lists.
        dtype: Floating-point dtype to cast to. Defaults to that of `value`, for lists float32.

    Returns:
        Tensor of a floating-point dtype.

    Raises:
        TypeError: If `value` is not floating point: there is no derivative in an integer.

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
        f: Function `(n, ...) -> (n,)`; each row of its result may depend on the same row of `z` only.
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
    """`f(z)` and `input_gradient(f, z)`, from one forward pass."""
    z = floating("z", z)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(z)
        value = f(z)
    return value, tape.gradient(value, z, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def value_and_product(f: Layered, z: tf.Tensor, direction: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """`f(z)`, and how each entry of `h = front(z)` changes it along a direction, `∂f/∂h(z) ∘ J_h(z) v`.

    The second factor, a forward product, is the derivative in u of `J_h(z)ᵀ u`, which is linear in u. It costs two
    passes backward through the front, and one through the rest. Both factors can be differentiated again.

    Args:
        f: A `Layered` function.
        z: Tensor of shape `(n, ...)`.
        direction: Tensor of the shape of `z`: v.

    Returns:
        Tensors of shape `(n,)` and of the shape of h; zeros where h does not depend on `z` or f not on h.

    Raises:
        TypeError: If `z` or `direction` is not floating point.

    Example:

    >>> f = Layered(lambda z: z**2, lambda h: tf.reduce_sum(3.0 * h, axis=1))
    >>> value_and_product(f, tf.constant([[1.0, 2.0]]), tf.constant([[1.0, 0.5]]))[1].numpy()
    array([[6., 6.]], dtype=float32)
    """
    z = floating("z", z)
    direction = floating("direction", direction, z.dtype)
    zero = tf.UnconnectedGradients.ZERO
    with tf.GradientTape(watch_accessed_variables=False) as pushing:
        with tf.GradientTape(watch_accessed_variables=False) as pulling:
            pulling.watch(z)
            h = f.front(z)
        u = tf.zeros_like(h)
        pushing.watch(u)
        pulled = pulling.gradient(h, z, output_gradients=u, unconnected_gradients=zero)
    product = pushing.gradient(pulled, u, output_gradients=direction, unconnected_gradients=zero)
    value, gradient = value_and_gradient(f.rest, h)
    return value, gradient * product


def repeat_labels(y: tf.Tensor, n: tf.Tensor) -> tf.Tensor:
    """Labels `(batch, ...)`, repeated for `n` points that are folded into the batch: row `i` is `y[i % batch]`."""
    y = tf.convert_to_tensor(y)
    batch = tf.shape(y)[0]
    repeats = tf.where(batch > 0, n // tf.maximum(batch, 1), 1)
    return tf.tile(y, tf.concat([[repeats], tf.ones([tf.rank(y) - 1], tf.int32)], 0))
