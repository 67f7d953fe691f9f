"""Where `train` gets its batches from: arrays, `Batches` or a finite data set; each epoch known by its number."""

import hashlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.training.batches import Batches, shuffled


class OfBatches:
    """Epochs of so many `Batches`; any of them can be made without those before it.

    Args:
        batches: The `Batches`.
        steps: Batches per epoch. Defaults to all.
    """

    def __init__(self, batches: Batches, steps: int | None = None):
        self.batches, self.steps = batches, steps or len(batches)
        self.batch_size: int | None = batches.batch_size
        self.digests: list[str | None] = []

    def description(self) -> dict[str, Any]:
        """The data in words."""
        return self.batches.description()

    def spec(self) -> Any:
        """What a batch is made of."""
        return self.batches.stream().element_spec

    def start(self, epoch: int) -> dict[str, Any]:
        """Arguments of `fit`, which goes on with this epoch."""
        return {"x": self.batches.stream(epoch * self.steps), "steps_per_epoch": self.steps}

    def begin_epoch(self) -> None:
        """Nothing is to be watched: the order is known."""

    end_epoch = begin_epoch


class OfDataset:
    """Epochs of a finite data set, which is passed through once per epoch.

    Whether it gives the same batches when a run goes on cannot be known beforehand. So each epoch is hashed while it
    passes. A run that goes on passes through the epochs that are done, without training, and compares.

    Args:
        dataset: A finite `tf.data.Dataset` of batches.
        watched: Whether epochs are hashed, for a run that is kept.
    """

    def __init__(self, dataset: tf.data.Dataset, watched: bool):
        self.steps = _finite(dataset)
        self.batch_size: int | None = None
        self.digests: list[str | None] = []
        self._element_spec = dataset.element_spec
        self._hash, self._seen = hashlib.sha256(), 0
        # A shuffle counts its iterators, and `fit` may make some that it does not use: these now begin no epoch.
        lazy = tf.data.Dataset.range(1).flat_map(lambda _: dataset)
        lazy = lazy.apply(tf.data.experimental.assert_cardinality(self.steps))
        self._dataset = lazy.map(self._watch) if watched else lazy
        self._passed = 0

    def description(self) -> dict[str, Any]:
        """What is known of the data before they are passed through."""
        return {"batches": self.steps, "element": str(self._element_spec)}

    def spec(self) -> Any:
        """What a batch is made of."""
        return self._element_spec

    def start(self, epoch: int) -> dict[str, Any]:
        """Arguments of `fit`, which goes on behind the epochs that were kept.

        Raises:
            ValueError: If the data set gives other batches than in these epochs.
        """
        for number in range(self._passed, len(self.digests)):
            expected = self.digests[number]
            self._hash, self._seen = hashlib.sha256(), 0
            for _ in self._dataset:
                pass
            if expected not in (None, self._hash.hexdigest()):
                raise ValueError(
                    "`x` must give the batches that it gave when the run began, in the same order: without a shuffle, "
                    "or with `shuffle(…, seed=…)`; only such a data set can be gone on with. "
                    f"Received: other batches in epoch {number + 1}"
                )
            self._passed += 1
        return {"x": self._dataset}

    def begin_epoch(self) -> None:
        """Watch a new epoch."""
        self._hash, self._seen = hashlib.sha256(), 0

    def end_epoch(self) -> None:
        """Keep what the epoch was; of one that was broken off nothing is known."""
        self.digests.append(self._hash.hexdigest() if self._seen == self.steps else None)
        self._passed += 1

    def _watch(self, *batch: Any) -> Any:
        def update(*parts: np.ndarray) -> np.int64:
            for part in map(np.asarray, parts):
                content = repr(part.tolist()).encode() if part.dtype == object else part.tobytes()
                self._hash.update(f"{part.dtype} {part.shape}".encode() + content)
            self._seen += 1
            return np.int64(self._seen)

        seen = tf.numpy_function(update, tf.nest.flatten(batch, expand_composites=True), tf.int64)
        with tf.control_dependencies([seen]):
            return tf.nest.map_structure(tf.identity, batch, expand_composites=True)


Source = OfBatches | OfDataset


def source_of(x: Any, y: Any, sample_weight: Any, batch_size: int | None, seed: int, watched: bool) -> Source:
    """What `train` takes its batches from.

    Raises:
        TypeError: If `x` is of a kind that cannot be trained with in phases.
        ValueError: If labels, weights or a batch size are missing, or given twice.
    """
    if isinstance(x, (Batches, tf.data.Dataset)):
        for name, value in (("y", y), ("sample_weight", sample_weight), ("batch_size", batch_size)):
            if value is not None:
                raise ValueError(f"`{name}` must be left out: the batches of `x` have their own. Received: {name}")
        return OfBatches(x) if isinstance(x, Batches) else OfDataset(x, watched)
    if isinstance(x, keras.utils.PyDataset) or hasattr(x, "__next__") or callable(x):
        checks.fail("x", "arrays, Batches or a finite tf.data.Dataset", x, TypeError)
    if y is None:
        raise ValueError("Labels are needed: pass `y`, or a data set of (x, y) pairs.")
    return OfBatches(shuffled(x, y, 100 if batch_size is None else batch_size, seed, sample_weight=sample_weight))


def validation_of(data: Any) -> Any:
    """Validation data as `fit` takes them.

    Raises:
        TypeError: If they are of another kind.
    """
    if isinstance(data, Batches):
        return data.stream().take(len(data))
    if data is None or isinstance(data, (tf.data.Dataset, keras.utils.PyDataset)):
        return data
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise TypeError(
            "`validation_data` must be (x, y), (x, y, sample_weight), a tf.data.Dataset or Batches. "
            f"Received: {type(data).__name__}"
        )
    return tuple(data)


def _finite(dataset: tf.data.Dataset) -> int:
    """The number of batches of a data set."""
    number = int(dataset.cardinality())
    if number <= 0:
        unknown = number == tf.data.UNKNOWN_CARDINALITY
        received = "an unknown number" if unknown else "an empty data set" if number == 0 else "one without end"
        raise ValueError(
            "`x` must be a data set with a known number of batches, at least one: use `take(n)`, or "
            f"`apply(tf.data.experimental.assert_cardinality(n))`. Received: {received}"
        )
    return number
