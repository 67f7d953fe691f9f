"""Layers of Keras whose second derivatives TensorFlow lacks or gets wrong, and calls that have them right."""

from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_rar.core.affine_maps import with_derivatives
from keras_rar.core.closed_forms import normalized
from keras_rar.networks.copies import Change, operations
from keras_rar.networks.graph import is_in_keras

_LAYERS = keras.layers
_POOLS = (_LAYERS.MaxPooling1D, _LAYERS.MaxPooling2D, _LAYERS.MaxPooling3D)


def changes(model: Any) -> Iterator[Change]:
    """With these a copy of a model computes the same, and its second derivatives are right.

    - Images are resized by `Resizing`, `UpSampling2D` and `keras.ops.image.resize`. The derivative of resizing has a
      derivative in TensorFlow for no interpolation: bilinear ones are taken for zero, others an error.
    - `LayerNormalization` and `GroupNormalization` take the mean in the variance for a constant: that is right for
      first derivatives, and wrong for second ones.
    - Max-pooling with a stride of 1 that keeps the size: TensorFlow writes the derivative over its own input.

    Args:
        model: A Keras model or layer.
    """
    for operation in operations(model):
        kind = type(operation)
        if not is_in_keras(getattr(kind, "call", None)):
            continue
        if _resizes(operation):
            yield operation, "call", _resize
        elif isinstance(operation, _LAYERS.LayerNormalization) and not getattr(operation, "rms_scaling", False):
            yield operation, "call", _normalize_layer
        elif isinstance(operation, _LAYERS.GroupNormalization) and operation.axis == -1:
            yield operation, "call", _normalize_groups
        elif isinstance(operation, _POOLS) and _keeps_size(operation):
            yield operation, "call", _pool


def _keeps_size(pool: Any) -> bool:
    """Whether windows lie one step apart, and as many as the input is wide."""
    return pool.padding == "same" and pool.data_format == "channels_last" and set(pool.strides) == {1}


def _resizes(operation: Any) -> bool:
    """Whether it is affine in its input, which it has a first derivative in."""
    named = isinstance(operation, (_LAYERS.Resizing, _LAYERS.UpSampling2D)) or type(operation).__name__ == "Resize"
    return named and operation.interpolation != "area"


def _resize(layer: Any, inputs: Any, **options: Any) -> tf.Tensor:
    inputs = tf.convert_to_tensor(inputs)
    if not inputs.dtype.is_floating:
        return type(layer).call(layer, inputs, **options)
    linear = not getattr(layer, "pad_to_aspect_ratio", False) or not layer.fill_value
    return with_derivatives(lambda x: type(layer).call(layer, x, **options), linear=linear)(inputs)


def _normalized(x: tf.Tensor, axes: list[int], epsilon: float) -> tf.Tensor:
    """In at least float32."""
    return normalized(tf.cast(x, tf.float32) if x.dtype.size < 4 else x, axes, epsilon)


def _normalize_layer(layer: Any, inputs: Any, **_: Any) -> tf.Tensor:
    inputs = tf.convert_to_tensor(inputs)
    axis = layer.axis
    axes = sorted(a % inputs.shape.rank for a in ([axis] if isinstance(axis, int) else axis))
    shape = [inputs.shape[a] if a in axes else 1 for a in range(inputs.shape.rank)]
    return _scaled(layer, _normalized(inputs, axes, layer.epsilon), shape)


def _normalize_groups(layer: Any, inputs: Any, **_: Any) -> tf.Tensor:
    inputs = tf.convert_to_tensor(inputs)
    channels, rank = inputs.shape[-1], inputs.shape.rank
    grouped = tf.concat([tf.shape(inputs)[:-1], [layer.groups, channels // layer.groups]], 0)
    axes = [axis for axis in range(1, rank + 1) if axis != rank - 1]
    found = tf.reshape(_normalized(tf.reshape(inputs, grouped), axes, layer.epsilon), tf.shape(inputs))
    return _scaled(layer, tf.ensure_shape(found, inputs.shape), [1] * (rank - 1) + [channels])


def _scaled(layer: Any, normalized: tf.Tensor, shape: list[int]) -> tf.Tensor:
    """Times the scale of a layer, plus its centre, each broadcast from a shape."""
    if layer.scale:
        normalized *= tf.reshape(tf.cast(tf.convert_to_tensor(layer.gamma), normalized.dtype), shape)
    if layer.center:
        normalized += tf.reshape(tf.cast(tf.convert_to_tensor(layer.beta), normalized.dtype), shape)
    return tf.cast(normalized, layer.compute_dtype)


def _pool(layer: Any, inputs: Any, **_: Any) -> tf.Tensor:
    """Over a border of the least number, so that the derivative has another size than its input."""
    inputs, size = tf.convert_to_tensor(inputs), tuple(layer.pool_size)
    border = [[0, 0], *([(n - 1) // 2, n // 2] for n in size), [0, 0]]
    padded = tf.pad(inputs, border, constant_values=inputs.dtype.min)
    return tf.nn.max_pool(padded, size, 1, "VALID")
