"""Which part of a batch a replica has; several replicas and processes are in `tests/training`."""

import numpy as np
import pytest
import tensorflow as tf

from keras_rar.core import replicas
from keras_rar.core.neighborhoods import LinfBall
from keras_rar.core.replicas import Part

X = tf.constant(np.random.default_rng(0).uniform(size=(7, 3)), tf.float32)
SEED = tf.constant([1, 2])


@pytest.mark.parametrize(("number", "processes"), [(1, 1), (2, 1), (2, 2), (4, 2), (6, 2), (6, 3)])
def test_every_replica_has_a_place_of_its_own(number, processes):
    places = [replicas.place(replica, number, processes) for replica in range(number)]
    assert sorted(places) == list(range(number))
    assert processes > 1 or places == sorted(places)


@pytest.mark.parametrize(("weights", "counts"), [(None, True), ([0.0] * 7, False), ([0.0] * 6 + [2.5], True)])
def test_one_replica_has_the_whole_batch(weights, counts):
    part = Part.of(X, weights)
    assert (int(part.examples), int(part.first), bool(part.counts)) == (7, 0, counts)
    assert (part.weight is None) == (weights is None)
    assert weights is None or float(part.weight) == sum(weights)


@pytest.mark.parametrize(("first", "size"), [(0, 7), (0, 3), (3, 4), (6, 1), (7, 0)])
def test_parts_draw_what_the_whole_batch_draws(first, size, monkeypatch):
    monkeypatch.setattr(replicas, "number", lambda: 2)
    ball = LinfBall(0.2)
    part = Part(tf.constant(7), tf.constant(first), None, tf.constant(True))
    drawn = part.drawn(ball.sample, X[first : first + size], SEED)
    np.testing.assert_array_equal(drawn, ball.sample(X, SEED)[first : first + size])


def test_without_a_strategy_there_is_one_replica():
    strategy = tf.distribute.get_strategy()
    assert (replicas.number(), replicas.workers(strategy), list(replicas.own(strategy))) == (1, 1, [0])


def test_a_part_that_does_not_know_its_place_draws_other_numbers():
    """Negative control."""
    ball = LinfBall(0.2)
    assert not np.allclose(ball.sample(X[3:], SEED), ball.sample(X, SEED)[3:])
