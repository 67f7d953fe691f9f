"""Examples of which a baseline replaces parts, and the scores that a model then gives."""

import functools
import zlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar.core import ablation, channels, checks
from keras_rar.core.segment_starts import starts_of
from keras_rar.networks import at_once
from keras_rar.networks.base_model import baseline_of
from keras_rar.networks.channel_axis import data_format_of
from keras_rar.networks.classifier import TARGETS, Classifier
from keras_rar.networks.kept import compiled
from keras_rar.networks.tail import at_layer

_MOST_ROWS = 512


class Ablated:
    """The examples of a model, parts of which a baseline replaces.

    Args:
        model: Any Keras classifier.
        x: Array of shape `(n, ...)`.
        y: Labels, or `None` for the predicted ones.
        baseline: Float or array that broadcasts to an input; `"auto"` for that of the training of a `RARModel`, or 0.
        seed: Integer.
        batch_size: How many rows the network sees at once, or `None`.
        layer: Name of a layer whose output is ablated in place of the input, or `None`.
    """

    def __init__(
        self,
        model: keras.Model,
        x: Any,
        y: Any,
        baseline: Any,
        seed: int,
        batch_size: int | None,
        layer: str | None = None,
    ):
        baseline = baseline_of(model, layer, baseline)
        model, x = at_layer(model, layer, x)
        self.classifier = Classifier(model)
        self.x = self.classifier.check_inputs(x)
        self.seed = checks.seed(seed)
        columns = self.classifier.columns
        free = columns.free(self.x)
        checks.broadcasts("baseline", baseline := checks.baseline("baseline", baseline), free.shape[1:])
        self.baseline = starts_of(baseline, self.x)
        if columns.holds:
            self.baseline = columns.start(baseline, tf.constant(self.x)).numpy()
        self.is_baseline = np.all(self.x == self.baseline, axis=tuple(range(1, self.x.ndim)))
        if self.is_baseline.all():
            raise ValueError(
                "`baseline` must differ from `x`. Received: equal values everywhere, so nothing is ablated"
            )
        self.y = None if y is None else self.classifier.check_labels(y, len(self.x))
        self.batch_size = None if batch_size is None else checks.positive_int("batch_size", batch_size)

    def check_maps(self, name: str, maps: Any, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """Maps as an array of floats, if they have the shape of `x`, or of `x` without channels, or the given one."""
        try:
            maps = np.asarray(maps)
        except ValueError:  # rows of several lengths
            raise ValueError(f"`{name}` must be one array. Received: maps of several shapes") from None
        own, columns = self.x.shape, self.classifier.columns
        known = {own, own[:-1], (own[0], *own[2:])} if len(own) > 2 else {own}
        known = known if shape is None else {own, shape}
        if columns.holds:  # at a layer that masks or inputs pass by: a row counts as a whole
            own = columns.free(self.x).shape
            known = {own, own[:-1]}
        if maps.dtype.kind not in "fiub" or maps.shape not in known:
            raise ValueError(
                f"`{name}` must be an array of numbers of the shape {' or '.join(map(str, sorted(known)))}. "
                f"Received: shape {maps.shape}, dtype {maps.dtype.name}"
            )
        if not np.all(np.isfinite(maps)):
            raise ValueError(f"`{name}` must be finite. Received: NaN or infinite values")
        maps = maps.sum(axis=-1) if columns.holds and maps.shape == own else maps
        return maps if maps.dtype == "float64" else maps.astype("float32")

    @functools.cached_property
    def words(self) -> np.ndarray | None:
        """Which rows are not padding, booleans of the shape of maps; `None` where there is no padding."""
        columns = self.classifier.columns
        return np.asarray(columns.is_free(self.x))[..., 0] if columns.masked else None

    def shape_of_maps(self, values: np.ndarray) -> tuple[int, ...]:
        """The shape of maps whose entries are ablated as wholes: of images and volumes without the channels."""
        if values.shape != self.x.shape:
            return values.shape
        shape = self.x.shape[1:]
        try:
            data_format = data_format_of(self.classifier.model, shape)
        except ValueError as error:
            raise ValueError(
                "`attributions` must be summed over channels where neither layers nor sizes say which axis has them. "
                f"Received: shape {values.shape}"
            ) from error
        return (len(self.x), *channels.map_shape(shape, data_format))

    def without_channels(self, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Values of the shape of `x`, or of maps already, summed over the axis that maps of a shape do not have."""
        return values if values.shape == shape else values.sum(axis=self._channels(shape))

    def of_x(self, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Values `(..., *map)` of maps of a shape, with an axis of size 1 for the channels."""
        return values if shape == self.x.shape else np.expand_dims(values, self._channels(shape))

    def _channels(self, shape: tuple[int, ...]) -> int:
        return -1 if shape == self.x.shape[:-1] else 1 - self.x.ndim

    def random(self, draw: Callable[[np.random.Generator], np.ndarray]) -> np.ndarray:
        """Random numbers that depend on the example and the seed, not on its place among others."""
        seeds = [[self.seed % 2**64, zlib.crc32(np.ascontiguousarray(row).tobytes())] for row in self.x]
        return np.stack([draw(np.random.default_rng(seed)) for seed in seeds])

    def scores(self, target: str, removed: Callable[[slice, slice], np.ndarray], sets: int, insert: bool) -> np.ndarray:
        """The scores `(n, sets)` with parts of `x` removed, or with only these parts put into the baseline.

        Args:
            target: One of `TARGETS`.
            removed: `(examples, sets) -> mask` of shape `(sets, 1 or examples, ...)`.
            sets: Number of sets of entries.
            insert: Whether to insert.
        """

        def ablated(x, y, start, end, removed):
            f = self.classifier.score(y, TARGETS[target])
            return ablation.ablated_scores(f, start, end, removed) / self.classifier.head.gradient_scale

        function = compiled(self.classifier.model, ("ablation", target), ablated)
        rows, labels = self._rows(), self.labels
        found = []
        for first in range(0, len(self.x), rows):
            examples = slice(first, min(first + rows, len(self.x)))
            x = tf.constant(self.x[examples])
            b = tf.constant(self.baseline[examples])
            start, end = (b, x) if insert else (x, b)
            at_once = max(1, rows // len(x))
            groups = [slice(k, min(k + at_once, sets)) for k in range(0, sets, at_once)]
            y = tf.constant(labels[examples])
            found.append(
                np.concatenate([function(x, y, start, end, tf.constant(removed(examples, k))) for k in groups], axis=1)
            )
        return np.concatenate(found)

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """The labels whose score is explained."""
        rows, labels = self._rows(), self.y
        if labels is None:
            predicted = compiled(self.classifier.model, "predicted", lambda x, y: self.classifier.predicted(x))
            parts = [self.x[first : first + rows] for first in range(0, len(self.x), rows)]
            labels = np.concatenate([predicted(tf.constant(part), tf.zeros(len(part), "int64")) for part in parts])
        return self.classifier.explained(self.x, labels, rows)

    def _rows(self) -> int:
        if self.batch_size is None:
            self.batch_size = at_once.examples(self.classifier.model, self.x.shape[1:], "none", _MOST_ROWS)
        return self.batch_size
