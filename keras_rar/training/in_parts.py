"""The loss of a batch and its gradient, examples after examples, in memory that does not grow with the batch.

What a batch has in common is its classification pass, with batch statistics, dropout and losses of layers. It runs
once, for the whole batch, as in plain training. Everything else is a function of one example: the objective, given the
logits of that pass. So with the weight wᵢ of each example in the mean over the batch,

    ∇ Σᵢ wᵢ objectiveᵢ(θ, logitsᵢ(θ)) = Σᵢ wᵢ ∂objectiveᵢ/∂θ + Σᵢ (∂logitsᵢ/∂θ)ᵀ wᵢ ∂objectiveᵢ/∂logitsᵢ:

the first sum and the `wᵢ ∂objectiveᵢ/∂logitsᵢ` are found for some examples at a time, the second sum for all of them.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

import keras
import tensorflow as tf

from keras_rar.core import graphs, replicas
from keras_rar.core.network_functions import FirstPass
from keras_rar.training import update
from keras_rar.training.problem import Problem


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What an update is made of.

    Args:
        loss: The loss of the batch.
        gradients: Its gradient, scaled for the optimizer: one per variable, `None` where there is none.
        reported: The reported terms of each example, by name.
        clean_logits: The logits at x, or `None` if the objective does not read them.
    """

    loss: tf.Tensor
    gradients: list[Any]
    reported: dict[str, tf.Tensor]
    clean_logits: tf.Tensor | None


@dataclasses.dataclass(frozen=True)
class InParts:
    """The outcome of a batch, some examples at a time.

    Args:
        problem: The min-max problem.
        mean: The weighted mean over the batch.
        optimizer: The optimizer.
        variables: What is trained.
        state: What the classification pass changes.
    """

    problem: Problem
    mean: update.WholeMean
    optimizer: keras.optimizers.Optimizer
    variables: list[keras.Variable]
    state: list[keras.Variable]

    def __call__(
        self,
        x: tf.Tensor,
        x_star: tf.Tensor,
        y: tf.Tensor,
        before: list[tf.Tensor],
        size: int | tf.Tensor,
    ) -> Outcome:
        """The outcome of a batch.

        Args:
            x: Inputs, `(batch, ...)`.
            x_star: The perturbed inputs.
            y: Labels.
            before: The values of `state` before the step.
            size: Most examples at a time.
        """
        head, outline = self.problem.head, self.problem.reads.outline
        first, reads_clean = cast(FirstPass, outline.first_pass), "clean_logits" in outline.read_of_x
        with tf.GradientTape() as tape:
            ends = self.problem.ends(x, x_star)
            logits, layer_losses = self.problem.classified(ends[first.at_x_prime])
            zero = tf.zeros([], x_star.dtype)
            decay = self.optimizer.scale_loss(with_layer_losses(zero, layer_losses))
        if first.after_others:  # of the network as it was before the pass
            after = [tf.convert_to_tensor(variable) for variable in self.state]
            update.assign(self.state, before)
        objective, in_logits, reported, gradients = self._parts(x, x_star, y, logits, size)
        if first.after_others:
            update.assign(self.state, after)
        found = tape.gradient([logits, decay], self.variables, output_gradients=[in_logits, tf.ones_like(decay)])
        return Outcome(
            loss=with_layer_losses(self.mean(objective), layer_losses),
            gradients=[_sum_of(a, b) for a, b in zip(gradients, found, strict=True)],
            reported=reported,
            clean_logits=(head.logits(ends[0]) if first.at_x_prime else logits) if reads_clean else None,
        )

    def _parts(self, x, x_star, y, logits, size):
        """The objective of each example and its gradient in the logits, the reported terms, and the rest of the sum."""
        names = list(self.problem.reads.outline.reported)
        sources = values_of(self.variables)
        reached: list[bool] = []

        def part(x, x_star, y, logits, weights):
            with tf.GradientTape() as tape:
                tape.watch(logits)
                terms = self._terms(*self.problem.ends(x, x_star), y, logits, size)
                objective = self.problem.regularizer.objective(terms)
                total = tf.reduce_sum(weights * tf.cast(objective, weights.dtype))
            in_logits, *found = tape.gradient(total, [logits, *sources])
            reached[:] = [gradient is not None for gradient in found]
            values = [tf.cast(value, x_star.dtype) for value in (objective, *(terms.reported[name] for name in names))]
            values = [tf.broadcast_to(value, tf.shape(weights)) for value in values]
            in_logits = tf.zeros_like(logits) if in_logits is None else in_logits
            pairs = zip(found, sources, strict=True)
            return [in_logits, *values], [tf.zeros_like(v) if g is None else tf.convert_to_tensor(g) for g, v in pairs]

        specs = [tf.TensorSpec(logits.shape[1:], logits.dtype), *[tf.TensorSpec([], x_star.dtype)] * (1 + len(names))]
        rows, weights = (x, x_star, y, logits), self._weights(x_star)
        (in_logits, objective, *reported), sums = graphs.sums_in_parts(
            part, rows, weights, size, results=specs, sums=sources
        )
        gradients = [value if known else None for value, known in zip(sums, reached, strict=True)]
        return objective, in_logits, dict(zip(names, reported, strict=True)), gradients

    def _terms(self, x, x_star, y, logits, size):
        """The terms of some examples, given their logits of the classification pass."""

        def given(z, training):
            return logits if training else self.problem.head.logits(z)

        return self.problem.terms(
            x,
            x_star,
            y,
            self.problem.regularizer.training_rule,
            logits=given,
            training=True,
            variables=values_of(self.variables),
            examples=size if isinstance(size, int) else None,
        )

    def _weights(self, like):
        """`wᵢ`, what the objective of each example counts in the loss, scaled for the optimizer."""
        zeros = tf.zeros(tf.shape(like)[:1], like.dtype)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(zeros)
            loss = self.optimizer.scale_loss(self.mean(zeros))
        return tape.gradient(loss, zeros)


def with_layer_losses(loss: tf.Tensor, layer_losses: Sequence[tf.Tensor]) -> tf.Tensor:
    """The loss of a batch with the losses of layers, which count once in all replicas."""
    for layer_loss in layer_losses:
        loss += tf.cast(tf.reduce_sum(layer_loss), loss.dtype) / replicas.number()
    return loss


def values_of(variables: Sequence[keras.Variable]) -> list[tf.Variable]:
    """The variables of TensorFlow that these are."""
    return [variable.value for variable in variables]


def _sum_of(a: Any, b: Any) -> Any:
    """The sum of two gradients, either of which may be missing."""
    if a is None or b is None:
        return b if a is None else a
    return a + tf.convert_to_tensor(b)
