"""Derivatives in closed form are those that TensorFlow derives, of three orders."""

import numpy as np
import pytest
import tensorflow as tf

from keras_rar.core import closed_forms
from keras_rar.core.gradients import input_gradient

AXES = [1, 2]
EPSILON = 1e-3


def plain_norm(x):
    centred = x - tf.reduce_mean(x, AXES, keepdims=True)
    return centred * tf.math.rsqrt(tf.reduce_mean(centred**2, AXES, keepdims=True) + EPSILON)


PAIRS = {
    "silu": (closed_forms.silu, lambda x: x * tf.sigmoid(x)),
    "gelu": (closed_forms.gelu, lambda x: x * (1 + tf.math.erf(x / 2**0.5)) / 2),
    "normalized": (lambda x: closed_forms.normalized(x, AXES, EPSILON), plain_norm),
}


def of_three_orders(function, x, v, w):
    """`⟨w, f⟩` and its derivatives: its gradient, `⟨v, that²⟩`'s, and that of the sum of `w` times this."""
    axes = [1, 2]

    def first(z):
        return input_gradient(lambda u: tf.reduce_sum(w * function(u), axes), z)

    def second(z):
        return input_gradient(lambda u: tf.reduce_sum(v * first(u) ** 2, axes), z)

    def third(z):
        return input_gradient(lambda u: tf.reduce_sum(w * second(u), axes), z)

    return function(x), first(x), second(x), third(x)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("name", PAIRS)
def test_derivatives_of_three_orders_are_those_of_tensorflow(name, graph):
    x, v, w = (tf.constant(2 * value) for value in np.random.default_rng(0).normal(size=(3, 4, 3, 2)))
    ours, theirs = PAIRS[name]
    compiled = tf.function(of_three_orders, autograph=False) if graph else of_three_orders
    for found, expected in zip(compiled(ours, x, v, w), of_three_orders(theirs, x, v, w), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", PAIRS)
def test_the_second_derivative_is_that_of_finite_differences(name):
    x, v = (tf.constant(value) for value in np.random.default_rng(1).normal(size=(2, 4, 3, 2)))
    function, step = PAIRS[name][0], 1e-5

    def gradient(z):
        return input_gradient(lambda u: tf.reduce_sum(v * function(u), AXES), z)

    found = input_gradient(lambda u: tf.reduce_sum(v * gradient(u), AXES), x)
    # The Hessian of ⟨v, f⟩ is symmetric, so this is also how its gradient changes along v.
    np.testing.assert_allclose(found, (gradient(x + step * v) - gradient(x - step * v)) / (2 * step), atol=1e-8)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", ["silu", "gelu"])
def test_what_is_far_from_0_is_neither_nan_nor_wrong(name, dtype):
    far = 6e4 if dtype == "float16" else 1e30
    x = tf.constant([[[-far, -300.0, -30.0, 0.0, 30.0, 300.0, far]]], dtype)
    ones = tf.ones_like(x)
    value, first, second, _ = of_three_orders(PAIRS[name][0], x, ones / 2, ones)  # f, f′, f′ f″
    limit = tf.nn.relu(x)
    np.testing.assert_allclose(tf.cast(value, "float64"), tf.cast(limit, "float64"), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(tf.cast(first, "float64")[0, 0], [0, 0, 0, 0.5, 1, 1, 1], atol=1e-6)
    curvature = 0.25 if name == "silu" else 0.3989
    np.testing.assert_allclose(tf.cast(second, "float64")[0, 0], [0, 0, 0, curvature, 0, 0, 0], atol=5e-3)


def test_fewer_operations_than_tensorflow_derives():
    """What they are for; and a negative control of the other tests, which would pass with TensorFlow's own."""
    x, w = tf.zeros([2, 3, 2]), tf.ones([2, 3, 2])

    def operations(function):
        traced = tf.function(lambda z: of_three_orders(function, z, w, w)[2], autograph=False)
        return len(traced.get_concrete_function(x).graph.get_operations())

    assert operations(closed_forms.silu) < operations(tf.nn.silu)
    assert operations(closed_forms.gelu) < operations(lambda x: tf.nn.gelu(x, approximate=False))
    assert operations(PAIRS["normalized"][0]) < operations(plain_norm)
