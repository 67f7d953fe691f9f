"""Directions in which an ascent can step, also where a function has no derivative."""

from collections.abc import Callable

import tensorflow as tf

from keras_rar.core.gradients import floating


def unless_undefined(direction: Callable, otherwise: Callable) -> Callable:
    """A direction that is `defined` everywhere: an example at a point without a derivative is not stuck there.

    Args:
        direction: Function `(k, x′) -> (batch, ...)`.
        otherwise: Function of the same kind, such as a `random_direction`.

    Returns:
        Function of the same kind.
    """

    def chosen(k, x_prime):
        x_prime = floating("x_prime", x_prime)
        return defined(direction(k, x_prime), otherwise(k, x_prime))

    return chosen


def defined(gradient: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """A gradient with noise in place of NaN, so that a step in its direction is one.

    At a point without a derivative, as the root of a sum of squares at 0, the gradient is NaN. A step along it leads to
    NaN, or nowhere, and the example counts as robust. The coordinates that are finite keep their slope; those that
    are NaN get noise times the largest of them, or 1 where there is none; of infinite ones the sign is known.

    Args:
        gradient: Tensor of shape `(batch, ...)`.
        noise: Tensor of the same shape, of the size of 1.

    Returns:
        Tensor of the shape of `gradient`, finite.

    Example:

    >>> defined(tf.constant([[2.0, np.nan, -np.inf]]), tf.constant([[0.5, 0.5, 0.5]])).numpy()
    array([[ 2.,  1., -2.]], dtype=float32)
    """
    gradient = floating("gradient", gradient)
    noise = floating("noise", noise, gradient.dtype)
    sizes = tf.where(tf.math.is_finite(gradient), tf.abs(gradient), tf.zeros_like(gradient))
    largest = tf.reduce_max(sizes, axis=list(range(1, gradient.shape.rank)), keepdims=True)
    scale = tf.where(largest > 0, largest, tf.ones_like(largest))
    gradient = tf.where(tf.math.is_inf(gradient), tf.sign(gradient) * scale, gradient)
    return tf.where(tf.math.is_nan(gradient), noise * scale, gradient)


def leading(gradient: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """A gradient that leads somewhere: `defined`, and the noise for the examples where it is zero everywhere.

    Args:
        gradient: Tensor of shape `(batch, ...)`.
        noise: Tensor of the same shape.

    Returns:
        Tensor of the shape of `gradient`, finite and not zero.

    Example:

    >>> leading(tf.constant([[0.0, 0.0], [0.0, 1.0]]), tf.constant([[0.5, -0.5], [0.5, -0.5]])).numpy()
    array([[ 0.5, -0.5],
           [ 0. ,  1. ]], dtype=float32)
    """
    gradient = defined(gradient, noise)
    moves = tf.reduce_any(gradient != 0, axis=list(range(1, gradient.shape.rank)), keepdims=True)
    return tf.where(moves, gradient, tf.convert_to_tensor(noise))
