"""The training step: maximise in x′, descend in θ, and keep the update only if it is sound."""

import dataclasses

import keras
import tensorflow as tf

from keras_rar.training import update
from keras_rar.training.guard import StepGuard
from keras_rar.training.problem import Problem


@dataclasses.dataclass(frozen=True)
class Step:
    """One update of a model.

    Args:
        model: The model, compiled.
        problem: The min-max problem that it is trained with.
        guard: What refuses bad batches and updates.
        mean: The weighted mean over a batch.
    """

    model: keras.Model
    problem: Problem
    guard: StepGuard
    mean: update.BatchMean

    def __call__(
        self,
        x: tf.Tensor,
        y: tf.Tensor,
        sample_weight: tf.Tensor | None,
        seed: tf.Tensor,
        faults: dict[str, tf.Tensor],
    ) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
        """Update the weights.

        Args:
            x: Inputs, `(batch, ...)`.
            y: Labels.
            sample_weight: Weights of the examples, or `None`.
            seed: Integer tensor of shape `(2,)`, for the random starts.
            faults: The faults of the batch, as the guard found; with one of them nothing is updated.

        Returns:
            The outputs of the model on the clean batch; whether the update was kept; the loss and the terms, by name.
        """
        state = self.model.base_model.non_trainable_variables
        before = [tf.convert_to_tensor(variable) for variable in state]
        variables = self.model.trainable_variables
        optimizer = self.model.optimizer
        x_star = self.problem.inner_maximum(x, y, seed)
        with tf.GradientTape() as tape:
            loss, terms = self._loss(x, x_star, y, sample_weight)
            scaled_loss = optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled_loss, variables)

        healthy = self.guard.record(x, faults, update.is_finite(loss, gradients, optimizer))
        kept = update.apply_or_undo(healthy, optimizer, gradients, variables, state, before)
        self.guard.record_undone(healthy & ~kept)
        means = {name: self.mean(value, value, sample_weight) for name, value in terms.reported.items()}
        return self.problem.head.activate(terms.clean_logits), kept, {"loss": loss, **means}

    def _loss(self, x, x_star, y, sample_weight):
        """The mean objective and the losses of layers, and the terms that it is made of."""
        head, regularizer = self.problem.head, self.problem.regularizer
        layer_losses: list[tf.Tensor] = []

        def logits(z, training):
            scores = head.logits(z, training)
            if training:  # weight decay and activity, of this pass alone
                layer_losses.extend(head.layer_losses)
            return scores

        terms = self.problem.terms(x, x_star, y, regularizer.training_rule, logits=logits, training=True)
        objective = regularizer.objective(terms)
        terms.ensure_classified()
        loss = self.mean(objective, objective, sample_weight)
        for layer_loss in layer_losses:
            loss += tf.cast(tf.reduce_sum(layer_loss), loss.dtype) / update.replicas()
        return loss, terms
