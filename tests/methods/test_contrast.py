"""The contrast of two classes' maps: its inner maximum, its special cases, and what it is refused with."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, dense_model, wrapped

import keras_rar
from keras_rar.core import class_contrasts, class_probabilities

X, Y = batch(6)
X_PRIME = np.clip(X + np.random.default_rng(1).uniform(-0.1, 0.1, X.shape), 0, 1).astype("float32")


def test_x_star_is_that_of_ig_sum_norm():
    base_model = dense_model()
    found = wrapped("contrast", base_model, factor=3.0).perturb(X, Y, seed=2)
    np.testing.assert_allclose(found, wrapped("ig_sum_norm", base_model, beta=3.0).perturb(X, Y, seed=2), atol=1e-6)
    other = wrapped("ig_sum_norm", base_model, beta=0.0).perturb(X, Y, seed=2)
    assert np.abs(found - other).max() > 1e-3  # negative control: λ counts


def test_without_a_change_only_the_contrast_is_left():
    """At x* = x, less the loss: what the formula has for it, of maps that are computed otherwise."""
    model = wrapped("contrast", factor=1.0)
    contrast = model.objective(X, X, Y) - wrapped("madry", model.base_model).objective(X, X, Y)
    x = tf.constant(X)
    terms = model._compiled.terms(x, x, tf.constant(Y), model.regularizer.training_rule)
    scores = class_probabilities.runner_up_probability, class_probabilities.label_probability
    of_other, of_label = (class_contrasts.divergence_from_uniform(terms.map_of(x, score)) for score in scores)
    np.testing.assert_allclose(contrast, of_other - of_label, atol=1e-6)
    assert np.abs(contrast).max() > 1e-5


def test_two_classes_and_one_unit_are_alike():
    """The two probabilities sum to 1, so the map of one class is the negative of the other's."""
    two = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    one = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    kernel, bias = two.get_weights()
    one.set_weights([kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1]])
    losses = keras.losses.SparseCategoricalCrossentropy, keras.losses.BinaryCrossentropy
    found = [
        wrapped("contrast", network, loss(from_logits=True), factor=2.0).objective(X, X_PRIME, Y % 2)
        for network, loss in zip((two, one), losses, strict=True)
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)  # float32


def test_the_input_and_no_inner_layer_is_what_it_explains():
    with pytest.raises(ValueError, match=r"`attribution_layer` must be None for a method that does not read"):
        keras_rar.wrap(dense_model(), "contrast", attribution_layer="dense")


@pytest.mark.slow
def test_training_keeps_maps_from_changing():
    """More than adversarial training does, which is the control: the weighted change at x*."""
    x, y = batch(64, seed=4)
    found = []
    for factor in (0.0, 5.0):
        keras.utils.set_random_seed(1)
        model = wrapped("contrast", factor=factor, optimizer=keras.optimizers.Adam(0.02))
        model.fit(x, y, batch_size=32, epochs=15, verbose=0)
        measured = wrapped("contrast", model.base_model, factor=1.0, optimizer=keras.optimizers.SGD(0.0))
        found.append(measured.fit(x, y, batch_size=64, verbose=0).history["weighted_change"][0])
    assert found[1] < 0.8 * found[0]


def test_it_can_be_summed():
    base_model = dense_model()
    contrast, sparse = keras_rar.AttributionalContrastRegularizer(), keras_rar.R2ETRegularizer()
    found = wrapped(contrast + 0.5 * sparse, base_model).objective(X, X_PRIME, Y)
    expected = [wrapped(one, base_model).objective(X, X_PRIME, Y) for one in (contrast, sparse)]
    np.testing.assert_allclose(found, expected[0] + 0.5 * expected[1], rtol=1e-5)


@pytest.mark.parametrize("factor", [-1.0, float("nan"), "a", True])
def test_the_factor_is_validated(factor):
    with pytest.raises((TypeError, ValueError), match=r"`factor` must be .* Received: factor="):
        keras_rar.AttributionalContrastRegularizer(factor=factor)
