"""Integrated gradients with the nodes that they take, and how near they come to completeness."""

import functools
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_rar.core import checks, quadrature
from keras_rar.core import saliency_methods as core
from keras_rar.networks import at_once
from keras_rar.networks.classifier import TARGETS, Classifier
from keras_rar.networks.kept import compiled

_MOST_NODES = 4096


class Completeness(NamedTuple):
    """How near IG came to completeness.

    Args:
        m: The number of nodes used.
        gap: `Σᵢ IGᵢ − (f(x) − f(b))` of each example, `(n,)`, in the units of the score.
        relative_gap: `|gap|` as a share of `|f(x) − f(b)|`, or of 1 where that is smaller, `(n,)`.
    """

    m: int
    gap: np.ndarray
    relative_gap: np.ndarray


def complete_ig(
    classifier, x, y, target, rule, m, baseline, tolerance, chunk, batch_size
) -> tuple[np.ndarray, Completeness]:
    """IG, and its gap; with `m="auto"` m is doubled until the gap is small enough."""
    checks.broadcasts("baseline", checks.baseline("baseline", baseline), classifier.free_shape)
    tolerance = checks.positive_float("tolerance", tolerance)
    nodes = 16 if m == "auto" else checks.positive_int("m", m)
    key = "ig", target, rule, chunk, classifier.multilabel
    while True:
        explain = compiled(classifier.model, (*key, nodes), _with_gap(classifier, target, rule, nodes, chunk))
        shape = classifier.columns.free(x).shape[1:]
        start = np.broadcast_to(np.asarray(baseline, "float64"), shape)
        start = tf.constant(start, x.dtype)  # a tensor: no new trace for another one
        explained, gap, change = at_once.in_batches(functools.partial(explain, start), batch_size, x, y)
        relative_gap = np.abs(gap) / np.maximum(np.abs(change), 1)
        if m != "auto" or relative_gap.max() <= tolerance:
            break
        if nodes >= _MOST_NODES:
            warnings.warn(
                f"IG with {nodes} nodes has a completeness gap of {relative_gap.max():.2g} > tolerance={tolerance}.",
                RuntimeWarning,
                stacklevel=3,
            )
            break
        nodes *= 2
    return explained, Completeness(nodes, gap, relative_gap)


def _with_gap(classifier: Classifier, target: str, rule: str, nodes: int, chunk: int | str | None) -> Callable:
    """IG of a batch from a baseline, its gap, and the change of the score, as a function to compile."""
    scale = classifier.head.gradient_scale

    def explain(baseline, x, y):
        f = classifier.score(y, TARGETS[target])
        start = classifier.columns.start(baseline, x)
        saliency = core.IntegratedGradients(quadrature.get(rule, nodes), chunk=chunk)
        explained = at_once.chunked(saliency, classifier.model, x, "first").between(f, start, x)
        change = f(x) - f(start)
        gap = tf.reduce_sum(tf.cast(explained, change.dtype), axis=list(range(1, x.shape.rank))) - change
        return explained / scale, gap / scale, change / scale

    return explain
