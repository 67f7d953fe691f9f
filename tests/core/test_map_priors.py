"""Priors of maps, and contrasts of the maps of classes, against NumPy and TensorFlow's own."""

import numpy as np
import pytest
import tensorflow as tf

from keras_rar.core import class_contrasts, class_probabilities, map_priors

RNG = np.random.default_rng(0)
A = RNG.normal(size=(3, 9))


def slow_gini(a):
    """By its definition, over all pairs."""
    a = np.abs(a.reshape(len(a), -1))
    return np.abs(a[:, :, None] - a[:, None]).sum(axis=(1, 2)) / (2 * a.shape[1] * a.sum(axis=1))


def test_total_variation_of_images_is_that_of_tensorflow():
    images = tf.constant(RNG.normal(size=(4, 5, 6, 3)))
    np.testing.assert_allclose(map_priors.total_variation(images), tf.image.total_variation(images), rtol=1e-12)
    turned = np.moveaxis(images.numpy(), -1, 1)  # negative control: the last axis is no place
    assert np.abs(map_priors.total_variation(turned) - map_priors.total_variation(images)).max() > 1


@pytest.mark.parametrize("shape", [(3, 9), (3, 9, 2), (2, 3, 4, 5, 2)])
def test_total_variation_of_any_number_of_axes(shape):
    a = RNG.normal(size=shape)
    places = range(1, max(len(shape) - 1, 2))
    expected = sum(np.abs(np.diff(a, axis=axis)).reshape(len(a), -1).sum(axis=1) for axis in places)
    np.testing.assert_allclose(map_priors.total_variation(a), expected, rtol=1e-12)
    np.testing.assert_allclose(map_priors.total_variation(-2 * a + 7), 2 * expected, rtol=1e-12)


def test_gini_is_that_of_all_pairs():
    a = RNG.normal(size=(4, 3, 5))
    a[0, 0], a[1] = 0.3, 0  # ties
    a[1, 0, 0] = -2.0
    np.testing.assert_allclose(map_priors.gini(a), slow_gini(a), rtol=1e-12)
    np.testing.assert_allclose(map_priors.gini(a)[1], 1 - 1 / 15, rtol=1e-12)  # one entry has all
    np.testing.assert_allclose(map_priors.gini(-7 * a), map_priors.gini(a), rtol=1e-12)
    np.testing.assert_array_equal(map_priors.PRIORS["gini"](a), -map_priors.gini(a))


@pytest.mark.parametrize("function", [map_priors.total_variation, map_priors.gini])
def test_what_does_not_count_has_no_part_in_it(function):
    counted = np.arange(9) < np.array([[9], [5], [1]])
    found = function(np.where(counted, A, 5.0), counted)
    for row, n in enumerate((9, 5, 1)):
        np.testing.assert_allclose(found[row], function(A[row : row + 1, :n])[0], rtol=1e-12)
    assert abs(function(A)[1] - found[1]) > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [0.0, 0.3])
@pytest.mark.parametrize("function", [map_priors.total_variation, map_priors.gini])
def test_a_constant_map_has_a_prior_of_zero_and_a_finite_gradient(function, value, dtype):
    a = tf.fill([2, 7], tf.constant(value, dtype))
    with tf.GradientTape() as tape:
        tape.watch(a)
        found = function(a)
    np.testing.assert_allclose(found, [0, 0], atol=1e-6)
    assert np.isfinite(tape.gradient(found, a)).all()


def test_the_divergence_from_uniform_is_the_formula():
    q = np.exp(A) / np.exp(A).sum(axis=1, keepdims=True)
    expected = np.mean(np.log(1 / (9 * q)), axis=1)
    np.testing.assert_allclose(class_contrasts.divergence_from_uniform(A), expected, rtol=1e-12)
    np.testing.assert_allclose(class_contrasts.divergence_from_uniform(A + 3), expected, rtol=1e-12)
    images = RNG.normal(size=(2, 3, 3, 2))
    summed = class_contrasts.divergence_from_uniform(images.sum(axis=-1).reshape(2, 9))
    np.testing.assert_allclose(class_contrasts.divergence_from_uniform(images), summed, rtol=1e-12)


def test_padding_has_no_part_in_a_divergence():
    counted = np.arange(9) < np.array([[9], [5], [1]])
    found = class_contrasts.divergence_from_uniform(np.where(counted, A, 0.0), counted)
    for row, n in enumerate((9, 5, 1)):
        expected = class_contrasts.divergence_from_uniform(A[row : row + 1, :n])[0]
        np.testing.assert_allclose(found[row], expected, rtol=1e-12, atol=1e-15)
    assert abs(class_contrasts.divergence_from_uniform(np.where(counted, A, 0.0))[1] - found[1]) > 1e-3


def test_a_change_costs_all_where_it_turns_the_map_and_less_where_it_follows():
    change = 0.1 * np.abs(A) + 0.01
    weak = 0.5 * A / np.abs(A)  # of size ½
    found = {sign: class_contrasts.weighted_change(weak, sign * np.sign(A) * change) for sign in (1, -1)}
    np.testing.assert_allclose(found[1], 0.5 * change.sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found[-1], change.sum(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(class_contrasts.weighted_change(A, 0 * A), np.zeros(3))


def test_the_runner_up_is_the_most_probable_of_the_others():
    logits, y = RNG.normal(size=(5, 3)), np.array([0, 2, 1, 1, 0])
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    p[np.arange(5), y] = 0
    for labels in (y, y[:, None], np.eye(3)[y]):
        found = class_probabilities.runner_up_probability(labels, logits)
        np.testing.assert_allclose(found, p.max(axis=1), rtol=1e-12)
    unit = logits[:, :1]
    other = 1 - class_probabilities.label_probability([0, 1, 1, 1, 0], unit)
    np.testing.assert_allclose(class_probabilities.runner_up_probability([0, 1, 1, 1, 0], unit), other, rtol=1e-12)
