"""Maps of one example at many draws of noise, and what they add up to."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_rar.attacks import explained
from keras_rar.core.abstract_saliency import AT_ONCE
from keras_rar.core.maps import flat
from keras_rar.core.saliency_methods import METHODS, Saliency
from keras_rar.core.smoothing import Smoothing
from keras_rar.explaining import attackable
from keras_rar.networks.channel_axis import data_format_of
from keras_rar.networks.classifier import Classifier


class Sums(NamedTuple):
    """What some draws of one example add up to.

    Args:
        counts: How often each entry was among the largest, `(entries,)`.
        total: Sum of the maps, each of norm 1, `(entries,)`.
        projections: Of each such map on the direction, `(draws,)`, in [0, 1].
        undefined: How many maps were not finite.
    """

    counts: Any
    total: Any
    projections: Any
    undefined: Any


def block_size(dimension: int, points: int = 1) -> int:
    """How many draws to make at once for inputs of so many entries, or to evaluate at once at so many points each.

    The draws of a block have one seed, so it is a matter of the input alone, not of a batch size.
    """
    return int(np.clip(AT_ONCE // (dimension * points), 1, 256))


def drawn(
    sums: Callable[..., Sums],
    noise: Smoothing,
    x: np.ndarray,
    label: int,
    seed: tuple[int, int],
    samples: int,
    batch_size: int,
    show: Callable[[float], None],
) -> tuple[np.ndarray, np.ndarray, int]:
    """All draws of one example. The first quarter chooses a direction, on which the others are projected.

    Args:
        sums: What `sums_of` returned.
        noise: The distribution of the noise.
        x: One input.
        label: The class explained.
        seed: Pair of integers: of the draws, and the place of the example.
        samples: Number of draws.
        batch_size: How many to evaluate at once.
        show: Gets how many examples are done, with the share of this one.

    Returns:
        `counts`, over all draws; `projections`, of the last three quarters; and `undefined`, over all draws.
    """
    first, block = math.ceil(samples / 4), block_size(x.size)
    direction = total = counts = np.zeros(1)  # broadcast to the entries of a map
    undefined, projections = 0, []
    for start, size in _blocks(first, samples, block):
        seeds = tf.random.experimental.stateless_fold_in(tf.constant(seed, tf.int64), start)
        rows = noise.draw(tf.repeat(tf.constant(x)[None], block, axis=0), seeds)[:size]
        for part in (rows[begin : begin + batch_size] for begin in range(0, size, batch_size)):
            found = sums(part, tf.fill([len(part)], tf.constant(label, tf.int64)), tf.constant(direction, part.dtype))
            counts = counts + found.counts.numpy()
            undefined += int(found.undefined)
            if start < first:
                total = total + found.total.numpy().astype("float64")
            else:
                projections.append(found.projections.numpy())
        if start + size == first:
            direction = total / max(float(np.linalg.norm(total)), np.finfo("float64").tiny)
        show(seed[1] + (start + size) / samples)
    return counts.astype("int64"), np.concatenate(projections), undefined


def _blocks(first: int, samples: int, block: int) -> list[tuple[int, int]]:
    """Where each block of draws begins, and how many it has; one ends at `first`."""
    pairs = [(0, first), (first, samples)]
    return [(start, min(end - start, block)) for begin, end in pairs for start in range(begin, end, block)]


def sums_of(explain: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], kept: int) -> Callable[..., Sums]:
    """What a batch of draws of one example adds, as a function to compile."""

    def sums(x, y, direction):
        maps = flat(explain(x, y))
        defined = tf.reduce_all(tf.math.is_finite(maps), axis=1)
        maps = tf.where(defined[:, None], maps, tf.zeros_like(maps))
        least = tf.math.top_k(maps, kept).values[:, -1:]
        unit = tf.math.divide_no_nan(maps, tf.norm(maps, axis=1, keepdims=True))
        projections = tf.clip_by_value(tf.reduce_sum(unit * tf.cast(direction, unit.dtype), axis=1), 0.0, 1.0)
        return Sums(
            tf.math.count_nonzero((maps >= least) & (maps > 0), axis=0),
            tf.reduce_sum(unit, axis=0),
            projections,
            tf.math.count_nonzero(~defined),
        )

    return sums


def explainer(classifier: Classifier, saliency: Any, target: str) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """The map `(x, y) -> (batch, ...)` of a classifier."""
    if not isinstance(saliency, Saliency):
        return attackable.of_function(saliency, classifier, None)
    return attackable.of_saliency(saliency, classifier, target, None, derivatives="first")


def map_shape(classifier: Classifier, saliency: Any, target: str, x: np.ndarray) -> tuple[int, ...]:
    """The shape of one map; a `ValueError` if a method of the user's does not return one per example."""
    if type(saliency) in METHODS.values():
        return explained.map_shape(x.shape[1:], data_format_of(classifier.model, x.shape[1:]))
    point = tf.constant(np.repeat(x[:1], 2, axis=0)), tf.zeros([2], tf.int64)
    return tuple(explainer(classifier, saliency, target)(*point).shape[1:])
