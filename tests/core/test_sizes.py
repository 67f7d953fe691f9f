"""Size functions against NumPy, and their gradients."""

import numpy as np
import pytest
import tensorflow as tf

from keras_rar.core import sizes

SIZES = {
    "l1_norm": (sizes.l1_norm, lambda a: np.abs(a).sum(axis=1)),
    "total": (sizes.total, lambda a: a.sum(axis=1)),
    "absolute_total": (sizes.absolute_total, lambda a: np.abs(a.sum(axis=1))),
    "total_plus_l1": (lambda a: sizes.total_plus_l1(a, 0.3), lambda a: a.sum(axis=1) + 0.3 * np.abs(a).sum(axis=1)),
    "power_1": (lambda a: sizes.power(a, 1), lambda a: np.abs(a).sum(axis=1)),
    "power_1.5": (lambda a: sizes.power(a, 1.5), lambda a: (np.abs(a) ** 1.5).sum(axis=1)),
    "power_2": (lambda a: sizes.power(a, 2), lambda a: (a**2).sum(axis=1)),
}
every_size = pytest.mark.parametrize(("size", "reference"), SIZES.values(), ids=SIZES)


@every_size
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 3, 2), (3, 1), (1, 5)])
def test_equals_numpy(size, reference, shape):
    a = np.random.default_rng(0).normal(size=shape)
    values = size(tf.constant(a))
    assert values.shape == shape[:1]
    np.testing.assert_allclose(values, reference(a.reshape(len(a), -1)), rtol=1e-12)  # float64


@every_size
def test_an_empty_batch_has_no_sizes(size, reference):
    assert size(tf.zeros([0, 4])).shape == (0,)


@every_size
def test_the_gradient_at_zero_is_finite(size, reference):
    a = tf.zeros([2, 3])
    with tf.GradientTape() as tape:
        tape.watch(a)
        value = size(a)
    at_zero = 1.0 if size is SIZES["total"][0] or size is SIZES["total_plus_l1"][0] else 0.0
    np.testing.assert_array_equal(tape.gradient(value, a), np.full((2, 3), at_zero))


def test_gradient_of_the_l1_norm_is_the_sign():
    a = tf.constant([[2.0, -3.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(a)
        value = sizes.l1_norm(a)
    np.testing.assert_array_equal(tape.gradient(value, a), [[1, -1, 0]])


@pytest.mark.parametrize(
    ("q", "error"), [(0.5, ValueError), (0, ValueError), (-1, ValueError), (np.nan, ValueError), ("2", TypeError)]
)
def test_power_below_one_is_refused(q, error):
    with pytest.raises(error, match=r"`q` must be .* Received: q="):
        sizes.power(tf.ones([1, 2]), q)


@pytest.mark.parametrize(("beta", "error"), [(-0.1, ValueError), (np.inf, ValueError), (None, TypeError)])
def test_beta_is_validated(beta, error):
    with pytest.raises(error, match=r"`beta` must be a float >= 0. Received: beta="):
        sizes.total_plus_l1(tf.ones([1, 2]), beta)


@pytest.mark.parametrize("value", [0, -1, np.inf, 1e-50])
def test_other_powers_are_validated(value):
    with pytest.raises(ValueError, match=r"`power` must be a positive float.* Received: power="):
        sizes.tempered(tf.ones([1, 2]), value)
    with pytest.raises(ValueError, match=r"`sharpness` must be a positive float.* Received: sharpness="):
        sizes.soft_top_k(tf.ones([1, 2]), 1, value)


@pytest.mark.parametrize("k", [0, -1, 1.5, 2, 3])
def test_k_of_a_smooth_top_k_is_below_the_number_of_entries(k):
    with pytest.raises(ValueError, match=r"`k` must be .* Received: k="):
        sizes.soft_top_k(tf.ones([1, 2]), k)


@pytest.mark.parametrize(("k", "of_words"), [(3, [1, 2, 3, 3]), (None, [1, 1, 1, 2])])
def test_of_padded_maps_k_is_below_the_number_of_words(k, of_words):
    """As if each text stood alone, but the last, which has words enough. A k above them would take all for highest."""
    words = [2, 3, 6, 17]
    a = np.random.default_rng(0).normal(size=(4, 17))
    counted = np.arange(17) < np.array(words)[:, np.newaxis]
    a *= counted
    found = sizes.soft_top_k(a, k, counted=counted).numpy()
    for row, n, own in zip(range(4), words, of_words, strict=True):
        np.testing.assert_allclose(found[row, :n], sizes.soft_top_k(a[row : row + 1, :n], own)[0], rtol=1e-6)
        assert np.all(found[row, n:] < 1e-6)
    assert np.abs(found - sizes.soft_top_k(a, k)).max() > 0.4  # the negative control: padding counts


@pytest.mark.parametrize("k", [1, 5])
def test_of_maps_of_any_length_k_is_below_it(k):
    function = tf.function(lambda a: sizes.soft_top_k(a, k), input_signature=[tf.TensorSpec([None, None])])
    a = np.float32([[3, 1, 2]])
    np.testing.assert_allclose(function(a), sizes.soft_top_k(a, min(k, 2)))


def test_one_entry_alone_is_refused():
    with pytest.raises(ValueError, match=r"^`k` must be below 1, the number of entries of an input"):
        sizes.soft_top_k(tf.ones([2, 1]))
