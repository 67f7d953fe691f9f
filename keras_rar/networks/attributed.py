"""A layer within a network that the change of its output is attributed to, while its inputs are perturbed."""

from typing import Any

import keras

from keras_rar.core import checks
from keras_rar.networks.base_model import is_wrapped
from keras_rar.networks.fed import FedNetwork
from keras_rar.networks.named import layer_named
from keras_rar.networks.output import OutputHead, head_of
from keras_rar.networks.tail import tail_of

_ARGUMENT = "attribution_layer"


def attributed_at(model: keras.Model, layer: str) -> OutputHead:
    """The head of the network from a layer on, of whose scores `OutputHead.layered` gives both stages.

    Args:
        model: A built Keras classifier.
        layer: Name of a layer that every path from the input to the output runs through.

    Raises:
        TypeError: If `layer` is no string.
        ValueError: If there is no such layer, it is called twice, returns no floats or a mask, is passed by, or is
            the softmax or sigmoid at the end.

    Example:

    >>> layers = [keras.layers.Dense(4, "tanh", name="hidden"), keras.layers.Dense(3, "softmax", name="end")]
    >>> attributed_at(keras.Sequential([keras.Input((2,)), *layers]), "hidden").model.shape
    (4,)
    """
    network: Any = model.base_model if is_wrapped(model) else model
    fed = FedNetwork(network, layer_named(network, checks.layer(layer, _ARGUMENT) or "", _ARGUMENT))
    h, masked = fed.traced_front()
    if h is None or not h.dtype.is_floating or h.shape.rank is None or h.shape.rank < 2:
        checks.fail(_ARGUMENT, "a layer that is called once, and returns one tensor of floats", layer)
    if masked or fed.is_passed_by(h):
        checks.fail(
            _ARGUMENT, "a layer that every path from the input to the output runs through, without a mask", layer
        )
    head = head_of(tail_of(network, layer))
    whole = head_of(network)
    ends = any(changed is fed.layer for changed, _, _ in whole.squashing.change())
    if ends or head.activation != whole.activation:
        checks.fail(_ARGUMENT, "a layer before the softmax or sigmoid of the output", layer)
    return head
