"""One update of the weights: its loss over the batch, whether it may be applied, and how, on any number of replicas."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_rar.core import graphs, replicas
from keras_rar.core.replicas import Part


class BatchMean(keras.losses.Loss):
    """Keras's own weighted mean over the batch, and its scaling by replicas, of given values."""

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return y_pred

    def share(self, x: tf.Tensor, sample_weight: tf.Tensor | None, part: Part) -> tf.Tensor:
        """What the mean of a replica counts in that of the whole batch, 1 where all replicas count the same.

        Keras takes the mean of the replicas' means, in which an example counts more where there are fewer.
        """
        if self.reduction == "sum" or replicas.number() == 1:
            return tf.ones([], tf.float64)
        mine, whole = tf.cast(tf.shape(x)[0], tf.float64), tf.cast(part.examples, tf.float64)
        if self.reduction == "mean_with_sample_weight" and sample_weight is not None and part.weight is not None:
            mine, whole = tf.reduce_sum(tf.cast(sample_weight, tf.float64)), part.weight
        return tf.math.divide_no_nan(mine * replicas.number(), whole)


@dataclasses.dataclass(frozen=True)
class WholeMean:
    """The mean over a batch of which this replica has a part: a sum over replicas gives that of one replica.

    Args:
        mean: Keras's mean over a part.
        sample_weight: Weights of its examples, or `None`.
        share: What it counts.
    """

    mean: BatchMean
    sample_weight: tf.Tensor | None
    share: tf.Tensor

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        """The share of this replica in the mean of values, one per example."""
        mean = self.mean(values, values, self.sample_weight)
        return mean if replicas.number() == 1 else mean * tf.cast(self.share, mean.dtype)


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
) -> tf.Tensor:
    """Apply the gradients if the step is healthy, and undo all if what that writes is not finite.

    Args:
        healthy: Boolean scalar, the same on every replica.
        optimizer: The optimizer.
        gradients: One per variable.
        variables: What is trained.
        state: What the forward pass has changed, such as the statistics of batch normalisation.
        before: The values of `state` before it.

    Returns:
        Boolean scalar, the same on every replica: whether the update was applied and has not been undone. If not,
        the weights, the state and the optimizer are as they were.
    """
    if variables and not optimizer.built:
        graphs.outside(lambda: optimizer.build(variables))  # its variables are restored with the rest
    mirrored = [*variables, *(optimizer.variables if variables else [])]  # equal on all replicas
    saved = [tf.convert_to_tensor(variable) for variable in mirrored]

    def apply(gradients):
        if variables:  # a model may be frozen as a whole
            optimizer.apply_gradients(zip(gradients, variables, strict=True))

    def stayed_finite(saved, before):
        return _stayed_finite([*mirrored, *state], [*saved, *before])

    if not tf.distribute.has_strategy():
        tf.cond(healthy, lambda: apply(gradients), lambda: None)
        kept = healthy & stayed_finite(saved, before)
        tf.cond(kept, lambda: None, lambda: assign([*mirrored, *state], [*saved, *before]))
        return kept

    # Replicas agree on `healthy`. They branch together: an optimizer cannot sum over replicas in a branch of one.
    def across_replicas(strategy, healthy, gradients, saved, before):
        def undo():
            assign(mirrored, [strategy.experimental_local_results(value)[0] for value in saved])
            strategy.run(lambda before: assign(state, before), args=(before,))

        healthy = strategy.experimental_local_results(healthy)[0]
        tf.cond(healthy, lambda: strategy.run(apply, args=(gradients,)), lambda: None)
        lost = strategy.run(lambda *given: tf.cast(~stayed_finite(*given), tf.float32), args=(saved, before))
        kept = healthy & tf.equal(strategy.reduce(tf.distribute.ReduceOp.SUM, lost, axis=None), 0.0)
        tf.cond(kept, lambda: None, undo)
        return kept

    return tf.distribute.get_replica_context().merge_call(across_replicas, args=(healthy, gradients, saved, before))


def assign(variables: Sequence[keras.Variable], values: Sequence[tf.Tensor]) -> None:
    """Give each variable its value."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _stayed_finite(variables: Sequence[keras.Variable], before: Sequence[tf.Tensor]) -> tf.Tensor:
    """Whether no entry of the variables is NaN or infinite that was finite before: a bias of −∞ may be meant."""
    pairs = [(tf.convert_to_tensor(now), old) for now, old in zip(variables, before, strict=True)]
    pairs = [(now, old) for now, old in pairs if now.dtype.is_floating]
    if not pairs:
        return tf.constant(True)

    def still_as_before():
        lost = [tf.reduce_any(tf.math.is_finite(old) & ~tf.math.is_finite(now)) for now, old in pairs]
        return ~tf.reduce_any(lost)

    # One pass over the weights where all is well: a sum of squares. It may overflow, so what counts is looked at then.
    squares = [tf.cast(tf.nn.l2_loss(now), "float32") for now, _ in pairs]
    return tf.cond(tf.math.is_finite(tf.add_n(squares)), lambda: tf.constant(True), still_as_before)
