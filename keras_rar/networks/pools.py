"""The max-pooling layers of a network, and a faster way to compute their second derivatives."""

import collections
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_rar.core.pooling import max_pool
from keras_rar.networks.copies import Change, operations
from keras_rar.networks.graph import calls_of, is_of_keras, sources_of


def find_pools(model: keras.Model) -> list[tuple[Any, Any]]:
    """The max-pooling layers whose windows lie side by side, each with the layer right before it, or `None`."""
    pools = [layer for layer in operations(model) if type(layer) is keras.layers.MaxPooling2D and _is_tiled(layer)]
    if not pools:
        return []
    models = list({id(inner): inner for inner in _models(model)}.values())
    calls = {id(inner): [] if isinstance(inner, keras.Sequential) else calls_of(inner) for inner in models}
    times = _times_called(models, calls)
    pairs = (pair for inner in models for pair in _pairs(inner, calls[id(inner)]))
    before = {b: a for a, b in pairs if times[id(a)] == times[id(b)] == 1}
    return [(pool, before.get(pool)) for pool in pools]


def changes(pools: list[tuple[Any, Any]], relus_are_replaced: bool = False) -> Iterator[Change]:
    """With these a copy computes what the model does, and the second derivatives of its max-pooling fast.

    A ReLU right before a max-pooling comes after it instead, on a quarter of the numbers: `max` and ReLU commute,
    and so do their derivatives. (So does softplus, but for ties of its rounded values, which an attack amplifies.)

    Args:
        pools: What `find_pools` returned.
        relus_are_replaced: Whether something else stands for the ReLUs in the copy.
    """
    for pool, before in pools:
        relu = before is not None and vars(before).get("activation") is keras.activations.relu and is_of_keras(before)
        if relu and not relus_are_replaced:
            yield before, "activation", keras.activations.linear
            yield pool, "call", _pooling(keras.activations.relu)
        else:
            yield pool, "call", _pooling(keras.activations.linear)


def _is_tiled(layer: Any) -> bool:
    """Whether the windows lie side by side."""
    return tuple(layer.strides) == tuple(layer.pool_size) and layer.data_format == "channels_last"


def _pooling(activation: Callable) -> Callable:
    def call(layer: Any, inputs: Any, **_: Any) -> tf.Tensor:
        inputs, size = tf.convert_to_tensor(inputs), tuple(layer.pool_size)
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
        following = [entry["name"] for entry in entries if name in sources_of(entry["inbound_nodes"])]
        if len(following) == 1 and following[0] in by_name and name not in model.output_names:
            yield layer, by_name[following[0]]


def _models(model: Any) -> Iterator[Any]:
    """A model and the models that are layers of it, at any depth: those whose layers say what they compute."""
    if isinstance(model, keras.Model) and is_of_keras(model):
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
