"""Copies of a network that share its variables and differ in a few attributes of a few layers.

The user's network is never altered, not for the time of a call either: what has to differ differs in a copy.
"""

import copy
import functools
import types
from collections.abc import Iterable
from typing import Any

import keras

Change = tuple[Any, str, Any]
"""A layer or operation, one of its attributes, and its value in the copy. A `call` gets the copy as first argument."""

# Private names of Keras, all in one place. A test says so if they go.
_NODES = ("_inbound_nodes", "_outbound_nodes")  # the graph of the user's model, which a copy is no part of
_TRACKED = ("_self_unconditional_checkpoint_dependencies", "_self_unconditional_dependency_names")  # of TensorFlow
_COMPILED = ("train_function", "test_function", "predict_function")  # made of the original
_TRACKER = "_tracker"  # what Keras notes of a layer: it goes with the layer, and is neither saved nor compared
KEPT = "keras_rar_kept"


def notes_of(model: Any) -> dict[str, Any]:
    """Where something can be kept with a model that is no attribute of it."""
    return vars(getattr(model, _TRACKER, model))


def is_node(value: Any) -> bool:
    """Whether this says which operation of a Functional model makes which tensors."""
    return type(value).__name__ == "Node" and type(value).__module__.startswith("keras.")


def copy_with(model: Any, changes: Iterable[Change] = ()) -> Any:
    """A copy of a model, layer or list of layers, with changes.

    All layers, models and operations inside are copied, as attributes, in lists, dictionaries, partial functions
    and bound methods, at any depth. Everything else is shared: variables, seed generators, metrics, functions. Making
    one calls no layer and costs milliseconds. It is to be called, not to be saved.

    Args:
        model: A built Keras model or layer, or a list of them.
        changes: What differs. They do not reach what a closure or a function of the user's refers to.

    Example:

    >>> layer = keras.layers.Dense(2, "softmax")
    >>> model = keras.Sequential([keras.Input((3,)), layer])
    >>> logits = copy_with(model, [(layer, "activation", keras.activations.linear)])
    >>> layer.activation.__name__, logits.layers[-1].kernel is layer.kernel
    ('softmax', True)
    """
    copier = _Copier()
    copied = copier.copy(model)
    for operation, name, value in changes:
        inside = copier.made.get(id(operation))
        if inside is not None:
            vars(inside)[name] = functools.partial(value, inside) if name == "call" else value
    return copied


class _Copier:
    """Copies each thing once."""

    def __init__(self) -> None:
        self.made: dict[int, Any] = {}

    def copy(self, value: Any) -> Any:
        if id(value) in self.made:
            return self.made[id(value)]
        if isinstance(value, keras.Operation) or is_node(value):
            return self._object(value)
        if isinstance(value, (list, dict, set)):
            return self._container(value)
        if isinstance(value, tuple):
            items = [self.copy(item) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        if isinstance(value, functools.partial):
            keywords = {name: self.copy(item) for name, item in value.keywords.items()}
            return functools.partial(self.copy(value.func), *map(self.copy, value.args), **keywords)
        if isinstance(value, types.MethodType) and isinstance(value.__self__, keras.Operation):
            return types.MethodType(value.__func__, self.copy(value.__self__))
        return value

    def _object(self, value: Any) -> Any:
        copied = self.made[id(value)] = object.__new__(type(value))
        for name, attribute in list(vars(value).items()):
            if name in (*_NODES, *_TRACKED):
                attribute = {} if isinstance(attribute, dict) else []
            elif name == _TRACKER:
                attribute = copy.copy(attribute)
                vars(attribute).pop(KEPT, None)
            elif name in _COMPILED and isinstance(value, keras.Model):
                attribute = None
            vars(copied)[name] = self.copy(attribute)
        return copied

    def _container(self, value: Any) -> Any:
        if isinstance(value, dict):
            copied: Any = {}
            self.made[id(value)] = copied
            copied.update((key, self.copy(item)) for key, item in list(value.items()))
        elif isinstance(value, list):
            copied = self.made[id(value)] = []
            copied.extend(self.copy(item) for item in list(value))
        else:
            copied = {self.copy(item) for item in list(value)}
        return copied


def operations(value: Any, found: dict[int, Any] | None = None) -> list[Any]:
    """A model and all the layers, models and operations inside, wherever `copy_with` finds them."""
    found = {} if found is None else found
    if isinstance(value, keras.Operation):
        if id(value) not in found:
            found[id(value)] = value
            for name, attribute in list(vars(value).items()):
                if name not in (*_NODES, *_TRACKED):
                    operations(attribute, found)
    elif isinstance(value, (list, tuple, set, dict)):
        for item in list(value.values() if isinstance(value, dict) else value):
            operations(item, found)
    elif isinstance(value, functools.partial):
        operations([value.func, *value.args, *value.keywords.values()], found)
    elif isinstance(value, types.MethodType):
        operations(value.__self__, found)
    return list(found.values())
