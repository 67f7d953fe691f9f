"""The ball that a model is measured in: one description for `evaluate_robustness`, the callback and `compare`."""

import dataclasses
import inspect

import keras
import numpy as np
import pytest
from conftest import batch, conv_model, dense_model, wrapped

import keras_rar
from keras_rar.attacks import PGDAttack, TopKAttack
from keras_rar.attacks.attribution import AttributionAttack
from keras_rar.evaluation import ball, protocols
from keras_rar.evaluation.callback import AttributionRobustness
from keras_rar.evaluation.protocols import Protocol

X, Y = batch(8)
TRAINED = {"epsilon": 0.3, "norm": "l2", "bounds": (-1.0, 2.0), "baseline": 0.5}


@pytest.fixture
def made(monkeypatch):
    """The attacks that would run, in place of running them."""
    attacks = []

    class StopError(Exception):
        pass

    def iterate(self, *args, **options):
        attacks.append(self)
        raise StopError

    monkeypatch.setattr(PGDAttack, "iterate", iterate)
    monkeypatch.setattr(AttributionAttack, "iterate", iterate)

    def of(model, x=X, y=Y, **settings):
        with pytest.raises(StopError):
            keras_rar.evaluate_robustness(model, x, y, progress=False, **settings)
        pgd = attacks.pop()
        assert isinstance(pgd, PGDAttack)
        return pgd

    return of


def watched(model, **settings):
    """The attack that the callback makes."""
    callback = AttributionRobustness(X, Y, **settings)
    callback.set_model(model)
    callback.on_train_begin()
    return callback._attack


def described(attack):
    found = {name: getattr(attack, name) for name in ("epsilon", "norm", "bounds")}
    return {**found, "baseline": attack.saliency.baseline} if isinstance(attack, AttributionAttack) else found


# Of a wrapped model


@pytest.mark.parametrize("method", ["natural", "madry", "ig_norm", "ig_sum_norm", "igr", "ig_topk"])
def test_it_is_that_of_the_training(method):
    found = ball.of_training(keras_rar.wrap(dense_model(), method, **TRAINED))
    assert found == TRAINED


def test_evaluation_and_callback_attack_in_it(made):
    model = keras_rar.wrap(dense_model(), "madry", **TRAINED)
    pgd = made(model)
    assert described(pgd) == {name: TRAINED[name] for name in ("epsilon", "norm", "bounds")}
    assert described(watched(model)) == TRAINED


@pytest.mark.slow
def test_the_report_says_so(without_controls):
    report = keras_rar.evaluate_robustness(
        wrapped("madry", epsilon=0.3), X, Y, k=3, steps=1, m=1, pgd_steps=1, progress=False
    )
    assert report.protocol["name"] == "quick, changed: epsilon=0.3, pgd_steps=1, k=3, steps=1, m=1"
    assert [report.protocol[name] for name in ("epsilon", "k", "k_report")] == [0.3, 3, 3]


def test_what_is_given_counts_before_it(made):
    model = keras_rar.wrap(dense_model(), "madry", **TRAINED)
    given = {"epsilon": 0.05, "norm": "linf", "bounds": (0.0, 1.0)}
    assert described(made(model, **given)) == given
    assert described(watched(model, **given, baseline=0.1)) == {**given, "baseline": 0.1}
    assert made(model, epsilon=0.05, bounds=None).bounds is None


@pytest.mark.parametrize(("name", "value"), [("norm", "l2"), ("bounds", (0.0, 255.0)), ("bounds", None)])
@pytest.mark.parametrize("measure", ["evaluate", "callback"])
def test_a_radius_is_not_taken_for_one_of_another_norm_or_range(name, value, measure, made):
    """An L2 ball of the radius of an L∞ ball, or a range of 255 with the radius of a range of 1, is a weak attack."""
    model = keras_rar.wrap(dense_model(), "madry", epsilon=0.1)
    measured = made if measure == "evaluate" else watched
    if measure == "evaluate":
        with pytest.raises(ValueError, match=rf"^`{name}` must be that of the training, .*unless `epsilon` is given"):
            keras_rar.evaluate_robustness(model, X, Y, progress=False, **{name: value})
    else:
        with pytest.raises(ValueError, match=rf"^`{name}` must be that of the training, .*unless `epsilon` is given"):
            watched(model, **{name: value})
    measured(model, epsilon=0.1, **{name: value})


def test_the_same_norm_and_bounds_may_be_said_again(made):
    model = keras_rar.wrap(dense_model(), "madry", epsilon=0.1)
    assert made(model, norm="linf", bounds=[0, 1]).epsilon == 0.1


def test_a_protocol_has_a_ball_of_its_own(made):
    model = keras_rar.wrap(conv_model(28), "madry", epsilon=0.3, norm="l2")
    x, y = batch(2, (28, 28, 1))
    pgd = made(model, x, y, protocol="paper", dataset="fashion_mnist")
    assert (pgd.epsilon, pgd.norm) == (0.1, "linf")
    assert made(model, x, y, protocol=Protocol("mine", epsilon=0.2)).epsilon == 0.2


# k


def test_k_is_that_of_the_training_where_the_method_has_one(made):
    model = keras_rar.wrap(dense_model(), "ig_topk", k=3, epsilon=0.1)
    assert ball.of_training(model)["k"] == 3
    attack = watched(model)
    assert (attack.k, attack.k_report) == (3, 3)
    attack = watched(model, k=2)
    assert (attack.k, attack.k_report) == (2, 2)
    attack = watched(model, k=2, k_report=1)
    assert (attack.k, attack.k_report) == (2, 1)


def test_k_of_the_training_counts_channels_apart_and_that_of_a_map_does_not():
    base_model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
    assert ball.of_training(keras_rar.wrap(base_model, "ig_topk", k=12))["k"] == 4
    assert ball.of_training(keras_rar.wrap(base_model, "ig_topk", k=1))["k"] == 1


@pytest.mark.slow
def test_k_is_an_eighth_where_none_is_asked_for(without_controls):
    model = keras_rar.wrap(dense_model(), "ig_topk", k=3, epsilon=0.1)
    report = keras_rar.evaluate_robustness(model, X, Y, k=None, steps=1, m=1, pgd_steps=1, progress=False)
    assert (report.protocol["k"], report.protocol["k_report"]) == (1, 1)


@pytest.mark.parametrize("given", [{}, {"k_report": None}])
def test_k_of_the_report_is_k_for_the_attack_itself(given):
    assert TopKAttack(3, 0.1, **given).k_report == 3
    assert TopKAttack(3, 0.1, k_report=5).k_report == 5


# Of any other model


def test_the_radius_must_be_given(made):
    message = "^`epsilon` must be given for a model that keras_rar does not train, such as epsilon=0.1. Received: "
    for settings in ({}, {"epsilon": None}, {"norm": "l2"}):
        with pytest.raises(ValueError, match=message):
            keras_rar.evaluate_robustness(dense_model(), X, Y, progress=False, **settings)
        with pytest.raises(ValueError, match=message):
            watched(dense_model(), **settings)
    assert described(made(dense_model(), epsilon=0.2)) == {"epsilon": 0.2, "norm": "linf", "bounds": (0.0, 1.0)}


def test_a_model_with_a_regularizer_of_keras_is_no_rar_model():
    model = dense_model()
    model.regularizer = keras.regularizers.L2(0.1)
    assert ball.of_training(model) == {}


# Of several models


def test_models_of_one_ball_share_it():
    models = [dense_model(), *(keras_rar.wrap(dense_model(), method, epsilon=0.3) for method in ("madry", "igr"))]
    assert ball.shared(models, {"steps": 3})["epsilon"] == 0.3
    with pytest.raises(ValueError, match=r"^`epsilon` must be given for a model"):
        ball.shared(models[:1], {})


def test_models_of_different_balls_need_one_given():
    models = [keras_rar.wrap(dense_model(), "madry", epsilon=epsilon) for epsilon in (0.1, 0.3)]
    with pytest.raises(ValueError, match=r"^`epsilon` must be given where trainings differ, 0.1 and 0.3"):
        ball.shared(models, {})
    assert ball.shared(models, {"epsilon": 0.2})["epsilon"] == 0.2


# Settings of any kind


@pytest.mark.slow
def test_settings_may_be_numpy(without_controls):
    settings = {"epsilon": np.float32(0.125), "seed": np.int64(3), "k": np.int32(2), "steps": np.int64(1)}
    report = keras_rar.evaluate_robustness(
        dense_model(), X, Y, baseline=np.zeros(4), m=np.int16(1), pgd_steps=np.uint8(1), progress=False, **settings
    )
    assert {name: report.protocol[name] for name in settings} == {"epsilon": 0.125, "seed": 3, "k": 2, "steps": 1}
    assert report.to_json()


def test_every_setting_of_a_protocol_is_an_argument():
    names = set(inspect.signature(keras_rar.evaluate_robustness).parameters)
    assert {field.name for field in dataclasses.fields(Protocol)} - {"name"} <= names
    assert "unknown" not in names
    assert protocols.get("quick").changed() is protocols.QUICK


def test_a_misspelt_argument_lists_the_right_ones():
    for call, name in (
        (keras_rar.evaluate_robustness, "evaluate_robustness"),
        (AttributionRobustness, "AttributionRobustness"),
    ):
        with pytest.raises(TypeError, match=rf"^`{name}` has no argument `epsilom`; did you mean `epsilon`\? It has "):
            call(dense_model(), X, Y, epsilom=0.1) if name == "evaluate_robustness" else call(X, Y, epsilom=0.1)
    with pytest.raises(TypeError, match=r"^`TopKAttack` has no argument `stepz`; did you mean `steps`\? It has "):
        TopKAttack(2, 0.1, stepz=3)
    with pytest.raises(TypeError, match=r"^`PGDAttack` has no argument `restart`; did you mean `restarts`\? It has "):
        PGDAttack(0.1, restart=3)


# One input and one output by name


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dictionary", "list"])
def test_one_input_and_one_output_in_a_structure(kind):
    inputs = keras.Input((4,), name="features")
    outputs = keras.layers.Dense(3, name="out")(keras.layers.Dense(8, "relu")(inputs))
    model = keras.Model(inputs, outputs)
    x, y = ({"features": X}, {"out": Y}) if kind == "dictionary" else ([X], [Y])
    options = {"epsilon": 0.1, "steps": 2, "m": 2}
    alone = {"pgd_steps": 2, "progress": False, "noise": 0, "other_maps": (), "faithful": 0}
    reports = [keras_rar.evaluate_robustness(model, a, b, **alone, **options) for a, b in ((X, Y), (x, y))]
    assert reports[0].to_json() == reports[1].to_json()
    np.testing.assert_array_equal(AttributionRobustness(x, y, **options).x, X)
    np.testing.assert_array_equal(AttributionRobustness(x, y, **options).y, Y)
    attack = TopKAttack(2, **options)
    np.testing.assert_array_equal(attack(model, x, y).x_adv, attack(model, X, Y).x_adv)
    pgd = PGDAttack(0.1, steps=2)
    np.testing.assert_array_equal(pgd(model, x, y).x_adv, pgd(model, X, Y).x_adv)


def test_rows_in_a_list_are_one_array():
    """Labels in a list of NumPy integers, or a tuple, too."""
    attack, model = PGDAttack(0.1, steps=1), dense_model()
    expected = attack(model, X, Y).x_adv
    for x, y in ((X.tolist(), list(Y)), (X, tuple(Y.tolist()))):
        np.testing.assert_array_equal(attack(model, x, y).x_adv, expected)
