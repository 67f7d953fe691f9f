"""A smooth network of one output, and derivatives to compare with."""

import numpy as np
import pytest
import tensorflow as tf

from keras_rar.core import quadrature

ROUNDING = {"rtol": 1e-12, "atol": 1e-14}  # float64, sums of some tens of terms
every_rule = pytest.mark.parametrize("name", quadrature.RULES)


def network(seed=0, ignored=()):
    """A smooth network of one output in float64; the features `ignored` are not connected."""
    rng = np.random.default_rng(seed)
    w1, b, w2 = rng.normal(size=(4, 8)), rng.normal(size=8), rng.normal(size=8)
    w1[list(ignored)] = 0
    return lambda z: tf.linalg.matvec(tf.tanh(z @ w1 + b), w2)


def gradient(value_of, *tensors):
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = value_of(*tensors)
    return tape.gradient(value, tensors)


def central_differences(value_of, x, h=1e-5):
    x = np.array(x)
    steps = h * np.eye(x.size).reshape(x.size, *x.shape)
    slopes = [(value_of(tf.constant(x + step)) - value_of(tf.constant(x - step))) / (2 * h) for step in steps]
    return np.reshape(slopes, x.shape)


def ends():
    """Two ends of a segment for each of five examples."""
    x, x_prime = np.random.default_rng(1).uniform(size=(2, 5, 4))
    return tf.constant(x), tf.constant(x_prime)
