"""Labels: the three layouts, what is valid, and the logit of the label."""

import numpy as np
import pytest
import tensorflow as tf

from keras_rar.core import labels

LOGITS = np.random.default_rng(0).normal(size=(4, 3))
Y = np.array([0, 2, 1, 2])


@pytest.mark.parametrize("shape", [(), (4, 2), (4, 4), (4, 3, 1), (None, 2)])
def test_wrong_layouts_are_refused(shape):
    y = tf.TensorSpec(shape, tf.int32)
    with pytest.raises(ValueError, match=r"`y` must have the shape .*classes=3. Received: y.shape="):
        labels.check_layout(y, 3)


def test_an_unknown_rank_is_refused():
    """It would be read as one-hot, and class indices would be broadcast."""
    with pytest.raises(ValueError, match=r"`y` must have a known rank.*Received"):
        labels.check_layout(tf.TensorSpec(None, tf.int32), 3)


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 3), (None,), (None, 3), (None, None)])
def test_right_layouts_pass(shape):
    labels.check_layout(tf.TensorSpec(shape, tf.int32), 3)


@pytest.mark.parametrize(
    ("shape", "takes_indices", "wanted"),
    [((4, 3), True, "class indices"), ((4,), False, "one-hot"), ((4, 1), False, "one-hot")],
)
def test_the_layout_must_be_the_one_of_the_loss(shape, takes_indices, wanted):
    y = tf.zeros(shape)
    labels.check_layout(y, 3, not takes_indices)
    with pytest.raises(ValueError, match=f"`y` must be {wanted}.*Received: y.shape="):
        labels.check_layout(y, 3, takes_indices)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float32"])
@pytest.mark.parametrize("column", [False, True])
def test_every_class_index_is_valid(dtype, column):
    y = tf.constant(Y.astype(dtype).reshape((4, 1) if column else 4))
    assert labels.are_indices(y, 3)
    assert np.all(labels.valid(y, 3))
    np.testing.assert_array_equal(labels.replace_invalid(y, 3), y)


@pytest.mark.parametrize("bad", [-1, 3, 1.5, np.nan, np.inf])
def test_an_index_out_of_range_is_found_and_replaced(bad):
    y = tf.constant([0, bad, 2], tf.float32)
    np.testing.assert_array_equal(labels.valid(y, 3), [True, False, True])
    np.testing.assert_array_equal(labels.replace_invalid(y, 3), [0, 0, 2])


def test_one_hot_labels_need_only_be_finite():
    """Smoothed or mixed labels are fine."""
    y = tf.constant([[0.1, 0.9, 0.0], [np.nan, 1.0, 0.0]])
    assert not labels.are_indices(y, 3)
    np.testing.assert_array_equal(labels.valid(y, 3), [[True] * 3, [False, True, True]])
    np.testing.assert_allclose(labels.replace_invalid(y, 3), [[0.1, 0.9, 0.0], [0.0, 1.0, 0.0]])


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_one_unit_takes_a_label_between_zero_and_one(shape):
    y = tf.reshape(tf.constant([0.0, 1.0, 0.5, 2.0]), shape)
    labels.check_layout(y, 1, takes_indices=None)
    np.testing.assert_array_equal(np.ravel(labels.valid(y, 1)), [True, True, True, False])


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float32"])
@pytest.mark.parametrize("y", [Y, Y[:, np.newaxis], np.eye(3)[Y]], ids=["indices", "column", "one_hot"])
def test_label_logit_is_the_entry_of_the_label(y, dtype):
    logit = labels.label_logit(tf.constant(y.astype(dtype)), tf.constant(LOGITS))
    np.testing.assert_array_equal(logit, LOGITS[np.arange(4), Y])


def test_label_logit_of_a_smoothed_label_is_the_weighted_sum():
    y = np.random.default_rng(1).dirichlet(np.ones(3), 4)
    np.testing.assert_allclose(labels.label_logit(tf.constant(y), tf.constant(LOGITS)), (y * LOGITS).sum(axis=1))


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_label_logit_of_one_unit_is_signed(shape):
    y, logits = np.array([0, 1, 1, 0]), LOGITS[:, :1]
    logit = labels.label_logit(tf.constant(y.reshape(shape)), tf.constant(logits))
    np.testing.assert_array_equal(logit, [-1, 1, 1, -1] * logits[:, 0])
