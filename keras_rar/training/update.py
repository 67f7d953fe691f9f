"""One update of the weights: its loss over the batch, whether it may be applied, and how, on any number of replicas."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


class BatchMean(keras.losses.Loss):
    """Keras's own weighted mean over the batch, and its scaling by replicas, of given values."""

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return y_pred


def replicas() -> int:
    """Number of replicas that take part in an update."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def is_finite(loss: tf.Tensor, gradients: Sequence[Any], optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
    """Whether an update may be applied; a loss-scaling optimizer judges the gradients itself."""
    checked = [loss]
    if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        checked += [getattr(gradient, "values", gradient) for gradient in gradients if gradient is not None]
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in checked])


def apply_or_undo(
    healthy: tf.Tensor,
    optimizer: keras.optimizers.Optimizer,
    gradients: list[Any],
    variables: list[keras.Variable],
    state: list[keras.Variable],
    before: list[tf.Tensor],
) -> None:
    """Apply the gradients if the step is healthy; otherwise put back the `state` as it was `before`."""

    def apply(gradients):
        if variables:  # a model may be frozen as a whole
            optimizer.apply_gradients(zip(gradients, variables, strict=True))

    def undo(before):
        for variable, value in zip(state, before, strict=True):
            variable.assign(value)

    if replicas() == 1:
        tf.cond(healthy, lambda: apply(gradients), lambda: undo(before))
        return

    # Replicas agree on `healthy`. They branch together: an optimizer cannot sum over replicas in a branch of one.
    def across_replicas(strategy, healthy, gradients, before):
        tf.cond(
            strategy.experimental_local_results(healthy)[0],
            lambda: strategy.run(apply, args=(gradients,)),
            lambda: strategy.run(undo, args=(before,)),
        )

    tf.distribute.get_replica_context().merge_call(across_replicas, args=(healthy, gradients, before))
