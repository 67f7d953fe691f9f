"""Functions whose first and second derivatives are written down, in fewer operations than TensorFlow derives them in.

A training step holds a network many times: with its derivatives, and with the derivatives of those. What TensorFlow
derives of a swish is thirty operations there, of a layer normalisation two hundred; each is traced, optimised and kept.
"""

import math
from collections.abc import Callable

import tensorflow as tf

from keras_rar.core.gradients import floating

Function = Callable[[tf.Tensor], tf.Tensor]


def elementwise(value: Function, first: Function, second: Function) -> Function:
    """A function of each entry of a tensor by itself, whose first and second derivatives are given.

    Args:
        value: Function of a tensor.
        first: Its derivative.
        second: The derivative of that; its own, where one is asked for, is TensorFlow's.

    Returns:
        A function of a floating-point tensor that returns what `value` does.

    Example:

    >>> cube = elementwise(lambda x: x**3, lambda x: 3.0 * x**2, lambda x: 6.0 * x)
    >>> float(cube(tf.constant(2.0)))
    8.0
    """

    @tf.custom_gradient
    def slope(x):
        return first(x), lambda dy: dy * second(x)

    @tf.custom_gradient
    def function(x):
        return value(x), lambda dy: dy * slope(x)

    return lambda x: function(floating("x", x))


def _silu_first(x: tf.Tensor) -> tf.Tensor:
    s = tf.sigmoid(x)
    return s + x * s * (1 - s)


def _silu_second(x: tf.Tensor) -> tf.Tensor:
    s = tf.sigmoid(x)
    t = 1 - s
    return s * t * (2 + x * (t - s))


def _gelu(x: tf.Tensor) -> tf.Tensor:
    return 0.5 * x * tf.math.erfc(-x * math.sqrt(0.5))


def _gelu_first(x: tf.Tensor) -> tf.Tensor:
    return 0.5 * tf.math.erfc(-x * math.sqrt(0.5)) + x * _density(x)


def _gelu_second(x: tf.Tensor) -> tf.Tensor:
    d = _density(x)
    return 2 * d - x * (x * d)  # in this order nothing overflows before it is 0


def _density(x: tf.Tensor) -> tf.Tensor:
    """Of the normal distribution."""
    return tf.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))


silu = elementwise(lambda x: x * tf.sigmoid(x), _silu_first, _silu_second)
"""`x σ(x)`, also called swish."""

gelu = elementwise(_gelu, _gelu_first, _gelu_second)
"""`x Φ(x)`, with the distribution function Φ of the normal distribution."""


def normalized(x: tf.Tensor, axes: list[int], epsilon: float) -> tf.Tensor:
    """`n = (x − E x) r` with `r = 1 / √(V x + ε)`, over some axes.

    Its derivative is symmetric: with `P v = v − E v` that along v is `J v = r (P v − n E[n v])`. The derivative of
    `⟨v, J w⟩` in x is `−r² (E[n v] P w + E[n w] P v + n (E[P v P w] − 3 E[n v] E[n w]))`.

    Args:
        x: Tensor, floating point.
        axes: What the mean E and the variance V are taken over.
        epsilon: Float > 0.

    Returns:
        Tensor of the shape of `x`.

    Raises:
        TypeError: If `x` is not floating point.

    Example:

    >>> normalized(tf.constant([[1.0, 3.0]]), [1], 1e-9).numpy()
    array([[-1.,  1.]], dtype=float32)
    """

    def mean(value):
        return tf.reduce_mean(value, axes, keepdims=True)

    @tf.custom_gradient
    def forward(x):
        centred = x - mean(x)
        r = tf.math.rsqrt(mean(tf.square(centred)) + epsilon)
        n = centred * r

        @tf.custom_gradient
        def backward(x, w):
            of_w, along_w = w - mean(w), mean(n * w)

            def derivatives(v):
                of_v, along_v = v - mean(v), mean(n * v)
                both = mean(of_v * of_w) - 3 * along_v * along_w
                in_x = along_v * of_w + along_w * of_v + n * both
                return -tf.square(r) * in_x, r * (of_v - n * along_v)

            return r * (of_w - n * along_w), derivatives

        return n, lambda w: backward(x, w)

    return forward(floating("x", x))
