"""The layer of a name, at any depth of a network."""

from typing import Any

import keras

from keras_rar.networks.copies import operations

_NAMED = 6


def layer_named(network: keras.Model, name: str, argument: str = "layer") -> Any:
    """The layer of a name: one of the network itself before one within another model.

    Args:
        network: A built Keras model.
        name: Name of a layer.
        argument: What the user calls it, for the error.

    Raises:
        ValueError: If there is none, or several.
    """
    layers = [layer for layer in operations(network) if isinstance(layer, keras.Layer) and layer is not network]
    named = [layer for layer in layers if layer.name == name]
    own = [layer for layer in named if any(layer is other for other in network.layers)] or named
    if len(own) == 1:
        return own[0]
    kinds = (keras.layers.InputLayer, keras.Model)
    names = list(dict.fromkeys(layer.name for layer in [*network.layers, *layers] if not isinstance(layer, kinds)))
    listed = ", ".join(map(repr, names[:_NAMED])) + (", …" if len(names) > _NAMED else "")
    raise ValueError(
        f"`{argument}` must be the name of one layer of {network.name!r}, such as {listed}. "
        f"Received: {argument}={name!r}, the name of {len(own) or 'none'}"
    )
