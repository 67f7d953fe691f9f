"""Points without a derivative, and scores that are NaN or infinite: nothing of it is read as robust."""

import keras
import numpy as np
import pytest
from conftest import dense_model

import keras_rar
from keras_rar.attacks import PGDAttack, PredictionEnsembleAttack, RandomAttack, TopKAttack


def with_a_norm():
    """A network that reads the length of its input, which has no derivative at 0."""
    inputs = keras.Input((6,))
    norm = keras.ops.sqrt(keras.ops.sum(inputs**2, axis=-1, keepdims=True))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Concatenate()([inputs, norm])))
    model.layers[-1].set_weights([np.random.default_rng(0).normal(size=(7, 3)), np.array([0, 0.01, 0.02])])
    x = np.random.default_rng(1).uniform(size=(8, 6)).astype("float32")
    x[3] = 0
    return model, x, model.predict(x, verbose=0).argmax(axis=1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_input_without_a_derivative_is_attacked(norm):
    model, x, y = with_a_norm()
    found = PGDAttack(0.5, norm=norm, steps=20, restarts=0)(model, x, y)
    assert not found.robust[3]
    assert np.all(np.isfinite(found.x_adv))


def test_every_member_that_follows_gradients_leaves_such_a_point():
    model, x, y = with_a_norm()
    options = {"steps": 10, "restarts": 0, "targets": 0, "members": ("apgd_crossentropy", "apgd_ratio")}
    found = PredictionEnsembleAttack(0.5, **options)(model, x, y)
    assert not found.robust[3]
    assert np.all(np.isfinite(found.x_adv))


def test_coordinates_of_infinite_slope_go_the_way_of_their_sign():
    """`√x` at 0: beside it, a slope that is finite and leads the other way."""
    inputs = keras.Input((2,))
    z = 0.5 * keras.ops.sqrt(inputs[:, :1]) - 0.1 * inputs[:, 1:]
    model = keras.Model(inputs, keras.ops.concatenate([0 * z + 0.05, z], axis=1))
    found = PGDAttack(0.1, steps=10, restarts=0, objectives="margin")(model, np.array([[0.0, 0.5]]), [0])
    np.testing.assert_allclose(found.x_adv, [[0.1, 0.4]], atol=1e-6)
    assert not found.robust[0]


@pytest.mark.slow
@pytest.mark.parametrize("undefined", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_not_robust(undefined):
    """Beyond 0.55 the network says nothing; before, it says the label."""
    inputs = keras.Input((1,))
    said = keras.ops.where(inputs > 0.55, undefined, 1.0) + 0 * inputs
    model = keras.Model(inputs, keras.ops.concatenate([said, 0 * inputs + 0.1 * inputs], axis=1))
    x, y = np.array([[0.5], [0.2]]), [0, 0]
    for attack in (
        PGDAttack(0.1, steps=12),
        PredictionEnsembleAttack(0.1, steps=4, queries=3),
        PredictionEnsembleAttack(0.1, members="noise", queries=8),
    ):
        found = attack(model, x, y)
        np.testing.assert_array_equal(found.correct, [True, True])
        np.testing.assert_array_equal(found.robust, [False, True])


def test_a_network_that_says_nothing_at_the_input_is_refused():
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.ops.concatenate([np.nan * inputs, inputs], axis=1))
    for attack in (PGDAttack(0.1, steps=1), PredictionEnsembleAttack(0.1, steps=1, queries=1)):
        with pytest.raises(ValueError, match=r"`model` must return finite scores\. Received: NaN"):
            attack(model, np.array([[0.5]]), [0])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["topk", "random"])
def test_a_map_that_is_nan_is_undefined_and_the_others_are_not(kind):
    model, x, y = with_a_norm()
    options = {"epsilon": 0.05, "steps": 3, "m": 4}
    attack = TopKAttack(2, **options) if kind == "topk" else RandomAttack(**options)
    found, others = attack(model, x, y), np.arange(8) != 3
    assert found.iteration[3] == 0
    for scores in found.scores.values():
        np.testing.assert_array_equal(np.isnan(scores), ~others)
    assert np.all(found.scores["kendall_tau"][others] <= 1)
    assert found.iteration[others].max() > 0
    np.testing.assert_array_equal(found.x_adv[3], x[3])


def test_a_finite_gradient_is_followed_as_before():
    """Negative control: of a smooth network the iterates do not depend on the noise."""
    model, x = dense_model(6), np.random.default_rng(0).uniform(size=(4, 6))
    first, second = (PGDAttack(0.1, steps=3, restarts=0, seed=seed)(model, x, [0, 1, 2, 0]) for seed in (0, 1))
    np.testing.assert_array_equal(first.x_adv, second.x_adv)


def test_a_norm_that_training_does_not_know_is_refused():
    with pytest.raises(ValueError, match=r"`norm` must be one of \['linf', 'l2', 'l1'\]"):
        keras_rar.wrap(dense_model(), "madry", epsilon=1, norm="l0")
