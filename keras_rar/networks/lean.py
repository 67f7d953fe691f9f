"""Layers of Keras in fewer operations: the same, for a network that is held many times in a graph."""

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_rar.core import closed_forms
from keras_rar.networks.copies import Change, operations
from keras_rar.networks.graph import is_of_keras

_KNOWN: dict[Any, Callable] = {
    keras.activations.silu: closed_forms.silu,
    keras.ops.silu: closed_forms.silu,
    tf.nn.silu: closed_forms.silu,
    keras.activations.gelu: closed_forms.gelu,
    tf.nn.gelu: closed_forms.gelu,
}
_OPERATIONS = {"Silu": closed_forms.silu, "Gelu": closed_forms.gelu}  # of a Functional model


def changes(model: Any, activations: bool = True) -> Iterator[Change]:
    """With these a copy of a model computes the same, with fewer operations in it and in its derivatives.

    - `silu` (swish) and `gelu`, which is not approximated, have their derivatives in closed form.
    - `BatchNormalization` over the last axis, if that has a positive number, reshapes nothing in inference mode.
    - `Dense` and `EinsumDense` over the last axes of larger arrays, as in attention, are one product of two matrices,
      and so are their derivatives.

    Args:
        model: A Keras model or layer.
        activations: Whether activations are among them. Defaults to `True`.
    """
    for operation in operations(model):
        if isinstance(operation, keras.layers.BatchNormalization) and is_of_keras(operation) and operation.axis > 0:
            yield operation, "call", _normalize_batch
        elif type(operation) in (keras.layers.Dense, keras.layers.EinsumDense) and (shared := _contracted(operation)):
            yield operation, "call", _product(shared)
        if not activations:
            continue
        for name, value in list(vars(operation).items()):
            if inspect.isfunction(value) and value in _KNOWN:
                yield operation, name, _KNOWN[value]
        function = _OPERATIONS.get(type(operation).__name__)
        if function is not None and is_of_keras(operation) and not getattr(operation, "approximate", False):
            yield operation, "call", _called(function)


def _called(function: Callable) -> Callable:
    return lambda _, x: function(x)


def _normalize_batch(layer: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> tf.Tensor:
    inputs = tf.convert_to_tensor(inputs)
    last = layer.axis == inputs.shape.rank - 1
    if (training and layer.trainable) or not last or inputs.dtype.size < 4:
        return type(layer).call(layer, inputs, training=training, mask=mask)
    of = [
        None if variable is None else tf.cast(tf.convert_to_tensor(variable), inputs.dtype)
        for variable in (layer.moving_mean, layer.moving_variance, layer.beta, layer.gamma)
    ]
    return tf.cast(tf.nn.batch_normalization(inputs, *of, layer.epsilon), layer.compute_dtype)


def _contracted(layer: Any) -> int:
    """How many axes, the last of the inputs and the first of the kernel, are summed over; 0 of other equations."""
    if isinstance(layer, keras.layers.Dense):
        return 1
    given, _, result = layer.equation.replace(" ", "").partition("->")
    inputs, _, kernel = given.partition(",")
    shared = sum(axis in inputs for axis in kernel)
    kept = len(inputs) - shared
    same = inputs[kept:] + result[kept:] == kernel and inputs[:kept] == result[:kept]
    return shared if kept > 0 and same and inputs.isalpha() else 0


def _product(shared: int) -> Callable:
    """The call of such a layer. Where more than one size of what is kept is unknown, it is Keras's own."""

    def call(layer: Any, inputs: Any, **options: Any) -> tf.Tensor:
        inputs = tf.convert_to_tensor(inputs)
        kept = inputs.shape[: inputs.shape.rank - shared]
        if (len(kept) == 1 and shared == 1) or None in kept[1:]:
            return type(layer).call(layer, inputs, **options)
        kernel = tf.convert_to_tensor(layer.kernel)
        size, units = math.prod(kernel.shape[:shared]), kernel.shape[shared:]
        rows = tf.reshape(inputs, [-1, size]) @ tf.reshape(kernel, [size, math.prod(units)])
        found = tf.reshape(rows, [-1, *kept[1:], *units])
        found = found if layer.bias is None else found + tf.convert_to_tensor(layer.bias)
        return found if layer.activation is None else layer.activation(found)

    return call
