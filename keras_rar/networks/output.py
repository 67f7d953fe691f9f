"""The output of a classifier, resolved: its logits, and its loss as a function of them.

Keras clips probabilities at 1e-7 inside its losses, which silently zeroes gradients where a model is sure
and makes attacks look weak. So a softmax or sigmoid at the end of the model is taken off, and a loss that
expects probabilities is replaced by the same loss on logits; what cannot be resolved is refused.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_rar.core.gradients import ScalarFunction, Staged
from keras_rar.core.memory import bytes_a_point
from keras_rar.networks import pools, stem
from keras_rar.networks.relus import swapped

_PROBABILITIES = {keras.activations.softmax: "softmax", keras.activations.sigmoid: "sigmoid"}


class OutputHead:
    """The layer that a single-output model ends in, and the activation it applies.

    Args:
        model: A Keras model. Of a subclassed one the last layer cannot be found: it counts as logits.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        ending = list(_ending(model))
        self.layer: Any = ending[-1][1]
        self.gradient_scale = 1024.0 if _uses_float16(model) else 1.0  # keeps small gradients from underflowing
        if isinstance(self.layer, keras.layers.Softmax):
            self.activation: str | None = "softmax"
        else:
            self.activation = _PROBABILITIES.get(getattr(self.layer, "activation", None))
        if self.activation is not None and any(_is_called_twice(last, outer) for outer, last in ending):
            raise ValueError(
                f"The last layer, {self.layer.name!r}, must be called once in the model: its {self.activation} is "
                "taken off to get the logits. Received: a layer that is called twice; use two layers."
            )

    @functools.cached_property
    def _stem(self) -> stem.Stem | None:
        return stem.find(self.model)

    @functools.cached_property
    def _pools(self) -> list[tuple[Any, Any]]:
        return pools.find_pools(self.model)

    def logits(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        """The model's output before its softmax or sigmoid, at least in float32."""
        with self._linear():
            scores = self.model(x, training=training)
        return tf.cast(scores, "float64" if scores.dtype == tf.float64 else "float32")

    @property
    def layer_losses(self) -> list[tf.Tensor]:
        """The losses of layers, such as weight decay, of the last pass in training mode."""
        return self.model.losses

    def scored(
        self,
        score: Callable[[tf.Tensor], tf.Tensor],
        replaced: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
        staged: bool = True,
    ) -> ScalarFunction:
        """`z -> score(logits(z))` in inference mode, in the form that is fastest to differentiate twice.

        Args:
            score: Function `(n, classes) -> (n,)` of logits.
            replaced: Makes a context that the model is called in.
            staged: Whether the first layers may be a stage of their own: faster, and rounded otherwise.
        """

        found = self._pools  # found before anything is replaced

        def of(x, *swaps):
            with replaced(), swapped([*pools.pool_swaps(found), *swaps]):
                return score(self.logits(x, False))

        first = self._stem if staged else None
        if first is None:
            return of
        return Staged(first, lambda h: of(first.placeholder(h), first.swap(h)))

    def bytes_a_point(self, input_shape: tuple[int | None, ...]) -> float:
        """Memory of all that `scored` computes at one input of a shape, without the stem."""
        f = self.scored(lambda logits: logits[:, 0])
        z = tf.TensorSpec([1, *(size or 1 for size in input_shape)], self.model.variable_dtype)
        if isinstance(f, Staged):
            h = tf.function(f.stem, autograph=False).get_concrete_function(z).structured_outputs
            return bytes_a_point(f.rest, h.shape[1:], h.dtype)
        return bytes_a_point(f, z.shape[1:], z.dtype)

    def activate(self, logits: tf.Tensor) -> tf.Tensor:
        """What the model outputs for these logits."""
        return logits if self.activation is None else getattr(keras.activations, self.activation)(logits)

    @contextlib.contextmanager
    def _linear(self) -> Iterator[None]:
        """For the time of a call, the last layer without its softmax or sigmoid."""
        if self.activation is None:
            yield
        elif isinstance(self.layer, keras.layers.Softmax):
            self.layer.call = lambda inputs, mask=None: inputs
            try:
                yield
            finally:
                del self.layer.call
        else:
            activation, self.layer.activation = self.layer.activation, keras.activations.linear
            try:
                yield
            finally:
                self.layer.activation = activation


def _ending(model: Any) -> Iterator[tuple[keras.Model, Any]]:
    """A model and its last layer, then that layer and its own if it is a model, and so on inwards.

    The layer is `None` where it cannot be known: of a subclassed model, or one that ends in an operation, such as
    `keras.ops.add`.
    """
    while isinstance(model, keras.Model):
        if isinstance(model, keras.Sequential):
            last = model.layers[-1]
        elif getattr(model, "output_names", None):
            last = next((layer for layer in model.layers if layer.name == model.output_names[0]), None)
        else:
            last = None
        yield model, last
        model = last


def _uses_float16(layer: keras.layers.Layer) -> bool:
    return layer.compute_dtype == "float16" or any(_uses_float16(inner) for inner in getattr(layer, "layers", []))


def _is_called_twice(layer: keras.layers.Layer, model: keras.Model) -> bool:
    """Whether a layer stands at two places of a Functional model."""
    if not getattr(model, "output_names", None):
        return False
    try:
        config = model.get_config()
    except NotImplementedError:  # a layer without a config: a model that Keras cannot save either
        return False
    calls = {entry["name"]: len(entry["inbound_nodes"]) for entry in config["layers"]}
    return calls.get(layer.name, 1) > 1
