"""The min-max problem that a method poses for a network and a loss: its terms and its inner maximum."""

import functools
from collections.abc import Callable

import tensorflow as tf

from keras_rar.core import graphs, labels
from keras_rar.core.ascent import projected_ascent
from keras_rar.core.quadrature import QuadratureRule
from keras_rar.core.terms import Network, Terms
from keras_rar.methods.regularizer import AbstractAttributionRegularizer, Reads
from keras_rar.networks.losses import ClassificationLoss
from keras_rar.networks.output import OutputHead
from keras_rar.training.chunks import Chunks


class Problem:
    """`min_θ E[ objective(x, x*) ],  x* = argmax_{x′ ∈ N(x, ε)} ascended(x, x′)`, of one network.

    Functions of tensors, to be compiled. None of them changes a variable.

    Args:
        head: The `OutputHead` of the network.
        loss: The compiled loss.
        regularizer: The method.
        reads: What the method reads, as `probe` found.
        chunks: How much goes at once.
    """

    def __init__(
        self,
        head: OutputHead,
        loss: ClassificationLoss,
        regularizer: AbstractAttributionRegularizer,
        reads: Reads,
        chunks: Chunks,
    ):
        self.head, self.loss, self.regularizer, self.reads, self.chunks = head, loss, regularizer, reads, chunks

    def attributions(self, x: tf.Tensor, x_prime: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """`IG(x, x′)` of the loss, in the shape of `x`."""
        return self.terms(x, x_prime, y, self.regularizer.training_rule).attributions

    def objective(self, x: tf.Tensor, x_prime: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """The objective of each example, `(batch,)`, in inference mode."""
        return self.regularizer.objective(self.terms(x, x_prime, y, self.regularizer.training_rule))

    def inner_maximum(self, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """x*, found by projected ascent; `x` itself for a method that does not depend on x′."""
        if not self.reads.perturbs:
            return x
        arguments = x, y, self._start(x, seed)
        examples = self.chunks.examples(x) if self.reads.ascent_integrates else None
        if examples is None:
            return self._ascended(*arguments)
        return graphs.in_parts(functools.partial(self._ascended, examples=examples), arguments, examples)

    def _start(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        method = self.regularizer
        return method.neighborhood.sample(x, seed) if method.random_start else x

    def _ascended(self, x: tf.Tensor, y: tf.Tensor, start: tf.Tensor, examples: int | None = None) -> tf.Tensor:
        """x* from a start, for as many examples as go at once."""
        method = self.regularizer
        terms = self.terms(x, x, y, method.attack_rule, variables=False, examples=examples)
        for name in sorted(self.reads.ascent_reads_of_x):  # computed here, they are not computed at every step
            getattr(terms, name)

        def ascended(x_prime):
            return self.head.gradient_scale * method.ascended(terms.at(x_prime))

        return projected_ascent(
            ascended,
            x,
            start,
            method.neighborhood,
            steps=method.steps,
            step_size=method.step_size,
        )

    def terms(
        self,
        x: tf.Tensor,
        x_prime: tf.Tensor,
        y: tf.Tensor,
        rule: QuadratureRule,
        *,
        logits: Callable | None = None,
        training: bool = False,
        variables: bool = True,
        examples: int | None = None,
    ) -> Terms:
        """The terms of the objective at x and x′.

        Args:
            x: Tensor of shape `(batch, ...)`.
            x_prime: Tensor of the shape of `x`.
            y: Labels.
            rule: The rule of every IG.
            logits: Function `(inputs, training) -> logits` in place of the network's own.
            training: Whether the classification pass runs in training mode.
            variables: Whether anything is differentiated in variables.
            examples: Number of examples, where they go in parts.
        """
        head = self.head
        network = Network(logits or head.logits, self.loss, labels.label_logit, head.gradient_scale, head.scored)
        return Terms(
            network,
            x,
            x_prime,
            y,
            rule=rule,
            baseline=self.regularizer.baseline,
            training=training,
            chunk=self.chunks.nodes(examples or self.chunks.batch(x), len(rule), variables),
            variables=variables,
        )
