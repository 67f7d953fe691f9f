"""The ascent with an adaptive step, and the searches without gradients, against iterates known by hand."""

import numpy as np
import pytest
import tensorflow as tf

from keras_rar.core import adaptive, map_search
from keras_rar.core.neighborhoods import L2Ball, LinfBall
from keras_rar.core.worst import Worst, normal_by_rows, sample_by_rows

X = tf.fill([2, 2], tf.constant(0.5, tf.float64))
SEED = tf.constant([3, 4])


def always(z):
    return tf.fill(tf.shape(z)[:1], True)


def quadratic(peak):
    """`−‖z − peak‖²`, and its gradient."""
    return lambda k, z: (-tf.reduce_sum((z - peak) ** 2, axis=1), -2 * (z - peak))


def run(objective, *, ball=None, similarities=None, allowed=always, steps=20, step=0.5, cuts=(), start=None):
    ball = LinfBall(0.3) if ball is None else ball
    similarities = (
        (lambda z: tf.cast(tf.stack([z[:, 0], z[:, 1]]), tf.float32)) if similarities is None else similarities
    )
    start = X if start is None else tf.constant(start, tf.float64)
    climb, worst = adaptive.Climb.begun(X, start, allowed(start), step), Worst.nothing(X, 2)
    for first, last in zip((0, *cuts), (*cuts, steps), strict=True):
        climb, worst = adaptive.ascend(
            X, climb, worst, objective=objective, similarities=similarities, allowed=allowed, neighborhood=ball,
            first=first, last=last, steps=steps,
        )  # fmt: skip
    return climb, worst


def test_checkpoints_are_those_of_the_paper():
    assert adaptive.checkpoints(100) == (22, 41, 57, 70, 80, 87, 93, 99)
    assert adaptive.checkpoints(1) == ()
    for steps in range(1, 60):
        found = adaptive.checkpoints(steps)
        assert list(found) == sorted(set(found))
        assert all(0 < point < steps for point in found)


@pytest.mark.parametrize("ball", [LinfBall(0.3), L2Ball(0.3, None)])
def test_a_step_that_is_too_long_is_halved_until_it_finds_a_peak_inside_the_ball(ball):
    """With the first step of the diameter, a fixed step would jump from border to border for ever."""
    climb, _ = run(quadratic(tf.constant([0.61, 0.53], tf.float64)), ball=ball, steps=100, step=0.6)
    assert np.all(climb.step.numpy() < 0.6)
    np.testing.assert_allclose(climb.best_x, np.tile([0.61, 0.53], (2, 1)), atol=0.02)


def test_a_step_that_pays_stays():
    steep = lambda k, z: (tf.reduce_sum(z, axis=1), tf.ones_like(z))  # noqa: E731
    climb, _ = run(steep, steps=10, step=0.001)
    np.testing.assert_array_equal(climb.step, 0.001)
    climb, _ = run(steep, steps=100, step=0.6)  # at the border after one step: no rise any more
    assert np.all(climb.step.numpy() < 0.6)


def test_steps_adapt_to_each_example():
    peaks = tf.constant([[0.5, 0.5], [9.0, 9.0]], tf.float64)
    climb, _ = run(quadratic(peaks), steps=30, step=0.01)
    assert climb.step[0] < climb.step[1]


def test_the_worst_is_kept_for_each_measure():
    """A walk round a square: the first measure is least at its left, the second at its bottom."""
    corners = tf.constant([[0.2, 0.8], [0.8, 0.2]], tf.float64)
    towards = lambda k, z: (tf.zeros(2, z.dtype), tf.broadcast_to(tf.gather(corners, k % 2), z.shape) - z)  # noqa: E731
    _, worst = run(towards, steps=2, step=0.6)
    np.testing.assert_allclose(worst.x[0, 0], [0.2, 0.8], atol=1e-9)
    assert worst.x[1, 0, 1] < 0.5
    np.testing.assert_array_equal(worst.iteration, [[1, 1], [2, 2]])


def test_iterates_that_are_not_allowed_are_not_kept_and_are_no_place_to_return_to():
    allowed = lambda z: z[:, 0] < 0.6  # noqa: E731
    rise = lambda k, z: (tf.reduce_sum(z, axis=1), tf.ones_like(z))  # noqa: E731
    climb, worst = run(
        rise, allowed=allowed, similarities=lambda z: tf.cast(tf.stack([-z[:, 0]] * 2), tf.float32), steps=60
    )
    assert np.all(climb.best_x[:, 0] < 0.6)
    assert np.all(worst.x[..., 0] < 0.6)
    assert np.all(worst.iteration > 0)


def test_values_and_similarities_that_are_nan_are_never_the_best():
    nan = lambda k, z: (tf.fill([2], tf.constant(np.nan, z.dtype)), tf.ones_like(z))  # noqa: E731
    climb, worst = run(nan, similarities=lambda z: tf.fill([2, 2], np.float32(np.nan)))
    assert np.all(np.isneginf(climb.best_value))
    np.testing.assert_array_equal(worst.similarity, 1)
    np.testing.assert_array_equal(worst.iteration, 0)


def test_segments_change_nothing():
    objective = quadratic(tf.constant([0.7, 0.4], tf.float64))
    whole, parts = run(objective, steps=30), run(objective, steps=30, cuts=(1, 7, 22))
    tf.nest.map_structure(np.testing.assert_array_equal, whole, parts)


@pytest.mark.slow
def test_compiled_it_is_the_same():
    objective = quadratic(tf.constant([0.7, 0.4], tf.float64))
    compiled = tf.function(lambda: run(objective, steps=30), jit_compile=True)()
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9), run(objective, steps=30), compiled)


@pytest.mark.parametrize("ball", [LinfBall(0.3), L2Ball(0.3, None), LinfBall(0.3, None)])
def test_every_iterate_is_in_the_ball(ball):
    seen = []

    def similarities(z):
        seen.append(z)
        return tf.cast(tf.stack([z[:, 0], z[:, 1]]), tf.float32)

    run(quadratic(tf.constant([3.0, -4.0], tf.float64)), ball=ball, similarities=similarities, steps=5)
    search("noise", ball=ball, similarities=similarities, steps=5)
    search("mutation", ball=ball, similarities=similarities, steps=5)
    order = 2 if isinstance(ball, L2Ball) else np.inf
    for z in seen:
        assert np.linalg.norm(z - X, order, axis=1).max() <= 0.3 + 1e-9


def search(kind, ball=None, similarities=None, allowed=always, steps=200, x=X, compiled=False):
    ball = LinfBall(0.3) if ball is None else ball
    similarities = (
        (lambda z: tf.cast(tf.stack([z[:, 0], z[:, 1]]), tf.float32)) if similarities is None else similarities
    )
    rows = tf.range(len(x))
    propose = (
        map_search.noise(x, SEED, rows, ball, 0.3)
        if kind == "noise"
        else map_search.mutation(SEED, rows, ball, 0.3, steps)
    )
    found = lambda: map_search.search(  # noqa: E731
        x, x, tf.fill([len(x)], 2.0), Worst.nothing(x, 2), propose=propose, similarities=similarities, allowed=allowed,
        neighborhood=ball, first=0, last=steps, steps=steps,
    )  # fmt: skip
    return (tf.function(found) if compiled else found)()


def test_evolution_finds_a_corner_of_many_that_noise_misses():
    """Of 2¹⁶ corners noise sees 200; one entry after the other leads to the best."""
    x = tf.fill([1, 16], 0.5)
    measure = lambda z: tf.stack([tf.reduce_mean(z, axis=1)] * 2)  # noqa: E731
    noise, evolution = (
        search(kind, similarities=measure, x=x, compiled=True)[2].similarity.numpy().min()
        for kind in ("noise", "mutation")
    )
    assert evolution < 0.25
    assert noise > evolution + 0.03


def test_noise_is_at_corners_and_each_query_at_another():
    seen = []

    def similarities(z):
        seen.append(z.numpy())
        return tf.ones([2, len(z)])

    search("noise", similarities=similarities, steps=20, x=tf.fill([1, 16], 0.5))
    np.testing.assert_allclose(np.abs(np.stack(seen) - 0.5), 0.3, atol=1e-6)
    assert len({z.tobytes() for z in seen}) == 20


def test_random_numbers_belong_to_a_row():
    x = tf.random.stateless_uniform([5, 3], [0, 1])
    some = tf.constant([3, 1])
    for draw in (
        lambda rows, x: normal_by_rows(SEED, rows, x),
        lambda rows, x: sample_by_rows(LinfBall(0.1), x, SEED, rows),
        lambda rows, x: sample_by_rows(L2Ball(0.1), x, SEED, rows),
    ):
        whole = draw(tf.range(5), x).numpy()
        np.testing.assert_array_equal(whole[[3, 1]], draw(some, tf.gather(x, some)))
        assert len(np.unique((whole - x.numpy()).round(6)[:, 0])) == 5
