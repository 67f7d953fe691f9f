"""Where the ReLUs of a model are, and how to put something else there for the time of a call."""

import contextlib
import dataclasses
import functools
import inspect
import numbers
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

import keras
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.networks.base_model import is_wrapped

Replacement = Callable[[tf.Tensor, Any, float | None, float], tf.Tensor]
Settings = dict[str, Any]  # what differs of a ReLU from these
_DEFAULTS: Settings = {"negative_slope": 0.0, "max_value": None, "threshold": 0.0}
_NAMES: dict[str, Settings] = {"relu": {}, "relu6": {"max_value": 6.0}, "leaky_relu": {"negative_slope": 0.2}}
_FUNCTIONS = {getattr(lib, name): _NAMES[name] for lib in (keras.activations, keras.ops, tf.nn) for name in _NAMES}
_CALLS: dict[str, Callable[[Any], Settings]] = {  # layers, and functions applied as operations of a Functional model
    "ReLU.call": lambda layer: {name: getattr(layer, name) for name in _DEFAULTS},
    "LeakyReLU.call": lambda layer: {"negative_slope": layer.negative_slope},
    "PReLU.call": lambda layer: {"negative_slope": tf.convert_to_tensor(layer.alpha)},
    "Relu.call": lambda operation: {},
    "Relu6.call": lambda operation: {"max_value": 6.0},
    "LeakyRelu.call": lambda operation: {"negative_slope": operation.negative_slope},
}


@dataclasses.dataclass(frozen=True, eq=False)
class _Replaced:
    """An activation function, replaced. It remembers what it stands for, so that contexts can be nested."""

    replacement: Replacement
    settings: Settings

    def __call__(self, x: Any) -> tf.Tensor:
        return self.replacement(tf.convert_to_tensor(x), *{**_DEFAULTS, **self.settings}.values())


Swap = tuple[Any, str, Callable]  # a layer or operation, one of its attributes, and what that is for a while


def swaps(model: keras.Model, replacement: Replacement) -> Iterator[Swap]:
    for operation in operations(model):
        for name, value in vars(operation).items():
            settings = _settings(value)
            if settings is not None:
                yield operation, name, _Replaced(replacement, settings)
        if _is_of_keras(operation):
            name = type(operation).call.__qualname__
            if name in _CALLS:
                yield operation, "call", _replaced_call(operation, _CALLS[name], replacement)
            elif name == "Maximum.call":
                yield operation, "call", _replaced_maximum(operation, replacement)


def _replaced_call(operation: Any, settings: Callable[[Any], Settings], replacement: Replacement) -> Callable:
    # The settings are read in the call, where the layer casts its alpha.
    return lambda x: _Replaced(replacement, settings(operation))(x)


def _replaced_maximum(operation: Any, replacement: Replacement) -> Callable:
    def call(x1: Any, x2: Any) -> tf.Tensor:
        for x, other in ((x1, x2), (x2, x1)):
            if isinstance(other, numbers.Number) and other == 0:
                return _Replaced(replacement, {})(x)
        return type(operation).call(operation, x1, x2)

    return call


@contextlib.contextmanager
def swapped(swaps: Iterable[Swap]) -> Iterator[None]:
    """For the time of a call, other attributes."""
    with contextlib.ExitStack() as stack:
        for operation, name, value in list(swaps):
            own = vars(operation)
            restore = (setattr, operation, name, own[name]) if name in own else (delattr, operation, name)
            setattr(operation, name, value)
            stack.callback(*restore)
        yield


def operations(value: Any, found: dict[int, Any] | None = None) -> list[Any]:
    """A model and all the layers, models and operations inside, as attributes or in lists, at any depth."""
    found = {} if found is None else found
    if isinstance(value, keras.Operation):
        if id(value) not in found:
            found[id(value)] = value
            operations(vars(value), found)
    elif isinstance(value, (list, tuple, set, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            operations(item, found)
    return list(found.values())


def _settings(value: Any) -> Settings | None:
    """Those of an activation function that is a ReLU; `None` of anything else."""
    if isinstance(value, _Replaced):
        return value.settings
    if isinstance(value, functools.partial) and not value.args and value.keywords.keys() <= _DEFAULTS.keys():
        settings = _settings(value.func)
        return None if settings is None else {**settings, **value.keywords}
    return _FUNCTIONS.get(value) if inspect.isfunction(value) else None


# Models that hide a ReLU

_RELUS = ("Relu", "Relu6", "LeakyRelu")


def check(model: Any) -> None:
    """Refuse a model in which a ReLU would be left."""
    if not isinstance(model, keras.Model):
        checks.fail("model", "a Keras 3 model", model, TypeError)
    if is_wrapped(model):
        raise ValueError("`model` is wrapped: pass keras_rar.unwrap(model) instead.")
    if not model.built:
        checks.fail("model", "built: give it a keras.Input, or call it once on a batch", model)
    found = operations(model)
    for operation in found:
        if isinstance(operation, keras.Model) and not _is_of_keras(operation):
            _refuse(operation, "a subclassed model, whose call() may apply any function")
    opaque = [operation for operation in found if _is_opaque(operation)]
    for operation in opaque:
        attributes = [vars(operation), *(vars(cls) for cls in type(operation).__mro__)]
        if any(isinstance(v, tf.types.experimental.PolymorphicFunction) for some in attributes for v in some.values()):
            _refuse(operation, "a layer with a tf.function of its own, which keeps what it traced first")
    if opaque:
        _check_traces(model, opaque)


def _refuse(operation: Any, what: str) -> NoReturn:
    raise ValueError(
        f"`model` must let its ReLUs be found and replaced. Received: {operation.name!r}, {what}. Build the network "
        "of Keras layers, as keras.Sequential or keras.Model(inputs, outputs), or use a smooth twin of your own: "
        "a model of the same variables with softplus for ReLU."
    )


def _is_of_keras(operation: Any) -> bool:
    return _is_in_keras(type(operation).call)


def _is_in_keras(function: Any) -> bool:
    return getattr(function, "__module__", "").startswith("keras.")


def _is_opaque(operation: Any) -> bool:
    """Whether code that is not of Keras computes a layer, or a part of it."""
    if isinstance(operation, keras.Model):
        return False  # Functional or Sequential: what it holds are losses and the like
    parts = [value for value in vars(operation).values() if callable(value)]
    functions = [part for part in parts if not isinstance(part, (type, keras.Operation))]
    return not all(_is_in_keras(function) for function in (type(operation).call, *functions))


def _check_traces(model: keras.Model, opaque: list[Any]) -> None:
    """Refuse a layer whose own code applies a ReLU, as a trace of its call shows."""
    applied: list[tuple[Any, str]] = []

    def watched(layer: Any) -> Callable:
        call = layer.call

        def traced(*args: Any, **kwargs: Any) -> Any:
            graph = tf.function(call, autograph=False).get_concrete_function(*args, **kwargs).graph
            applied.extend((layer, relu) for relu in _applied_relus(graph))
            return call(*args, **kwargs)

        return traced

    inputs = model.inputs[0] if len(model.inputs) == 1 else model.input
    specs = keras.tree.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), inputs)
    with (
        swapped(swaps(model, lambda x, *_: tf.math.softplus(x))),
        swapped((layer, "call", watched(layer)) for layer in opaque),
    ):
        tf.function(lambda x: model(x, training=False), autograph=False).get_concrete_function(specs)
    for layer, relu in applied:
        _refuse(layer, f"a layer whose own code applies a ReLU ({relu})")


def _applied_relus(graph: tf.Graph) -> Iterator[str]:
    for node in graph.get_operations():
        constants = [tf.get_static_value(x) for x in node.inputs] if node.type == "Maximum" else []
        if node.type in _RELUS or any(value is not None and not value.any() for value in constants):
            yield node.type
    for function in graph.as_graph_def().library.function:  # the bodies of loops, branches and tf.functions
        yield from (node.op for node in function.node_def if node.op in _RELUS)
