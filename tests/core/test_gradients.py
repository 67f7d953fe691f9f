"""The gradient of each example in its input, and labels for points that are folded into the batch."""

import numpy as np
import pytest
import tensorflow as tf
from gradient_cases import ROUNDING, central_differences, ends, gradient, network

from keras_rar.core import quadrature
from keras_rar.core.gradients import input_gradient, repeat_labels
from keras_rar.core.integration import integrated_gradients


@pytest.fixture
def segment():
    return ends()


def test_input_gradient_is_the_derivative_of_each_example(segment):
    f, (x, _) = network(), segment
    numeric = central_differences(lambda z: tf.reduce_sum(f(z)), x)
    np.testing.assert_allclose(input_gradient(f, x), numeric, atol=1e-9)  # h² f‴


def test_input_gradient_is_zero_where_f_is_constant(segment):
    np.testing.assert_array_equal(input_gradient(lambda z: tf.ones(len(z)), segment[0]), np.zeros((5, 4)))


def test_input_gradient_can_be_differentiated_in_z_and_in_weights(segment):
    x, w = segment[0], tf.constant([1.0, -2.0, 3.0, 0.5], tf.float64)

    def squared_gradient(z, w):  # f = Σ w z³, ∂f/∂z = 3 w z², Σ (3 w z²)²
        return tf.reduce_sum(input_gradient(lambda z: tf.reduce_sum(w * z**3, axis=1), z) ** 2)

    in_z, in_w = gradient(squared_gradient, x, w)
    np.testing.assert_allclose(in_z, 36 * w**2 * x**3, **ROUNDING)
    np.testing.assert_allclose(in_w, tf.reduce_sum(18 * w * x**4, axis=0), **ROUNDING)


def test_repeated_labels_meet_their_examples(segment):
    """Row i of the folded points belongs to example i % batch: each map is that of its own label."""
    y, rule = tf.constant([0, 2, 1, 2, 0]), quadrature.right(3)
    logits = [network(seed) for seed in range(3)]

    def label_logit(z, y):
        return tf.gather(tf.stack([f(z) for f in logits], axis=1), repeat_labels(y, tf.shape(z)[0]), batch_dims=1)

    folded = integrated_gradients(lambda z: label_logit(z, y), *segment, rule)
    for i, label in enumerate(y.numpy()):
        alone = integrated_gradients(logits[label], *(z[i : i + 1] for z in segment), rule)
        np.testing.assert_allclose(folded[i : i + 1], alone, **ROUNDING)


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 4)])
def test_repeat_labels_tiles_whole_batches(shape):
    y = np.arange(np.prod(shape)).reshape(shape)
    specs = [tf.TensorSpec([None, *shape[1:]], y.dtype), tf.TensorSpec([], tf.int32)]
    for repeat in (repeat_labels, tf.function(repeat_labels, input_signature=specs)):
        np.testing.assert_array_equal(repeat(tf.constant(y), tf.constant(6)), np.concatenate([y, y]))
        np.testing.assert_array_equal(repeat(tf.constant(y[:0]), tf.constant(0)), y[:0])
