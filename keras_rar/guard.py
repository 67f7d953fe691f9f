"""What a training step refuses: bad batches, and updates that are not finite.

A compiled step cannot raise a Python error, and under XLA not even an assertion. So it leaves weights
alone, counts what it saw, and Python reads the counts after the step.
"""

import warnings
from typing import Any

import keras
import tensorflow as tf

from keras_rar.core import labels

_FAULTS = ("empty", "nan", "outside", "label", "nonfinite")  # all but the last: of the batch


class _Counts(keras.metrics.Metric):
    """Faults seen, and the range of the inputs; a metric because those live on every replica."""

    def __init__(self):
        super().__init__(name="step_guard")
        self.faults = self.add_weight(shape=(len(_FAULTS),), initializer="zeros", name="faults")
        self.range = self.add_weight(shape=(2,), initializer="zeros", name="range")

    def record(self, found: tf.Tensor, seen: tf.Tensor) -> tf.Tensor:
        """Count the faults found, and keep the range of the first bad batch; returns whether there was one before.

        Several steps may run before Python looks: after a bad batch none of them may change a weight.
        """
        bad_before = tf.reduce_any(self.faults[:-1] > 0)
        self.range.assign(tf.where(bad_before, self.range, tf.cast(seen, self.range.dtype)))
        self.faults.assign(self.faults + tf.cast(found, self.faults.dtype))
        return bad_before

    def result(self):
        return tf.convert_to_tensor(self.faults)


class StepGuard:
    """Checks of one training step, in graph, and their report, in Python.

    Args:
        bounds: Pair of floats or nested lists: the valid range of inputs; or `None`.
        on_nonfinite: `"skip"` or `"raise"`.
    """

    def __init__(self, bounds: Any, on_nonfinite: str):
        self.bounds, self.on_nonfinite = bounds, on_nonfinite
        self.skipped = 0
        self._counts = _Counts()

    def inspect(self, x: tf.Tensor, y: tf.Tensor, classes: int) -> dict[str, tf.Tensor]:
        """The faults of a batch, each a boolean scalar."""
        outside = tf.constant(False)
        if self.bounds is not None:
            lower, upper = (tf.constant(bound, x.dtype) for bound in self.bounds)
            slack = 1e-5 * (upper - lower)  # rounding of an augmentation is not a wrong range
            outside = tf.reduce_any((x < lower - slack) | (x > upper + slack))
        return {
            "empty": tf.equal(tf.shape(x)[0], 0),
            "nan": tf.logical_not(tf.reduce_all(tf.math.is_finite(x))),
            "outside": outside,
            "label": tf.logical_not(tf.reduce_all(labels.valid(y, classes))),
        }

    def record(self, x: tf.Tensor, faults: dict[str, tf.Tensor], finite: tf.Tensor) -> tf.Tensor:
        """Count what is wrong with a step; returns whether nothing is. A bad batch explains a bad update."""
        good_batch = tf.logical_not(tf.reduce_any(tf.stack(list(faults.values()))))
        found = {**faults, "nonfinite": good_batch & tf.logical_not(finite)}
        faulty_before = self._counts.record(
            tf.stack([found[name] for name in _FAULTS]), tf.stack([tf.reduce_min(x), tf.reduce_max(x)])
        )
        return good_batch & finite & tf.logical_not(faulty_before)

    def check(self, x: tf.Tensor, y: tf.Tensor, classes: int) -> None:
        """Raise for a bad batch, eagerly.

        Raises:
            ValueError: If the batch is bad.
        """
        faults = {name: bool(fault) for name, fault in self.inspect(x, y, classes).items()}
        if any(faults.values()):
            raise ValueError(self._explain(faults, [float(tf.reduce_min(x)), float(tf.reduce_max(x))]))

    def report(self) -> None:
        """Raise or warn of what was counted since the last report.

        Raises:
            ValueError: If a batch was bad.
            FloatingPointError: If an update was not finite, with `on_nonfinite="raise"`.
        """
        counted = self._counts.result().numpy()
        if not counted.any():
            return
        seen = [float(value) for value in self._counts.range.numpy()]
        self._counts.reset_state()
        faults = dict(zip(_FAULTS, (int(count) for count in counted), strict=True))
        nonfinite = faults.pop("nonfinite")
        if any(faults.values()):
            raise ValueError(self._explain(faults, seen) + " (the weights were left as they were)")
        self.skipped += nonfinite
        message = f"The loss or its gradient was NaN or infinite: update skipped ({self.skipped} so far)."
        if self.on_nonfinite == "raise":
            raise FloatingPointError(message)
        warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _explain(self, faults: dict[str, Any], seen: list[float]) -> str:
        messages = {
            "empty": "`x` must hold at least one example. Received: an empty batch",
            "nan": "`x` must be finite. Received: NaN or infinite values",
            "outside": f"`x` must lie within `bounds`={self.bounds}. Received: values from {seen[0]:g} to {seen[1]:g}",
            "label": "`y` must hold class indices from 0 to classes - 1, or finite one-hot labels. "
            "Received: other values",
        }
        return next(message for name, message in messages.items() if faults[name])
