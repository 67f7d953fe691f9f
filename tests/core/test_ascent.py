"""The inner maximum: known maxima, never outside, no gradient through it, compiled as in Python."""

import numpy as np
import pytest
import tensorflow as tf

from keras_rar.core.ascent import projected_ascent
from keras_rar.core.neighborhoods import L2Ball, LinfBall

EPSILON = 0.2
SLOPE = np.array([1.0, -2.0, 0.0, 0.5])
every_ball = pytest.mark.parametrize("ball", [LinfBall, L2Ball])


def linear(z):
    return tf.linalg.matvec(z, tf.constant(SLOPE, z.dtype))


def wavy(z):
    """Not concave, with a gradient that turns along the way."""
    w = tf.constant(np.random.default_rng(5).normal(size=(4, 6)), z.dtype)
    return tf.reduce_sum(tf.sin(2 * z @ w), axis=1)


@pytest.fixture
def x():
    return tf.constant(np.random.default_rng(0).uniform(size=(64, 4)))


def ascend(objective, x, start=None, ball=LinfBall, bounds=(0.0, 1.0), steps=10, step_size=0.05):
    start = x if start is None else start
    return projected_ascent(objective, x, start, ball(EPSILON, bounds), steps=steps, step_size=step_size)


def test_linear_maximum_in_the_linf_ball(x):
    expected = np.clip(x + EPSILON * np.sign(SLOPE), 0, 1)  # coordinate by coordinate
    np.testing.assert_allclose(ascend(linear, x), expected, atol=1e-14)


def test_linear_maximum_in_the_l2_ball(x):
    expected = x + EPSILON * SLOPE / np.linalg.norm(SLOPE)
    np.testing.assert_allclose(ascend(linear, x, ball=L2Ball, bounds=None), expected, atol=1e-8)  # bisection


@every_ball
def test_the_maximum_is_reached_from_any_start(ball, x):
    start = ball(EPSILON, None).sample(x, tf.constant([1, 2]))
    found = ascend(linear, x, start, ball, bounds=None, steps=200, step_size=0.02)
    dual = np.linalg.norm(SLOPE, ord=1 if ball is LinfBall else 2)
    gain = (linear(found) - linear(x)).numpy()
    np.testing.assert_allclose(gain, EPSILON * dual, rtol=1e-6)
    assert np.all(linear(start) < linear(found))


@every_ball
def test_an_interior_maximum_is_found_to_the_step_size(ball, x):
    summit = x + 0.05
    found = ascend(lambda z: -tf.reduce_sum((z - summit) ** 2, axis=1), x, ball=ball, bounds=None, step_size=0.02)
    assert np.max(np.abs(found - summit)) <= 0.02 + 1e-12


@every_ball
@pytest.mark.parametrize("step_size", [0.01, 0.3, 10.0])
@pytest.mark.parametrize("steps", [1, 5])
def test_never_leaves_the_neighborhood(ball, step_size, steps, x):
    found = ascend(wavy, x, ball=ball, steps=steps, step_size=step_size)
    radii = np.linalg.norm(found - x, ord=np.inf if ball is LinfBall else 2, axis=1)
    assert np.all(radii <= EPSILON + 1e-12)
    assert np.all((found.numpy() >= 0) & (found.numpy() <= 1))
    assert np.any(radii > 0)


@every_ball
def test_more_steps_find_more(ball, x):
    """Small steps: the mean rises with every doubling, and almost every example gains."""
    values = np.array([wavy(ascend(wavy, x, ball=ball, steps=steps, step_size=0.01)) for steps in (1, 2, 4, 8, 16)])
    assert np.all(np.diff(values.mean(axis=1)) > 0)
    assert np.mean(values[-1] >= wavy(x)) > 0.95
    assert np.mean(values[-1] >= values[0]) > 0.95


@pytest.mark.parametrize("steps", [1, 3])
def test_exactly_that_many_steps_of_that_length_are_taken(steps, x):
    found = ascend(linear, x, bounds=None, steps=steps, step_size=0.01)
    np.testing.assert_allclose(found, x + steps * 0.01 * np.sign(SLOPE), atol=1e-14)


def test_descent_is_not_what_it_does(x):
    """Negative control: the ascent of −f ends lower than its start."""
    found = ascend(lambda z: -wavy(z), x, step_size=0.01)
    assert np.mean(wavy(found) < wavy(x)) > 0.95


def test_a_zero_gradient_stays_where_it_is(x):
    start = LinfBall(EPSILON).sample(x, tf.constant([1, 2]))
    np.testing.assert_array_equal(ascend(lambda z: tf.ones(len(z), z.dtype), x, start), start)


def test_examples_are_independent(x):
    together = ascend(wavy, x)
    alone = tf.concat([ascend(wavy, x[i : i + 1]) for i in range(4)], axis=0)
    np.testing.assert_allclose(together[:4], alone, atol=1e-12)


@every_ball
@pytest.mark.parametrize("compiled", [False, True])
def test_no_gradient_flows_through_it(ball, compiled, x):
    scale = tf.Variable(1.5, dtype=tf.float64)

    def find(x):
        return ascend(lambda z: scale * wavy(z), x, x + 0.01 * scale, ball)

    with tf.GradientTape() as tape:
        tape.watch(x)
        found = (tf.function(find) if compiled else find)(x)
        value = tf.reduce_sum(wavy(found))
    assert tape.gradient(value, [x, scale]) == [None, None]


@every_ball
@pytest.mark.parametrize("jit_compile", [False, True])
def test_compiled_as_in_python(ball, jit_compile, x):
    def find(x):
        return ascend(wavy, x, ball=ball, step_size=0.01)

    found = tf.function(find, jit_compile=jit_compile)(x)
    np.testing.assert_allclose(found, find(x), atol=1e-9)  # float64, no gradient entry near enough to 0 to flip


def test_compiled_with_an_unknown_batch(x):
    find = tf.function(lambda x: ascend(linear, x), input_signature=[tf.TensorSpec([None, 4], tf.float64)])
    np.testing.assert_array_equal(find(x), ascend(linear, x))
    np.testing.assert_array_equal(find(x[:3]), ascend(linear, x[:3]))
    assert find(x[:0]).shape == (0, 4)
