"""A radius for each feature: the ball of one radius in units of ε, and 0 for what may not change."""

import json

import numpy as np
import pytest
import tensorflow as tf

from keras_rar.core import map_search, squares
from keras_rar.core.ascent import projected_ascent
from keras_rar.core.neighborhoods import L0Ball, L1Ball, L2Ball, LinfBall

RADII = np.array([0.5, 3.0, 0.0, 0.02])
SCALE = np.array([0.5, 3.0, 1.0, 0.02])
BOUNDS = (np.array([-1.0, -4.0, -9.0, 0.0]), np.array([1.0, 5.0, 9.0, 0.05]))
SLOPES = np.array([2.0, -0.5, 7.0, 30.0])
SEED = tf.constant([3, 0])
ORDERS = {LinfBall: np.inf, L2Ball: 2, L1Ball: 1}
SQUARES = {LinfBall: squares.LinfSquares, L2Ball: squares.L2Squares, L1Ball: squares.L1Squares}
every_ball = pytest.mark.parametrize("ball", [LinfBall, L2Ball, L1Ball])


def centres(n=40):
    return np.random.default_rng(0).uniform(*BOUNDS, (n, 4))


def far(x):
    return x + np.random.default_rng(1).normal(0, 2, x.shape) * (SCALE if x.shape[1:] == SCALE.shape else 1)


@pytest.mark.parametrize(("ball", "order"), [(LinfBall, 1), (L2Ball, 2), (L1Ball, np.inf)])
def test_the_worst_case_of_a_linear_function_is_the_dual_norm_in_units_of_epsilon(ball, order):
    """`max a·δ = Σ εᵢ|aᵢ|` in L∞, `‖ε ∘ a‖₂` in L2, `max εᵢ|aᵢ|` in L1; with the largest ε for all it would be more."""
    x = tf.constant(centres())
    found = projected_ascent(
        lambda z: tf.linalg.matvec(z, SLOPES), x, x, ball(RADII, None), steps=5, step_size=2 * RADII.max()
    )
    rise = (found - x).numpy() @ SLOPES
    expected = np.linalg.norm(RADII * SLOPES, order)
    np.testing.assert_allclose(rise, expected, rtol=1e-12)
    assert expected < 0.2 * np.linalg.norm(RADII.max() * SLOPES, order)  # a control: a test that could fail


@every_ball
def test_all_that_a_ball_does_is_done_in_units_of_epsilon(ball):
    """The same ball of radius 1 around `x / ε`, within the bounds over ε; the third feature stays."""
    x, mine, unit = centres(), ball(RADII, BOUNDS), ball(1.0, tuple(bound / SCALE for bound in BOUNDS))
    free = RADII > 0
    there = np.where(free, far(x), x)
    projected = mine.project(tf.constant(x), tf.constant(there))
    np.testing.assert_allclose(
        projected / SCALE, unit.project(tf.constant(x / SCALE), tf.constant(there / SCALE)), rtol=1e-7, atol=1e-8
    )
    gradient = np.random.default_rng(2).normal(size=x.shape)
    step = mine.reach * mine.steepest(tf.constant(gradient)) / SCALE
    np.testing.assert_allclose(step, unit.steepest(tf.constant(np.where(free, gradient * SCALE, 0))), rtol=1e-12)
    even = mine.reach * mine.steepest(mine.along(tf.constant(gradient))) / SCALE
    np.testing.assert_allclose(even, unit.steepest(tf.constant(np.where(free, gradient, 0))), rtol=1e-12)


@every_ball
def test_an_array_of_one_value_is_the_ball_of_that_radius(ball):
    x = tf.constant(centres())
    one, several = ball(0.25, BOUNDS), ball([0.25] * 4, BOUNDS)
    np.testing.assert_array_equal(one.project(x, far(x)), several.project(x, far(x)))
    np.testing.assert_array_equal(one.steepest(far(x)), several.steepest(far(x)))
    np.testing.assert_array_equal(one.sample(x, SEED), several.sample(x, SEED))
    assert one.reach == several.reach == 0.25


@every_ball
def test_samples_fill_the_ball_of_the_features_that_may_change(ball):
    """In units of ε they fill a ball of three dimensions: `‖u‖³` is uniform, of a cube each entry is."""
    n = 10_000
    u = ball(RADII, None).sample(tf.zeros([n, 4], tf.float64), SEED).numpy()[:, RADII > 0] / RADII[RADII > 0]
    places = (u + 1) / 2 if ball is LinfBall else np.linalg.norm(u, ORDERS[ball], axis=1)[:, np.newaxis] ** 3
    places = np.sort(places, axis=0)
    assert np.max(np.abs(places - np.arange(n)[:, np.newaxis] / n)) < 2 / np.sqrt(n)  # Kolmogorov-Smirnov, p = 7e-4
    assert np.all(np.abs(u.mean(axis=0)) < 5 / np.sqrt(n))
    np.testing.assert_allclose(u.std(axis=0), u.std(), rtol=0.05)  # no direction before another


def moves_of(ball, x):
    """Every way in which something of this package moves an input."""
    proposals = SQUARES[type(ball)](ball, x.shape[1:], 9)
    u = tf.constant(np.random.default_rng(3).uniform(size=(len(x), proposals.draws)), x.dtype)
    rows = tf.range(len(x))
    start = proposals.start(x, u)
    yield "project", ball.project(x, tf.cast(far(x.numpy()), x.dtype))
    yield "sample", ball.sample(x, SEED)
    yield "start", start
    for k in (0, 4, 8):
        yield f"square {k}", proposals.propose(x, tf.constant(k), start, u)
    yield "noise", ball.project(x, map_search.noise(x, SEED, rows, ball, ball.reach)(tf.constant(1), x))
    mutated = map_search.mutation(SEED, rows, ball, ball.reach, 9)(tf.constant(0), x)
    yield "mutation", ball.project(x, mutated)


@every_ball
def test_a_fixed_feature_never_moves_by_a_bit_and_the_others_do(ball):
    """Also of values just outside of the bounds, which are let through as rounded, and of −0."""
    x = centres().astype("float32")
    x[:3, 2] = [9.00001, -0.0, -9.00001]
    bounds = BOUNDS if ball is LinfBall else (-1e6, 1e6)
    ball = ball(RADII, BOUNDS if ball is LinfBall else None)
    for name, moved in moves_of(ball, tf.constant(x)):
        change = moved.numpy() - x
        assert moved.numpy()[:, 2].tobytes() == x[:, 2].tobytes(), name
        assert np.all(np.any(change != 0, axis=0) == (RADII > 0)), name
        length = np.abs(change[:, RADII > 0] / RADII[RADII > 0])
        length = np.linalg.norm(length, ORDERS[type(ball)], axis=1)
        assert np.all(length <= 1 + 1e-5), name  # float32
        lower, upper = (np.broadcast_to(bound, 4)[RADII > 0].astype("float32") for bound in bounds)
        free = moved.numpy()[:, RADII > 0]
        assert np.all((free >= lower) & (free <= upper)), name


@every_ball
def test_radii_of_channels_and_of_every_pixel_broadcast(ball):
    x = tf.constant(np.random.default_rng(0).uniform(0.4, 0.6, (3, 5, 4, 2)))
    of_channels, of_pixels = np.array([0.1, 0.0]), np.zeros((5, 4, 1))
    of_pixels[1:3] = 0.1
    for radii, free in ((of_channels, np.array([True, False])), (of_pixels, of_pixels > 0)):
        neighborhood = ball(radii, None)
        neighborhood.check_shape((5, 4, 2))
        assert np.array_equal(neighborhood.free((5, 4, 2)), np.broadcast_to(free, (5, 4, 2)))
        for name, moved in moves_of(neighborhood, x):
            changed = np.any(moved.numpy() != x.numpy(), axis=0)
            assert not np.any(changed & ~free), name
            assert changed.any(), name
    with pytest.raises(ValueError, match="`epsilon` must be a float or an array that broadcasts to an input, of shape"):
        ball([0.1, 0.2, 0.3]).check_shape((5, 4, 2))


@every_ball
def test_a_schedule_scales_all_radii(ball):
    x = tf.constant(centres())
    there = far(x.numpy())
    half = ball(RADII, BOUNDS).of_radius(tf.constant(RADII.max() / 2, tf.float64))
    np.testing.assert_allclose(half.project(x, there), ball(RADII / 2, BOUNDS).project(x, there), atol=1e-12)


@every_ball
@pytest.mark.parametrize(
    ("epsilon", "error"),
    [
        ([0.0, 0.0], ValueError),
        ([0.1, -0.1], ValueError),
        ([0.1, np.nan], ValueError),
        ([0.1, 1e300], ValueError),
        ([0.1, 1e-50], ValueError),
        ([1e-20, 1e20], ValueError),  # the share is 0 in float32
        ([], ValueError),
        (["a"], TypeError),
        ([True, False], TypeError),
        ([[0.1], [0.1, 0.2]], TypeError),
    ],
)
def test_radii_are_validated(ball, epsilon, error):
    with pytest.raises(error, match=r"^`epsilon` must be .*Received: epsilon="):
        ball(epsilon)


def test_l0_has_no_radii():
    with pytest.raises(ValueError, match=r'`epsilon` must be a positive integer with norm="l0"'):
        L0Ball([1, 0])


@every_ball
def test_the_config_holds_plain_lists(ball):
    config = ball(RADII.astype("float32")).get_config()
    again = ball.from_config(json.loads(json.dumps(config)))
    assert again.get_config() == config
    np.testing.assert_array_equal(again.epsilon, RADII.astype("float32"))
