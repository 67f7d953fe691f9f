"""Neighborhoods: projection, steepest direction and samples of each ball, within the box."""

import json

import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize

from keras_rar.core import neighborhoods
from keras_rar.core.neighborhoods import L0Ball, L1Ball, L2Ball, LinfBall

EPSILON = 0.4
BOUNDS = {"scalar": (0.0, 1.0), "per_feature": ([0.0, 0.1, 0.0], [1.0, 0.8, 0.6]), "none": None}
every_ball = pytest.mark.parametrize("ball", [LinfBall, L2Ball, L1Ball])
every_bounds = pytest.mark.parametrize("bounds", BOUNDS.values(), ids=BOUNDS)
SEED = tf.constant([3, 0])
ORDERS = {LinfBall: np.inf, L2Ball: 2, L1Ball: 1}
DUAL_ORDERS = {LinfBall: 1, L2Ball: 2, L1Ball: np.inf}


def limits(bounds):
    lower, upper = (-np.inf, np.inf) if bounds is None else bounds
    return np.broadcast_to(lower, 3), np.broadcast_to(upper, 3)


def norm(ball, values):
    return np.linalg.norm(values, ord=ORDERS[ball], axis=-1)


def centres(bounds, n=20):
    rng = np.random.default_rng(0)
    lower, upper = limits((0.0, 1.0) if bounds is None else bounds)
    x = rng.uniform(lower, upper, (n, 3))
    x[:4] = rng.choice([0, 1], (4, 3)) * (upper - lower) + lower  # corners of the box
    return x


def far(x, scale=2.0):
    return x + np.random.default_rng(1).normal(0, scale * EPSILON, x.shape)


def assert_inside(ball, bounds, x, x_prime, slack=1e-12):
    lower, upper = limits(bounds)
    assert np.all(norm(ball, x_prime - x) <= EPSILON + slack)
    assert np.all((x_prime >= lower - slack) & (x_prime <= upper + slack))


# Projection


@every_bounds
def test_linf_projection_in_closed_form(bounds):
    x = centres(bounds)
    lower, upper = limits(bounds)
    expected = np.clip(far(x), np.maximum(x - EPSILON, lower), np.minimum(x + EPSILON, upper))
    np.testing.assert_allclose(LinfBall(EPSILON, bounds).project(tf.constant(x), tf.constant(far(x))), expected)


@pytest.mark.filterwarnings("ignore:Values in x were outside bounds")  # a remark of SLSQP, older SciPy only
@pytest.mark.parametrize("ball", [LinfBall, L2Ball])  # that of L1: `test_l1_ball.py`
@every_bounds
def test_projection_is_scipys_nearest_point(ball, bounds):
    x = centres(bounds, n=12)
    x_prime = far(x)
    lower, upper = limits(bounds)
    projected = ball(EPSILON, bounds).project(tf.constant(x), tf.constant(x_prime)).numpy()
    for centre, point, actual in zip(x, x_prime, projected, strict=True):
        box = optimize.Bounds(lower, upper)
        constraints = []
        if ball is LinfBall:
            box = optimize.Bounds(np.maximum(lower, centre - EPSILON), np.minimum(upper, centre + EPSILON))
        else:
            constraints = [{"type": "ineq", "fun": lambda p, c=centre: EPSILON**2 - np.sum((p - c) ** 2)}]
        found = optimize.minimize(
            lambda p, point=point: np.sum((p - point) ** 2),
            centre,
            method="SLSQP",
            bounds=box,
            constraints=constraints,
            options={"ftol": 1e-14, "maxiter": 500},
        )
        np.testing.assert_allclose(actual, found.x, atol=1e-6)  # SLSQP's own accuracy


@every_ball
@every_bounds
def test_projection_is_inside_idempotent_and_nearest(ball, bounds):
    neighborhood, x = ball(EPSILON, bounds), tf.constant(centres(bounds))
    x_prime = tf.constant(far(x.numpy()))
    projected = neighborhood.project(x, x_prime)
    assert_inside(ball, bounds, x, projected)
    assert np.any(projected != x_prime)
    np.testing.assert_allclose(neighborhood.project(x, projected), projected, rtol=0, atol=1e-15)  # one rounding
    # Nearest point of a convex set: ⟨x′ − p, q − p⟩ ≤ 0 for every q of it.
    for seed in range(50):
        inside = neighborhood.sample(x, tf.constant([seed, 1]))
        products = tf.reduce_sum((x_prime - projected) * (inside - projected), axis=1)
        assert np.all(products <= 1e-8)  # the bisection stops at 1e-9 of the step


@every_ball
@every_bounds
def test_points_inside_are_left_alone(ball, bounds):
    neighborhood, x = ball(EPSILON, bounds), tf.constant(centres(bounds))
    inside = neighborhood.sample(x, SEED)
    np.testing.assert_allclose(neighborhood.project(x, inside), inside, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(neighborhood.project(x, x), x)


@every_ball
def test_projection_of_images_in_float32_with_bounds_a_channel(ball):
    rng = np.random.default_rng(0)
    upper = np.array([0.5, 1.0], "float32")
    x = (upper * rng.uniform(size=(4, 5, 5, 2))).astype("float32")
    x_prime = ball(EPSILON, (0.0, upper)).project(tf.constant(x), tf.constant(x + rng.normal(size=x.shape), tf.float32))
    assert np.all((x_prime.numpy() >= 0) & (x_prime.numpy() <= upper))
    radii = norm(ball, (x_prime.numpy() - x).reshape(4, -1))
    np.testing.assert_allclose(radii, EPSILON, rtol=1e-5)  # float32: the noise is far outside, so the radius is ε


# Steepest direction


@every_ball
def test_steepest_has_unit_norm_and_maximises_the_inner_product(ball):
    gradient = np.random.default_rng(0).normal(size=(6, 3))
    direction = ball(EPSILON).steepest(tf.constant(gradient)).numpy()
    np.testing.assert_allclose(norm(ball, direction), 1, rtol=1e-14)
    best = np.sum(gradient * direction, axis=1)
    dual = np.linalg.norm(gradient, ord=DUAL_ORDERS[ball], axis=1)
    np.testing.assert_allclose(best, dual, rtol=1e-14)
    others = np.random.default_rng(1).normal(size=(200, 6, 3))
    others /= norm(ball, others)[..., np.newaxis]
    assert np.all(np.sum(gradient * others, axis=-1) <= best)


@every_ball
def test_steepest_of_a_zero_gradient_is_zero(ball):
    gradient = tf.constant([[0.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    np.testing.assert_array_equal(ball(EPSILON).steepest(gradient), [[0, 0, 0], [0, 1, 0]])


@every_ball
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_steepest_does_not_depend_on_the_scale(ball, scale):
    """In float32 the square of 1e-30 is 0 and that of 1e30 infinite."""
    gradient = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
    steepest = ball(EPSILON).steepest
    scaled = steepest(tf.constant(gradient * np.float32(scale)))
    np.testing.assert_allclose(scaled, steepest(tf.constant(gradient)), rtol=1e-5)  # float32


@every_ball
def test_steepest_treats_examples_of_images_separately(ball):
    gradient = np.random.default_rng(0).normal(size=(3, 4, 4, 2))
    together = ball(EPSILON).steepest(tf.constant(gradient)).numpy()
    alone = [ball(EPSILON).steepest(tf.constant(g[np.newaxis])).numpy()[0] for g in gradient]
    np.testing.assert_allclose(together, alone, rtol=1e-14)


# Samples


@every_ball
@every_bounds
def test_samples_are_inside(ball, bounds):
    x = tf.constant(centres(bounds, n=500))
    assert_inside(ball, bounds, x, ball(EPSILON, bounds).sample(x, SEED))


@every_ball
def test_same_seed_same_sample_and_other_seed_other_sample(ball):
    neighborhood, x = ball(EPSILON), tf.fill([2, 3], 0.5)
    sample = neighborhood.sample(x, SEED).numpy()
    np.testing.assert_array_equal(neighborhood.sample(x, SEED), sample)
    assert np.all(neighborhood.sample(x, SEED + 1) != sample)
    assert np.all(sample[0] != sample[1])  # examples are drawn independently


@pytest.mark.parametrize("ball", [L2Ball, L1Ball])
@pytest.mark.parametrize("d", [1, 3, 10])
def test_samples_fill_the_ball_uniformly(ball, d):
    """(‖x′ − x‖ / ε)^d is uniform on [0, 1], and directions have mean zero."""
    n = 10_000
    offsets = ball(EPSILON, None).sample(tf.zeros([n, d], tf.float64), SEED).numpy()
    radii = norm(ball, offsets)
    assert radii.mean() == pytest.approx(EPSILON * d / (d + 1), rel=0.03)  # four standard errors at d = 1
    volumes = np.sort((radii / EPSILON) ** d)
    assert np.max(np.abs(volumes - np.arange(n) / n)) < 2 / np.sqrt(n)  # Kolmogorov-Smirnov, p = 7e-4
    assert np.all(np.abs(offsets.mean(axis=0)) < 5 * EPSILON / np.sqrt(n))


@pytest.mark.parametrize(("ball", "d"), [(LinfBall, 2), (LinfBall, 1), (L2Ball, 1), (L1Ball, 1)])
def test_samples_fill_the_cube_uniformly(ball, d):
    """In one dimension all balls are the interval."""
    n = 10_000
    offsets = ball(EPSILON, None).sample(tf.zeros([n, d], tf.float64), SEED).numpy()
    places = np.sort((offsets / EPSILON + 1) / 2, axis=0)
    assert np.max(np.abs(places - np.arange(n)[:, np.newaxis] / n)) < 2 / np.sqrt(n)  # as above
    assert d == 1 or abs(np.corrcoef(offsets.T)[0, 1]) < 5 / np.sqrt(n)


# Arguments


@every_ball
@pytest.mark.parametrize(
    ("epsilon", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (np.nan, ValueError),
        (np.inf, ValueError),
        ("0.1", TypeError),
        (True, TypeError),
        (None, TypeError),
        ("ab", TypeError),
        (1e-50, ValueError),  # 0 in float32
        (1e300, ValueError),  # infinite in float32
    ],
)
def test_epsilon_is_validated(ball, epsilon, error):
    with pytest.raises(error, match=r"`epsilon` must be a positive float(, also in float32)?\. Received: epsilon="):
        ball(epsilon)


@every_ball
@pytest.mark.parametrize(
    "bounds",
    [
        (1.0, 0.0),
        (0.0, 0.0),
        (0.0, np.nan),
        (-np.inf, 1.0),
        (0.0,),
        (0.0, 0.5, 1.0),
        ("low", "high"),
        (None, 1.0),
        1.0,
        ([0.0, 2.0], [1.0, 1.0]),
        ([0.0, 0.0], [1.0, 1.0, 1.0]),
        (1.0, 1.0 + 1e-12),  # equal in float32
        (0.0, 1e300),
    ],
    ids=str,
)
def test_bounds_are_validated(ball, bounds):
    with pytest.raises((TypeError, ValueError), match=r"`bounds` must be .* Received: bounds="):
        ball(EPSILON, bounds)


def test_the_norm_is_looked_up_and_an_unknown_one_lists_the_known():
    assert type(neighborhoods.get("linf", EPSILON)) is LinfBall
    assert type(neighborhoods.get("l2", EPSILON)) is L2Ball
    assert type(neighborhoods.get("l1", EPSILON)) is L1Ball
    with pytest.raises(ValueError, match=r"`norm` must be one of \['linf', 'l2', 'l1', 'l0'\]. Received: norm='l3'"):
        neighborhoods.get("l3", EPSILON)


@every_ball
@every_bounds
def test_config_is_plain_and_gives_the_same_ball(ball, bounds):
    bounds = None if bounds is None else tuple(np.asarray(bound, "float32") for bound in bounds)
    neighborhood = ball(np.float32(EPSILON), bounds)
    again = ball.from_config(json.loads(json.dumps(neighborhood.get_config())))
    assert again.get_config() == neighborhood.get_config()
    assert again.epsilon == pytest.approx(EPSILON)


# L0: few features


def test_l0_projection_is_the_nearest_of_all_choices():
    """Every set of two features that may differ, tried."""
    x = centres((0.0, 1.0))
    x_prime = far(x, 3.0)
    nearest = np.full(len(x), np.inf)
    for kept in ([0, 1], [0, 2], [1, 2]):
        point = x.copy()
        point[:, kept] = np.clip(x_prime[:, kept], 0, 1)
        nearest = np.minimum(nearest, np.sum((point - x_prime) ** 2, axis=1))
    projected = L0Ball(2).project(tf.constant(x), tf.constant(x_prime)).numpy()
    np.testing.assert_allclose(np.sum((projected - x_prime) ** 2, axis=1), nearest)
    assert np.all(np.sum(projected != x, axis=1) <= 2)
    assert np.all((projected >= 0) & (projected <= 1))
    np.testing.assert_array_equal(L0Ball(2).project(tf.constant(x), tf.constant(projected)), projected)


def test_l0_counts_pixels_and_not_channels():
    rng = np.random.default_rng(0)
    x = tf.constant(rng.uniform(size=(3, 4, 5, 2)))
    far_away, ball = x + rng.normal(size=x.shape), L0Ball(6)
    for found in (ball.project(x, far_away), ball.sample(x, SEED)):
        assert set(np.sum(np.any(found != x, axis=-1), axis=(1, 2))) == {6}
        assert np.all((found >= 0) & (found <= 1))
    assert ball.positions((4, 5, 2)) == 20
    assert ball.positions((40,)) == 40


def test_l0_steepest_is_at_the_features_of_the_largest_slopes():
    gradient = tf.constant([[0.5, -3.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(L0Ball(2).steepest(gradient), [[0, -1, 1, 0], [0, 0, 0, 0]])


def test_l0_samples_choose_every_feature_alike():
    x = tf.fill([3000, 5], 0.5)
    chosen = (L0Ball(2).sample(x, SEED).numpy() != 0.5).mean(axis=0)
    np.testing.assert_allclose(chosen, 0.4, atol=0.04)  # four standard errors


def test_l0_steps_are_shares_of_the_box_and_others_of_the_radius():
    assert L0Ball(3, (0.0, 255.0)).reach == 255
    assert LinfBall(0.3).reach == L2Ball(0.3).reach == 0.3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: L0Ball(0), "`epsilon` must be a positive float. Received: epsilon=0"),
        (lambda: L0Ball(0.5), '`epsilon` must be a positive integer with norm="l0", .*Received: epsilon=0.5'),
        (lambda: L0Ball(2, None), '`bounds` must be given with norm="l0".*Received: bounds=None'),
        (
            lambda: L0Ball(20).check_shape((4, 5, 3)),
            '`epsilon` must be less than the number of features with norm="l0", 20. Received: epsilon=20',
        ),
        (
            lambda: LinfBall(1, ([0, 0], [1, 1])).check_shape((3,)),
            "`bounds` must be a float or an array that broadcasts",
        ),
    ],
)
def test_an_impossible_ball_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
    L0Ball(19).check_shape((4, 5, 3))
