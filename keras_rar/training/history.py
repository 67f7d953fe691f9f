"""The numbers of an epoch: means over what was measured, and NaN where nothing was."""

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from keras_rar.core import graphs, replicas
from keras_rar.core.replicas import Part


class History:
    """Means of the loss and of each term, and the compiled metrics, of the updates that were kept.

    An update that was skipped counts for nothing, a batch whose sample weights are all 0 neither. A number that
    was never measured since the last reset is NaN: 0 would read as the best loss there is.

    Args:
        model: The model, whose `metrics` hold Keras's own mean of the loss and the compiled metrics.
        terms: Names of the terms.
    """

    def __init__(self, model: keras.Model, terms: Iterable[str]):
        self.model = model
        self.terms = {term: keras.metrics.Mean(name=term) for term in terms}

    def update(
        self,
        kept: tf.Tensor,
        numbers: dict[str, tf.Tensor],
        part: Part,
        x: Any,
        y: Any,
        y_pred: Any,
        sample_weight: Any,
    ) -> dict[str, Any]:
        """Write down a training step, unless its update was not kept; returns the logs of the step.

        Args:
            kept: Boolean scalar.
            numbers: This replica's share of the loss and of the terms of the batch, scalars.
            part: The part of the batch that the replica has.
            x: The inputs of the batch.
            y: Their labels.
            y_pred: The outputs of the model.
            sample_weight: Weights of the examples, or `None`.
        """
        batch = x, y, y_pred, sample_weight
        fresh = [metric for metric in self.model.metrics if not getattr(metric, "built", True)]
        if fresh and not tf.executing_eagerly():  # traced for the sake of their variables, and never run
            specs = [None if part is None else tf.TensorSpec(part.shape, part.dtype) for part in batch]
            made = tf.function(self.model.compute_metrics, autograph=False)
            graphs.outside(lambda: made.get_concrete_function(*specs))
            fresh = []
        variables = [variable for metric in self.model.metrics for variable in metric.variables]
        before = [tf.convert_to_tensor(variable) for variable in variables]
        for name, value in numbers.items():
            self.track(name, value, part.examples / replicas.number(), part.counts)
        logs = self.model.compute_metrics(*batch)
        for variable, value in zip(variables, before, strict=True):
            variable.assign(tf.where(kept, tf.convert_to_tensor(variable), value))
        for metric in fresh:
            if not kept:
                metric.reset_state()
        return {**logs, **self.model.get_metrics_result()}

    def track(self, name: str, value: tf.Tensor, examples: Any, counts: tf.Tensor) -> None:
        """Update a mean by the value for a batch, weighted by the size of the batch, as Keras does.

        Args:
            name: `"loss"`, or a term.
            value: Scalar, the share of this replica.
            examples: How many examples the share stands for.
            counts: Boolean scalar, whether anything was measured.
        """
        value = tf.cast(value, "float32") * replicas.number()
        weight = tf.where(counts, tf.cast(examples, "float32"), 0.0)
        self._mean(name).update_state(tf.where(counts, value, 0.0), sample_weight=weight)

    def or_nan(self, results: dict[str, Any]) -> dict[str, Any]:
        """The results of the metrics, NaN for those that have measured nothing."""
        metrics = [single for metric in self.model.metrics for single in getattr(metric, "metrics", [metric])]
        counts = {metric.name: metric.count for metric in metrics if isinstance(metric, keras.metrics.Mean)}
        loss = self._mean("loss").count
        return {name: _or_nan(value, counts.get(name, loss)) for name, value in results.items()}

    def _mean(self, name: str) -> keras.metrics.Mean:
        return self.terms.get(name) or next(metric for metric in self.model.metrics if metric.name == name)


def _or_nan(value: Any, count: Any) -> Any:
    value = tf.convert_to_tensor(value)
    if not value.dtype.is_floating:
        return value
    return tf.where(tf.convert_to_tensor(count) > 0, value, tf.constant(float("nan"), value.dtype))
