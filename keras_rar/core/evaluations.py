"""What objectives compute of a network at given points: logits, integrals and gradients, each anew."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_rar.core import checks
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
        maps_together: Whether both maps are computed when one of them is read.
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
        maps_together: bool = False,
    ):
        self.x, self.y = floating("x", x), tf.convert_to_tensor(y)
        self._x_prime = floating("x_prime", x_prime, self.x.dtype)
        self.step, self._maps_together = step, maps_together
        self.reported: dict[str, tf.Tensor] = {}
        self.first_pass: FirstPass | None = None
        self._network, self._rule, self._baseline, self._training = network, rule, baseline, training
        self._options: dict[str, Any] = {"chunk": chunk, "variables": variables}
        self._loss_at_end: tf.Tensor | None = None
        self._reads_x_prime, self._gradients, self._more_integrals = False, 0, 0

    @property
    def _free(self) -> tf.Tensor | None:
        """Which entries of x a perturbation may change, in its shape; `None` for all."""
        columns = self._network.columns
        if not columns.holds:
            return None
        return columns.is_free(self.x) & (tf.range(tf.shape(self.x)[-1]) < columns.width)

    def _map(
        self, z: tf.Tensor, score: str | Score = "logit", start: tf.Tensor | None = None, groups: int = 1
    ) -> tf.Tensor:
        """IG of a score to z from `start`, by default the baseline."""
        begin = self._network.columns.start(self._baseline, z) if start is None else start
        return self._by_rows(self._integrate(self._known(score), begin, z, groups=groups)[0])

    @functools.cached_property
    def _maps(self) -> Sequence[tf.Tensor]:
        """The maps at x and x′ as one of twice as many examples, which is half of a graph; in chunks in turn."""
        return tf.split(self._map(tf.concat([self.x, self._x_prime], axis=0), groups=2), 2)

    def _expected(self, background: Any, samples: int) -> tf.Tensor:
        """Expected gradients of the label's logit at x, drawn for this step."""
        given = [self._baseline] if background is None or self._network.stands_in else background
        baselines, found = np.asarray(given, "float64"), []  # None becomes NaN
        for which, alpha in draws(self.step, samples, len(baselines)):
            baseline = tf.gather(tf.constant(baselines, self.x.dtype), which)
            start = self._network.columns.start(baseline, self.x)
            difference = self.x - start
            z = start + tf.cast(alpha, self.x.dtype) * difference
            found.append(difference * self._gradient(self._known("logit"), z))
        return self._by_rows(tf.add_n(found) / samples)

    def _by_rows(self, attributions: tf.Tensor) -> tf.Tensor:
        """Attributions as a map shows them: at a layer of rows one sum per row."""
        return tf.reduce_sum(attributions, axis=-1) if self._network.by_rows else attributions

    def _known(self, score: str | Score) -> Score:
        scores = {"loss": self._network.loss, "logit": self._network.label_logit}
        return score if callable(score) else scores[checks.one_of("score", score, scores)]

    def _integrate(
        self,
        score: Score,
        start: tf.Tensor,
        end: tf.Tensor,
        layered: Callable[[Callable[[tf.Tensor], tf.Tensor]], Layered] | None = None,
        groups: int = 1,
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """IG of a score of the logits, and the scores at its nodes, or `None` if the nodes were evaluated in chunks."""
        f = self._scored(score, layered)
        total, values = attributions_and_values(f, start, end, self._rule, groups=groups, **self._options)
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


def draws(step: tf.Tensor | int, samples: int, baselines: int) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Pairs of the index of a baseline and of an α in [0, 1), others at each step of the training.

    They are the same for all examples, so that they do not depend on how a batch is divided.

    Args:
        step: Integer, the step.
        samples: Positive integer, how many pairs.
        baselines: Positive integer, how many baselines there are.

    Returns:
        List of pairs of scalar tensors.

    Example:

    >>> [int(which) for which, _ in draws(0, 3, 1)]
    [0, 0, 0]
    """
    step = tf.cast(step, tf.int32)
    seeds = [tf.stack([step, sample + 1]) for sample in range(samples)]  # 0 is that of `random_signs`
    u = [tf.random.stateless_uniform([2], seed) for seed in seeds]
    return [(tf.minimum(tf.cast(pair[0] * baselines, tf.int32), baselines - 1), pair[1]) for pair in u]
