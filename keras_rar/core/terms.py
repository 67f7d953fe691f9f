"""The terms that objectives are made of, each computed once and only when it is read."""

import contextlib
import copy
import functools
from typing import Any

import tensorflow as tf

from keras_rar.core.evaluations import Evaluations, Score
from keras_rar.core.gradients import floating
from keras_rar.core.network_functions import FirstPass

_INTEGRATED = frozenset({"attributions", "clean_map", "perturbed_map"})
_GRADIENTS = frozenset({"clean_gradient", "perturbed_gradient", "clean_logit_gradient", "perturbed_logit_gradient"})
_DEPLOYED = frozenset({"deployed_clean_logits", "deployed_perturbed_logits", "loss_change"})
_OF_X = frozenset(
    {"clean_logits", "clean_loss", "clean_map", "clean_gradient", "clean_logit_gradient", "deployed_clean_logits"}
)
_OF_X_PRIME = (_INTEGRATED | _GRADIENTS | _DEPLOYED | {"perturbed_logits", "perturbed_loss"}) - _OF_X


class Terms(Evaluations):
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
        maps_together: Whether both maps are computed when one is read. Defaults to `False`.

    The attribute `first_pass` is the `FirstPass`, or `None` as long as no logits were read.
    """

    @property
    def x_prime(self) -> tf.Tensor:
        """The perturbed input x′, in the shape of x."""
        self._reads_x_prime = True
        return self._x_prime

    @functools.cached_property
    def clean_logits(self) -> tf.Tensor:
        """Logits at x, `(batch, classes)`."""
        return self._classify(self.x)

    @functools.cached_property
    def perturbed_logits(self) -> tf.Tensor:
        """Logits at x′, `(batch, classes)`."""
        return self._classify(self._x_prime)

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
        attributions, losses = self._integrate(self._network.loss, self.x, self._x_prime, layered)
        if losses is not None and self._rule.nodes[-1] == 1:
            self._loss_at_end = losses[-1]
        return attributions

    @functools.cached_property
    def clean_map(self) -> tf.Tensor:
        """IG of the label's logit at x, from the baseline, in the shape of x; at a layer of rows one sum per row."""
        return self._maps[0] if self._maps_together else self._map(self.x)

    @functools.cached_property
    def perturbed_map(self) -> tf.Tensor:
        """IG of the label's logit at x′, from the baseline, as `clean_map`."""
        return self._maps[1] if self._maps_together else self._map(self._x_prime)

    @functools.cached_property
    def clean_gradient(self) -> tf.Tensor:
        """`∇ₓ ℓ(x)`, the gradient of the loss, in the shape of x. It is 0 in what no perturbation may change."""
        return self.gradient_at(self.x)

    @functools.cached_property
    def perturbed_gradient(self) -> tf.Tensor:
        """The gradient of the loss at x′, as `clean_gradient`."""
        return self.gradient_at(self._x_prime)

    @functools.cached_property
    def clean_logit_gradient(self) -> tf.Tensor:
        """The gradient of the label's logit at x, as `clean_gradient`: the gradient map, before it is made absolute."""
        return self.gradient_at(self.x, "logit")

    @functools.cached_property
    def perturbed_logit_gradient(self) -> tf.Tensor:
        """The gradient of the label's logit at x′, as `clean_gradient`."""
        return self.gradient_at(self._x_prime, "logit")

    @functools.cached_property
    def deployed_clean_logits(self) -> tf.Tensor:
        """Logits at x in inference mode, `(batch, classes)`; `clean_logits` may be of the training mode."""
        return self._deployed(self.x)

    @functools.cached_property
    def deployed_perturbed_logits(self) -> tf.Tensor:
        """Logits at x′ in inference mode, as `deployed_clean_logits`: what compares two inputs needs one network."""
        return self._deployed(self._x_prime)

    @functools.cached_property
    def loss_change(self) -> tf.Tensor:
        """`ℓ(x′) − ℓ(x)`, `(batch,)`, both in inference mode: the sum of `attributions`, without an integral."""
        loss = functools.partial(self._network.loss, self.y)
        return loss(self.deployed_perturbed_logits) - loss(self.deployed_clean_logits)

    def gradient_at(self, z: tf.Tensor, score: str | Score = "loss") -> tf.Tensor:
        """The gradient of a score at any points, computed anew at each call.

        Args:
            z: Tensor of the shape of x, one point per example.
            score: `"loss"`; `"logit"`, the logit of the label; or a function `(y, logits) -> (batch,)`. Defaults to
                `"loss"`.

        Returns:
            Tensor of the shape of x, 0 in what no perturbation may change. It can be differentiated in z and θ.
        """
        return self._gradient(self._known(score), z)

    def map_of(self, z: tf.Tensor, score: str | Score = "logit", start: tf.Tensor | None = None) -> tf.Tensor:
        """IG of a score, as for `gradient_at`, to z from `start`, by default the baseline; anew at each call."""
        self._more_integrals += 1
        return self._map(z, score, start)

    def expected_map(self, background: Any = None, samples: int = 1) -> tf.Tensor:
        """Expected gradients of the label's logit at x, from n baselines `(n, ...)`, with a few draws per step."""
        return self._expected(background, samples)

    def random_signs(self) -> tf.Tensor:
        """A random direction in the shape of x, 1 or −1 in each entry; 0 in what no perturbation may change.

        It is another one at each step of the training and the same for all examples, so that it does not depend on how
        a batch is divided.
        """
        seed = tf.stack([tf.cast(self.step, tf.int32), 0])
        drawn = tf.random.stateless_uniform(tf.shape(self.x)[1:], seed)
        signs = tf.broadcast_to(tf.cast(2.0 * tf.round(drawn) - 1.0, self.x.dtype), tf.shape(self.x))
        return self.free(signs)

    def free(self, z: tf.Tensor) -> tf.Tensor:
        """z, in the shape of x, with 0 in what no perturbation may change: padding, and what stands beside a layer."""
        free = self._free
        return z if free is None else tf.where(free, z, tf.zeros_like(z))

    @property
    def counted(self) -> tf.Tensor | None:
        """Which entries of the maps are neither padding nor held, booleans of their shape; `None` where all are."""
        columns = self._network.columns
        if columns.holds and self._network.by_rows:
            return tf.squeeze(columns.is_free(self.x), -1)
        return self._free

    @property
    def by_rows(self) -> bool:
        """Whether a map has one entry per row of x, the sum over its last axis, as for words."""
        return self._network.by_rows

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
        return self._reads_x_prime or not _OF_X_PRIME.isdisjoint(vars(self))

    @property
    def read_of_x(self) -> frozenset[str]:
        """Names of the terms computed so far that are functions of x alone."""
        return _OF_X.intersection(vars(self))

    @property
    def integrals(self) -> int:
        """How many IGs have been computed so far."""
        return len(_INTEGRATED.intersection(vars(self))) + self._more_integrals

    @property
    def gradients(self) -> int:
        """How many gradients at single points have been computed so far."""
        return self._gradients

    @property
    def integrated(self) -> bool:
        """Whether anything computed so far is an IG or a gradient: its derivative in θ is a second derivative."""
        return self.integrals + self.gradients > 0

    def at(self, x_prime: tf.Tensor) -> "Terms":
        """The terms at another x′; what has been computed from x alone is kept."""
        terms = copy.copy(self)
        for name in _OF_X_PRIME.intersection(vars(self)):
            delattr(terms, name)
        moved = floating("x_prime", x_prime, self.x.dtype)
        vars(terms).update(_x_prime=moved, reported={}, _loss_at_end=None, _maps_together=False)
        return terms

    def ensure_classified(self) -> None:
        """Run the classification pass at x, if no term has run it."""
        if self.first_pass is None:
            self._classify(self.x)

    def _classify(self, z: tf.Tensor) -> tf.Tensor:
        training = self._training and self.first_pass is None
        if self.first_pass is None:
            others = self.integrated or not _DEPLOYED.isdisjoint(vars(self))
            self.first_pass = FirstPass(at_x_prime=z is self._x_prime, after_others=others)
        return self._network.logits(z, training)

    def _deployed(self, z: tf.Tensor) -> tf.Tensor:
        """The logits at z in inference mode: those of the classification pass, unless it runs in training mode at z."""
        at_x_prime, first = z is self._x_prime, self.first_pass
        if self._training and (first is None or first.at_x_prime == at_x_prime):
            return self._network.logits(z, False)
        return self.perturbed_logits if at_x_prime else self.clean_logits


for _value in (*vars(Evaluations).values(), *vars(Terms).values()):
    if isinstance(_value, functools.cached_property):
        # Before Python 3.12 it has one lock for all objects. Replicas trace their steps in threads that pause to add
        # up, as `BatchNormalization(synchronized=True)` does: one that pauses with the lock has all wait for ever.
        _value.lock = contextlib.nullcontext()  # type: ignore[attr-defined]
