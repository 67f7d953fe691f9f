"""The training step: maximise in x′, descend in θ, and keep the update only if it is sound."""

import dataclasses

import keras
import tensorflow as tf

from keras_rar.core.replicas import Part
from keras_rar.training import update
from keras_rar.training.guard import StepGuard
from keras_rar.training.in_parts import InParts, Outcome, values_of, with_layer_losses
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
        part: Part,
    ) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
        """Update the weights.

        Args:
            x: Inputs, `(batch, ...)`.
            y: Labels.
            sample_weight: Weights of the examples, or `None`.
            seed: Integer tensor of shape `(2,)`, for the random starts.
            faults: The faults of the batch, as the guard found; with one of them nothing is updated.
            part: The part of the batch that these examples are.

        Returns:
            The outputs of the model on the clean batch; whether the update was kept; this
            replica's share of the loss and the terms, by name.
        """
        state = self.model.base_model.non_trainable_variables
        before = [tf.convert_to_tensor(variable) for variable in state]
        variables = self.model.trainable_variables
        optimizer = self.model.optimizer
        x_star = self.problem.inner_maximum(x, y, seed, part)
        mean = update.WholeMean(self.mean, sample_weight, self.mean.share(x, sample_weight, part))
        examples = self.problem.differentiated_at_once(x)
        if examples is None:
            outcome = self._at_once(x, x_star, y, mean)
        else:
            parts = InParts(self.problem, mean, optimizer, variables, state)
            outcome = parts(x, x_star, y, before, examples)
        loss, gradients = outcome.loss, outcome.gradients

        entered = self.problem.entered(x)
        seen = x if self.problem.tail is None else self.problem.columns.free(entered)
        healthy = self.guard.record(seen, faults, update.is_finite(loss, gradients, optimizer))
        kept = update.apply_or_undo(healthy, optimizer, gradients, variables, state, before)
        self.guard.record_undone(healthy & ~kept)
        means = {name: mean(value) for name, value in outcome.reported.items()}
        logits = self.problem.head.logits(entered) if outcome.clean_logits is None else outcome.clean_logits
        return self.problem.head.activate(logits), kept, {"loss": loss, **means}

    def _at_once(self, x, x_star, y, mean):
        """The outcome of a batch whose derivatives fit in memory at once."""
        problem = self.problem
        variables, optimizer = self.model.trainable_variables, self.model.optimizer
        layer_losses: list[tf.Tensor] = []

        def logits(z, training):
            if not training:
                return problem.head.logits(z)
            scores, losses = problem.classified(z)
            layer_losses.extend(losses)
            return scores

        with tf.GradientTape() as tape:
            rule = problem.regularizer.training_rule
            terms = problem.terms(
                *problem.ends(x, x_star), y, rule, logits=logits, training=True, variables=values_of(variables)
            )
            objective = problem.regularizer.objective(terms)
            terms.ensure_classified()
            loss = with_layer_losses(mean(objective), layer_losses)
            scaled_loss = optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled_loss, variables)
        clean_logits = terms.clean_logits if "clean_logits" in terms.read_of_x else None
        return Outcome(loss, gradients, terms.reported, clean_logits)
