"""Similarities of maps of which a part is padding: what is 0 in both maps is no entry.

A map is 0 where an example is padded, whatever an attack does. Counted as entries, pairs of a word and padding would
always be in order, and a short text would seem robust.
"""

import math
from collections.abc import Callable

import tensorflow as tf

from keras_rar.core.maps import finish, flat, pair, quotient
from keras_rar.core.top_sets import topk_intersection


def padded_kendall(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Kendall's tau-b, `Σ_ij sign(a_i − a_j) sign(b_i − b_j) / √(Σ_ij sign²(a_i − a_j) · Σ_ij sign²(b_i − b_j))`.

    Over pairs of entries that are not 0 in both maps. NaN where there are fewer than two, or all are equal in `a`. Its
    memory grows with the square of the entries.

    Args:
        a: Tensor of shape `(batch, ...)`.
        b: Tensor of the shape of `a`.

    Returns:
        Tensor of shape `(batch,)`, in [-1, 1].

    Example:

    >>> padded_kendall([[1.0, 2.0, 0.0, 0.0]], [[2.0, 1.0, 0.0, 0.0]]).numpy()
    array([-1.], dtype=float32)
    """
    a, b = pair(a, b)
    free = _free(a, b)
    of_a, of_b = _signs(a, free), _signs(b, free)
    tau = quotient(*(tf.reduce_sum(p, axis=[1, 2]) for p in (of_a * of_b, of_a**2, of_b**2)))
    return _or_nan(finish(tau, a, b), flat(a), free, 2)


def padded_spearman(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Spearman's rho, the correlation of the ranks `½ Σ_j sign(a_i − a_j)` of entries that are not 0 in both maps.

    NaN where there are fewer than two, or all are equal in `a`. Its memory grows with the square of the entries.

    Args:
        a: Tensor of shape `(batch, ...)`.
        b: Tensor of the shape of `a`.

    Returns:
        Tensor of shape `(batch,)`, in [-1, 1].
    """
    a, b = pair(a, b)
    free = _free(a, b)
    of_a, of_b = (tf.reduce_sum(_signs(m, free), axis=2) for m in (a, b))
    rho = quotient(*(tf.reduce_sum(p, axis=1) for p in (of_a * of_b, of_a**2, of_b**2)))
    return _or_nan(finish(rho, a, b), flat(a), free, 2)


def padded_topk(a: tf.Tensor, b: tf.Tensor, k: int) -> tf.Tensor:
    """Share of the k largest entries that two maps have in common, among those that are not 0 in both.

    NaN where there are no more than k, which they would have in common, or all are equal in `a`.

    Args:
        a: Tensor of shape `(batch, ...)`.
        b: Tensor of the shape of `a`.
        k: Positive integer, below the number of entries of a map.

    Returns:
        Tensor of shape `(batch,)`, in [0, 1].
    """
    a, b = pair(a, b)
    free = _free(a, b)
    last_a, last_b = (tf.where(free, flat(m), tf.constant(-math.inf, m.dtype)) for m in (a, b))
    return _or_nan(topk_intersection(last_a, last_b, k), flat(a), free, k + 1)


SIMILARITIES: dict[str, Callable[[tf.Tensor, tf.Tensor, int], tf.Tensor]] = {
    "kendall_tau": lambda a, b, k: padded_kendall(a, b),
    "spearman_rho": lambda a, b, k: padded_spearman(a, b),
    "topk_intersection": padded_topk,
}


def _free(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return (flat(a) != 0) | (flat(b) != 0)


def _signs(m: tf.Tensor, free: tf.Tensor) -> tf.Tensor:
    """`sign(m_i − m_j)` of each pair of entries that count, `(batch, entries, entries)`."""
    m = flat(m)
    both = tf.cast(free[:, :, tf.newaxis] & free[:, tf.newaxis, :], m.dtype)
    return tf.sign(m[:, :, tf.newaxis] - m[:, tf.newaxis, :]) * both


def _or_nan(score: tf.Tensor, a: tf.Tensor, free: tf.Tensor, least: int) -> tf.Tensor:
    """NaN where fewer than `least` entries count, or all are equal in the first map."""
    lowest, highest = (tf.where(free, a, tf.constant(end, a.dtype)) for end in (math.inf, -math.inf))
    varies = tf.reduce_min(lowest, axis=1) < tf.reduce_max(highest, axis=1)
    enough = (tf.math.count_nonzero(free, axis=1) >= least) & varies
    return tf.where(enough, score, tf.constant(math.nan, score.dtype))
