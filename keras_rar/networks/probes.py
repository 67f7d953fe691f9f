"""What a layer of a network computes on the way to a score, for Grad-CAM."""

import dataclasses
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_rar.core.network_maps import Observed
from keras_rar.networks.base_model import input_structure
from keras_rar.networks.channel_axis import data_format_of
from keras_rar.networks.copies import Change, copy_with, operations
from keras_rar.networks.fed import FedNetwork
from keras_rar.networks.kept import kept_with
from keras_rar.networks.relus import Replacement
from keras_rar.networks.rules import Rule, now
from keras_rar.networks.surrogates import relu

_LAYERS = keras.layers
CONVOLUTIONS = (
    *(_LAYERS.Conv1D, _LAYERS.Conv2D, _LAYERS.Conv3D),
    *(_LAYERS.Conv1DTranspose, _LAYERS.Conv2DTranspose, _LAYERS.Conv3DTranspose),
    *(_LAYERS.DepthwiseConv1D, _LAYERS.DepthwiseConv2D, _LAYERS.SeparableConv1D, _LAYERS.SeparableConv2D),
)
_NOTES = threading.local()


@dataclasses.dataclass(frozen=True)
class Probe(Rule):
    """With these changes a copy of a network notes what one of its layers returns.

    Args:
        name: Name of the layer, as `layer_of` finds it.
        smooth: What stands for the ReLUs, or `None` for themselves.
    """

    name: str
    smooth: Replacement | None = None

    @property
    def replaces_relus(self) -> bool:  # type: ignore[override]
        return self.smooth is not None

    def __call__(self, x: tf.Tensor, negative_slope: Any, max_value: float | None, threshold: float) -> tf.Tensor:
        return (self.smooth or relu)(x, negative_slope, max_value, threshold)

    def changes(self, model: Any, made: Sequence[Change]) -> Iterable[Change]:
        layer = layer_of(model, self.name)
        own = now(made, layer, "call")

        def call(copied: Any, *args: Any, **options: Any) -> Any:
            result = own(copied, *args, **options)
            getattr(_NOTES, "seen", []).append(result)
            return result

        return [(layer, "call", call)]


def layer_of(model: keras.Model, name: str | None) -> Any:
    """The layer of a name, or the last convolution that a network computes.

    Raises:
        ValueError: If there is none.
    """
    if isinstance(model, FedNetwork):
        raise ValueError(
            "`layer` must be None for Grad-CAM, whose own layer is that of GradCAM(layer=…). "
            f"Received: layer={model.layer.name!r}"
        )
    if name is not None:
        named = [found for found in operations(model) if getattr(found, "name", None) == name]
        if len(named) != 1 or isinstance(named[0], keras.Model):
            convolutions = [found.name for found in operations(model) if isinstance(found, CONVOLUTIONS)]
            raise ValueError(
                f"`layer` must be the name of one layer, such as one of {convolutions[-6:]}. Received: layer={name!r}"
            )
        return named[0]
    last = kept_with(model).get("last convolution", lambda: _last_convolution(model))
    if last is None:
        raise ValueError(f"`model` must have a convolution for Grad-CAM. Received: {model.name!r}, which has none")
    return last


def observed(model: keras.Model, probe: Probe, f: Callable[[tf.Tensor], tf.Tensor]) -> Observed:
    """A score of a network, with what the layer computes.

    Args:
        model: The network.
        probe: Which layer is looked at.
        f: The score by a copy with the changes of the probe.
    """
    axis = 1 if getattr(layer_of(model, probe.name), "data_format", None) == "channels_first" else -1

    def observe(z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        seen: list[Any] = []
        _NOTES.seen = seen
        score = f(z)
        _NOTES.seen = []
        if len(seen) != 1 or not tf.is_tensor(seen[0]) or seen[0].shape.rank != z.shape.rank or z.shape.rank < 3:
            shapes = [getattr(h, "shape", type(h).__name__) for h in seen]
            raise ValueError(
                f"`layer` must be computed once, and have an output with the axes of the inputs, {z.shape}, for "
                f"Grad-CAM. Received: layer={probe.name!r} with {shapes}"
            )
        return score, seen[0]

    shape = tuple(input_structure(model).shape[1:])
    first = len(shape) >= 3 and data_format_of(model, shape) == "channels_first"
    return Observed(observe, axis, 1 if first or (len(shape) == 2 and axis == 1) else -1)


def _last_convolution(model: keras.Model) -> Any:
    seen: list[Any] = []

    def watched(layer: Any) -> Callable:
        def call(copied: Any, *args: Any, **options: Any) -> Any:
            seen.append(layer)
            return type(copied).call(copied, *args, **options)

        return call

    layers = [layer for layer in operations(model) if isinstance(layer, CONVOLUTIONS)]
    twin = copy_with(model, [(layer, "call", watched(layer)) for layer in layers])
    specs = keras.tree.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), input_structure(model))
    with tf.init_scope():
        tf.function(lambda x: twin(x, training=False), autograph=False).get_concrete_function(specs)
    return seen[-1] if seen else None
