"""Layers that LRP and DeepLIFT have a rule for; what else a network holds is refused by name."""

from collections.abc import Callable, Collection
from typing import Any

import keras

from keras_rar.networks.copies import Change, operations
from keras_rar.networks.fed import FedNetwork
from keras_rar.networks.graph import is_of_keras
from keras_rar.networks.probes import CONVOLUTIONS
from keras_rar.networks.rules import now

_L = keras.layers
WEIGHTED = (_L.Dense, _L.EinsumDense, *CONVOLUTIONS)
"""Layers that are linear but for their `activation`."""

MAXIMA = (
    *(_L.MaxPooling1D, _L.MaxPooling2D, _L.MaxPooling3D),
    *(_L.GlobalMaxPooling1D, _L.GlobalMaxPooling2D, _L.GlobalMaxPooling3D),
)

_OTHERS = (
    *WEIGHTED,
    *MAXIMA,
    *(_L.AveragePooling1D, _L.AveragePooling2D, _L.AveragePooling3D),
    *(_L.GlobalAveragePooling1D, _L.GlobalAveragePooling2D, _L.GlobalAveragePooling3D),
    *(_L.ZeroPadding1D, _L.ZeroPadding2D, _L.ZeroPadding3D, _L.Cropping1D, _L.Cropping2D, _L.Cropping3D),
    *(_L.UpSampling1D, _L.UpSampling2D, _L.UpSampling3D, _L.Flatten, _L.Reshape, _L.Permute, _L.RepeatVector),
    *(_L.Add, _L.Subtract, _L.Average, _L.Concatenate, _L.Identity, _L.InputLayer, _L.Rescaling, _L.Normalization),
    *(_L.Dropout, _L.SpatialDropout1D, _L.SpatialDropout2D, _L.SpatialDropout3D, _L.AlphaDropout),
    *(_L.GaussianNoise, _L.GaussianDropout, _L.ActivityRegularization),
    *(_L.BatchNormalization, _L.Activation, _L.ReLU, _L.LeakyReLU, _L.PReLU),
)
_OPERATIONS = {  # of `keras.ops`, in a Functional model
    *("Add", "Subtract", "Negative", "Concatenate", "Mean", "Sum", "Relu", "Relu6", "LeakyRelu"),
    *("Reshape", "Transpose", "Squeeze", "ExpandDims", "GetItem"),
}


def check(
    model: Any,
    rule: str,
    made: Collection[Change],
    squashed: Any,
    has_rule: Callable[[Any], bool],
) -> None:
    """Refuse a network with a layer that has no rule.

    Args:
        model: The network.
        rule: What the rule is called.
        made: The changes of its copy: ReLUs are replaced there, and the squashing is taken off.
        squashed: The layer or operation whose squashing is taken off, if there is one.
        has_rule: Whether an activation function has a rule, as it is in the copy.

    Raises:
        ValueError: If there is one.
    """
    if isinstance(model, FedNetwork):
        raise ValueError(f"`layer` must be None for {rule}. Received: layer={model.layer.name!r}")
    for operation in operations(model):
        if operation is squashed and any(other is operation and name == "call" for other, name, _ in made):
            continue
        if isinstance(operation, keras.Model):
            if not is_of_keras(operation):
                _refuse(rule, operation, "a model with code of its own")
        elif not is_of_keras(operation):
            _refuse(rule, operation, f"a {type(operation).__name__} with code of its own")
        elif not isinstance(operation, keras.layers.Layer):
            if type(operation).__name__ not in _OPERATIONS:
                _refuse(rule, operation, f"an operation {type(operation).__name__}")
        elif not isinstance(operation, _OTHERS):
            _refuse(rule, operation, f"a {type(operation).__name__}")
        activation = now(list(made), operation, "activation")
        if activation is not None and not has_rule(activation):
            _refuse(rule, operation, f"with the activation {getattr(activation, '__name__', activation)}")


def _refuse(rule: str, operation: Any, what: str) -> None:
    raise ValueError(f"`model` must have layers that {rule} has a rule for. Received: {operation.name!r}, {what}")
