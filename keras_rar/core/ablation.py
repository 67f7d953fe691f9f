"""Maps against measured ablations: what a score loses where a map is high, or within subsets of the entries.

An entry is ablated when a baseline stands in its place. A map is faithful if it tells what the score then does.
"""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.core.gradients import ScalarFunction, floating
from keras_rar.core.maps import as_map, flat


def removal_ranks(maps: Any, ties: Any) -> tf.Tensor:
    """The place of each entry in the order of decreasing map: 0 is the highest.

    Args:
        maps: Tensor of shape `(batch, ...)`.
        ties: Tensor of the shape of `maps`: of equal entries, the one with the lower value comes first.

    Returns:
        int32 tensor of the shape of `maps`.

    Example:

    >>> removal_ranks([[0.2, 0.9, 0.2]], [[0.7, 0.1, 0.3]]).numpy()
    array([[2, 0, 1]], dtype=int32)
    """
    maps, ties = as_map("maps", maps), as_map("ties", ties)
    first = tf.argsort(flat(ties), axis=1, stable=True)
    order = tf.argsort(-tf.gather(flat(maps), first, batch_dims=1), axis=1, stable=True)
    ranks = tf.argsort(tf.gather(first, order, batch_dims=1), axis=1)  # the inverse of a permutation
    return tf.reshape(ranks, tf.shape(maps))


def stages(entries: int, points: int) -> np.ndarray:
    """How many entries are ablated at each stage: `round(k d / points)` of d entries, k = 0, …, points.

    Args:
        entries: Positive integer, d.
        points: Integer from 1 to `entries`.

    Returns:
        int32 array of shape `(points + 1,)`, from 0 to `entries`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> stages(10, 4)
    array([ 0,  2,  5,  8, 10], dtype=int32)
    """
    if checks.positive_int("points", points) > entries:
        checks.fail("points", f"at most the {entries} entries of a map", points)
    return np.round(np.arange(points + 1) * (entries / points)).astype("int32")


def ablated_scores(f: ScalarFunction, x: tf.Tensor, baseline: tf.Tensor, removed: tf.Tensor) -> tf.Tensor:
    """`f(x ⊙ (1 − R) + b ⊙ R)` for several sets R of ablated entries: forward passes only.

    Args:
        f: Function `(n, ...) -> (n,)`, the score; row `i` belongs to example `i % batch`.
        x: Tensor of shape `(batch, ...)`.
        baseline: Tensor b that broadcasts to `x`.
        removed: Boolean tensor R that broadcasts to `(sets, *x.shape)`.

    Returns:
        Tensor of shape `(batch, sets)`.

    Raises:
        TypeError: If `x` is not floating point.

    Example:

    >>> f = lambda z: tf.reduce_sum(z, axis=1)
    >>> ablated_scores(f, tf.constant([[1.0, 2.0]]), 0.0, [[[False, False]], [[True, False]]]).numpy()
    array([[3., 2.]], dtype=float32)
    """
    x, removed = floating("x", x), tf.cast(removed, tf.bool)
    points = tf.where(removed, tf.cast(baseline, x.dtype), x[None])
    scores = f(tf.reshape(points, tf.concat([[-1], tf.shape(x)[1:]], 0)))
    return tf.transpose(tf.reshape(scores, [tf.shape(removed)[0], tf.shape(x)[0]]))


def curve_area(curve: Any, counts: Any) -> tf.Tensor:
    """The area under a curve of scores over the share of ablated entries, `∫₀¹ f dt`, by the trapezoid rule.

    Args:
        curve: Tensor of shape `(batch, stages)`.
        counts: How many entries are ablated at each stage, `(stages,)`, from 0 to all.

    Returns:
        Tensor of shape `(batch,)`, in the units of the score.

    Example:

    >>> curve_area([[1.0, 0.5, 0.0]], [0, 1, 4]).numpy()
    array([0.375], dtype=float32)
    """
    curve = as_map("curve", curve)
    counts = tf.cast(as_map("counts", counts), curve.dtype)
    widths = (counts[1:] - counts[:-1]) / counts[-1]
    return tf.reduce_sum(widths * (curve[:, 1:] + curve[:, :-1]) / 2, axis=1)


def infidelity(attributions: Any, subsets: Any, changes: Any, normalized: bool = True) -> tf.Tensor:
    """How far sums of attributions are from the changes of the score that they claim.

    `E_S[(β Σ_{i ∈ S} aᵢ − Δ_S)²]` with `Δ_S = f(x) − f(x without S)`: infidelity (Yeh et al. 2019, definition 2.1) with
    `I = x − b` on the subset S, for attributions that are shares of the score. β is 1; or, if normalised, the best
    scale β ≥ 0 is taken, and the result is divided by `E[Δ_S²]`. That is `1 − R²` of a regression without intercept,
    in [0, 1]: 0 where the sums tell every change up to a scale, 1 where they tell nothing, or have the wrong sign.

    Args:
        attributions: Tensor of shape `(batch, ...)`, signed.
        subsets: Tensor of shape `(sets, ...)`, 1 for the entries of a subset S and 0 for the others.
        changes: Tensor Δ of shape `(batch, sets)`.
        normalized: Whether to take the best scale and divide. Defaults to `True`.

    Returns:
        float64 tensor of shape `(batch,)`; if normalised, NaN where no ablation changes the score.

    Example:

    >>> infidelity([[1.0, -2.0]], [[1, 0], [0, 1]], [[3.0, -6.0]]).numpy()
    array([0.])
    """
    attributions, subsets, changes = (
        tf.cast(as_map(name, value), tf.float64)
        for name, value in (("attributions", attributions), ("subsets", subsets), ("changes", changes))
    )
    claimed = tf.matmul(flat(attributions), flat(subsets), transpose_b=True)
    if not normalized:
        return tf.reduce_mean(tf.square(claimed - changes), axis=1)
    product, claims, true = (
        tf.reduce_mean(a * b, axis=1) for a, b in ((claimed, changes), (claimed, claimed), (changes, changes))
    )
    scale = tf.math.divide_no_nan(tf.nn.relu(product), claims)[:, None]
    error = tf.reduce_mean(tf.square(scale * claimed - changes), axis=1)
    return tf.where(true == 0, tf.constant(math.nan, tf.float64), error / true)


def random_subsets(shape: tuple[int, ...], samples: int, seed: int) -> np.ndarray:
    """Subsets of the entries of a map, to ablate: squares of an image, else any.

    The side of a square is uniform from 1 to half of the shorter side, and its place too (Yeh et al. 2019). Of other
    maps the size of a subset is uniform from 1 to all but one, and its members are random.

    Args:
        shape: Shape of a map without the batch.
        samples: Number of subsets.
        seed: Integer.

    Returns:
        Boolean array of shape `(samples, *shape)`.

    Example:

    >>> random_subsets((4, 4), 3, seed=0).sum(axis=(1, 2))
    array([4, 1, 1])
    """
    rng = np.random.default_rng(seed % 2**64)
    found = np.zeros((samples, *shape), bool)
    for subset in found:
        if len(shape) == 2:
            side = rng.integers(1, max(1, min(shape) // 2), endpoint=True)
            top, left = (rng.integers(0, size - side, endpoint=True) for size in shape)
            subset[top : top + side, left : left + side] = True
        else:
            size = rng.integers(1, max(1, subset.size - 1), endpoint=True)
            subset.reshape(-1)[rng.permutation(subset.size)[:size]] = True
    return found
