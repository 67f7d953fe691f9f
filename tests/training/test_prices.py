"""A price of perturbations in place of a ball: closed forms, the bounds, natural training, reports and files."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, dense_model, wrapped
from texts import text_network

import keras_rar
from keras_rar.core.ascent import projected_ascent
from keras_rar.core.neighborhoods import L2Ball, LinfBall
from keras_rar.core.prices import COSTS, priced_ascent, squared_l2, squared_linf

ANYWHERE = LinfBall(0.1, bounds=None)
BOX = LinfBall(0.1, bounds=(0.0, 1.0))
SLOPE = np.array([1.0, -2.0, 0.0, 0.5])


def linear(z):
    return tf.linalg.matvec(z, tf.constant(SLOPE, z.dtype))


@pytest.fixture
def x():
    return tf.constant(np.random.default_rng(0).uniform(size=(6, 4)))


def ascend(f, x, ball=ANYWHERE, gamma=2.0, cost="l2", steps=1, start=None):
    return priced_ascent(f, x, x if start is None else start, ball, gamma=gamma, cost=cost, steps=steps)


# Closed forms


@pytest.mark.parametrize("gamma", [0.3, 5.0])
def test_a_linear_function_is_raised_by_the_squared_dual_norm_over_four_gamma(gamma, x):
    """`max ⟨a, δ⟩ − γ ‖δ‖²`, from one step on, wherever it starts."""
    start = x + 0.3
    for cost, order, price in (("l2", 2, squared_l2), ("linf", 1, squared_linf)):
        for steps in (1, 4):
            found = ascend(linear, x, gamma=gamma, cost=cost, steps=steps, start=start)
            value = linear(found) - linear(x) - gamma * price(x, found)
            np.testing.assert_allclose(value, np.linalg.norm(SLOPE, order) ** 2 / (4 * gamma), rtol=1e-12)


@pytest.mark.parametrize("cost", ["l2", pytest.param(squared_l2, marks=pytest.mark.slow)], ids=["l2", "function"])
@pytest.mark.parametrize("curvature", [pytest.param(1.0, marks=pytest.mark.slow), -6.0])
def test_a_quadratic_loss_in_closed_form(curvature, cost, x):
    """`½ h ‖z − c‖²`: `z* = (2γ x − h c) / (2γ − h)` where 2γ > h; the steps converge to it, and the value is exact."""
    centre, gamma = 0.2, 2.0

    def quadratic(z):
        return curvature / 2 * tf.reduce_sum((z - centre) ** 2, axis=1)

    found = ascend(quadratic, x, gamma=gamma, cost=cost, steps=400)
    expected = (2 * gamma * x - curvature * centre) / (2 * gamma - curvature)
    np.testing.assert_allclose(found, expected, atol=1e-8)  # 400 steps of a contraction
    value = quadratic(found) - gamma * squared_l2(x, found)
    closed = gamma * curvature / (2 * gamma - curvature) * np.sum((x - centre) ** 2, axis=1)
    np.testing.assert_allclose(value, closed, atol=1e-12)
    assert np.abs(ascend(quadratic, x, gamma=2 * gamma, cost=cost, steps=400) - expected).max() > 1e-2  # a control


def test_a_cost_written_as_a_function_is_that_cost(x):
    wavy = lambda z: tf.reduce_sum(tf.sin(3 * z), axis=1)  # noqa: E731
    one, other = (ascend(wavy, x, gamma=4.0, cost=cost, steps=7) for cost in ("l2", squared_l2))
    np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("cost", COSTS)
def test_a_step_is_the_best_of_the_box(cost, x):
    """Of random points of the box, and of points near it, none is better; without a box it would leave it."""
    gamma, rng = 0.05, np.random.default_rng(1)
    found = ascend(linear, x, BOX, gamma, cost).numpy()
    assert np.all((found >= 0) & (found <= 1))
    assert np.any(np.abs(ascend(linear, x, gamma=gamma, cost=cost) - 0.5) > 0.5)

    def value(z):
        return linear(z) - gamma * COSTS[cost](x, z)

    for scale in (1.0, 0.1, 1e-3):
        others = np.clip(found + scale * rng.normal(size=(2000, *x.shape)), 0, 1)
        best = np.max([value(tf.constant(z)) for z in others], axis=0)
        assert np.all(value(tf.constant(found)) >= best - 1e-8)  # the bisection stops at 1e-9 of the step


def test_a_feature_without_a_radius_stays_as_it_is_to_the_bit(x):
    for cost in ("l2", "linf", squared_l2):
        found = ascend(linear, x, LinfBall([0.1, 0.0, 0.1, 0.1], None), cost=cost, steps=3).numpy()
        assert found[:, 1].tobytes() == x.numpy()[:, 1].tobytes()
        assert np.all(found[:, 0] != x[:, 0])


@pytest.mark.parametrize("ball", [L2Ball, LinfBall])
def test_a_ball_is_no_worse_than_its_price(ball, x):
    """`max_{‖δ‖ ≤ ε} s ≤ γ ε² + max (s − γ ‖δ‖²)` for every γ, and of a linear function equal for the best γ."""
    epsilon, cost = 0.3, "linf" if ball is LinfBall else "l2"
    best = projected_ascent(linear, x, x, ball(epsilon, None), steps=2, step_size=1.0)
    inside = (linear(best) - linear(x)).numpy()
    relaxed = []
    for gamma in np.geomspace(0.1, 100, 200):
        found = ascend(linear, x, gamma=gamma, cost=cost)
        relaxed.append(gamma * epsilon**2 + linear(found) - linear(x) - gamma * COSTS[cost](x, found))
    assert np.all(np.array(relaxed) >= inside - 1e-12)
    np.testing.assert_allclose(np.min(relaxed, axis=0), inside, rtol=1e-3)  # the grid of γ
    assert np.all(relaxed[0] > 1.5 * inside)  # a control: not every γ is the best


# Training


def priced(method="madry", base_model=None, gamma=2.0, cost="l2", **options):
    return wrapped(method, base_model, price=keras_rar.WassersteinPrice(gamma, cost), **options)


@pytest.mark.parametrize("method", ["madry", pytest.param("ig_norm", marks=pytest.mark.slow), "ig_sum_norm"])
def test_a_steep_price_is_natural_training(method):
    """x* is x, so that nothing but the loss is left; a low price moves it."""
    x, y = batch()
    base_model = dense_model()
    natural = wrapped("natural", base_model)
    for gamma, near in ((1e6, True), (0.5, False)):
        model = priced(method, base_model, gamma=gamma, steps=5, bounds=None)
        x_star = model.perturb(x, y, seed=1)
        assert (np.abs(x_star - x).max() < 1e-4) == near
        same = np.allclose(model.objective(x, x_star, y), natural.objective(x, x, y), atol=1e-4)
        assert same == near


def test_the_price_is_the_same_in_half_precision(policy):
    """Where gradients are scaled, γ is too."""
    x, y = batch()
    found, weights = [], dense_model().get_weights()
    for name in ("float32", "mixed_float16"):
        policy(name)
        base_model = dense_model()
        base_model.set_weights(weights)
        found.append(priced(base_model=base_model, gamma=0.5, bounds=None, random_start=False).perturb(x, y) - x)
    np.testing.assert_allclose(found[1], found[0], atol=5e-3)  # 11 bits
    assert np.abs(found[0]).max() > 0.1


def test_it_stays_within_the_bounds_and_beyond_any_radius():
    x, y = batch()
    found = priced(gamma=1e-3, steps=8, epsilon=0.01).perturb(x, y).numpy()
    assert found.min() >= 0
    assert found.max() <= 1
    assert np.abs(found - x).max() > 0.1


def test_it_is_adversarial_training_before_begin_and_goes_through_fit_and_files(tmp_path):
    x, y = batch()
    model = priced("ig_sum_norm", gamma=0.5, cost="linf", begin=1)
    assert model._methods["adversarial"].price.cost == "linf"
    assert np.isfinite(model.fit(x, y, epochs=2, verbose=0).history["loss"]).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.regularizer.get_config() == model.regularizer.get_config()
    np.testing.assert_array_equal(loaded.perturb(x, y, seed=1), model.perturb(x, y, seed=1))


@keras.saving.register_keras_serializable("tests")
def my_cost(x, x_prime):
    return tf.reduce_sum(tf.abs(x_prime - x) ** 3, axis=1)


def test_a_registered_cost_of_the_users_is_saved():
    regularizer = keras_rar.MadryRegularizer(price=keras_rar.WassersteinPrice(3.0, my_cost))
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(regularizer)))
    again = keras.saving.deserialize_keras_object(config)
    assert again.price.cost is my_cost
    assert again.price.gamma == 3.0


# What is measured


def test_a_report_asks_for_a_radius(without_controls):
    x, y = batch()
    model = priced()
    message = r"^`epsilon` must be given for a model that is trained with a price, which has no radius, such as epsilon"
    with pytest.raises(ValueError, match=message):
        keras_rar.evaluate_robustness(model, x, y, k=2)
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, verbose=0, callbacks=[keras_rar.AttributionRobustness(x, y)])
    report = keras_rar.evaluate_robustness(model, x, y, k=2, epsilon=0.1)
    assert report.protocol["epsilon"] == 0.1
    assert report.protocol["norm"] == "linf"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: keras_rar.WassersteinPrice(0), r"^`gamma` must be a positive float.*Received: gamma=0"),
        (lambda: keras_rar.WassersteinPrice("1"), r"^`gamma` must be a positive float.*Received: gamma='1'"),
        (
            lambda: keras_rar.WassersteinPrice(1, "l1"),
            r"^`cost` must be one of \['l2', 'linf'\] or a function \(x, x′\) -> \(batch,\)\. Received: cost='l1'",
        ),
        (lambda: keras_rar.MadryRegularizer(price=2.0), r"^`price` must be a keras_rar.WassersteinPrice or None"),
        (lambda: priced(step_size=0.1), r"^`step_size` must be None with a price, whose steps have a length"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_a_price_is_refused_where_padding_is_held():
    with pytest.raises(ValueError, match=r"^`price` must be None at a layer with padding or a way past it"):
        priced(base_model=text_network(), layer="embedding")
