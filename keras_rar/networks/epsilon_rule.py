"""The ε-rule of layer-wise relevance propagation, as the gradient of a path: relevance per unit of output."""

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

_UNFILTERED = "keras_rar_unfiltered"  # of an output of a linear layer: itself, without the filter of the ε


@dataclasses.dataclass(frozen=True)
class EpsilonRule(Rule):
    """The gradient in the path of its twin, see `led`, is `R / a` at a tensor a of relevance R (Ancona et al. 2018).

    A linear layer hands back its gradient, times `z / (z + ε sign z) = |z| / (|z| + ε)` for its output z; a ReLU g
    hands back `g(z) / z`.

    Args:
        epsilon: Float >= 0, ε.
        squashed: The layer or operation whose squashing is taken off.
        smooth: What stands for ReLUs in a twin that is to be followed; or `None` for themselves.
    """

    epsilon: float
    squashed: Any = None
    smooth: softplus | None = None

    def __call__(self, x: tf.Tensor, negative_slope: Any, max_value: float | None, threshold: float) -> tf.Tensor:
        if threshold:
            raise ValueError(f"`model` must have ReLUs without a threshold for LRP. Received: threshold={threshold}")
        beta = None if self.smooth is None else self.smooth.beta

        def share(x: tf.Tensor) -> tf.Tensor:
            """`g(x) / x`; of softplus `g′(x)`, as its ratio has a pole."""
            open_ = tf.cast(x > 0, x.dtype) if beta is None else tf.sigmoid(tf.cast(beta, x.dtype) * x)
            slope = tf.cast(negative_slope, x.dtype)
            found = slope + (1 - slope) * open_
            return found if max_value is None else found * max_value / tf.maximum(x, max_value)

        def activated(x: tf.Tensor) -> tf.Tensor:
            return (self.smooth or relu)(x, negative_slope, max_value, threshold)

        return led(activated, lambda change, x: share(x) * change, 2)(x)

    def changes(self, model: Any, made: Sequence[Change]) -> Iterable[Change]:
        ruled_layers.check(model, "LRP", made, self.squashed, _has_rule)
        found: list[Change] = []
        for operation in operations(model):
            if isinstance(operation, ruled_layers.WEIGHTED):
                found.append((operation, "activation", self._after_filter(now(made, operation, "activation"))))
            elif isinstance(operation, keras.layers.BatchNormalization):
                found.append((operation, "call", self._normalize(now(made, operation, "call"))))
        return found

    def _after_filter(self, activation: Callable) -> Callable:
        return lambda z: activation(self._filtered(tf.convert_to_tensor(z)))

    def _normalize(self, own: Callable) -> Callable:
        """As a part of the linear layer right before it: there is one filter, behind both."""

        def call(layer: Any, inputs: Any, *args: Any, **options: Any) -> tf.Tensor:
            return self._filtered(own(layer, getattr(inputs, _UNFILTERED, inputs), *args, **options))

        return call

    def _filtered(self, z: tf.Tensor) -> tf.Tensor:
        if self.epsilon == 0:
            return z

        def moved(change: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
            return change * tf.abs(z) / (tf.abs(z) + tf.cast(self.epsilon, z.dtype))

        result = led(tf.identity, moved, 2)(z)
        setattr(result, _UNFILTERED, z)
        return result


def _has_rule(activation: Any) -> bool:
    return activation is keras.activations.linear or isinstance(activation, Replaced)
