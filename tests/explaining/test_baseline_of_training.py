"""Where no baseline is given, maps of a `RARModel` begin where those of its training do."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, dense_model, wrapped
from texts import text_network, texts

import keras_rar
from keras_rar import metrics
from keras_rar.attacks import EnsembleAttack, RandomAttack, TopKAttack

X, Y = batch(6)
BASELINE = [0.5, 0.2, None, 0.9]
BALL = {"epsilon": 0.1, "baseline": BASELINE}


@pytest.fixture(scope="module")
def model():
    return wrapped("ig_topk", dense_model(), k=1, **BALL)


def test_saliency_maps(model):
    found = keras_rar.saliency_map(model, X, Y)
    np.testing.assert_array_equal(found, keras_rar.saliency_map(model.base_model, X, Y, baseline=BASELINE))
    of_zero = keras_rar.saliency_map(model.base_model, X, Y)
    assert np.abs(found - of_zero).max() > 0.1
    np.testing.assert_array_equal(keras_rar.saliency_map(model, X, Y, baseline=0.0), of_zero)


@pytest.mark.parametrize(
    "make",
    [
        lambda **options: TopKAttack(1, 0.1, steps=2, m=3, **options),
        pytest.param(lambda **options: EnsembleAttack(0.1, steps=1, m=30, **options), marks=pytest.mark.slow),
    ],
)
def test_attacks(model, make):
    attack = make()
    found = attack(model, X, Y)
    expected = make(baseline=BASELINE)(model.base_model, X, Y)
    np.testing.assert_array_equal(found.map_before, expected.map_before)
    np.testing.assert_array_equal(found.x_adv, expected.x_adv)
    of_zero = make(baseline=0.0)(model, X, Y)
    np.testing.assert_array_equal(attack(model.base_model, X, Y).map_before, of_zero.map_before)  # trained with none
    assert np.abs(found.map_before - of_zero.map_before).max() > 0.1
    assert attack.of(model) is attack.of(model)  # compiled once
    assert attack.of(model).settled(model, X).softplus_beta == attack.settled(model, X).softplus_beta


def test_a_saliency_object_keeps_its_own(model):
    saliency = keras_rar.core.saliency_methods.IntegratedGradients(keras_rar.quadrature.right(3))
    found = RandomAttack(0.1, steps=1, saliency=saliency)(model, X, Y)
    expected = RandomAttack(0.1, steps=1, m=3, baseline=0.0)(model.base_model, X, Y)
    np.testing.assert_array_equal(found.map_before, expected.map_before)


def test_a_saved_model_that_explains(model, tmp_path):
    keras_rar.export_saved_model(model, tmp_path / "served", m=20)
    served = tf.saved_model.load(tmp_path / "served")
    found = served.attribute(tf.constant(X))
    expected = keras_rar.saliency_map(model.base_model, X, m=20, baseline=BASELINE)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_measures_of_faithfulness(model):
    maps = keras_rar.saliency_map(model, X, Y)
    for measure in (metrics.deletion, metrics.insertion):
        np.testing.assert_array_equal(measure(model, X, maps, Y), measure(model, X, maps, Y, baseline=BASELINE))
        assert np.abs(measure(model, X, maps, Y) - measure(model, X, maps, Y, baseline=0.0)).max() > 1e-4


def test_what_takes_one_baseline_for_all_examples():
    model = wrapped("madry", dense_model(), epsilon=0.1, baseline=0.7)
    assert keras_rar.baseline_report(model) == keras_rar.baseline_report(model.base_model, 0.7)
    assert keras_rar.baseline_report(model) != keras_rar.baseline_report(model, 0.0)
    options = {"method": "ig", "k": 1, "samples": 60, "m": 2, "progress": False}
    found, expected, of_zero = (
        keras_rar.certify(model, X[:1], **options, **given).maps for given in ({}, {"baseline": 0.7}, {"baseline": 0.0})
    )
    np.testing.assert_array_equal(found, expected)
    assert np.abs(found - of_zero).max() > 0.01


def test_a_baseline_at_a_layer_is_not_one_of_the_input_or_of_another_layer():
    x, y = texts()
    model = wrapped("ig_topk", text_network(), layer="embedding", epsilon=0.2, k=1, baseline=0.3)
    at, other = {"layer": "embedding"}, {"layer": model.base_model.layers[-2].name}
    of_training = keras_rar.saliency_map(model, x, y, baseline=0.3, **at)
    np.testing.assert_array_equal(keras_rar.saliency_map(model, x, y, **at), of_training)
    of_zero = keras_rar.saliency_map(model, x, y, baseline=0.0, **other)
    np.testing.assert_array_equal(keras_rar.saliency_map(model, x, y, **other), of_zero)
    attack = RandomAttack(0.1, bounds=None, steps=1, m=2, **other)
    assert attack.of(model) is attack
    attack = RandomAttack(0.1, bounds=None, steps=1, m=2, **at)
    assert attack.of(model).saliency == dataclasses.replace(attack.saliency, baseline=0.3)
