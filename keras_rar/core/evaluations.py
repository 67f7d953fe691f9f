"""What objectives compute of a network at given points: logits, integrals and gradients, each anew."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_rar.core.accumulation import Variables
from keras_rar.core.gradients import Layered, ScalarFunction, floating, input_gradient, repeat_labels
from keras_rar.core.integration import attributions_and_values
from keras_rar.core.network_functions import FirstPass, Network
from keras_rar.core.quadrature import QuadratureRule

Score = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""A function `(y, logits) -> (n,)`."""


class Evaluations:
    """A network, an input x, another input x′ and labels; `Terms` computes what is read of them, and keeps it.

    Args:
        network: As for `Terms`, as all others.
        x: The clean input.
        x_prime: The perturbed input.
        y: Labels.
        rule: The rule of every IG.
        baseline: Where the segments of maps begin.
        training: Whether the classification pass runs in training mode.
        chunk: How many nodes to evaluate at once.
        variables: Whether anything is differentiated in variables, or in which.
        step: The step of the training.
    """

    def __init__(
        self,
        network: Network,
        x: tf.Tensor,
        x_prime: tf.Tensor,
        y: tf.Tensor,
        *,
        rule: QuadratureRule,
        baseline: Any = 0.0,
        training: bool = False,
        chunk: int | None = None,
        variables: Variables = True,
        step: tf.Tensor | int = 0,
    ):
        self.x, self.y = floating("x", x), tf.convert_to_tensor(y)
        self._x_prime = floating("x_prime", x_prime, self.x.dtype)
        self.step = step
        self.reported: dict[str, tf.Tensor] = {}
        self.first_pass: FirstPass | None = None
        self._network, self._rule, self._baseline, self._training = network, rule, baseline, training
        self._options: dict[str, Any] = {"chunk": chunk, "variables": variables}
        self._loss_at_end: tf.Tensor | None = None
        self._reads_x_prime, self._gradients = False, 0

    @property
    def _free(self) -> tf.Tensor | None:
        """Which entries of x a perturbation may change, in its shape; `None` for all."""
        columns = self._network.columns
        if not columns.holds:
            return None
        return columns.is_free(self.x) & (tf.range(tf.shape(self.x)[-1]) < columns.width)

    def _map(self, z: tf.Tensor) -> tf.Tensor:
        network = self._network
        attributions = self._integrate(network.label_logit, network.columns.start(self._baseline, z), z)[0]
        return tf.reduce_sum(attributions, axis=-1) if network.by_rows else attributions

    def _integrate(
        self,
        score: Score,
        start: tf.Tensor,
        end: tf.Tensor,
        layered: Callable[[Callable[[tf.Tensor], tf.Tensor]], Layered] | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """IG of a score of the logits, and the scores at its nodes, or `None` if the nodes were evaluated in chunks."""
        total, values = attributions_and_values(self._scored(score, layered), start, end, self._rule, **self._options)
        scale = self._network.gradient_scale
        return total / scale, None if values is None else values / scale

    def _gradient(self, score: Score, z: tf.Tensor) -> tf.Tensor:
        """The gradient of a score of the logits at z, 0 in what no perturbation may change."""
        self._gradients += 1
        gradient = input_gradient(self._scored(score), floating("z", z, self.x.dtype)) / self._network.gradient_scale
        free = self._free
        return gradient if free is None else tf.where(free, gradient, tf.zeros_like(gradient))

    def _scored(
        self, score: Score, layered: Callable[[Callable[[tf.Tensor], tf.Tensor]], Layered] | None = None
    ) -> ScalarFunction | Layered:
        """The score of the logits at any points in inference mode, times `gradient_scale`."""
        network = self._network

        def scaled_score(logits):
            return network.gradient_scale * score(repeat_labels(self.y, tf.shape(logits)[0]), logits)

        scored = layered or network.scored or (lambda score: lambda z: score(network.logits(z, False)))
        return scored(scaled_score)
