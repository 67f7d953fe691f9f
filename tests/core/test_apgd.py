"""Auto-PGD, the search without gradients, what it proposes, and the ratios of logits."""

import numpy as np
import pytest
import tensorflow as tf

from keras_rar.core import apgd, directions, other_pixels, proposals, random_search, ratios, row_draws, squares
from keras_rar.core.attack_loop import Kept
from keras_rar.core.neighborhoods import L0Ball, L1Ball, L2Ball, LinfBall

SEED = tf.constant([1, 2])


def climb(value, x, ball, steps, gradient=None):
    """The whole ascent of a function, with what it kept; its similarity is minus its value."""

    def evaluate(k, z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            found = value(z)
        slope = tape.gradient(found, z) if gradient is None else gradient(z)
        return found, slope, -found

    x = tf.constant(x, tf.float64)
    kept = Kept(x, tf.fill([len(x)], tf.constant(np.inf, tf.float64)), tf.zeros([len(x)], tf.int32))
    state = apgd.begin(x, kept, evaluate, 2 * ball.epsilon)
    return apgd.advance(x, *state, evaluate=evaluate, neighborhood=ball, first=0, last=steps, steps=steps)


# Auto-PGD


def test_checkpoints_are_those_of_the_paper():
    """Croce & Hein: p = 0, 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99."""
    assert apgd.checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]
    assert apgd.checkpoints(10) == [0, 3, 5, 6, 7, 8, 9, 10]
    assert apgd.checkpoints(1) == [0, 1]


@pytest.mark.parametrize("ball", [LinfBall(0.3), L2Ball(0.3)])
def test_a_linear_function_is_solved_in_one_step(ball):
    """The first step is twice the radius, so that its projection is the vertex."""
    slope = np.array([[3.0, -1.0, 0.5]])
    _, kept = climb(lambda z: tf.reduce_sum(z * slope, axis=1), [[0.5, 0.5, 0.5]] * 2, ball, 1)
    dual = np.abs(slope).sum() if isinstance(ball, LinfBall) else np.linalg.norm(slope)
    np.testing.assert_allclose(-kept.similarity, 0.5 * slope.sum() + 0.3 * dual, rtol=1e-6)  # the bisection of L2
    np.testing.assert_array_equal(kept.iteration, 1)


def test_the_step_is_halved_until_it_pays():
    """At the top of a parabola within the ball: steps of a fixed length jump over it for ever."""
    middle = np.array([[0.3137, 0.0], [0.5, 0.0]])
    start = [[0.5, 0.0], [0.5, 0.0]]
    state, kept = climb(lambda z: -tf.reduce_sum((z - middle) ** 2, axis=1), start, LinfBall(0.4), 100)
    np.testing.assert_allclose(kept.x[:, 0], middle[:, 0], atol=2e-2)
    assert np.all(state.step_size < 0.8 / 2**4)
    fixed = 0.5 - 0.8 + 0.8 * np.arange(3)  # negative control: what steps of 0.8 reach
    assert np.min(np.abs(np.clip(fixed, 0.1, 0.9) - 0.3137)) > 0.15


def test_a_step_that_pays_is_kept():
    state, _ = climb(lambda z: tf.reduce_sum(z, axis=1), [[0.5, 0.5]], LinfBall(0.4, None), 2)
    np.testing.assert_allclose(state.step_size, 0.8 / np.array([2 ** (2 - 1)]), rtol=1e-12)  # it paid once, not twice


def test_segments_give_the_same_as_one_ascent():
    ball, x = LinfBall(0.2), tf.constant(np.random.default_rng(0).uniform(size=(4, 3)))

    def evaluate(k, z):
        return tf.reduce_sum(tf.sin(9 * z), axis=1), 9 * tf.cos(9 * z), -tf.reduce_sum(tf.sin(9 * z), axis=1)

    kept = Kept(x, tf.zeros([4], tf.float64) + 99, tf.zeros([4], tf.int32))
    whole = parts = apgd.begin(x, kept, evaluate, 0.4)
    options = {"evaluate": evaluate, "neighborhood": ball, "steps": 12}
    whole = apgd.advance(x, *whole, first=0, last=12, **options)
    for first, last in ((0, 5), (5, 6), (6, 12)):
        parts = apgd.advance(x, *parts, first=first, last=last, **options)
    for found, expected in zip(tf.nest.flatten(parts), tf.nest.flatten(whole), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_where_the_objective_is_nan_the_best_before_is_not_forgotten():
    def value(z):
        return tf.where(z[:, 0] > 0.65, tf.constant(np.nan, z.dtype), z[:, 0])

    _, kept = climb(value, [[0.5]], LinfBall(0.3), 30, gradient=tf.ones_like)
    assert 0.5 < kept.x[0, 0] <= 0.65


# Directions


def test_a_direction_is_finite_and_leads():
    gradient = np.array([[np.nan, np.nan], [0.0, 0.0], [np.nan, 2.0], [np.inf, -4.0], [1.0, 0.0]])
    noise = np.array([[0.5, -0.5]] * 5)
    expected = [[0.5, -0.5], [0.5, -0.5], [1.0, 2.0], [4.0, -4.0], [1.0, 0.0]]
    np.testing.assert_array_equal(directions.leading(gradient, noise), expected)
    np.testing.assert_array_equal(directions.defined(gradient, noise)[1], [0, 0])  # a plateau is one


# Ratios


def test_ratios_do_not_change_with_the_scale_nor_with_a_constant():
    logits = np.random.default_rng(0).normal(size=(6, 5))
    margin = np.sort(logits[:, 1:], axis=1)[:, -1] - logits[:, 0]
    for ratio in (ratios.difference_ratio, ratios.targeted_ratio):
        found = ratio(margin, logits)
        np.testing.assert_allclose(ratio(1e6 * margin, 1e6 * logits), found, rtol=1e-9)
        np.testing.assert_allclose(ratio(margin, logits + 7), found, rtol=1e-9)
        np.testing.assert_array_equal(np.sign(found), np.sign(margin))


def test_the_ratio_has_a_slope_where_the_cross_entropy_has_none():
    logits = tf.constant([[90.0, -90.0, -95.0, -99.0]])

    def slope(objective):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = objective(logits)
        return np.abs(tape.gradient(value, logits)).max()

    assert slope(lambda z: tf.reduce_logsumexp(z, axis=-1) - z[:, 0]) == 0
    assert slope(lambda z: ratios.difference_ratio(z[:, 1] - z[:, 0], z)) > 1e-3
    assert slope(lambda z: ratios.targeted_ratio(z[:, 3] - z[:, 0], z)) > 1e-3


# Random numbers that belong to a row


def test_an_example_draws_the_same_in_any_batch():
    draw = lambda z, seed: z + tf.random.stateless_uniform([3], seed, alg="philox", dtype=z.dtype)  # noqa: E731
    x = np.zeros((5, 3))
    together = row_draws.each(draw, SEED, np.arange(5), x).numpy()
    np.testing.assert_array_equal(row_draws.each(draw, SEED, [3, 1], x[:2]), together[[3, 1]])
    assert len(np.unique(together)) == 15
    shifts = tf.constant(together)
    np.testing.assert_array_equal(
        row_draws.uniform(SEED, 7, shifts[1:3]), np.asarray(row_draws.uniform(SEED, 7, shifts))[1:3]
    )


def test_draws_are_uniform_and_independent_between_steps_and_examples():
    shifts = tf.constant(np.random.default_rng(0).uniform(size=(2, 4000)))
    drawn = np.stack([row_draws.uniform(SEED, k, shifts) for k in range(2)]).reshape(4, -1)
    assert np.all((drawn >= 0) & (drawn < 1))
    for row in drawn:
        assert np.max(np.abs(np.sort(row) - np.arange(4000) / 4000)) < 2 / np.sqrt(4000)  # Kolmogorov-Smirnov
    assert np.max(np.abs(np.corrcoef(drawn) - np.eye(4))) < 5 / np.sqrt(4000)
    normal = row_draws.normal(SEED, 3, shifts).numpy()
    np.testing.assert_allclose([normal.mean(), normal.std()], [0, 1], atol=0.05)


# The search without gradients

SHAPES = {"image": (8, 6, 2), "features": (7,)}
KINDS = {
    "linf": (LinfBall(0.2), squares.LinfSquares),
    "l2": (L2Ball(0.5), squares.L2Squares),
    "l1": (L1Ball(1.0), squares.L1Squares),
    "l0": (L0Ball(3), other_pixels.OtherPixels),
}


def distance(norm, change):
    if norm == "l0":
        differ = change != 0 if change.ndim == 2 else np.any(change != 0, axis=-1)
        return differ.reshape(len(change), -1).sum(axis=1)
    return np.linalg.norm(change.reshape(len(change), -1), ord={"linf": np.inf, "l2": 2, "l1": 1}[norm], axis=1)


def searched(norm, shape, score, queries, n=3):
    """The inputs, where the search begins, what it finds, and a function that proposes."""
    ball, kind = KINDS[norm]
    made = kind(ball, shape, queries)
    x = tf.constant(np.random.default_rng(0).uniform(0.1, 0.9, size=(n, *shape)))
    shifts = tf.constant(np.random.default_rng(1).uniform(size=(n, made.draws)))

    @tf.function(autograph=False)
    def propose(k, best):
        return made.propose(x, k, best, row_draws.uniform(SEED, k, shifts))

    @tf.function(autograph=False)
    def search():
        start = made.start(x, row_draws.uniform(SEED, -1, shifts))
        kept = Kept(start, score(start), tf.zeros([n], tf.int32))
        options = {"similarity": score, "first": 0, "last": queries, "steps": queries}
        return start, random_search.search(kept, propose=propose, **options)

    start, kept = search()
    return x.numpy(), start.numpy(), kept, propose


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("norm", KINDS)
def test_a_search_comes_near_the_best_of_a_linear_function(norm, shape):
    """The exact optimum is known. What is tried stays in the ball and in the box."""
    slope = np.random.default_rng(5).normal(size=shape)
    axes = tuple(range(1, len(shape) + 1))

    def score(z):
        return -tf.reduce_sum(z * slope, axis=axes)

    x, start, kept, propose = searched(norm, shape, score, 200)
    ball = KINDS[norm][0]
    for tried in (start, kept.x.numpy(), *(propose(tf.constant(k), kept.x).numpy() for k in (0, 3, 150))):
        assert np.all(distance(norm, tried - x) <= ball.epsilon + 1e-6)  # the bisection of L2
        assert np.all((tried >= 0) & (tried <= 1))
        assert np.max(distance(norm, tried - x)) > 0.9 * ball.epsilon
    best = -np.asarray(score(tf.constant(x)))
    if norm == "linf":
        gain = np.sum(np.maximum(slope * (np.clip(x + 0.2, 0, 1) - x), slope * (np.clip(x - 0.2, 0, 1) - x)), axis=axes)
    elif norm == "l2":
        gain = 0.5 * np.linalg.norm(slope) * np.ones(3)  # without the box, which holds up to a third back
    elif norm == "l1":
        gain = np.abs(slope).max() * np.ones(3)  # without the box, which holds some back
    else:
        gains = np.maximum(slope * (1 - x), -slope * x)
        gain = np.sort((gains.sum(axis=-1) if len(shape) == 3 else gains).reshape(3, -1), axis=1)[:, -3:].sum(axis=1)
    reached, begun = ((-np.asarray(score(z)) - best) / gain for z in (kept.x, tf.constant(start)))
    assert np.all(reached <= 1 + 1e-6)
    assert np.all(reached > (0.45 if len(shape) == 3 else 0.6 if norm in ("l2", "l1") else 0.8))
    assert np.mean(reached - begun) > 0.2


def test_squares_become_smaller():
    shares = proposals.shares(1000)
    assert shares[0] == 0.8
    assert shares[-1] == pytest.approx(0.8 / 512)
    assert np.all(np.diff(shares) <= 0)
    x, _, _, propose = searched("linf", (8, 6, 2), lambda z: tf.zeros(tf.shape(z)[:1], tf.float64), 60)
    first, last = (np.mean(propose(tf.constant(k), tf.constant(x)).numpy() != x) for k in (0, 59))
    assert first > 4 * last > 0


def test_ranks():
    values = np.random.default_rng(0).uniform(size=(4, 9))
    np.testing.assert_array_equal(np.argsort(np.argsort(-values, axis=1), axis=1), proposals.ranks(values))
