"""Functions of two maps: the objectives that attribution attacks increase, and similarities that choose an iterate."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_rar.core.correlations import kendall_tau_b, spearman_rho
from keras_rar.core.gradients import floating
from keras_rar.core.mass_centers import mass_center_distance
from keras_rar.core.orders import centred_ranks, keys
from keras_rar.core.sizes import per_example
from keras_rar.core.top_sets import topk_intersection

MapObjective = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def topk(k: int) -> MapObjective:
    """`−Σ_{i ∈ T_k(M)} M̃ᵢ(x′)`: lower the k highest entries of the map at the input (Ghorbani et al. 2019).

    Args:
        k: Positive integer, below the number of entries of a map.

    Returns:
        Function of two maps `(batch, ...)`, before and after, that returns `(batch,)`.
    """

    def objective(before, after):
        before, after = (per_example(m) for m in (floating("before", before), floating("after", after)))
        highest = tf.math.top_k(before, k).indices
        return -tf.reduce_sum(tf.gather(after, highest, batch_dims=1), axis=-1)

    return objective


def rank(before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
    """`−r(R(M), log(1 + M̃))`: lower the correlation r of the logarithm of the map with the ranks R at the input.

    Spearman's rho with the ranks of the second map replaced by a logarithm, which can be differentiated, and gives
    large entries less weight than the map itself, of mean 1. On training images of a natural network it lowered
    Kendall's tau to .40 where the cosine of the maps reached .49, their correlation .48, and top-k .50.

    Args:
        before: Tensor of shape `(batch, ...)`, the map at the input.
        after: Tensor of the shape of `before`, the map at the iterate.

    Returns:
        Tensor of shape `(batch,)`.
    """
    before, after = floating("before", before), floating("after", after)
    ranks = tf.cast(centred_ranks(keys(per_example(before))), after.dtype)
    logs = tf.math.log1p(per_example(after))
    ranks, logs = (m - tf.reduce_mean(m, axis=1, keepdims=True) for m in (ranks, logs))
    squares = tf.reduce_sum(ranks**2, axis=1) * tf.reduce_sum(logs**2, axis=1)
    # Where a map is constant its gradient is 0, not that of a root at 0.
    product, root = tf.reduce_sum(ranks * logs, axis=1), tf.sqrt(tf.where(squares > 0, squares, tf.ones_like(squares)))
    return -product / root


def mass_center(before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
    """`‖C(M̃(x′)) − ⌊C(M̃(x))⌋‖₂²`: move the centre of mass C away (Ghorbani et al. 2019). C is in pixels.

    The first centre is rounded down, as in the authors' code. This gives the first step a direction: without it, x
    is a stationary point.

    Args:
        before: Tensor of shape `(batch, height, width)`, the map at the input; of the smooth twin too.
        after: Tensor of the shape of `before`, the map at the iterate.

    Returns:
        Tensor of shape `(batch,)`.
    """
    before, after = floating("before", before), floating("after", after)
    shift = _mass_center(after) - tf.floor(_mass_center(before))
    return tf.reduce_sum(shift**2, axis=-1)


def _mass_center(saliency: tf.Tensor) -> tf.Tensor:
    """`Σ position · M / Σ M`, `(batch, 2)`; it can be differentiated, unlike `mass_centers.mass_center`."""
    height, width = saliency.shape[1:]
    rows = tf.reshape(tf.range(height), [height, 1])
    columns = tf.reshape(tf.range(width), [1, width])
    total = tf.reduce_sum(saliency, axis=(1, 2))
    moments = [tf.reduce_sum(saliency * tf.cast(p, saliency.dtype), axis=(1, 2)) for p in (rows, columns)]
    return tf.math.divide_no_nan(tf.stack(moments, axis=-1), total[:, tf.newaxis])


def target(region: np.ndarray) -> MapObjective:
    """`Σ_{i ∈ region} M̃ᵢ(x′)`: raise the map within a region (Ghorbani et al. 2019).

    Args:
        region: Array of the shape of a map, 1 within the region and 0 elsewhere.

    Returns:
        Function of two maps `(batch, ...)`, before and after, that returns `(batch,)`.
    """

    def objective(before, after):
        after = floating("after", after)
        return tf.reduce_sum(tf.constant(region, after.dtype) * after, axis=list(range(1, after.shape.rank)))

    return objective


SIMILARITIES: dict[str, Callable[[tf.Tensor, tf.Tensor, int], tf.Tensor]] = {
    "kendall_tau": lambda a, b, k: kendall_tau_b(a, b),
    "spearman_rho": lambda a, b, k: spearman_rho(a, b),
    "topk_intersection": lambda a, b, k: topk_intersection(a, b, k),
    "mass_center": lambda a, b, k: -mass_center_distance(a, b),
}
