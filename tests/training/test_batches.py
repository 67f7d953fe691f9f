"""The order of training data: another one every epoch, and known from the seed alone."""

import numpy as np
import pytest
import tensorflow as tf

from keras_rar.training import Batches, shuffled

X, Y = np.arange(20.0).reshape(20, 1), np.arange(20)


def taken(batches, start, number):
    return [labels for _, labels in batches.stream(start).take(number).as_numpy_iterator()]


def test_whole_batches_in_another_order_every_epoch():
    batches = shuffled(X, Y, 6, seed=1)
    epochs = np.reshape(taken(batches, 0, 9), (3, 18))
    assert len(batches) == 3
    assert [len(set(epoch)) for epoch in epochs] == [18, 18, 18]  # nothing twice
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert len(set(epochs.ravel())) == 20  # what an epoch leaves over is in another


def test_inputs_and_labels_belong_together():
    for x, y in shuffled(X, Y, 6).stream().take(9).as_numpy_iterator():
        np.testing.assert_array_equal(x[:, 0], y)


@pytest.mark.parametrize("start", [0, 1, 3, 5])
def test_it_goes_on_from_any_batch_on(start):
    whole = taken(shuffled(X, Y, 6, seed=1), 0, 9)
    np.testing.assert_array_equal(taken(shuffled(X, Y, 6, seed=1), start, 9 - start), whole[start:])


def test_the_order_is_that_of_the_seed():
    first, same, other = (taken(shuffled(X, Y, 6, seed=seed), 0, 3) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_batches_that_are_skipped_are_not_made():
    made = []

    def make(rows):
        made.append(1)
        return rows, rows

    batches = Batches(20, lambda rows, number: tf.numpy_function(make, [rows], ["int64", "int64"]), 5)
    next(iter(batches.stream(400).prefetch(0)))
    assert 0 < len(made) < 50


def test_what_is_left_over_may_be_kept():
    batches = Batches(10, lambda rows, number: (rows, rows), 4, whole=False)
    assert [len(labels) for labels in taken(batches, 0, 6)] == [4, 4, 2] * 2
    assert [len(labels) for labels in taken(batches, 2, 1)] == [2]
    assert len(batches) == 3


def test_fewer_examples_than_a_batch_are_one():
    assert [len(labels) for labels in taken(shuffled(X, Y, 50), 0, 2)] == [20, 20]


def test_the_size_is_checked():
    with pytest.raises(ValueError, match="`batch_size` must be a positive integer"):
        shuffled(X, Y, 0)
