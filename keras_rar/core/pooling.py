"""Max-pooling whose second derivatives are exact and fast."""

import math

import tensorflow as tf

from keras_rar.core.gradients import floating


def max_pool(x: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Max-pooling over windows side by side, with derivatives of any order.

    The derivative keeps, of each window, the entry of its first maximum: `dx = S dy`, with S zeros and ones. The
    derivative of that in dy is `Sᵀ`, a mask and a sum over windows, for which TensorFlow's own kernel is slow on a
    processor and, compiled by XLA, inexact.

    Args:
        x: Tensor of shape `(n, height, width, channels)`, sizes that `size` divides.
        size: Height and width of a window.
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
                with tf.control_dependencies([ddx]):  # not before it is needed: it is as large as x
                    mask = tf.stop_gradient(spread(tf.fill(tf.shape(y), tf.cast(math.prod(size), y.dtype))))
                return tf.nn.avg_pool2d(mask * ddx, size, size, "VALID")

            return spread(dy), collect

        return y, derivative

    return pool(x)
