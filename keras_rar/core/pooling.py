"""Max-pooling whose second derivatives are exact and fast."""

import math

import tensorflow as tf

from keras_rar.core.gradients import floating


def max_pool(x: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Max-pooling over adjacent windows, with derivatives of any order.

    `dx = S dy`: the derivative goes to the first maximum of each window, and S holds zeros and ones. The derivative of
    that in dy is `Sᵀ`: a mask and a sum over each window. TensorFlow's own kernel for it is slow on a CPU, and inexact
    when XLA compiles it.

    Args:
        x: Tensor of shape `(n, height, width, channels)`; `size` divides height and width.
        size: Height and width of a window.

    Returns:
        Tensor of shape `(n, height / size[0], width / size[1], channels)`.

    Raises:
        TypeError: If `x` is not floating point.

    Example:

    >>> max_pool(tf.reshape(tf.range(4.0), [1, 2, 2, 1]), (1, 2)).numpy().ravel()
    array([1., 3.], dtype=float32)
    """
    x = floating("x", x)
    window = {"ksize": [1, *size, 1], "strides": [1, *size, 1], "padding": "VALID"}

    @tf.custom_gradient
    def pool(x):
        y = tf.nn.max_pool2d(x, size, size, "VALID")

        def spread(dy):
            return tf.raw_ops.MaxPoolGrad(orig_input=x, orig_output=y, grad=dy, **window)

        @tf.custom_gradient
        def derivative(dy):
            def collect(ddx):
                with tf.control_dependencies(
                    [ddx]
                ):  # the mask is as large as x, and must not be made before it is needed
                    mask = tf.stop_gradient(spread(tf.fill(tf.shape(y), tf.cast(math.prod(size), y.dtype))))
                return tf.nn.avg_pool2d(mask * ddx, size, size, "VALID")

            return spread(dy), collect

        return y, derivative

    return pool(x)
