"""How the layers of a Keras model follow each other."""

from collections.abc import Iterator
from typing import Any

import keras


def leading(model: Any) -> Iterator[Any]:
    """The layers that the input runs through one after the other, up to the first fork."""
    if not (isinstance(model, keras.Model) and is_of_keras(model)):
        return  # a subclassed model: what its call() does is not known
    if isinstance(model, keras.Sequential):
        layers = list(model.layers)
        if len({id(layer) for layer in layers}) < len(layers):
            return
        yield from _unnested(layers)
        return
    entries = calls_of(model)
    name = next((entry["name"] for entry in entries if not entry["inbound_nodes"]), None)
    while True:
        consumers = [entry for entry in entries if name in sources_of(entry["inbound_nodes"])]
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
            yield from leading(layer)
            return
        yield layer


def calls_of(model: Any) -> list[Any]:
    """What the config of a Functional model says of its operations: a name each, and what its calls take."""
    try:
        return model.get_config().get("layers", [])
    except (AttributeError, NotImplementedError, TypeError, ValueError):  # a layer without a config
        return []


def sources_of(nodes: Any) -> set[str]:
    """The names of the operations whose results stand anywhere in the config of calls."""
    if isinstance(nodes, dict):
        if "keras_history" in nodes:
            return {nodes["keras_history"][0]}
        nodes = list(nodes.values())
    if not isinstance(nodes, (list, tuple)):
        return set()
    return set().union(*map(sources_of, nodes))


def is_of_keras(layer: Any) -> bool:
    """Whether code of Keras alone computes a layer, as far as its class goes."""
    return is_in_keras(type(layer).call)


def is_in_keras(function: Any) -> bool:
    """Whether a function is one of Keras."""
    return (getattr(function, "__module__", None) or "").startswith("keras.")
