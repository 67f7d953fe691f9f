"""Attacks at a layer: in its ball, with padding as it is, as strong as closed forms say."""

import keras
import numpy as np
import pytest
from conftest import batch
from scipy.stats import kendalltau
from texts import WIDTH, text_network, texts

import keras_rar
from keras_rar.attacks import EnsembleAttack, PGDAttack, PredictionEnsembleAttack, RandomAttack, TopKAttack

X, Y = texts()
AT = {"layer": "embedding", "bounds": None}


def moves(result):
    """What the attack adds to the output of the layer."""
    assert result.x.shape == result.x_adv.shape == (*X.shape, WIDTH)
    return result.x_adv - result.x


def test_maps_of_words_are_attacked_and_padding_is_not():
    network = text_network(activation="relu")
    result = TopKAttack(1, 0.5, steps=3, m=3, softplus_beta=3.0, **AT)(network, X)
    step = moves(result)
    np.testing.assert_array_equal(result.x, network.get_layer("embedding")(X))
    assert not step[X == 0].any()
    assert np.abs(step).max() <= 0.5 + 1e-6
    assert np.all(np.abs(step[result.iteration > 0]).max(axis=(1, 2)) > 0)
    assert (result.iteration > 0).any()
    assert result.map_after.shape == X.shape
    maps = keras_rar.saliency_map(network, X, m=3, layer="embedding")
    np.testing.assert_allclose(result.map_before, maps, rtol=1e-4, atol=1e-5)
    for before, after, words, tau in zip(
        result.map_before, result.map_after, X > 0, result.scores["kendall_tau"], strict=True
    ):
        np.testing.assert_allclose(tau, kendalltau(before[words], after[words]).statistic, atol=1e-6)


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_the_worst_case_of_a_linear_network_is_found(norm, dual):
    """Of two classes the margin falls by `ε ‖w‖₁` in L∞; in L2 by `ε ‖w‖₂ / √n`, for the mean of n words."""
    network = text_network("linear", classes=2)
    logits = network(X).numpy()
    y = logits.argmax(axis=1)
    w = np.subtract(*network.layers[-1].get_weights()[0].T)
    share = np.linalg.norm(w, dual) * (1 if norm == "linf" else 1 / np.sqrt((X > 0).sum(axis=1)))
    margin = np.abs(logits[:, 0] - logits[:, 1])
    epsilon = np.median(margin / share) * 1.001
    result = PGDAttack(epsilon, norm=norm, steps=20, objectives="margin", restarts=0, **AT)(network, X, y)
    np.testing.assert_array_equal(result.robust, margin > epsilon * share)
    assert 0 < result.robust.sum() < len(X)
    assert not moves(result)[X == 0].any()


def test_noise_in_l2_is_as_long_as_its_radius_however_much_is_padding():
    result = RandomAttack(0.5, norm="l2", steps=3, m=2, **AT)(text_network(), X)
    lengths = np.linalg.norm(moves(result).reshape(len(X), -1), axis=1)[result.iteration > 0]
    assert len(lengths)
    np.testing.assert_allclose(lengths, 0.5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_attacks_without_gradients_leave_padding_too(norm):
    network = text_network()
    y = network(X).numpy().argmax(axis=1)
    attack = PredictionEnsembleAttack(0.5, norm=norm, steps=2, queries=6, members=("square", "noise"), **AT)
    step = moves(attack(network, X, y))
    assert not step[X == 0].any()
    assert np.abs(step).max() > 0


@pytest.mark.slow
def test_the_ensemble_leaves_padding_too():
    result = EnsembleAttack(0.5, k=1, steps=3, m=3, **AT)(text_network(activation="relu"), X)
    assert not moves(result)[X == 0].any()
    assert np.isfinite(result.scores["kendall_tau"]).all()


@pytest.mark.slow
def test_at_a_layer_that_changes_nothing_an_attack_is_that_of_the_input():
    inputs = keras.Input((4,))
    same = keras.layers.Identity(name="same")(inputs)
    network = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dense(8, "tanh")(same)))
    x, y = batch()
    attack = {"k": 1, "m": 2, "epsilon": 0.1, "steps": 2, "softplus_beta": None}
    there, here = (TopKAttack(layer=name, **attack)(network, x[:2], y[:2]) for name in ("same", None))
    np.testing.assert_array_equal(there.x_adv, here.x_adv)
    assert np.abs(there.x_adv - x[:2]).max() > 0


def test_features_are_not_counted_where_some_are_held():
    with pytest.raises(ValueError, match=r"^`norm` must be \"linf\", \"l2\" or \"l1\" at a layer with padding"):
        PGDAttack(3, norm="l0", layer="embedding", bounds=(-1, 1))(text_network(), X, Y)
    with pytest.raises(TypeError, match=r"^`layer` must be the name of a layer\. Received: layer=3"):
        PGDAttack(3, layer=3)
