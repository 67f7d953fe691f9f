"""The affine layers that a network begins with, its stem, and the rest of it, each as a function."""

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_rar.networks.copies import Change, copy_with
from keras_rar.networks.graph import leading

_LAYERS = keras.layers

_WEIGHTED = {_LAYERS.Conv1D, _LAYERS.Conv2D, _LAYERS.Conv3D, _LAYERS.DepthwiseConv2D, _LAYERS.Dense}

_PLAIN = {
    _LAYERS.Cropping2D,
    _LAYERS.Flatten,
    _LAYERS.Normalization,
    _LAYERS.Permute,
    _LAYERS.Rescaling,
    _LAYERS.Reshape,
    _LAYERS.ZeroPadding1D,
    _LAYERS.ZeroPadding2D,
    _LAYERS.ZeroPadding3D,
}


@dataclasses.dataclass(frozen=True)
class Stem:
    """The layers from the input to the first with weights, whose activation belongs to the rest.

    Args:
        layers: The layers, of which the last has weights.
        input_shape: The shape of an input, without the batch; `None` for sizes that vary.
    """

    layers: tuple[Any, ...]
    input_shape: tuple[int | None, ...]

    @functools.cached_property
    def _linear(self) -> list[Any]:
        """Copies of the layers, the last of them without its activation."""
        return copy_with(list(self.layers), [(self.layers[-1], "activation", keras.activations.linear)])

    @functools.cached_property
    def _fed(self) -> threading.local:
        """What the rest of the model is to go on from, in this thread."""
        return threading.local()

    def __call__(self, z: tf.Tensor) -> tf.Tensor:
        """What the last of the layers computes before its activation: an affine function of `z`."""
        for layer in self._linear:
            z = layer(z)
        return z

    def change(self) -> Change:
        """With this a copy of the model is the rest of it: it goes on from what `feed` gave."""

        def call(layer: Any, inputs: Any, **options: Any) -> Any:
            h, self._fed.h = getattr(self._fed, "h", None), None  # the layer may be called again, further on
            return type(layer).call(layer, inputs, **options) if h is None else layer.activation(h)

        return self.layers[-1], "call", call

    @contextlib.contextmanager
    def feed(self, h: tf.Tensor) -> Iterator[None]:
        """A context in which the first call of the changed layer goes on from `h`, in this thread."""
        self._fed.h = h
        try:
            yield
        finally:
            self._fed.h = None

    def placeholder(self, h: tf.Tensor) -> tf.Tensor:
        """An input for the rest of the model, of the right shape, that nothing is computed from."""
        shape = [size or 1 for size in self.input_shape]
        return tf.zeros(tf.concat([tf.shape(h)[:1], shape], 0), self.layers[0].compute_dtype)


def find(model: keras.Model) -> Stem | None:
    """The stem of a model, or `None` of a model where none is sure."""
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or not all(size is None or isinstance(size, int) for size in shape):
        return None
    found = []
    for layer in leading(model):
        kind = type(layer)
        if kind not in _WEIGHTED | _PLAIN or getattr(layer, "quantization_mode", None):
            return None
        found.append(layer)
        if kind in _WEIGHTED:
            return Stem(tuple(found), shape[1:])
    return None
