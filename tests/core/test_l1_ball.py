"""The L1 ball: its projection against quadratic programs, and steps that the box does not stop."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize

from keras_rar.core import squares
from keras_rar.core.apgd import advance, begin
from keras_rar.core.ascent import projected_ascent
from keras_rar.core.attack_loop import Kept
from keras_rar.core.held import Columns, HeldBall
from keras_rar.core.neighborhoods import L1Ball

BOUNDS = {"scalar": (0.0, 1.0), "per_feature": ([0.0, 0.1, 0.0], [1.0, 0.8, 0.6]), "none": None}
RADII = np.array([0.5, 2.0, 0.25])


def quadratic_program(centre, point, epsilon, lower, upper):
    """The nearest point `centre + a − b` with `Σ (a + b)/ε ≤ 1`, by SciPy."""
    room = np.concatenate([np.minimum(upper - centre, 9), np.minimum(centre - lower, 9)])
    weights = np.tile(1 / np.broadcast_to(epsilon, 3), 2)
    scale = np.broadcast_to(epsilon, 3) / np.max(epsilon)  # nearest in units of ε
    jacobian = np.concatenate([np.diag(1 / scale), -np.diag(1 / scale)], axis=1)

    def away(change):
        return (centre + change[:3] - change[3:] - point) / scale

    found = optimize.minimize(
        lambda change: np.sum(away(change) ** 2),
        np.zeros(6),
        jac=lambda change: 2 * away(change) @ jacobian,
        method="SLSQP",
        bounds=[(0, high) for high in room],
        constraints=[{"type": "ineq", "fun": lambda change: 1 - weights @ change, "jac": lambda change: -weights}],
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    return centre + found.x[:3] - found.x[3:]


@pytest.mark.parametrize("epsilon", [0.4, RADII], ids=["one", "per_feature"])
@pytest.mark.parametrize("bounds", BOUNDS.values(), ids=BOUNDS)
def test_projection_is_that_of_a_quadratic_program(bounds, epsilon):
    rng = np.random.default_rng(0)
    lower, upper = (np.broadcast_to(b, 3) for b in ((-9.0, 9.0) if bounds is None else bounds))
    x = rng.uniform(np.maximum(lower, 0), np.minimum(upper, 1), (15, 3))
    x[:3] = np.where(rng.uniform(size=(3, 3)) < 0.5, lower, upper) if bounds else x[:3]
    x_prime = x + rng.normal(0, 0.8, x.shape)
    projected = L1Ball(epsilon, bounds).project(tf.constant(x), tf.constant(x_prime)).numpy()
    expected = [quadratic_program(*pair, epsilon, lower, upper) for pair in zip(x, x_prime, strict=True)]
    np.testing.assert_allclose(projected, expected, atol=2e-6)  # SLSQP's own accuracy
    assert np.abs(projected - np.clip(x_prime, lower, upper)).max() > 0.1
    assert np.any(np.abs(projected - x) < 1e-12)  # sparse, as projections on this ball are


def knapsack(x, slope, epsilon):
    """The greatest rise of a linear function: the whole room of the steepest features, one after the other."""
    room = np.where(slope > 0, 1 - x, x)
    rise = np.zeros(len(x))
    left = np.full(len(x), epsilon)
    for feature in np.argsort(-np.abs(slope)):
        used = np.minimum(room[:, feature], left)
        rise, left = rise + used * np.abs(slope[feature]), left - used
    return rise


def rise_of(found, x, slope):
    return np.sum((found - x) * slope, axis=1)


@pytest.mark.parametrize(
    "features", [pytest.param(8, marks=pytest.mark.slow), pytest.param(300, marks=pytest.mark.slow)]
)
def test_the_maximum_of_a_linear_function_in_the_box_is_that_of_a_knapsack(features):
    """With features that the box stops soon, so that a step along these alone would stand still."""
    rng = np.random.default_rng(0)
    x, slope = rng.uniform(size=(10, features)), rng.normal(size=features)
    f = lambda z: tf.linalg.matvec(z, slope)  # noqa: E731
    ball, given = L1Ball(2.5), tf.constant(x)
    expected = knapsack(x, slope, 2.5)
    ascended = projected_ascent(f, given, given, ball, steps=150, step_size=0.05).numpy()
    np.testing.assert_allclose(rise_of(ascended, x, slope), expected, rtol=0.03)  # the last step
    assert np.all(rise_of(ascended, x, slope) <= expected + 1e-9)

    def evaluate(k, z):
        return f(z), tf.broadcast_to(tf.constant(slope), tf.shape(z)), -f(z)

    kept = Kept(given, -f(given), tf.zeros([10], tf.int32))
    _, kept = advance(
        given, *begin(given, kept, evaluate, 5.0), evaluate=evaluate, neighborhood=ball, first=0, last=60, steps=60
    )
    np.testing.assert_allclose(rise_of(kept.x.numpy(), x, slope), expected, rtol=0.05)

    class Plain(L1Ball):
        def open(self, x_prime, gradient):
            return gradient

    stuck = projected_ascent(f, given, given, Plain(2.5), steps=60, step_size=0.25).numpy()  # a control
    assert np.mean(rise_of(stuck, x, slope)) < 0.8 * np.mean(expected)


def test_a_step_goes_to_a_hundredth_of_the_features_and_at_least_to_one():
    rng = np.random.default_rng(0)
    for features, changed in ((3, 1), (199, 1), (400, 4)):
        step = L1Ball(0.5).steepest(tf.constant(rng.normal(size=(2, features)))).numpy()
        assert np.all(np.sum(step != 0, axis=1) == changed)
        np.testing.assert_allclose(np.abs(step).sum(axis=1), 1)


@pytest.mark.parametrize("compiled", [False, True])
def test_an_input_of_any_size_is_taken(compiled):
    ball, x = L1Ball(0.5), tf.constant(np.random.default_rng(0).normal(size=(2, 500)))
    spec = [tf.TensorSpec([None, None], tf.float64)]
    steepest = tf.function(ball.steepest, input_signature=spec) if compiled else ball.steepest
    np.testing.assert_array_equal(steepest(x), ball.steepest(x))
    assert np.all(np.sum(steepest(x).numpy() != 0, axis=1) == 5)


@pytest.mark.parametrize("shape", [(6, 6, 2), (20,)])
def test_what_a_search_tries_is_in_the_ball_and_uses_all_of_it(shape):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.uniform(0.3, 0.7, (4, *shape)), tf.float32)
    proposals = squares.L1Squares(L1Ball(1.5), shape, 20)
    draw = lambda: tf.constant(rng.uniform(size=(4, proposals.draws)), tf.float32)  # noqa: E731
    x_prime = proposals.start(x, draw())
    for k in (0, 3, 19):
        tried = proposals.propose(x, tf.constant(k), x_prime, draw())
        lengths = np.abs(tried - x).reshape(4, -1).sum(axis=1)
        assert np.all(lengths <= 1.5 * (1 + 1e-5))
        assert np.mean(lengths) > 0.8 * 1.5
        assert np.any(tried != x_prime)
        x_prime = tried


def test_what_a_step_would_move_padding_by_goes_to_the_other_rows():
    """Rows of width 2, of which the second is padding."""
    x = tf.constant([[[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]])
    ball = HeldBall(L1Ball(1.0, None), Columns(2, masked=True))
    there = x + tf.constant([[[0.1, -0.1, 0.0], [0.6, 0.2, 0.0]]])
    np.testing.assert_allclose(ball.project(x, there), [[[0.5, -0.5, 1.0], [0.0, 0.0, 0.0]]], atol=1e-6)
