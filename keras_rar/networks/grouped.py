"""Convolutions with a group for each channel, in the form that TensorFlow has kernels for.

Keras computes a `Conv2D` with `groups` in a function that XLA compiles, since TensorFlow has no kernel for it on a CPU:
each of its derivatives at each place of a graph is compiled for itself. That of ConvNeXt took minutes before the first
step. With one channel in a group it is a depthwise convolution.
"""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_rar.networks.copies import Change, operations
from keras_rar.networks.graph import is_of_keras


def changes(model: Any) -> Iterator[Change]:
    """With these a copy of the model computes such convolutions as depthwise ones: the same, up to rounding."""
    for operation in operations(model):
        if isinstance(operation, keras.layers.Conv2D) and is_of_keras(operation) and _is_depthwise(operation):
            yield operation, "convolution_op", _depthwise(operation)


def _is_depthwise(layer: Any) -> bool:
    """Whether each group has one channel, and TensorFlow has a kernel for it."""
    simple = len(set(layer.strides)) == 1 and (set(layer.dilation_rate) == {1} or set(layer.strides) == {1})
    last = layer.data_format == "channels_last" and layer.padding in ("same", "valid")
    return layer.groups > 1 and layer.built and layer.kernel.shape[-2] == 1 and simple and last


def _depthwise(layer: Any) -> Callable:
    strides, dilation = int(layer.strides[0]), tuple(layer.dilation_rate)
    padding, groups = layer.padding.upper(), layer.groups

    def convolution_op(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        kernel = tf.reshape(kernel, [*kernel.shape[:2], groups, kernel.shape[-1] // groups])
        return tf.nn.depthwise_conv2d(inputs, kernel, [1, strides, strides, 1], padding, dilations=dilation)

    return convolution_op
