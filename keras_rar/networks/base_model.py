"""What may be wrapped: a built Keras 3 classifier with one input and one output."""

import inspect
import sys
from typing import Any

import keras
import tensorflow as tf


def check_base_model(model: Any) -> tuple[tuple[int | None, ...], int]:
    """The shape of an input, without the batch, and the number of classes.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If it is not built, or has not one floating-point input and one `(batch, classes)` output.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`base_model` must be a Keras 3 model (keras {keras.__version__} is installed). Received: {_origin(model)}"
        )
    if is_wrapped(model):
        raise ValueError("`base_model` is wrapped already: pass keras_rar.unwrap(model) instead.")
    if not model.built:
        raise ValueError(
            "`base_model` must be built: give it a keras.Input, or call it once on a batch. "
            f"Received: {model.name!r}, which has no weights yet"
        )
    inputs = keras.tree.flatten(input_structure(model))
    outputs = getattr(model, "outputs", None) or []
    if not outputs:  # a subclassed model: its shapes are known from the first call
        outputs = [None] if len(inputs) != 1 else keras.tree.flatten(model.compute_output_spec(input_structure(model)))
    for kind, tensors in (("input", inputs), ("output", outputs)):
        if len(tensors) != 1:
            raise ValueError(
                f"`base_model` must have one {kind}. Received: {model.name!r} with {len(tensors)}, "
                "of which keras_rar.OneInput makes one"
            )
    if not tf.as_dtype(keras.backend.standardize_dtype(inputs[0].dtype)).is_floating:
        raise ValueError(
            "`base_model` must take a floating-point input, or be looked at behind a layer, as by layer='embedding'. "
            f"Received: dtype={inputs[0].dtype}"
        )
    if len(outputs[0].shape) != 2 or not outputs[0].shape[-1]:
        raise ValueError(
            "`base_model` must return scores of shape (batch, classes). "
            f"Received: {model.name!r} with the output shape {tuple(outputs[0].shape)}"
        )
    return tuple(inputs[0].shape[1:]), int(outputs[0].shape[-1])


def is_wrapped(model: Any) -> bool:
    """Whether a model is a `RARModel`: its class bears a mark."""
    return getattr(type(model), "wraps_a_model", False) is True


def baseline_of(model: Any, layer: str | None, given: Any) -> Any:
    """The baseline given; in place of `"auto"` that which a `RARModel` is trained with, at this layer, or else 0.

    Args:
        model: Any model.
        layer: Name of the layer whose output is explained, or `None` for the input. The baseline of a training at
            another layer is of another thing.
        given: A baseline, or `"auto"`.
    """
    if not isinstance(given, str) or given != "auto":
        return given
    trained_here = is_wrapped(model) and getattr(model, "layer", None) == layer
    return getattr(getattr(model, "regularizer", None), "baseline", 0.0) if trained_here else 0.0


def input_structure(model: Any) -> Any:
    """The inputs of a built model as symbolic tensors: one, or a list or dictionary of them, as it is called."""
    inputs = getattr(model, "inputs", None)
    if inputs:
        return inputs[0] if isinstance(model, keras.Sequential) else model.input
    shapes = model.get_build_config() or {}  # of a subclassed model they are known from the first call
    found = _specs(shapes.get("input_shape", shapes.get("shapes_dict")))
    arguments = inspect.signature(model.call).parameters.values()
    required = sum(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in arguments)
    found = found if isinstance(found, dict) else found * max(required, 1)  # Keras records the first argument only
    return found[0] if isinstance(found, list) and len(found) == 1 else found


def one_input_shape(model: keras.Model) -> tuple[int | None, ...]:
    """The shape of a batch of the only input of a model.

    Raises:
        ValueError: If it has several inputs.
    """
    inputs = keras.tree.flatten(input_structure(model))
    if len(inputs) != 1:
        raise ValueError(f"`base_model` must have one input. Received: {model.name!r} with {len(inputs)}")
    return tuple(inputs[0].shape)


def _specs(shapes: Any) -> Any:
    """One symbolic tensor per shape: a list of them, or a dictionary where the shapes stand in one."""
    if shapes is None:
        return []
    if isinstance(shapes, dict):
        named = {name: _specs(shape) for name, shape in shapes.items()}
        return {name: found[0] if len(found) == 1 else found for name, found in named.items()}
    if all(isinstance(size, int | None) for size in shapes):
        return [keras.KerasTensor(tuple(shapes))]
    return [spec for shape in shapes for spec in _specs(shape)]


def _origin(model: Any) -> str:
    """Which library a model comes from, as far as its classes tell."""
    for cls in type(model).__mro__:
        library = cls.__module__.split(".")[0]
        if cls.__module__.startswith("tensorflow.python.keras"):
            return f"a model of the Keras 2 inside TensorFlow ({cls.__module__})"
        if library in ("tf_keras", "torch", "sklearn"):
            version = getattr(sys.modules.get(library), "__version__", "of unknown version")
            note = ", which is Keras 2: build it with `import keras` instead" if library == "tf_keras" else ""
            return f"a model of {library} {version}{note}"
    return f"{model!r}"
