"""Where the ReLUs of a model are, and what stands in their place in a twin."""

import dataclasses
import functools
import inspect
import numbers
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_rar.networks.copies import Change, operations
from keras_rar.networks.graph import is_of_keras

Replacement = Callable[[tf.Tensor, Any, float | None, float], tf.Tensor]
"""Function `(x, negative_slope, max_value, threshold) -> tensor`; the slope of a PReLU is a tensor."""
Settings = dict[str, Any]  # what differs of a ReLU from these
DEFAULTS: Settings = {"negative_slope": 0.0, "max_value": None, "threshold": 0.0}
_NAMES: dict[str, Settings] = {"relu": {}, "relu6": {"max_value": 6.0}, "leaky_relu": {"negative_slope": 0.2}}
_FUNCTIONS = {getattr(lib, name): _NAMES[name] for lib in (keras.activations, keras.ops, tf.nn) for name in _NAMES}
_CALLS: dict[str, Callable[[Any], Settings]] = {  # layers, and functions applied as operations of a Functional model
    "ReLU.call": lambda layer: {name: getattr(layer, name) for name in DEFAULTS},
    "LeakyReLU.call": lambda layer: {"negative_slope": layer.negative_slope},
    "PReLU.call": lambda layer: {"negative_slope": tf.convert_to_tensor(layer.alpha)},
    "Relu.call": lambda operation: {},
    "Relu6.call": lambda operation: {"max_value": 6.0},
    "LeakyRelu.call": lambda operation: {"negative_slope": operation.negative_slope},
}


@dataclasses.dataclass(frozen=True)
class Replaced:
    """An activation function in place of a ReLU with these settings."""

    replacement: Replacement
    settings: Settings

    def __call__(self, x: Any) -> tf.Tensor:
        return self.replacement(tf.convert_to_tensor(x), *{**DEFAULTS, **self.settings}.values())


def changes(model: Any, replacement: Replacement) -> Iterator[Change]:
    """With these a copy of the model computes `replacement` wherever the model has a ReLU."""
    for operation in operations(model):
        for name, value in list(vars(operation).items()):
            settings = _settings(value)
            if settings is not None:
                yield operation, name, Replaced(replacement, settings)
        if is_of_keras(operation):
            name = type(operation).call.__qualname__
            if name in _CALLS:
                yield operation, "call", _call(_CALLS[name], replacement)
            elif name == "Maximum.call":
                yield operation, "call", _maximum(replacement)


def _call(settings: Callable[[Any], Settings], replacement: Replacement) -> Callable:
    # The settings are read in the call, where the layer casts its alpha.
    return lambda operation, x: Replaced(replacement, settings(operation))(x)


def _maximum(replacement: Replacement) -> Callable:
    def call(operation: Any, x1: Any, x2: Any) -> tf.Tensor:
        for x, other in ((x1, x2), (x2, x1)):
            if isinstance(other, numbers.Number) and other == 0:
                return Replaced(replacement, {})(x)
        return type(operation).call(operation, x1, x2)

    return call


def _settings(value: Any) -> Settings | None:
    """Those of an activation function that is a ReLU; `None` of anything else."""
    if isinstance(value, functools.partial) and not value.args and value.keywords.keys() <= DEFAULTS.keys():
        settings = _settings(value.func)
        return None if settings is None else {**settings, **value.keywords}
    return _FUNCTIONS.get(value) if inspect.isfunction(value) else None
