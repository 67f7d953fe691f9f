"""Affine maps whose derivatives of all orders are right, whatever TensorFlow knows of them."""

from collections.abc import Callable

import tensorflow as tf

from keras_rar.core.gradients import floating


def with_derivatives(function: Callable[[tf.Tensor], tf.Tensor], *, linear: bool = True) -> Callable:
    """An affine map `f(x) = A x + b` with derivatives of all orders, of which it needs to have the first alone.

    `dx = Aᵀ dy`, and the derivative of that in dy is A. TensorFlow has no derivative of `Aᵀ` for many ways to resize
    images, and takes it for zero for others.

    Args:
        function: Function of a tensor, affine in it, with a first derivative.
        linear: Whether b is zero, which saves one evaluation. Defaults to `True`.

    Returns:
        A function that returns the same.

    Example:

    >>> double = with_derivatives(lambda x: 2.0 * x)
    >>> double(np.ones([2])).numpy()
    array([2., 2.])
    """

    def forward(x: tf.Tensor) -> tf.Tensor:
        x = floating("x", x)

        @tf.custom_gradient
        def mapped(x):
            return function(x), transposed

        @tf.custom_gradient
        def transposed(dy):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(x)
                y = function(x)
            zero = tf.UnconnectedGradients.ZERO
            return tape.gradient(y, x, output_gradients=dy, unconnected_gradients=zero), without_offset

        def without_offset(ddx):
            return mapped(ddx) if linear else mapped(ddx) - function(tf.zeros_like(ddx))

        return mapped(x)

    return forward
