"""The rescale rule of DeepLIFT, as the gradient of a path: change of the output per change of the input."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_rar.networks import ruled_layers
from keras_rar.networks.copies import Change, operations
from keras_rar.networks.relus import Replaced
from keras_rar.networks.rules import Rule, led, now
from keras_rar.networks.surrogates import relu, softplus

_A = keras.activations
_SMOOTH = (
    *(_A.tanh, _A.sigmoid, _A.softplus, _A.softsign, _A.elu, _A.selu, _A.gelu, _A.silu, _A.exponential, _A.mish),
    _A.log_sigmoid,
)
"""Activations of single entries, that are no ReLU."""
_NEAR = 1e-2
"""Below this difference of two entries the derivative between them is more exact, in float32, than their ratio."""


@dataclasses.dataclass(frozen=True)
class RescaleRule(Rule):
    """The gradient in the path of its twin, see `led`, holds the multipliers; before it are inputs and baselines.

    Linear layers hand back their gradient. An activation g hands back `(g(z) − g(z′)) / (z − z′)`.

    Args:
        squashed: The layer or operation whose squashing is taken off.
        smooth: What stands for ReLUs in a twin that is to be followed; or `None` for themselves.
    """

    squashed: Any = None
    smooth: softplus | None = None

    def __call__(self, x: tf.Tensor, negative_slope: Any, max_value: float | None, threshold: float) -> tf.Tensor:
        if threshold:
            raise ValueError(
                f"`model` must have ReLUs without a threshold for DeepLIFT. Received: threshold={threshold}"
            )

        def multiplier(z: tf.Tensor, z_prime: tf.Tensor) -> tf.Tensor:
            """`max(z, 0)` has r: a ceiling takes that of `z − max_value` away, a slope a adds `a (1 − r)`."""
            r = self._ratio(z, z_prime)
            slope = tf.cast(negative_slope, z.dtype)
            found = r + slope * (1 - r)
            return found if max_value is None else found - self._ratio(z - max_value, z_prime - max_value)

        def activated(x: tf.Tensor) -> tf.Tensor:
            return (self.smooth or relu)(x, negative_slope, max_value, threshold)

        return led(activated, lambda change, z, z_prime: multiplier(z, z_prime) * change, 3)(x)

    def _ratio(self, z: tf.Tensor, z_prime: tf.Tensor) -> tf.Tensor:
        """`(g(z) − g(z′)) / (z − z′)` of a ReLU, or of the softplus in its place."""
        difference = z - z_prime
        if self.smooth is None:
            both, either = (z > 0) & (z_prime > 0), (z > 0) | (z_prime > 0)
            apart = either & ~both
            ratio = (tf.nn.relu(z) - tf.nn.relu(z_prime)) / tf.where(apart, difference, tf.ones_like(z))
            return tf.where(apart, ratio, tf.cast(both, z.dtype))
        beta = tf.cast(self.smooth.beta, z.dtype)
        near = beta * tf.abs(difference) < 1
        middle, away = beta * (z + z_prime) / 2, beta * difference / 12**0.5
        mean = (tf.sigmoid(middle - away) + tf.sigmoid(middle + away)) / 2  # by two nodes of Gauss
        change = (tf.math.softplus(beta * z) - tf.math.softplus(beta * z_prime)) / beta
        return tf.where(near, mean, change / tf.where(near, tf.ones_like(z), difference))

    def changes(self, model: Any, made: Sequence[Change]) -> Iterable[Change]:
        ruled_layers.check(model, "DeepLIFT", made, self.squashed, _has_rule)
        found: list[Change] = []
        for operation in operations(model):
            activation = now(made, operation, "activation")
            if _is_smooth(activation):
                found.append((operation, "activation", _rescaled(activation)))
            if isinstance(operation, ruled_layers.MAXIMA):
                found.append((operation, "call", _pool(now(made, operation, "call"))))
        return found


def _has_rule(activation: Any) -> bool:
    return activation is keras.activations.linear or isinstance(activation, Replaced) or _is_smooth(activation)


def _is_smooth(activation: Any) -> bool:
    return any(activation is known for known in _SMOOTH)


def _rescaled(activation: Callable) -> Callable:
    """An activation of single entries; where they hardly differ its derivative between them is the multiplier."""

    def multiplier(z: tf.Tensor, z_prime: tf.Tensor) -> tf.Tensor:
        difference, middle = z - z_prime, (z + z_prime) / 2
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(middle)
            value = activation(middle)
        near = tf.abs(difference) < _NEAR
        change = activation(z) - activation(z_prime)
        return tf.where(near, tape.gradient(value, middle), change / tf.where(near, tf.ones_like(z), difference))

    return led(activation, lambda change, z, z_prime: multiplier(z, z_prime) * change, 3)


def _pool(own: Callable) -> Callable:
    """A maximum: what it grows by comes from the largest input at x, what it falls by from the largest at the baseline.

    `(y − y′)⁺ (c / Δ at the largest of x) − (y′ − y)⁺ (c / Δ at the largest of b)`, of a change c, `Δ = x − b`.
    """

    def call(layer: Any, inputs: Any, *args: Any, **options: Any) -> tf.Tensor:
        def pool(a: tf.Tensor) -> tf.Tensor:
            return own(layer, a, *args, **options)

        def moved(change: tf.Tensor, a_x: tf.Tensor, a_b: tf.Tensor) -> tf.Tensor:
            y_x, y_b, same = pool(a_x), pool(a_b), a_x == a_b
            share = tf.where(same, tf.zeros_like(change), change / tf.where(same, tf.ones_like(a_x), a_x - a_b))
            grown, fallen = tf.nn.relu(y_x - y_b), tf.nn.relu(y_b - y_x)
            plain = _at_largest(pool, a_x, tf.where(same, change, tf.zeros_like(change)))
            return plain + grown * _at_largest(pool, a_x, share) - fallen * _at_largest(pool, a_b, share)

        return led(pool, moved, 3)(inputs)

    return call


def _at_largest(pool: Callable, a: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The values where a is the largest of a window: the derivative of a maximum along them, as a double gradient."""
    with tf.GradientTape(watch_accessed_variables=False) as outer:
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(a)
            y = pool(a)
        weights = tf.zeros_like(y)
        outer.watch(weights)
        spread = inner.gradient(y, a, output_gradients=weights)
    return outer.gradient(spread, weights, output_gradients=values)
