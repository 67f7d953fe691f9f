"""The affine layers that a network begins with, its stem, and the rest of it, each as a function."""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_rar.core.pooling import max_pool
from keras_rar.relus import Swap, operations, swapped

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

    def __call__(self, z: tf.Tensor) -> tf.Tensor:
        """What the last of the layers computes before its activation: an affine function of `z`."""
        with swapped([(self.layers[-1], "activation", keras.activations.linear)]):
            for layer in self.layers:
                z = layer(z)
        return z

    def swap(self, h: tf.Tensor) -> Swap:
        """With this the model is the rest of it: the last of the layers returns `h`, activated, whatever it gets."""
        layer = self.layers[-1]
        calls = itertools.count()

        def call(inputs: Any, **options: Any) -> Any:
            first = next(calls) == 0  # a layer may be called again, further on
            return layer.activation(h) if first else type(layer).call(layer, inputs, **options)

        return layer, "call", call

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
    for layer in _leading(model):
        kind = type(layer)
        if kind not in _WEIGHTED | _PLAIN or getattr(layer, "quantization_mode", None):
            return None
        found.append(layer)
        if kind in _WEIGHTED:
            return Stem(tuple(found), shape[1:])
    return None


def _leading(model: Any) -> Iterator[Any]:
    """The layers that the input runs through one after the other, up to the first fork."""
    if not (isinstance(model, keras.Model) and _is_of_keras(model)):
        return  # a subclassed model: what its call() does is not known
    if isinstance(model, keras.Sequential):
        layers = list(model.layers)
        if len({id(layer) for layer in layers}) < len(layers):
            return
        yield from _unnested(layers)
        return
    entries = _calls(model)
    name = next((entry["name"] for entry in entries if not entry["inbound_nodes"]), None)
    while True:
        consumers = [entry for entry in entries if name in _sources(entry["inbound_nodes"])]
        if len(consumers) != 1 or len(consumers[0]["inbound_nodes"]) != 1:
            return
        name = consumers[0]["name"]
        layer = next((layer for layer in model.layers if layer.name == name), None)
        if layer is None:
            return
        yield from _unnested([layer])
        if isinstance(layer, keras.Model):
            return


def _unnested(layers: list[Any]) -> Iterator[Any]:
    for layer in layers:
        if isinstance(layer, keras.Model):
            yield from _leading(layer)
            return
        yield layer


def _calls(model: Any) -> list[Any]:
    """What the config of a Functional model says of its operations: a name each, and what its calls take."""
    try:
        return model.get_config().get("layers", [])
    except (AttributeError, NotImplementedError, TypeError, ValueError):  # a layer without a config
        return []


def _sources(nodes: Any) -> set[str]:
    """The names of the operations whose results stand anywhere in the config of calls."""
    if isinstance(nodes, dict):
        if "keras_history" in nodes:
            return {nodes["keras_history"][0]}
        nodes = list(nodes.values())
    if not isinstance(nodes, (list, tuple)):
        return set()
    return set().union(*map(_sources, nodes))


# Max-pooling


def find_pools(model: keras.Model) -> list[tuple[Any, Any]]:
    """The max-pooling layers whose windows lie side by side, each with the layer right before it, or `None`."""
    pools = [layer for layer in operations(model) if type(layer) is _LAYERS.MaxPooling2D and _is_tiled(layer)]
    if not pools:
        return []
    models = list({id(inner): inner for inner in _models(model)}.values())
    calls = {id(inner): [] if isinstance(inner, keras.Sequential) else _calls(inner) for inner in models}
    times = _times_called(models, calls)
    pairs = (pair for inner in models for pair in _pairs(inner, calls[id(inner)]))
    before = {b: a for a, b in pairs if times[id(a)] == times[id(b)] == 1}
    return [(pool, before.get(pool)) for pool in pools]


def pool_swaps(pools: list[tuple[Any, Any]]) -> Iterator[Swap]:
    """With these the model computes what it does, and the second derivatives of its max-pooling fast.

    A ReLU right before a max-pooling comes after it instead, on a quarter of the numbers: `max` and ReLU commute,
    and so do their derivatives. (So does softplus, but for ties of its rounded values, which an attack amplifies.)

    Args:
        pools: What `find_pools` returned.
    """
    for pool, before in pools:
        if before is not None and vars(before).get("activation") is keras.activations.relu and _is_of_keras(before):
            yield before, "activation", keras.activations.linear
            yield pool, "call", _pooling(pool, keras.activations.relu)
        else:
            yield pool, "call", _pooling(pool)


def _is_of_keras(layer: Any) -> bool:
    return type(layer).call.__module__.startswith("keras.")


def _is_tiled(layer: Any) -> bool:
    """Whether the windows lie side by side."""
    return tuple(layer.strides) == tuple(layer.pool_size) and layer.data_format == "channels_last"


def _pooling(layer: Any, activation: Any = keras.activations.linear) -> Callable:
    size = tuple(layer.pool_size)

    def call(inputs: Any, **_: Any) -> tf.Tensor:
        inputs = tf.convert_to_tensor(inputs)
        fits = all(n is not None and n % window == 0 for n, window in zip(inputs.shape[1:3], size, strict=True))
        return activation(max_pool(inputs, size) if fits else type(layer).call(layer, inputs))

    return call


def _pairs(model: Any, entries: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Two layers of a model where the second alone takes the result of the first."""
    if isinstance(model, keras.Sequential):
        yield from itertools.pairwise(model.layers)
        return
    by_name = {layer.name: layer for layer in model.layers}
    for name, layer in by_name.items():
        following = [entry["name"] for entry in entries if name in _sources(entry["inbound_nodes"])]
        if len(following) == 1 and following[0] in by_name and name not in model.output_names:
            yield layer, by_name[following[0]]


def _models(model: Any) -> Iterator[Any]:
    """A model and the models that are layers of it, at any depth: those whose layers say what they compute."""
    if isinstance(model, keras.Model) and _is_of_keras(model):
        yield model
        for layer in model.layers:
            yield from _models(layer)


def _times_called(models: list[Any], calls: dict[int, list[Any]]) -> collections.Counter:
    """How often each layer, by its id, is called in these models; what another layer holds counts as called by it."""
    times: collections.Counter = collections.Counter()
    for model in models:
        by_name = {layer.name: layer for layer in model.layers}
        if isinstance(model, keras.Sequential):
            times.update(map(id, model.layers))
        for entry in calls[id(model)]:
            times[id(by_name.get(entry["name"]))] += len(entry["inbound_nodes"])
        for layer in model.layers:
            times.update({id(held) for held in ([] if layer in models else operations(vars(layer)))})
    return times
