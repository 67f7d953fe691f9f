"""How many points fit in memory: sizes of a graph counted by hand, and a choice that never exceeds the budget."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_rar.core.memory import bytes_per_point, chunk_size

BATCHES, BYTES, BUDGETS = (1, 7, 50, 1000), (10.0, 1e4, 3.7e6), (1e-6, 0.01, 0.45, 8.0)
CASES = list(itertools.product((1, 3, 50, 200), BATCHES, BYTES, BUDGETS, (True, False)))


def memory(points, batch, bytes_each, variables):
    """What second derivatives of so many points take, in gigabytes: four times the forward pass, or 2.2 times."""
    return (4.0 if variables else 2.2) * points * batch * bytes_each / 1e9


# The choice


@pytest.mark.parametrize(("points", "batch", "bytes_each", "budget", "variables"), CASES)
def test_as_many_as_fit_and_at_least_one(points, batch, bytes_each, budget, variables):
    chosen = chunk_size(points, batch, bytes_each, budget, variables=variables)
    fits = lambda n: memory(n, batch, bytes_each, variables) <= budget * (1 + 1e-12)  # noqa: E731
    assert (chosen is None) == fits(points) or (chosen is None and points == 1)
    if chosen is not None:
        assert 1 <= chosen < points
        assert fits(chosen) or chosen == 1
        assert not fits(chosen + 1)


def nodes(*args, **options):
    chosen = chunk_size(200, *args, **options)
    return 200 if chosen is None else chosen


def test_monotone_in_the_budget_the_batch_and_the_size_of_a_point():
    budgets = [nodes(50, 1e5, budget) for budget in np.geomspace(1e-4, 10, 30)]
    batches = [nodes(batch, 1e5, 0.45) for batch in range(1, 200, 7)]
    sizes = [nodes(50, size, 0.45) for size in np.geomspace(1e2, 1e8, 30)]
    assert budgets == sorted(budgets)
    assert batches == sorted(batches, reverse=True)
    assert sizes == sorted(sizes, reverse=True)
    for series in (budgets, batches, sizes):
        assert len(set(series)) > 5


def test_without_derivatives_in_variables_more_points_fit():
    assert nodes(50, 1e5, 0.45, variables=False) > nodes(50, 1e5, 0.45, variables=True)


def test_a_function_that_holds_nothing_goes_at_once():
    assert chunk_size(200, 50, 0.0, 0.45) is None


# The size of a point


def test_bytes_per_point_are_those_of_every_result():
    """Of one point: a product of 5, its sum with a bias, tanh, and a number; the constants and variables are not."""
    w, b = tf.Variable(np.ones((3, 5), "float32")), tf.Variable(np.ones(5, "float32"))
    f = lambda z: tf.reduce_sum(tf.tanh(tf.matmul(z, w) + b), axis=1)  # noqa: E731
    assert bytes_per_point(f, (3,), tf.float32) == 4 * (5 + 5 + 5 + 1)


@pytest.mark.parametrize(("dtype", "size"), [("float64", 8), ("float32", 4), ("float16", 2), ("bfloat16", 2)])
def test_bytes_are_those_of_the_dtype(dtype, size):
    f = lambda z: tf.reduce_sum(tf.exp(z), axis=[1, 2])  # noqa: E731
    assert bytes_per_point(f, (4, 6), tf.as_dtype(dtype)) == size * (24 + 1)


def test_a_convolution_counts_its_channels():
    kernel = tf.ones([3, 3, 2, 7])
    f = lambda z: tf.reduce_sum(tf.nn.relu(tf.nn.conv2d(z, kernel, 2, "SAME")), axis=[1, 2, 3])  # noqa: E731
    assert bytes_per_point(f, (8, 8, 2), tf.float32) == 4 * (2 * 4 * 4 * 7 + 1)


def test_sizes_that_vary_count_as_one():
    f = lambda z: tf.reduce_sum(tf.exp(z), axis=[1, 2])  # noqa: E731
    assert bytes_per_point(f, (None, 6), tf.float32) == bytes_per_point(f, (1, 6), tf.float32) == 4 * 7


def test_shapes_and_casts_hold_nothing():
    """They are views, or melt into what follows; and integers are few."""

    def f(z):
        chosen = tf.argmax(z, axis=1)
        return tf.reduce_sum(tf.cast(tf.reshape(tf.identity(z), [-1, 2, 2]), tf.float32), axis=[1, 2]) + 0.0 * tf.cast(
            chosen, tf.float32
        )

    assert bytes_per_point(f, (4,), tf.float32) == 4 * (1 + 1 + 1)  # the sum, the product and their sum


def test_the_function_is_measured_from_inside_a_graph_too():
    """A training step chooses its chunks while it is traced."""
    kernel = tf.Variable(np.ones((4, 3), "float32"))
    f = lambda z: tf.reduce_sum(z @ kernel, axis=1)  # noqa: E731
    found = []
    tf.function(lambda: found.append(bytes_per_point(f, (4,), tf.float32)), autograph=False)()
    assert found == [bytes_per_point(f, (4,), tf.float32)] == [4 * (3 + 1)]
