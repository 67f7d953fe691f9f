"""The min-max problem that a method poses for a network and a loss: its terms and its inner maximum."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_rar.core import graphs, labels
from keras_rar.core.accumulation import Variables
from keras_rar.core.ascent import projected_ascent
from keras_rar.core.held import NOTHING, HeldBall
from keras_rar.core.neighborhoods import Neighborhood
from keras_rar.core.network_functions import Network
from keras_rar.core.prices import priced_ascent
from keras_rar.core.quadrature import QuadratureRule
from keras_rar.core.replicas import Part
from keras_rar.core.terms import Terms
from keras_rar.methods.reads import Reads
from keras_rar.methods.regularizer import AbstractAttributionRegularizer
from keras_rar.networks.losses import ClassificationLoss
from keras_rar.networks.output import OutputHead
from keras_rar.networks.tail import Tail
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
        step: Returns the step of the training, which schedules are functions of.
        frozen: Whether the classification pass leaves the statistics of batch normalisation as they are.
        attributed: The head of the network from the layer on that the IG of the loss is attributed to, or `None`.
    """

    def __init__(
        self,
        head: OutputHead,
        loss: ClassificationLoss,
        regularizer: AbstractAttributionRegularizer,
        reads: Reads,
        chunks: Chunks,
        step: Callable[[], Any] = lambda: 0,
        frozen: bool = False,
        attributed: OutputHead | None = None,
    ):
        self.head, self.loss, self.regularizer, self.reads, self.chunks = head, loss, regularizer, reads, chunks
        self.step, self.frozen, self.attributed = step, frozen, attributed
        self.tail = head.model if isinstance(head.model, Tail) else None
        self.columns = NOTHING if self.tail is None else self.tail.columns

    def entered(self, x: tf.Tensor) -> tf.Tensor:
        """What is perturbed and explained: the inputs, or the output of the layer and what passes by it."""
        return x if self.tail is None else self.tail.entered(x)

    def ends(self, x: tf.Tensor, x_star: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`entered(x)`, and x*; at a layer x* moves with the weights in front of it, as the layer's output does."""
        h = self.entered(x)
        return h, x_star if self.tail is None else h + tf.stop_gradient(x_star - h)

    def classified(self, x: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The classification pass in training mode: logits, and the losses of layers."""
        return self.head.classified(x, self.frozen)

    def attributions(self, x: tf.Tensor, x_prime: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """`IG(x, x′)` of the loss, in the shape of `x_prime` or of what `attribution_layer` returns."""
        return self.columns.free(self._given(x, x_prime, y).attributions)

    def objective(self, x: tf.Tensor, x_prime: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """The objective of each example, `(batch,)`, in inference mode."""
        return self.regularizer.objective(self._given(x, x_prime, y))

    def perturbed(self, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """x*, without what passes by a layer."""
        return self.columns.free(self.inner_maximum(x, y, seed))

    def inner_maximum(self, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor, part: Part | None = None) -> tf.Tensor:
        """x*, found by projected ascent; `entered(x)` itself for a method that does not depend on x′.

        Args:
            x: Inputs.
            y: Labels.
            seed: Integer tensor of shape `(2,)`, for the random start.
            part: The part of a batch that these examples are, or `None` for the whole.
        """
        x = tf.stop_gradient(self.entered(x))
        if not self.reads.perturbs:
            return x
        ball, step_size = self.regularizer.ball(self.terms(x, x, y, self.regularizer.attack_rule))
        ball = HeldBall(ball, self.columns) if self.columns.holds else ball
        start = self.start(x, ball, seed, part)
        ascended = functools.partial(self._ascended, ball=ball, step_size=step_size)
        examples = self.examples_at_once(x)
        if examples is None:
            return ascended(x, y, start, examples=self.chunks.batch(x))
        return graphs.in_parts(functools.partial(ascended, examples=examples), (x, y, start), examples)

    def start(self, x: tf.Tensor, ball: Neighborhood, seed: tf.Tensor, part: Part | None = None) -> tf.Tensor:
        """Where the ascent begins: a random point of the ball, or `x`."""
        if not self.regularizer.random_start:
            return x
        return ball.sample(x, seed) if part is None else part.drawn(ball.sample, x, seed)

    def examples_at_once(self, x: tf.Tensor) -> int | None:
        """How many examples to attack at once; `None` for all.

        An ascent without an IG takes no more than a pass of plain training, so that all examples go at once.
        """
        if not self.reads.ascent_integrates:
            return None
        return self.chunks.examples(x, len(self.regularizer.attack_rule), variables=False)

    def differentiated_at_once(self, x: tf.Tensor) -> int | tf.Tensor | None:
        """Of how many examples to take the derivative in variables at once; `None` for all, in one graph.

        Where nodes go in chunks of a size of one's own, all examples go at once, apart from the classification pass:
        what is computed twice must read the same statistics of batch normalisation both times.
        """
        nodes, outline = len(self.regularizer.training_rule), self.reads.outline
        points = nodes * outline.integrals + outline.gradients
        if not points:
            return None
        if self.chunks.is_automatic:
            return self.chunks.examples(x, points, variables=True)
        own = self.chunks.nodes(None, nodes, True)
        return None if own is None or own >= nodes else tf.maximum(tf.shape(x)[0], 1)

    def _given(self, x: tf.Tensor, x_prime: tf.Tensor, y: tf.Tensor) -> Terms:
        """The terms at x and at an x′ of the user's."""
        x = self.entered(x)
        return self.terms(x, self.columns.joined(x_prime, x), y, self.regularizer.training_rule)

    def _ascended(
        self,
        x: tf.Tensor,
        y: tf.Tensor,
        start: tf.Tensor,
        *,
        ball: Neighborhood,
        step_size: Any,
        examples: int | None = None,
    ) -> tf.Tensor:
        """x* from a start, for as many examples as go at once."""
        method = self.regularizer
        terms = self.terms(x, x, y, method.attack_rule, variables=False, examples=examples)
        for name in sorted(self.reads.ascent_reads_of_x):  # computed here, they are not computed at every step
            getattr(terms, name)

        def ascended(x_prime):
            return self.head.gradient_scale * method.ascended(terms.at(x_prime))

        if method.price is not None:
            gamma = method.price.gamma * self.head.gradient_scale
            return priced_ascent(ascended, x, start, ball, gamma=gamma, cost=method.price.cost, steps=method.steps)
        return projected_ascent(ascended, x, start, ball, steps=method.steps, step_size=step_size)

    def terms(
        self,
        x: tf.Tensor,
        x_prime: tf.Tensor,
        y: tf.Tensor,
        rule: QuadratureRule,
        *,
        logits: Callable | None = None,
        training: bool = False,
        variables: Variables = True,
        examples: int | None = None,
    ) -> Terms:
        """The terms of the objective at x and x′.

        Args:
            x: Tensor of shape `(batch, ...)`, as `entered` returns it.
            x_prime: Tensor of the shape of `x`.
            y: Labels.
            rule: The rule of every IG.
            logits: Function `(inputs, training) -> logits` in place of the network's own.
            training: Whether the classification pass runs in training mode.
            variables: Whether anything is differentiated in variables, or those that are.
            examples: Most examples, where they go in parts. Defaults to those of the batch.
        """
        head = self.head
        chunk = None
        if self.reads.integrates:
            chunk = self.chunks.nodes(examples or self.chunks.batch(x), len(rule), variables is not False)
        network = Network(
            logits or (lambda z, _: head.logits(z)),
            self.loss,
            labels.label_logit,
            head.gradient_scale,
            head.scored,
            self.columns,
            self.tail is not None and self.tail.by_rows,
            None if self.attributed is None else self.attributed.layered,
        )
        return Terms(
            network,
            x,
            x_prime,
            y,
            rule=rule,
            baseline=self.regularizer.baseline,
            training=training,
            chunk=chunk,
            variables=variables,
            step=self.step(),
            maps_together=training and self.reads.compares_maps,
        )
