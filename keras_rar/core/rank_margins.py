"""The gap between the k largest entries of a map and the others."""

import tensorflow as tf

from keras_rar.core import checks
from keras_rar.core.gradients import floating
from keras_rar.core.sizes import highest_k, k_of, per_example


def rank_margin(
    attributions: tf.Tensor, k: int | None = None, pairs: int | None = None, counted: tf.Tensor | None = None
) -> tf.Tensor:
    """`(mean of the k largest |aᵢ| − mean of the others) / mean of all |aᵢ|` (after Chen et al., NeurIPS 2024).

    It does not depend on the scale of a map; 0 for a map whose entries are all of one size, and for zeros.

    Args:
        attributions: Tensor of shape `(batch, ...)`, with more than `k` entries per example.
        k: Integer > 0. Defaults to an eighth of the entries, at least 1.
        pairs: Integer > 0: take the means over as many entries on each side of rank k alone. Defaults to all.
        counted: Which entries count, as for `soft_top_k`. Defaults to all.

    Returns:
        Tensor of shape `(batch,)`, not negative.

    Raises:
        ValueError: If an example has no more than `k` entries, or `k` or `pairs` is not positive.

    Example:

    >>> rank_margin([[4.0, -2.0, 0.0, 2.0]], k=1).numpy().round(3)
    array([1.333], dtype=float32)
    """
    attributions = floating("attributions", attributions)
    size = tf.abs(per_example(attributions))
    places, n = tf.range(tf.shape(size)[1])[tf.newaxis], tf.fill(tf.shape(size)[:1], tf.shape(size)[1])
    if counted is not None:
        counted = tf.reshape(counted, tf.shape(size))
        size = tf.where(counted, size, -tf.ones_like(size))  # to the end
        n = tf.math.count_nonzero(counted, axis=1, dtype=tf.int32)
    highest_k(attributions, k)  # refuses a k of all entries
    ordered, n = tf.sort(size, axis=1, direction="DESCENDING"), n[:, tf.newaxis]
    kth = k_of(k, n)
    near = tf.shape(size)[1] if pairs is None else checks.positive_int("pairs", pairs)

    def mean(first, end):
        taken = (places >= first) & (places < tf.minimum(end, n))
        total = tf.reduce_sum(tf.where(taken, ordered, tf.zeros_like(ordered)), axis=1)
        return tf.math.divide_no_nan(total, tf.cast(tf.math.count_nonzero(taken, axis=1), total.dtype))

    gap = mean(kth - near, kth) - mean(kth, kth + near)
    return tf.math.divide_no_nan(gap, mean(0, n))
