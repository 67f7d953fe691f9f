"""The derivative of a map in its input, as attacks follow it, against central differences."""

import numpy as np
import tensorflow as tf


def assert_is_that_of_differences(saliency, f, x, h=1e-5):
    """Of a sum of attributions with random weights, in each entry of x."""
    cotangent = tf.constant(np.random.default_rng(2).normal(size=x.shape))

    def value(x):
        return tf.reduce_sum(cotangent * saliency(f, x))

    point = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(point)
        total = value(point)
    steps = h * np.eye(x.size).reshape(x.size, *x.shape)
    slopes = np.reshape([(value(point + step) - value(point - step)) / (2 * h) for step in steps], x.shape)
    np.testing.assert_allclose(tape.gradient(total, point), slopes, rtol=1e-7, atol=1e-7)  # h² f‴, and 1e-16 / h
    assert np.abs(slopes).min() > 1e-3
