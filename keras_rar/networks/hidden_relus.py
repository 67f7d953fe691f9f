"""Models in which a ReLU is out of reach: found by a trace, and refused by the name of the layer."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import keras
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.networks import relus
from keras_rar.networks.base_model import input_structure, is_wrapped
from keras_rar.networks.copies import copy_with, operations
from keras_rar.networks.graph import is_in_keras, is_of_keras

_RELUS = ("Relu", "Relu6", "LeakyRelu")


def checked(model: Any) -> Any:
    """The model, or a refusal of one of which a twin would still have a ReLU.

    Layers of Keras hold theirs as attributes. The rest, subclassed models and layers of the user's, is traced once,
    in a copy whose other ReLUs are replaced.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If it is wrapped or not built, or a layer's own code applies a ReLU.
    """
    if not isinstance(model, keras.Model):
        checks.fail("model", "a Keras 3 model", model, TypeError)
    if is_wrapped(model):
        raise ValueError("`model` is wrapped: pass keras_rar.unwrap(model) instead.")
    if not model.built:
        checks.fail("model", "built: give it a keras.Input, or call it once on a batch", model)
    opaque = [operation for operation in operations(model) if _is_opaque(operation)]
    for layer, relu in _applied(model, opaque) if opaque else ():
        _refuse(layer, relu)
    return model


def _refuse(layer: Any, relu: str) -> NoReturn:
    kind = "model" if isinstance(layer, keras.Model) else "layer"
    raise ValueError(
        f"`model` must let its ReLUs be found and replaced. Received: {layer.name!r}, a {kind} whose own code applies "
        f"a ReLU ({relu}). Make it an attribute or a layer: keras.layers.ReLU(), keras.layers.Activation('relu') or "
        "activation='relu'; or pass a smooth twin of your own: a model of the same variables with softplus for ReLU."
    )


def _is_opaque(operation: Any) -> bool:
    """Whether code that is not of Keras computes a layer or a model, or a part of it."""
    if isinstance(operation, keras.Model) and is_of_keras(operation):
        return False  # Functional or Sequential: what it holds are losses and the like
    if not is_of_keras(operation):
        return True
    parts = [value for value in vars(operation).values() if callable(value)]
    functions = [part for part in parts if not isinstance(part, (type, keras.Operation))]
    return not all(is_in_keras(function) for function in functions)


def _applied(model: keras.Model, opaque: list[Any]) -> list[tuple[Any, str]]:
    """The ReLUs that code which is not of Keras applies, each with its layer, the innermost first."""
    applied: list[tuple[Any, str]] = []
    replaced = list(relus.changes(model, lambda x, *_: tf.math.softplus(x)))
    calls = {id(operation): value for operation, name, value in replaced if name == "call"}

    def watched(layer: Any) -> Callable:
        def call(copied: Any, *args: Any, **kwargs: Any) -> Any:
            replaced_call = calls.get(id(layer))
            own = inspect.getattr_static(type(layer), "call").__get__(copied, type(layer))
            function = own if replaced_call is None else functools.partial(replaced_call, copied)
            graph = tf.function(function, autograph=False).get_concrete_function(*args, **kwargs).graph
            applied.extend((layer, relu) for relu in _applied_relus(graph))
            return function(*args, **kwargs)

        return call

    specs = keras.tree.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), input_structure(model))
    twin = copy_with(model, [*replaced, *((layer, "call", watched(layer)) for layer in opaque)])
    tf.function(lambda x: twin(x, training=False), autograph=False).get_concrete_function(specs)
    return applied


def _applied_relus(graph: tf.Graph) -> Iterator[str]:
    for node in graph.get_operations():
        constants = [tf.get_static_value(x) for x in node.inputs] if node.type == "Maximum" else []
        if node.type in _RELUS or any(value is not None and not value.any() for value in constants):
            yield node.type
    for function in graph.as_graph_def().library.function:  # the bodies of loops, branches and tf.functions
        yield from (node.op for node in function.node_def if node.op in _RELUS)
