"""The maps that an attribution attack sees, and how two of them are compared."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar.attacks import reach
from keras_rar.attacks.choices import AnySaliency, DataFormat
from keras_rar.core import channels, checks, map_objectives, padded
from keras_rar.core.abstract_saliency import AT_ONCE
from keras_rar.core.maps import flat
from keras_rar.core.neighborhoods import Neighborhood
from keras_rar.core.saliency_methods import METHODS, WITH_BASELINE, Saliency
from keras_rar.core.segment_starts import is_itself
from keras_rar.explaining import attackable, settled, user_maps
from keras_rar.explaining.scores import score_of
from keras_rar.networks import differentiable
from keras_rar.networks.channel_axis import data_format_of
from keras_rar.networks.classifier import Classifier


class Explainers:
    """The maps of a network, `own(x, y)`, and those that gradients are taken through, `smooth(x, y)`.

    Args:
        saliency: A `Saliency`, or a function of the user's.
        target: Name of the score explained.
        beta: Sharpness of the softplus in the twin, or `None` to take gradients through the network as it is.
        classifier: The network.
        gradient_classifier: A smooth twin of the user's, or `None`.
        data_format: Where inputs have their channels, or `"auto"`.
    """

    def __init__(
        self,
        saliency: Saliency | Callable[..., Any],
        target: str,
        beta: float | None,
        classifier: Classifier,
        gradient_classifier: Classifier | None,
        data_format: DataFormat = "auto",
    ):
        self.saliency, self._target, self._data_format = saliency, target, data_format
        self._smooth_classifier = classifier if gradient_classifier is None else gradient_classifier
        self._own, self._beta = classifier.model, beta if gradient_classifier is None else None
        self._classifier = classifier
        self.own = self._explainer(classifier, None)
        self.smooth = self._explainer(self._smooth_classifier, self._beta)

    def check(self, x: np.ndarray, smooth: bool) -> None:
        """Refuse what cannot be attacked. By a saliency of the user's the maps of two examples are computed.

        Args:
            x: One or more inputs.
            smooth: Whether gradients are taken at all.

        Raises:
            TypeError: If a saliency function is not made of TensorFlow operations.
            ValueError: If the twin cannot be made, or a saliency does not return one map per example.
        """
        user_maps.check_known("saliency", self.saliency, self._classifier)
        if isinstance(self.saliency, Saliency) and smooth:
            followed = self._smooth_classifier.model
            differentiable.check_attacked("model" if self._own is followed else "gradient_model", followed)
            points, label = tf.constant(np.repeat(x[:1], 6, axis=0)), tf.constant([0], tf.int64)  # in 2 or 3 parts
            for classifier, beta in ((self._classifier, None), (self._smooth_classifier, self._beta)):
                score_of(self.saliency, classifier, label, self._target, beta)(points)  # the twin is made, and called
        if is_of_user(self.saliency):
            for explain in (self.own, self.smooth)[: 1 + smooth]:
                user_maps.check_examples("saliency", explain, x)

    def _explainer(self, classifier: Classifier, beta: float | None) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        if not isinstance(self.saliency, Saliency):
            return attackable.of_function(self.saliency, classifier, beta, self._data_format)
        return attackable.of_saliency(self.saliency, classifier, self._target, beta, self._data_format)


def map_shape(shape: tuple[int, ...], data_format: str) -> tuple[int, ...]:
    """The shape of one map, given that of one input: images and volumes lose their channels."""
    return channels.map_shape(shape, data_format)


def is_of_user(saliency: AnySaliency) -> bool:
    """Whether the user has written the saliency, a function or a class."""
    return type(saliency) not in METHODS.values()


def batch_size(saliency: AnySaliency, shape: tuple[int, ...]) -> int:
    """How many inputs of this shape to attack at once, with all points of the saliency."""
    return int(np.clip(AT_ONCE // (getattr(saliency, "points", 1) * np.prod(shape)), 1, 50))


def eighth(shape: Any) -> int:
    """The default number of highest entries of a map of this shape."""
    return max(1, int(np.prod(shape)) // 8)


def twin_of(gradient_model: keras.Model | None, shape: tuple[int | None, ...]) -> Classifier | None:
    """The smooth twin of the user's, if there is one; refused if it takes other inputs than the model."""
    twin = None if gradient_model is None else Classifier(gradient_model)
    if twin is not None and twin.input_shape != shape:
        raise ValueError(
            f"`gradient_model` must take the inputs of the model, of shape {shape}. Received: {twin.input_shape}"
        )
    return twin


def checked_inputs(classifier: Classifier, x: Any, attack: Any) -> tuple[np.ndarray, tuple[int, ...]]:
    """The inputs as an array, and the shape of one map."""
    neighborhood: Neighborhood = attack.neighborhood
    x = classifier.check_inputs(x, neighborhood.bounds)
    free = classifier.columns.free(x)
    neighborhood.check_shape(free.shape[1:])
    reach.check_reach(free, neighborhood.reach_of_features, neighborhood.bounds)
    settled.check_baseline(attack.saliency, classifier.free_shape)
    shape = map_shape_of(classifier, x, attack.data_format)
    counted = counted_entries(_baseline_of(attack.saliency), free.shape[1:], shape)
    for name in ("k", "k_report"):
        k = getattr(attack, name, None)
        if k is not None and counted is not None and k >= len(counted) > 1:
            checks.fail(name, f"below {len(counted)}, the number of features whose baseline is not None", k)
    return x, shape


def counted_entries(baseline: Any, shape: tuple[int, ...], of_map: tuple[int, ...]) -> np.ndarray | None:
    """Which entries of a flat map count: not those whose baseline is the input itself, of attribution 0 always.

    Counted, each pair of one of them and another would be in order, and a network with many would seem robust.

    Args:
        baseline: Float or array, `None` in it for the input itself; or a background of several.
        shape: The shape of one input.
        of_map: The shape of one map: that of the input, or of the input without its channels.

    Returns:
        Indices, or `None` for all.
    """
    held: Any = is_itself(baseline)
    if held.ndim > len(shape):  # a background
        held = held.all(axis=0)
    if not held.any():
        return None
    held = np.broadcast_to(held, shape)
    if len(of_map) < len(shape):
        held = held.all(axis=-1 if of_map == shape[:-1] else 0)
    return np.flatnonzero(~held)


def _baseline_of(saliency: AnySaliency) -> Any:
    return saliency.baseline if isinstance(saliency, WITH_BASELINE) else 0.0


def map_shape_of(classifier: Classifier, x: np.ndarray, data_format: DataFormat) -> tuple[int, ...]:
    """The shape of one map of a network."""
    return map_shape(x.shape[1:], data_format_of(classifier.model, x.shape[1:], data_format))


def check_k(name: str, k: int | None, shape: tuple[int, ...]) -> None:
    """Refuse as many highest entries as a map has, or more: all maps have these in common."""
    if k is not None and k >= np.prod(shape):
        checks.fail(name, f"below the number of entries of the map, {np.prod(shape)}", k)


SCORES = ("kendall_tau", "spearman_rho", "topk_intersection")


def similarities(
    classifier: Classifier, saliency: AnySaliency
) -> dict[str, Callable[[tf.Tensor, tf.Tensor, int], tf.Tensor]]:
    """The similarities of two maps of a network by name; padding counts in none, nor does what a baseline holds."""
    known = map_objectives.SIMILARITIES | (padded.SIMILARITIES if classifier.columns.masked else {})
    return known | {name: functools.partial(_of_counted, known[name], name, classifier, saliency) for name in SCORES}


def _of_counted(
    similarity: Callable, name: str, classifier: Classifier, saliency: AnySaliency, a: Any, b: Any, k: int
) -> tf.Tensor:
    """A similarity of the entries that count; NaN where the k highest are all of them."""
    of_map = tuple(a.shape[1:])
    counted = _counted(classifier, saliency, of_map)
    if counted is not None:
        a, b = (tf.gather(flat(m), counted, axis=1) for m in (a, b))
    entries = int(np.prod(of_map)) if counted is None else len(counted)
    if not entries or (name == "topk_intersection" and k >= entries):
        return tf.fill(tf.shape(a)[:1], tf.constant(np.nan, a.dtype))
    return similarity(a, b, k)


def _counted(classifier: Classifier, saliency: AnySaliency, of_map: tuple[int, ...]) -> np.ndarray | None:
    """`counted_entries` of the maps of a network."""
    sizes = tuple(size or given for size, given in itertools.zip_longest(classifier.free_shape, of_map))
    return counted_entries(_baseline_of(saliency), sizes, of_map)


def scores(
    classifier: Classifier, saliency: AnySaliency, before: np.ndarray, after: np.ndarray, k: int | None
) -> dict[str, np.ndarray]:
    """The similarity of two maps per example, by name; with `k=None` of an eighth of their entries.

    NaN where both maps have one value everywhere, as where a network is saturated: nothing is explained, and a 1 would
    say that the explanation is robust.
    """
    known, k = similarities(classifier, saliency), eighth(before.shape[1:]) if k is None else k
    counted = _counted(classifier, saliency, before.shape[1:])
    rows = (m.reshape(len(m), -1)[:, slice(None) if counted is None else counted] for m in (before, after))
    empty = np.all([np.ptp(m, axis=1) == 0 if m.shape[1] else np.ones(len(m), bool) for m in rows], axis=0)
    found = {name: known[name](before, after, k).numpy() for name in SCORES}
    return {name: np.where(empty, np.float32(np.nan), score) for name, score in found.items()}


def scores_kept(classifier: Classifier, attack: Any, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The `scores` of the maps that an attack found.

    Where the one that picks the iterate is NaN no iterate was ever kept: then all are NaN, since nothing was found.
    """
    each = scores(classifier, attack.saliency, found["map_before"], found["map_after"], attack.k_report)
    lost = np.isnan(each.get(attack.keep, np.zeros(len(found["map_before"]))))
    return {name: np.where(lost, np.float32(np.nan), score) for name, score in each.items()}
