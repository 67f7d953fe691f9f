"""The terms that objectives are made of, each computed once and only when it is read."""

import contextlib
import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_rar.core.accumulation import Variables
from keras_rar.core.gradients import Layered, ScalarFunction, floating, repeat_labels
from keras_rar.core.held import NOTHING, Columns
from keras_rar.core.integration import attributions_and_values
from keras_rar.core.quadrature import QuadratureRule

_OF_X = frozenset({"clean_logits", "clean_loss", "clean_map"})
_OF_X_PRIME = frozenset({"attributions", "perturbed_logits", "perturbed_loss", "perturbed_map"})
_INTEGRATED = frozenset({"attributions", "clean_map", "perturbed_map"})


@dataclasses.dataclass(frozen=True)
class Network:
    """The three functions of a classifier that the mathematics needs.

    Args:
        logits: Function `(inputs, training) -> logits` of shape `(n, classes)`.
        loss: Function `(y, logits) -> (n,)`, the loss of each example.
        label_logit: Function `(y, logits) -> (n,)`, the logit of the label of each example.
        gradient_scale: Float; a score is multiplied by it before its gradient is taken, and the gradient is divided
            by it. Without it a small gradient would underflow to 0 in float16. Defaults to `1.`.
        columns: What is free of an input. Defaults to all of it.
        by_rows: Whether the maps are sums over the last axis, one value per row. Defaults to `False`.
        scored: Function `(score) -> f`, where `f(z)` is the score of the logits at z in inference mode; `f` may be
            `Staged`. Defaults to the composition of both.
        layered: Function `(score) -> f` as `scored`, where `f` is `Layered` at the layer that the IG of the loss is
            attributed to. Defaults to `None`, the input.
    """

    logits: Callable[[tf.Tensor, bool], tf.Tensor]
    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    label_logit: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    gradient_scale: float = 1.0
    scored: Callable[[Callable[[tf.Tensor], tf.Tensor]], ScalarFunction] | None = None
    columns: Columns = NOTHING
    by_rows: bool = False
    layered: Callable[[Callable[[tf.Tensor], tf.Tensor]], Layered] | None = None


@dataclasses.dataclass(frozen=True)
class FirstPass:
    """Which logits an objective reads first, and when: those of the classification pass.

    Args:
        at_x_prime: Whether they are those at x′.
        integrals_before: How many IGs were computed before.
    """

    at_x_prime: bool
    integrals_before: int


class Terms:
    """The terms of an objective at a clean input x and a perturbed input x′.

    Each is computed once, when it is first read. The first logits that an objective reads, clean or perturbed, are
    the *classification pass*. In a training step this pass alone runs in training mode, so that batch statistics
    move once per step. All other terms are those of the function that will be deployed.

    Args:
        network: A `Network`.
        x: Tensor of shape `(batch, ...)`, the clean input.
        x_prime: Tensor of the shape of `x`, the perturbed input.
        y: Labels, tensor of shape `(batch, ...)`.
        rule: The `QuadratureRule` of every IG here.
        baseline: Float or array that broadcasts to `x`: where the segments of the maps begin.
        training: Whether the classification pass runs in training mode.
        chunk: How many nodes of an IG to evaluate at once. Defaults to all.
        variables: Whether anything here is to be differentiated in variables, or the list of those; frozen ones then
            cost nothing. Defaults to `True`.
        step: The step of the training, for settings that follow a schedule. Defaults to `0`.

    The attribute `first_pass` is the `FirstPass`, or `None` as long as no logits were read.
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
        self.x = floating("x", x)
        self.x_prime, self.y = floating("x_prime", x_prime, self.x.dtype), tf.convert_to_tensor(y)
        self.step = step
        self.reported: dict[str, tf.Tensor] = {}
        self.first_pass: FirstPass | None = None
        self._network, self._rule, self._baseline, self._training = network, rule, baseline, training
        self._options: dict[str, Any] = {"chunk": chunk, "variables": variables}
        self._loss_at_end: tf.Tensor | None = None

    @functools.cached_property
    def clean_logits(self) -> tf.Tensor:
        """Logits at x, `(batch, classes)`."""
        return self._classify(self.x)

    @functools.cached_property
    def perturbed_logits(self) -> tf.Tensor:
        """Logits at x′, `(batch, classes)`."""
        return self._classify(self.x_prime)

    @functools.cached_property
    def clean_loss(self) -> tf.Tensor:
        """`ℓ(x)`, `(batch,)`."""
        return self.report("clean_loss", self._network.loss(self.y, self.clean_logits))

    @functools.cached_property
    def perturbed_loss(self) -> tf.Tensor:
        """`ℓ(x′)`, `(batch,)`; taken from the last node of `attributions`, if they were read first and end at x′."""
        if self._loss_at_end is not None and not (self._training and self.first_pass is None):
            return self.report("perturbed_loss", self._loss_at_end)
        return self.report("perturbed_loss", self._network.loss(self.y, self.perturbed_logits))

    @functools.cached_property
    def attributions(self) -> tf.Tensor:
        """`IG(x, x′)` of the loss along the segment from x to x′, in the shape of x, or of `attribution_layer`."""
        layered = self._network.layered
        attributions, losses = self._integrate(self._network.loss, self.x, self.x_prime, layered)
        if losses is not None and self._rule.nodes[-1] == 1:
            self._loss_at_end = losses[-1]
        return attributions

    @functools.cached_property
    def clean_map(self) -> tf.Tensor:
        """IG of the label's logit at x, from the baseline, in the shape of x; at a layer of rows one sum per row."""
        return self._map(self.x)

    @functools.cached_property
    def perturbed_map(self) -> tf.Tensor:
        """IG of the label's logit at x′, from the baseline, as `clean_map`."""
        return self._map(self.x_prime)

    @property
    def counted(self) -> tf.Tensor | None:
        """Which entries of the maps are neither padding nor held, booleans of their shape; `None` where all are."""
        columns = self._network.columns
        if not columns.holds:
            return None
        rows = columns.is_free(self.x)
        if self._network.by_rows:
            return tf.squeeze(rows, -1)
        return rows & (tf.range(tf.shape(self.x)[-1]) < columns.width)

    def report(self, name: str, value: tf.Tensor) -> tf.Tensor:
        """Show the mean of `value`, of shape `(batch,)`, as `name` in the training history; returns `value`."""
        self.reported[name] = value
        return value

    def value(self, setting: Any) -> Any:
        """The value of a setting at this step of the training: a float itself, or what a schedule, a function of the
        step, returns."""
        return tf.cast(setting(self.step), self.x.dtype) if callable(setting) else setting

    @property
    def depends_on_x_prime(self) -> bool:
        """Whether anything computed so far is a function of x′."""
        return not _OF_X_PRIME.isdisjoint(vars(self))

    @property
    def read_of_x(self) -> frozenset[str]:
        """Names of the terms computed so far that are functions of x alone."""
        return _OF_X.intersection(vars(self))

    @property
    def integrals(self) -> int:
        """How many IGs have been computed so far."""
        return len(_INTEGRATED.intersection(vars(self)))

    @property
    def integrated(self) -> bool:
        """Whether anything computed so far is an IG."""
        return self.integrals > 0

    def at(self, x_prime: tf.Tensor) -> "Terms":
        """The terms at another x′; what has been computed from x alone is kept."""
        terms = copy.copy(self)
        for name in _OF_X_PRIME.intersection(vars(self)):
            delattr(terms, name)
        vars(terms).update(x_prime=floating("x_prime", x_prime, self.x.dtype), reported={}, _loss_at_end=None)
        return terms

    def ensure_classified(self) -> None:
        """Run the classification pass at x, if no term has run it."""
        if self.first_pass is None:
            self._classify(self.x)

    def _classify(self, z: tf.Tensor) -> tf.Tensor:
        training = self._training and self.first_pass is None
        if self.first_pass is None:
            self.first_pass = FirstPass(at_x_prime=z is self.x_prime, integrals_before=self.integrals)
        return self._network.logits(z, training)

    def _map(self, z: tf.Tensor) -> tf.Tensor:
        network = self._network
        attributions = self._integrate(network.label_logit, network.columns.start(self._baseline, z), z)[0]
        return tf.reduce_sum(attributions, axis=-1) if network.by_rows else attributions

    def _integrate(
        self,
        score: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
        start: tf.Tensor,
        end: tf.Tensor,
        layered: Callable[[Callable[[tf.Tensor], tf.Tensor]], Layered] | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """IG of a score of the logits, and the scores at its nodes, or `None` if the nodes were evaluated in chunks."""
        network = self._network

        def scaled_score(logits):
            return network.gradient_scale * score(repeat_labels(self.y, tf.shape(logits)[0]), logits)

        scored = layered or network.scored or (lambda score: lambda z: score(network.logits(z, False)))
        total, values = attributions_and_values(scored(scaled_score), start, end, self._rule, **self._options)
        scale = network.gradient_scale
        return total / scale, None if values is None else values / scale


for _value in vars(Terms).values():
    if isinstance(_value, functools.cached_property):
        # Before Python 3.12 it has one lock for all objects. Replicas trace their steps in threads that pause to add
        # up, as `BatchNormalization(synchronized=True)` does: one that pauses with the lock has all wait for ever.
        _value.lock = contextlib.nullcontext()  # type: ignore[attr-defined]
