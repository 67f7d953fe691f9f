"""Layers without the derivatives that a method or an attack takes, found by name before it begins."""

import functools
import json
from collections.abc import Iterator
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from keras_rar.networks import second_orders
from keras_rar.networks.base_model import input_structure
from keras_rar.networks.copies import copy_with, operations
from keras_rar.networks.graph import is_of_keras
from keras_rar.networks.kept import kept_with

Order = Literal[1, 2]

_WORDS = {1: "derivatives", 2: "second derivatives"}
_OTHERWISE = {
    1: 'train with method="natural", which takes none in the input',
    2: 'train with method="madry", which takes first derivatives alone',
}
_DOUBTED = (keras.layers.Lambda, keras.layers.Resizing, keras.layers.UpSampling2D)
_DOUBTED_ON_GPU = (keras.layers.LSTM, keras.layers.GRU)


def check_trained(model: keras.Model, order: Order) -> None:
    """`check` for a method of training that takes derivatives of this order."""
    check_reached(model)
    for lower in range(1, order + 1):
        check("base_model", model, lower, _OTHERWISE[lower])  # type: ignore[arg-type]


def check_attacked(name: str, model: keras.Model) -> None:
    """`check` for an attack that follows the gradient of maps."""
    check(name, model, 2, "attack predictions alone, which takes first derivatives")


def check_reached(model: keras.Model) -> None:
    """Refuse a network of words that takes them as floats and makes integers of them: its maps would be 0.

    Keras takes `keras.Input((8,))` in front of an embedding, and knows no dtype of a subclassed model. So a network
    with an embedding is called once, on random numbers; one of other inputs beside the words is not refused.

    Args:
        model: A built Keras model with one input.

    Raises:
        ValueError: If no gradient reaches the input.
    """
    if tf.executing_eagerly() and kept_with(model).get("unreached", lambda: _is_unreached(model)):
        raise ValueError(
            "`model` must have a gradient in its input, or be looked at behind a layer, as by layer='embedding'. "
            f"Received: {model.name!r}, which takes its input for integers"
        )


def _is_unreached(model: keras.Model) -> bool:
    if not any(isinstance(layer, keras.layers.Embedding) for layer in operations(model)):
        return False
    given = _inputs(model)
    if given is None:
        return False
    try:
        with tf.GradientTape() as tape:
            tape.watch(given)
            scores = _called(model, given)
        return all(gradient is None for gradient in keras.tree.flatten(tape.gradient(scores, given)))
    except Exception:  # it cannot be called on such numbers: not known
        return False


def check(name: str, model: keras.Model, order: Order, instead: str) -> None:
    """Refuse a model with a layer that has no derivative of this order, by the name of the layer.

    Layers of Keras are known to have them, but for a few. Each of the others is tried alone, on random numbers, without
    a graph; what is found is kept with the model. What cannot be tried, such as a layer whose inputs are not known, is
    not refused. A second derivative that is zero where the first is not counts as none: that is what TensorFlow makes
    of an operation whose derivative it cannot differentiate, and of some custom gradients.

    Args:
        name: What the user calls the model.
        model: A built Keras model.
        order: How many derivatives are taken.
        instead: What to do where a layer has none that cannot be replaced.

    Raises:
        ValueError: If there is such a layer.
    """
    if not tf.executing_eagerly():
        return
    missing = kept_with(model).get(("derivatives", order), lambda: _missing(model, order))
    if missing:
        raise ValueError(
            f"`{name}` must have {_WORDS[order]} in its input. Received: {' and '.join(missing)}: replace it, as by "
            f"another interpolation of images, or {instead}"
        )


def _missing(model: keras.Model, order: Order) -> list[str]:
    """What each layer without a derivative is, in words; where one holds another, the inner one."""
    faults: list[str] = []
    failed: list[Any] = []
    tried: dict[str, str | None] = {}
    for layer in reversed(operations(model)):  # from the inside out
        if not _is_doubted(layer) or any(inner in failed for inner in operations(vars(layer))):
            continue
        key = _alike(layer)
        if key not in tried:
            tried[key] = _fault(layer, order)
        if tried[key]:
            failed.append(layer)
            faults.append(f"the layer {layer.name!r} ({type(layer).__name__}), {tried[key]}")
    return faults[::-1]


def _is_doubted(layer: Any) -> bool:
    if not is_of_keras(layer) or isinstance(layer, _DOUBTED):
        return True
    return isinstance(layer, _DOUBTED_ON_GPU) and bool(tf.config.list_physical_devices("GPU"))


def _alike(layer: Any) -> str:
    """The same for two layers that have the same derivatives."""
    try:
        config = {**layer.get_config(), "name": None}
        return json.dumps([type(layer).__name__, config, layer.get_build_config()], default=repr)
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return str(id(layer))


def _fault(layer: Any, order: Order) -> str | None:
    """What is wrong with the derivatives of a layer, or `None`."""
    given = _inputs(layer)
    if given is None:
        return None
    copied = copy_with(layer, second_orders.changes(layer))
    sources = [value for value in keras.tree.flatten(given) if value.dtype.is_floating]
    rng = np.random.default_rng(0)
    try:
        with tf.GradientTape() as outer:
            outer.watch(sources)
            with tf.GradientTape() as inner:
                inner.watch(sources)
                found = [y for y in keras.tree.flatten(_called(copied, given)) if y.dtype.is_floating]
                value = tf.add_n([_random_sum(tf.math.softplus(tf.cast(y, "float32")), rng) for y in found])
            first = [g for g in inner.gradient(value, sources) if g is not None]
            if order == 1 or not first:
                return None
            along = tf.add_n([_random_sum(tf.cast(tf.convert_to_tensor(g), "float32"), rng) for g in first])
        second = [g for g in outer.gradient(along, sources) if g is not None]
    except LookupError as error:
        operation = str(error).rpartition(": ")[2]
        return f"whose operation {operation} has no derivative" if "gradient registry" in str(error) else None
    except Exception:  # it cannot be called alone: what it needs is not known
        return None
    if any(np.any(g) for g in first) and not any(np.any(g) for g in second):
        return "whose second derivative is zero where its first is not"
    return None


def _random_sum(values: tf.Tensor, rng: np.random.Generator) -> tf.Tensor:
    return tf.reduce_sum(values * tf.constant(rng.normal(size=values.shape), "float32"))


def _called(layer: Any, given: Any) -> Any:
    call = functools.partial(layer, **given) if isinstance(given, dict) else functools.partial(layer, given)
    try:
        return call(training=False)
    except TypeError:  # without such an argument
        return call()


def _inputs(layer: Any) -> Any:
    """Random inputs of the shapes that a layer was built for, one example; `None` if they are not known."""
    specs = _specs(layer)
    leaves = keras.tree.flatten(specs)
    if not leaves or any(spec.shape is None for spec in leaves):
        return None
    rng = np.random.default_rng(0)

    def drawn(spec: Any) -> tf.Tensor:
        shape = [1, *(size or 8 for size in spec.shape[1:])]
        return tf.constant(rng.uniform(0.1, 0.9, size=shape), tf.as_dtype(keras.backend.standardize_dtype(spec.dtype)))

    return keras.tree.map_structure(drawn, specs)


def _specs(layer: Any) -> Any:
    if isinstance(layer, keras.Model):
        return input_structure(layer)
    try:
        return layer.input  # of a Functional model
    except (AttributeError, ValueError):
        pass
    shapes: dict[str, Any] = getattr(layer, "get_build_config", dict)() or {}
    if "input_shape" in shapes:
        return keras.KerasTensor(shapes["input_shape"], layer.compute_dtype)
    named: Iterator[tuple[str, Any]] = iter(shapes.get("shapes_dict", {}).items())
    return {name.removesuffix("_shape"): keras.KerasTensor(shape, layer.compute_dtype) for name, shape in named}
