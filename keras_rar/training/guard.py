"""What a training step refuses: bad batches, and updates that are not finite.

A compiled step cannot raise a Python error, and under XLA not even an assertion. So it leaves weights
alone, counts what it saw, and Python reads the counts after the step.
"""

import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar.core import labels, replicas

_FAULTS = ("empty", "nan", "outside", "label", "nonfinite", "undone")  # all but the last two: of the batch


class _Counts(keras.metrics.Metric):
    """Faults seen, and the range of the inputs; a metric because those live on every replica."""

    def __init__(self):
        super().__init__(name="step_guard")
        self.strategy = tf.distribute.get_strategy()
        self.faults = self.add_weight(shape=(len(_FAULTS),), initializer="zeros", name="faults")
        self.range = self.add_weight(shape=(2,), initializer="zeros", name="range")

    def record(self, found: tf.Tensor, seen: tf.Tensor, stopping: int) -> tf.Tensor:
        """Count the faults found, and keep the range of the first bad batch; returns whether the step is bad.

        Several steps may run before Python looks: after one of the first `stopping` faults none may change a weight.
        """
        found = tf.cast(found, self.faults.dtype)
        if self.strategy.num_replicas_in_sync > 1:  # what one replica finds, all act on
            found = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, found)
        bad_before = tf.reduce_any(self.faults[:stopping] > 0)
        self.range.assign(tf.where(bad_before, self.range, tf.cast(seen, self.range.dtype)))
        self.faults.assign(self.faults + tf.minimum(found, 1))
        return bad_before | tf.reduce_any(found > 0)

    def add(self, name: str, found: tf.Tensor) -> None:
        """Count a fault that all replicas found together."""
        at = tf.one_hot(_FAULTS.index(name), len(_FAULTS), dtype=self.faults.dtype)
        self.faults.assign(self.faults + at * tf.cast(found, self.faults.dtype))

    def seen(self) -> list[float]:
        """The least and the greatest input value, over all replicas."""
        here = self.strategy.experimental_local_results(self.range.value)
        ranges = [tf.cast(replica, tf.float64).numpy().tobytes() for replica in here]
        low, high = np.stack([np.frombuffer(s, "float64") for s in replicas.exchanged(self.strategy, ranges)]).T
        return [float(low.min()), float(high.max())]

    def result(self):
        return tf.convert_to_tensor(self.faults) / self.strategy.num_replicas_in_sync


class StepGuard:
    """Checks of one training step, in graph, and their report, in Python.

    Args:
        bounds: Pair of floats or nested lists: the valid range of inputs; or `None`.
        classes: Number of output units of the model.
        on_nonfinite: `"skip"` or `"raise"`.
        at_layer: Whether the output of a layer is perturbed, so that inputs may be integers. Defaults to `False`.
    """

    def __init__(self, bounds: Any, classes: int, on_nonfinite: str, at_layer: bool = False):
        self.bounds, self.classes, self.on_nonfinite, self.at_layer = bounds, classes, on_nonfinite, at_layer
        self.skipped = 0
        self._counts = _Counts()

    def check_layout(self, x: Any, y: Any, takes_indices: bool | None) -> tuple[tf.Tensor, tf.Tensor]:
        """The batch as tensors, or an error for what its dtypes and shapes tell.

        Raises:
            TypeError: If the inputs are not floating point.
            ValueError: If the labels are missing, of a wrong shape, or not as many as the inputs.
        """
        if y is None:
            raise ValueError("Labels are needed: pass `y`, or a data set of (x, y) pairs.")
        x, y = tf.convert_to_tensor(x), tf.convert_to_tensor(y)
        if not (x.dtype.is_floating or self.at_layer):
            raise TypeError(
                "`x` must be floating point, since attributions are gradients in x: cast it, and scale it to "
                f"`bounds`={self.bounds}. Received: dtype={x.dtype.name}"
            )
        labels.check_layout(y, self.classes, takes_indices)
        if not x.shape[:1].is_compatible_with(y.shape[:1]):
            raise ValueError(f"`y` must hold one label per example, {x.shape[0]}. Received: {y.shape[0]} labels")
        return x, y

    def inspect(self, x: tf.Tensor, y: tf.Tensor, seen: tf.Tensor) -> dict[str, tf.Tensor]:
        """The faults of a batch, each a boolean scalar; `seen` is what the bounds are of."""
        outside = tf.constant(False)
        if self.bounds is not None:
            lower, upper = (tf.constant(bound, seen.dtype) for bound in self.bounds)
            slack = 1e-5 * (upper - lower)  # rounding of an augmentation is not a wrong range
            outside = tf.reduce_any((seen < lower - slack) | (seen > upper + slack))
        return {
            # One of several replicas may get no example of a small batch.
            "empty": tf.equal(tf.shape(x)[0], 0) & (replicas.number() == 1),
            "nan": tf.logical_not(tf.reduce_all(tf.math.is_finite(x))) if x.dtype.is_floating else tf.constant(False),
            "outside": outside,
            "label": tf.logical_not(tf.reduce_all(labels.valid(y, self.classes))),
        }

    def record(self, seen: tf.Tensor, faults: dict[str, tf.Tensor], finite: tf.Tensor) -> tf.Tensor:
        """Count what is wrong with a step; returns whether nothing is, here or on another replica."""
        good_batch = tf.logical_not(tf.reduce_any(tf.stack(list(faults.values()))))
        found = {**faults, "nonfinite": good_batch & tf.logical_not(finite), "undone": tf.constant(False)}
        bad_step = self._counts.record(
            tf.stack([found[name] for name in _FAULTS]),
            tf.stack([tf.reduce_min(seen), tf.reduce_max(seen)]),
            stopping=len(_FAULTS) - 2 * (self.on_nonfinite == "skip"),
        )
        return tf.logical_not(bad_step)

    def record_undone(self, undone: tf.Tensor) -> None:
        """Count an update that was undone, since what it wrote was not finite."""
        self._counts.add("undone", undone)

    def check(self, x: tf.Tensor, y: tf.Tensor, seen: tf.Tensor) -> None:
        """Raise for a bad batch, eagerly.

        Raises:
            ValueError: If the batch is bad.
        """
        faults = {name: bool(fault) for name, fault in self.inspect(x, y, seen).items()}
        if any(faults.values()):
            raise ValueError(self._explain(faults, [float(tf.reduce_min(seen)), float(tf.reduce_max(seen))]))

    def report(self) -> None:
        """Raise or warn of what was counted since the last report.

        Raises:
            ValueError: If a batch was bad.
            FloatingPointError: If an update was not finite, with `on_nonfinite="raise"`.
        """
        counted = self._counts.result().numpy()
        if not counted.any():
            return
        seen = self._counts.seen()
        self._counts.reset_state()
        faults = dict(zip(_FAULTS, (int(count) for count in counted), strict=True))
        nonfinite, undone = faults.pop("nonfinite"), faults.pop("undone")
        if any(faults.values()):
            raise ValueError(self._explain(faults, seen) + " (the weights were left as they were)")
        self.skipped += nonfinite + undone
        what = "The loss or its gradient was NaN or infinite: update skipped"
        if undone:
            what = "A weight, a statistic or the optimizer would have become NaN or infinite: update undone"
        message = f"{what} ({self.skipped} so far)."
        if self.on_nonfinite == "raise":
            raise FloatingPointError(message)
        warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _explain(self, faults: dict[str, Any], seen: list[float]) -> str:
        messages = {
            "empty": "`x` must hold at least one example. Received: an empty batch",
            "nan": "`x` must be finite. Received: NaN or infinite values",
            "outside": f"`x` must lie within `bounds`={self.bounds}. Received: values from {seen[0]:g} to {seen[1]:g}",
            "label": f"`y` must hold class indices from 0 to {max(self.classes - 1, 1)}, or finite one-hot labels. "
            "Received: other values",
        }
        return next(message for name, message in messages.items() if faults[name])
