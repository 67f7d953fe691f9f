"""What a map should look like, as a number to be kept small: few changes from place to place, or few entries."""

import tensorflow as tf

from keras_rar.core.gradients import floating
from keras_rar.core.sizes import per_example


def total_variation(attributions: tf.Tensor, counted: tf.Tensor | None = None) -> tf.Tensor:
    """`Σ |aᵢ − aⱼ|` over neighbours i and j, with their signs, in each channel (Erion et al. 2021).

    Neighbours are next to each other along an axis of places: all axes but the last, that of channels; of maps with one
    axis, that one. Of images it is `tf.image.total_variation`. It grows with the scale of a map.

    Args:
        attributions: Tensor of shape `(batch, entries)` or `(batch, places..., channels)`.
        counted: Which entries count, booleans of the shape of `attributions`, as for padding: what does not has no
            neighbours. Defaults to all.

    Returns:
        Tensor of shape `(batch,)`, not negative.

    Example:

    >>> total_variation([[1.0, 1.0, 3.0, 2.0]]).numpy()
    array([3.], dtype=float32)
    """
    attributions = floating("attributions", attributions)
    found = []
    for axis in range(1, max(attributions.shape.rank - 1, 2)):
        before, after = _neighbours(attributions, axis)
        steps = tf.abs(after - before)
        if counted is not None:
            steps = tf.where(tf.logical_and(*_neighbours(counted, axis)), steps, tf.zeros_like(steps))
        found.append(tf.reduce_sum(steps, axis=list(range(1, steps.shape.rank))))
    return tf.add_n(found)


def gini(attributions: tf.Tensor, counted: tf.Tensor | None = None) -> tf.Tensor:
    """The Gini coefficient of the sizes of the entries, `Σᵢⱼ ||aᵢ| − |aⱼ|| / (2 n Σᵢ |aᵢ|)` (Erion et al. 2021).

    0 where all n have one size, `1 − 1/n` where one has all. It does not depend on the scale of a map; 0 of zeros. It
    is found from the sorted sizes, so that memory is that of the map.

    Args:
        attributions: Tensor of shape `(batch, ...)`.
        counted: Which entries count, as for `total_variation`. Defaults to all.

    Returns:
        Tensor of shape `(batch,)`, from 0 to 1.

    Example:

    >>> gini([[0.0, -2.0], [1.0, -1.0]]).numpy()
    array([0.5, 0. ], dtype=float32)
    """
    size = tf.abs(per_example(attributions))
    entries = tf.shape(size)[1]
    n = tf.fill(tf.shape(size)[:1], entries)
    if counted is not None:
        counted = tf.reshape(counted, tf.shape(size))
        size = tf.where(counted, size, tf.zeros_like(size))  # to the beginning
        n = tf.math.count_nonzero(counted, axis=1, dtype=tf.int32)
    ranks = tf.range(1, entries + 1)[tf.newaxis] - entries + n[:, tf.newaxis]  # 1 to n of what counts
    weights = tf.cast(2 * ranks - n[:, tf.newaxis] - 1, size.dtype)
    total = tf.cast(n, size.dtype) * tf.reduce_sum(size, axis=1)
    return tf.math.divide_no_nan(tf.reduce_sum(weights * tf.sort(size, axis=1), axis=1), total)


def negative_gini(attributions: tf.Tensor, counted: tf.Tensor | None = None) -> tf.Tensor:
    """`−gini`, which falls as a map gets sparse."""
    return -gini(attributions, counted)


def _neighbours(values: tf.Tensor, axis: int) -> tuple[tf.Tensor, tf.Tensor]:
    """All entries but the last along an axis, and all but the first."""
    before, after = ([slice(None)] * axis + [part] for part in (slice(None, -1), slice(1, None)))
    return values[tuple(before)], values[tuple(after)]


PRIORS = {"total_variation": total_variation, "gini": negative_gini}
"""Functions `(maps, counted) -> (batch,)` to be kept small, by name."""
