"""Functions of a model that are compiled once, however often a user calls."""

import dataclasses
from collections.abc import Callable, Hashable

import keras
import tensorflow as tf

from keras_rar.networks.relus import operations

_ATTRIBUTE = "_keras_rar_compiled"


@dataclasses.dataclass
class _Kept:
    """What is kept with a model, hidden from Keras, which would save a list or a dictionary of layers."""

    parts: list[tuple[object, object]]
    functions: dict[Hashable, Callable]


def compiled(model: keras.Model, key: Hashable, function: Callable) -> Callable:
    """The function as a `tf.function`, or the one that the model, unchanged, was given for the same key before.

    It is kept with the model, and goes with it. A model that has got another layer or activation since is another
    one; weights are read when it is called.

    Args:
        model: The model that the function calls.
        key: Everything else that it depends on; `None` to keep nothing.
        function: Function of tensors.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    >>> compiled(model, "twice", lambda x: model(2 * x)) is compiled(model, "twice", lambda x: model(2 * x))
    True
    """
    functions = {} if key is None else _kept_with(model)
    if key not in functions:
        functions[key] = tf.function(function, autograph=False, reduce_retracing=True)
    return functions[key]


def _kept_with(model: keras.Model) -> dict[Hashable, Callable]:
    """The functions compiled of the model as it is."""
    parts = [(operation, getattr(operation, "activation", None)) for operation in operations(model)]
    kept = vars(model).get(_ATTRIBUTE)
    if kept is None or kept.parts != parts:
        kept = vars(model)[_ATTRIBUTE] = _Kept(parts, {})
    return kept.functions
