"""Schedules of λ, β and ε over the steps of a training, as Keras has them of the learning rate."""

import json

import keras
import numpy as np
import pytest
from conftest import batch, dense_model, wrapped

import keras_rar
from keras_rar.methods import schedules

X, Y = batch(8)
S = keras.optimizers.schedules
EAGERLY = {"run_eagerly": True}
STILL = {"optimizer": keras.optimizers.SGD(0.0)}


def rising(to, first=0.5, over=4):
    return S.PolynomialDecay(first, over, to)


def fit(model, **options):
    return model.fit(X, Y, **{"batch_size": 8, "shuffle": False, "verbose": 0, **options}).history


@pytest.mark.parametrize(
    ("method", "setting", "base", "term"),
    [
        pytest.param("ig_norm", "factor", "clean_loss", "ig_l1", marks=pytest.mark.slow),
        pytest.param("ig_sum_norm", "beta", "perturbed_loss", "ig_l1", marks=pytest.mark.slow),
        pytest.param("igr", "factor", "perturbed_loss", "map_distance", marks=pytest.mark.slow),
        ("ig_topk", "factor", "perturbed_loss", "map_distance"),
    ],
)
def test_the_weight_of_a_term_is_that_of_the_step(method, setting, base, term):
    model = wrapped(method, compile=EAGERLY, optimizer="sgd", **{setting: rising(2.5)})
    history = fit(model, epochs=6)
    weights = (np.array(history["loss"]) - history[base]) / history[term]
    np.testing.assert_allclose(weights, [0.5, 1.0, 1.5, 2.0, 2.5, 2.5], rtol=2e-3)  # a small difference of two float32


def moved(model):
    return float(np.abs(model.perturb(X, Y) - X).max())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_ball_is_that_of_the_step(norm):
    """`perturb` takes the radius of the present step, the steps follow, and all of it is reached."""
    model = wrapped("madry", norm=norm, bounds=None, epsilon=rising(0.3, 0.1, 2), random_start=False, steps=1)
    size = {"linf": moved, "l2": lambda model: float(np.linalg.norm(model.perturb(X, Y) - X, axis=1).max())}[norm]
    radii = [size(model)]
    for _ in range(3):
        fit(model)
        radii.append(size(model))
    np.testing.assert_allclose(radii, [0.1, 0.2, 0.3, 0.3], rtol=1e-5)


@pytest.mark.parametrize(("step_size", "expected"), [(None, 0.1), (0.04, 0.04)])
def test_the_step_size_follows_unless_it_is_given(step_size, expected):
    """ε = 0.2 and five steps: 0.1 each; one of them is taken here."""
    model = wrapped("madry", epsilon=rising(0.4, 0.2), step_size=step_size, steps=5, random_start=False, bounds=None)
    ball, size = model.regularizer.ball(keras_rar.Terms(None, X, X, Y, rule=None))
    assert float(size) == pytest.approx(expected)
    assert float(ball.epsilon) == pytest.approx(0.2)
    assert model.regularizer.epsilon == 0.4


def test_the_start_is_in_the_ball_of_the_step():
    model = wrapped("madry", epsilon=rising(0.5, 0.01), step_size=1e-9, bounds=None)
    assert 0.005 < moved(model) <= 0.01 + 1e-6


def test_nothing_is_traced_again():
    traces = []

    class Traced(keras.layers.Layer):
        def call(self, inputs):
            traces.append(1)
            return inputs

    base_model = keras.Sequential([keras.Input((4,)), Traced(), keras.layers.Dense(3)])
    model = wrapped("ig_sum_norm", base_model, steps=1, beta=rising(2.0), epsilon=rising(0.3, 0.1))
    fit(model)
    first = len(traces)
    fit(model, epochs=3)
    assert len(traces) == first


def test_a_schedule_is_kept_in_a_file_and_goes_on(tmp_path):
    schedule = {"beta": rising(2.5), "epsilon": rising(0.3, 0.1)}
    model = wrapped("ig_sum_norm", compile=EAGERLY, **schedule)
    config = model.regularizer.get_config()
    assert json.loads(json.dumps(config)) == config
    fit(model, epochs=2)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert loaded.regularizer.get_config() == config
    assert loaded.regularizer.epsilon == 0.3
    for name, values in fit(model, epochs=2).items():
        np.testing.assert_allclose(fit_of(loaded, tmp_path)[name], values, rtol=1e-6)


def fit_of(_, tmp_path):
    return fit(keras.saving.load_model(tmp_path / "model.keras"), epochs=2)


def test_a_method_of_one_s_own_reads_a_schedule():
    class Weighted(keras_rar.AbstractAttributionRegularizer):
        def __init__(self, weight=1.0, **kwargs):
            super().__init__(**kwargs)
            self.weight = weight

        def objective(self, terms):
            return terms.value(self.weight) * terms.clean_loss

    model = wrapped(Weighted(rising(2.5)), compile=EAGERLY)
    history = fit(model, epochs=3)
    np.testing.assert_allclose(np.divide(history["loss"], history["clean_loss"]), [0.5, 1.0, 1.5], rtol=1e-6)
    again = Weighted.from_config(json.loads(json.dumps(model.regularizer.get_config())))
    assert again.weight.get_config() == rising(2.5).get_config()


def test_before_begin_the_ball_follows_too():
    model = wrapped("ig_topk", epsilon=rising(0.3, 0.1), begin=5, compile=EAGERLY)
    assert np.isfinite(fit(model, epochs=2)["loss"]).all()


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (S.PolynomialDecay(0.1, 1000, 0.3), 0.3),
        (S.PolynomialDecay(0.3, 1000, 0.1), 0.3),
        (S.PiecewiseConstantDecay([100, 200], [0.1, 0.4, 0.2]), 0.4),
        (S.CosineDecay(0.01, 1000, warmup_target=0.25, warmup_steps=333), 0.25),
        (S.ExponentialDecay(0.2, 100, 0.9), 0.2),
    ],
)
def test_the_radius_of_reports_is_the_largest(schedule, expected):
    assert schedules.largest(schedule) == pytest.approx(expected, rel=1e-6)
    assert keras_rar.MadryRegularizer(epsilon=schedule).epsilon == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("cls", "name", "schedule", "match"),
    [
        (keras_rar.MadryRegularizer, "epsilon", rising(0.3, 0.0), "a positive float.*epsilon=0.0 at step 0 of its sch"),
        (keras_rar.MadryRegularizer, "epsilon", rising(-0.1, 0.1), "a float >= 0.*at step 3"),
        (keras_rar.MadryRegularizer, "epsilon", rising(float("nan"), 0.1), "a positive float.*epsilon=nan"),
        (keras_rar.IGNormRegularizer, "factor", rising(-1.0, 1.0), "a float >= 0.*factor=-0.5 at step 3"),
        (keras_rar.IGSumNormRegularizer, "beta", rising(-1.0, -1.0), "a float >= 0.*beta=-1.0 at step 0"),
        (keras_rar.IGTopKRegularizer, "factor", rising(float("inf"), 1.0), "a float >= 0.*factor="),
    ],
)
def test_a_schedule_out_of_range_is_refused(cls, name, schedule, match):
    with pytest.raises(ValueError, match=f"`{name}` must be {match}"):
        cls(**{name: schedule})


@pytest.mark.parametrize("value", [lambda step: 0.1, S.PolynomialDecay, keras.optimizers.SGD()])
def test_what_is_no_schedule_is_refused(value):
    with pytest.raises(TypeError, match="`factor` must be a float >= 0"):
        keras_rar.IGNormRegularizer(factor=value)


def test_the_network_of_a_scheduled_method_can_be_cloned():
    model = wrapped("ig_topk", dense_model(), factor=rising(2.5), compile=EAGERLY)
    assert keras.models.clone_model(model).regularizer.get_config() == model.regularizer.get_config()
