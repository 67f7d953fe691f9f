"""Ranks, ties and inversions in rows `(batch, entries)`, by sorting, with TensorFlow; the batch may be unknown."""

import numpy as np
import tensorflow as tf


def keys(m: tf.Tensor) -> tf.Tensor:
    """Integers in the same order as the floats: sign and magnitude of IEEE 754, as two's complement."""
    dtype = tf.int64 if m.dtype == tf.float64 else tf.int32
    bits = tf.bitcast(m, dtype)
    magnitude = bits & dtype.max
    return tf.where(bits < 0, -magnitude, magnitude)


def centred_ranks(keys: tf.Tensor) -> tf.Tensor:
    """Twice the rank of each entry, minus its mean over the row; equal entries share the mean of their ranks."""
    if keys.shape[1] == 0:
        return keys
    order = tf.argsort(keys, axis=1)
    run, lengths = _runs(tf.gather(keys, order, batch_dims=1))
    ranks = 2 * tf.cumsum(lengths, axis=1) - lengths - keys.shape[1]
    return _scattered(tf.gather(ranks, run, batch_dims=1), order)


def _count_before(flags: tf.Tensor) -> tf.Tensor:
    """How many entries before each entry of a row are True, for `(rows, entries)`."""
    rows, entries = tf.shape(flags)[0], flags.shape[1]
    width = min(64, entries)
    blocks = -(-entries // width)
    flags = tf.pad(tf.cast(flags, tf.float32), [[0, 0], [0, blocks * width - entries]])
    flags = tf.reshape(flags, [rows * blocks, width])
    # A product with a triangle of ones is several times as fast as tf.cumsum on a CPU, and exact for counts below 2²⁴.
    inside = flags @ tf.constant(np.triu(np.ones([width, width], "float32"), 1))
    ahead = tf.cumsum(tf.reshape(tf.reduce_sum(flags, axis=1), [rows, blocks]), axis=1, exclusive=True)
    counts = tf.reshape(inside, [rows, blocks, width]) + ahead[:, :, None]
    return tf.cast(tf.reshape(counts, [rows, blocks * width])[:, :entries], tf.int32)


def _runs(values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The runs of equal values in sorted rows `(batch, entries)`: the run of each entry, and the length of each run."""
    batch, entries = tf.shape(values)[0], values.shape[1]
    last = tf.concat([values[:, 1:] != values[:, :-1], tf.ones_like(values[:, :1], tf.bool)], axis=1)
    run = _count_before(last)
    place = run + entries * tf.range(batch)[:, None]
    lengths = tf.math.unsorted_segment_sum(tf.ones_like(run), place, batch * entries)
    return run, tf.reshape(lengths, [batch, entries])


def _tied_pairs(values: tf.Tensor) -> tf.Tensor:
    """Number of pairs of equal values in each sorted row."""
    lengths = tf.cast(_runs(values)[1], tf.int64)
    return tf.reduce_sum(lengths * (lengths - 1) // 2, axis=1)


def _inversions(permutation: tf.Tensor) -> tf.Tensor:
    """Number of pairs out of order in each row of `(batch, entries)`, a permutation of 0, …, entries − 1.

    The bits are treated one by one, from the highest. Entries are grouped by the bits above, in their order. A pair
    whose first difference is this bit is out of order if the 1 stands before the 0; then the 0s of each group move
    before its 1s. All groups have the same size, because the row is a permutation. Groups of 8 are compared directly.
    """
    batch, entries = tf.shape(permutation)[0], permutation.shape[1]
    size = max(8, 1 << (entries - 1).bit_length())
    padding = tf.broadcast_to(tf.range(entries, size), [batch, size - entries])
    values = tf.concat([permutation, padding], axis=1)
    total = tf.zeros([batch], tf.int64)
    half = size // 2
    while half > 4:
        groups = tf.reshape(values, [batch * (size // (2 * half)), 2 * half])
        ones = groups & half != 0
        before = _count_before(ones)
        inverted = tf.where(ones, tf.zeros_like(before), before)
        total += tf.reduce_sum(tf.cast(tf.reshape(inverted, [batch, size]), tf.int64), axis=1)
        place = tf.reshape(tf.range(batch * size), tf.shape(groups))
        start = place[:, :1]
        place = tf.where(ones, start + half + before, place - before)
        values = tf.math.unsorted_segment_sum(tf.reshape(groups, [-1]), tf.reshape(place, [-1]), batch * size)
        half //= 2
    groups = tf.reshape(values, [batch, size // 8, 8])
    inverted = (groups[:, :, :, None] > groups[:, :, None, :]) & np.triu(np.ones([8, 8], bool), 1)
    return total + tf.cast(tf.reduce_sum(tf.cast(inverted, tf.int32), axis=[1, 2, 3]), tf.int64)


def ranks(keys: tf.Tensor) -> tf.Tensor:
    """int32 in the same order as the keys, with the same ties: the keys themselves if they are int32."""
    if keys.dtype == tf.int32:
        return keys
    order = tf.argsort(keys, axis=1)
    run = _runs(tf.gather(keys, order, batch_dims=1))[0]
    return _scattered(run, order)


def _scattered(values: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
    """`out[i, order[i, j]] = values[i, j]`."""
    batch, entries = tf.shape(values)[0], values.shape[1]
    place = tf.reshape(order + entries * tf.range(batch)[:, None], [-1])
    flat = tf.math.unsorted_segment_sum(tf.reshape(values, [-1]), place, batch * entries)
    return tf.reshape(flat, [batch, entries])


def pair_counts(a: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`P − Q`, `n₀ − n₁` and `n₀ − n₂` of `kendall_tau_b`, for int32 `(batch, entries)`."""
    batch, entries = tf.shape(a)[0], a.shape[1]
    if entries < 2:
        return (tf.zeros([batch], tf.int64),) * 3
    levels = (entries - 1).bit_length()
    by_a = tf.sort(
        tf.cast(a, tf.int64) * 2**32 + (tf.cast(b, tf.int64) + 2**31), axis=1
    )  # ties in a are in the order of b
    by_b = tf.sort((by_a & (2**32 - 1)) * 2**levels + tf.range(entries, dtype=tf.int64), axis=1)
    discordant = _inversions(tf.cast(by_b & (2**levels - 1), tf.int32))
    pairs = entries * (entries - 1) // 2
    untied_a = pairs - _tied_pairs(tf.bitwise.right_shift(by_a, tf.constant(32, tf.int64)))
    untied_b = pairs - _tied_pairs(tf.bitwise.right_shift(by_b, tf.constant(levels, tf.int64)))
    return untied_a + untied_b - pairs + _tied_pairs(by_a) - 2 * discordant, untied_a, untied_b
