"""A baseline that is the input itself for some features: they get no share, and the others theirs given them."""

import numpy as np
import pytest
import tensorflow as tf

from keras_rar.core import checks, quadrature
from keras_rar.core.gradients import input_gradient
from keras_rar.core.network_functions import Network
from keras_rar.core.saliency_methods import IntegratedGradients
from keras_rar.core.segment_starts import start_of, starts_of
from keras_rar.core.terms import Terms

X = tf.constant(np.random.default_rng(0).normal(size=(5, 3)))


def product(z):
    return z[:, 0] * z[:, 1] ** 2 + z[:, 2]


def test_a_feature_of_its_own_baseline_is_held_along_the_segment():
    """Of `x₀x₁² + x₂` with x₁ held, IG₀ is `x₀x₁²` exactly, and IG₁ is 0; with a number it is another."""
    ig = IntegratedGradients(quadrature.midpoint(3), [0.0, None, 0.25])(product, X).numpy()
    x = X.numpy()
    np.testing.assert_allclose(ig[:, 0], x[:, 0] * x[:, 1] ** 2, rtol=1e-12)
    np.testing.assert_array_equal(ig[:, 1], 0)
    np.testing.assert_allclose(ig[:, 2], x[:, 2] - 0.25, rtol=1e-12)
    other = IntegratedGradients(quadrature.midpoint(3), [0.0, 0.0, 0.25])(product, X).numpy()
    assert np.all(np.abs(other - ig)[:, :2] > 1e-6)  # a control


def test_lists_arrays_and_tensors_say_the_same():
    given = [1.0, None, 3.0]
    expected = np.stack([np.full(5, 1.0), X[:, 1], np.full(5, 3.0)], axis=1)
    for found in (
        start_of(given, X), start_of(tf.constant([1, np.nan, 3], tf.float64), X), starts_of(given, X.numpy()),
    ):  # fmt: skip
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(start_of(2.0, X), np.full((5, 3), 2.0))
    np.testing.assert_array_equal(start_of([[0.5], [None]], tf.ones([1, 2, 2])), [[[0.5, 0.5], [1, 1]]])


def test_a_map_is_differentiable_where_the_start_moves_with_the_input():
    """By central differences, in float64."""

    def squared(z):
        return tf.reduce_sum(IntegratedGradients(quadrature.midpoint(4), [0.0, None, 0.25])(product, z) ** 2, axis=1)

    found, step = input_gradient(squared, X).numpy(), 1e-5
    for i in range(3):
        shift = step * np.eye(3)[i]
        by_difference = (squared(X + shift) - squared(X - shift)).numpy() / (2 * step)
        np.testing.assert_allclose(found[:, i], by_difference, rtol=1e-6, atol=1e-8)


def test_the_maps_of_a_training_hold_it_too():
    network = Network(lambda z, training: product(z)[:, tf.newaxis], lambda y, s: s[:, 0], lambda y, s: s[:, 0])
    terms = Terms(network, X, X + 1, tf.zeros([5]), rule=quadrature.midpoint(3), baseline=[0.0, None, 0.25])
    for z, found in ((X, terms.clean_map), (X + 1, terms.perturbed_map)):
        expected = IntegratedGradients(quadrature.midpoint(3), [0.0, None, 0.25])(product, z)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("value", [None, [None, None], [np.nan, None], ["a", None], [1e300, None]])
def test_a_baseline_is_validated(value):
    with pytest.raises((TypeError, ValueError), match=r"^`baseline` must be .*Received: baseline="):
        checks.baseline("baseline", value)


def test_a_baseline_is_plain():
    assert checks.baseline("baseline", np.array([[1, None], [None, 2]], object)) == [[1.0, None], [None, 2.0]]
    assert checks.baseline("baseline", (0, None)) == [0.0, None]
    assert checks.baseline("baseline", np.float32(0.5)) == 0.5
    assert checks.baseline("baseline", np.eye(2)) == [[1.0, 0.0], [0.0, 1.0]]
