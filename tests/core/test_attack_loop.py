"""The loop of the attribution attacks against iterates known by hand, and its directions."""

import numpy as np
import pytest
import tensorflow as tf

from keras_rar.core import attack_loop as attacks
from keras_rar.core import map_objectives
from keras_rar.core.neighborhoods import L2Ball, LinfBall


def climb(
    x=((0.5, 0.5), (0.5, 0.5)),
    towards=(1.0, 1.0),
    similarity=None,
    allowed=None,
    ball=None,
    kept=None,
    start=None,
    **options,
):
    """The attack along a constant direction: iterate k is `x + k · step_size · towards`, cut off at the ball."""
    x = tf.constant(x, tf.float64)
    direction = tf.broadcast_to(tf.constant(towards, tf.float64), tf.shape(x))
    kept = (
        attacks.Kept(x, tf.fill([len(x)], tf.constant(1.0, tf.float64)), tf.zeros([len(x)], tf.int32))
        if kept is None
        else kept
    )
    found = attacks.attack(
        x,
        x if start is None else tf.constant(start, tf.float64),
        kept,
        direction=lambda k, z: direction,
        similarity=(lambda z: -z[:, 0]) if similarity is None else similarity,
        allowed=(lambda z: tf.fill(tf.shape(z)[:1], True)) if allowed is None else allowed,
        neighborhood=LinfBall(0.3) if ball is None else ball,
        **{"steps": 10, "step_size": 0.1, **options},
    )
    return attacks.Kept(*(value.numpy() for value in found))


def test_the_ascent_stops_at_the_border_and_keeps_the_first_that_reaches_it():
    found = climb()
    np.testing.assert_allclose(found.x, 0.8)
    np.testing.assert_allclose(found.similarity, -0.8)
    assert set(found.iteration) <= {3, 4}  # 0.5 + 3 · 0.1 may round below the border


def test_fewer_steps_reach_less():
    found = climb(steps=2)
    np.testing.assert_allclose(found.x, 0.7)
    np.testing.assert_array_equal(found.iteration, 2)


def test_step_size_and_norm_set_the_step():
    np.testing.assert_allclose(climb(steps=1, step_size=0.05).x, 0.55)
    found = climb(towards=(3.0, 4.0), ball=L2Ball(0.3), steps=2)
    np.testing.assert_allclose(found.x, np.full((2, 2), 0.5) + 2 * 0.1 * np.array([0.6, 0.8]))


def test_the_best_iterate_is_kept_for_each_example_and_not_the_last():
    """The similarity is least where the first coordinate is 0.6, and 0.7."""
    best = tf.constant([0.6, 0.7], tf.float64)
    found = climb(similarity=lambda z: tf.abs(z[:, 0] - best))
    np.testing.assert_array_equal(found.iteration, [1, 2])
    np.testing.assert_allclose(found.x[:, 0], best)
    np.testing.assert_allclose(found.similarity, 0, atol=1e-12)


def test_of_equal_iterates_the_first_is_kept():
    found = climb(similarity=lambda z: tf.zeros(len(z), tf.float64))
    np.testing.assert_array_equal(found.iteration, 1)


def test_an_iterate_that_is_not_allowed_is_passed_through():
    found = climb(similarity=lambda z: -z[:, 0], allowed=lambda z: tf.abs(z[:, 0] - 0.6) < 0.01, steps=3)
    np.testing.assert_array_equal(found.iteration, 1)  # later ones are lower, and not allowed
    found = climb(allowed=lambda z: z[:, 0] > 0.65, steps=2)  # the first is not allowed, and is gone through
    np.testing.assert_array_equal(found.iteration, 2)


def test_where_nothing_is_better_what_was_given_is_kept():
    for change in ({"similarity": lambda z: z[:, 0] + 1}, {"allowed": lambda z: tf.fill(tf.shape(z)[:1], False)}):
        found = climb(**change)
        np.testing.assert_array_equal(found.iteration, 0)
        np.testing.assert_array_equal(found.x, 0.5)
        np.testing.assert_array_equal(found.similarity, 1)


def test_an_undefined_similarity_is_not_kept():
    found = climb(similarity=lambda z: tf.fill([len(z)], tf.constant(np.nan, tf.float64)))
    np.testing.assert_array_equal(found.iteration, 0)
    np.testing.assert_array_equal(found.similarity, 1)


def test_what_is_given_is_improved_on_for_each_example():
    given = attacks.Kept(
        tf.constant([[0.1, 0.1], [0.2, 0.2]], tf.float64), tf.constant([-0.75, -5.0], tf.float64), tf.constant([9, 9])
    )
    found = climb(kept=given)
    np.testing.assert_allclose(found.x, [[0.8, 0.8], [0.2, 0.2]])
    assert found.iteration[1] == 9
    assert found.iteration[0] in (3, 4)
    np.testing.assert_allclose(found.similarity, [-0.8, -5.0])


def test_the_ball_is_around_x_wherever_the_ascent_starts():
    found = climb(start=[[0.2, 0.2], [0.75, 0.2]])
    np.testing.assert_allclose(found.x[:, 0], 0.8)
    assert found.iteration[1] < found.iteration[0]


def test_iterates_stay_in_the_box():
    np.testing.assert_allclose(climb(x=[[0.9, 0.9]]).x, 1.0)
    bounds = ([0.0, 0.0], [1.0, 0.55])
    np.testing.assert_allclose(climb(ball=LinfBall(0.3, bounds)).x, [[0.8, 0.55]] * 2)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_loop_compiles(jit_compile):
    signature = None if jit_compile else [tf.TensorSpec([None, 2], tf.float64)]

    @tf.function(autograph=False, jit_compile=jit_compile, input_signature=signature)
    def run(x):
        kept = attacks.Kept(x, x[:, 0] + 1, tf.zeros([tf.shape(x)[0]], tf.int32))
        similarity = lambda z: -tf.reduce_sum(z, axis=1)  # noqa: E731
        return attacks.attack(
            x,
            x,
            kept,
            direction=lambda k, z: tf.cos(9 * z),
            similarity=similarity,
            allowed=lambda z: z[:, 0] < 0.7,
            neighborhood=L2Ball(0.3),
            steps=7,
            step_size=0.1,
        )

    x = tf.constant(np.random.default_rng(0).uniform(size=(5, 2)))
    eager = run.python_function(x)
    assert len(set(eager.iteration.numpy())) > 1
    for value, expected in zip(run(x), eager, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-12)


# Directions


def test_the_direction_of_an_attack_is_the_gradient_of_its_objective():
    x = tf.constant(np.random.default_rng(1).uniform(size=(2, 3, 3)))
    direction = attacks.map_gradient(map_objectives.target(np.eye(3, dtype=bool)), x, lambda z: z**2)
    np.testing.assert_allclose(direction(0, x), 2 * x * np.eye(3))


def test_random_directions_differ_between_steps_and_seeds_and_are_determined_by_them():
    x = tf.zeros([4, 500])

    def draw(seed, k):
        return attacks.random_direction(tf.constant(seed), tf.shape(x))(tf.constant(k), x).numpy()

    first = draw([0, 0], 0)
    np.testing.assert_array_equal(draw([0, 0], 0), first)
    for other in (draw([0, 0], 1), draw([1, 0], 0)):
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.1  # four standard errors
    assert abs(np.corrcoef(first)[0, 1]) < 0.2  # of 500 entries: other examples, other noise
    assert np.mean(first > 0) == pytest.approx(0.5, abs=0.05)
