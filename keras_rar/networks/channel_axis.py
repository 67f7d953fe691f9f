"""Where the inputs of a network have their channels."""

import contextlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar.core import channels, checks
from keras_rar.core.channels import DataFormat
from keras_rar.networks.copies import copy_with, operations
from keras_rar.networks.kept import kept_with


def data_format_of(model: Any, shape: tuple[int | None, ...], data_format: DataFormat = "auto") -> DataFormat:
    """Where inputs have their channels: `"channels_last"`, `"channels_first"`, `"none"`, or `"rows"` of words.

    What counts is which axis of the input reaches the axis of channels of the first layer that has one, such as a
    convolution, pooling or padding: transpositions before it do no harm. Where no layer tells, sizes may
    (`core.channels.of_sizes`), and at last a `keras.config.image_data_format()` that is `"channels_first"`. Channels
    between other axes, such as time and height, are not known by any name.

    Args:
        model: A built Keras model.
        shape: The shape of one input; `None` for sizes that vary.
        data_format: What the user said, `"auto"` for nothing. Defaults to `"auto"`.

    Raises:
        ValueError: If `data_format` does not fit the inputs, or the channels of images or volumes cannot be found.

    Example:

    >>> layers = [keras.layers.Permute((2, 3, 1)), keras.layers.Conv2D(2, 3), keras.layers.Flatten()]
    >>> model = keras.Sequential([keras.Input((8, 8, 8)), *layers, keras.layers.Dense(3)])
    >>> data_format_of(model, (8, 8, 8))
    'channels_first'
    """
    checks.one_of("data_format", data_format, ["auto", *channels.DATA_FORMATS])
    if data_format == "auto" and getattr(model, "by_rows", False):
        return "rows"
    if data_format == "rows" and len(shape) >= 2:
        return data_format
    if len(shape) < 3:
        if data_format not in ("auto", "none"):
            checks.fail("data_format", f'"auto" or "none" for inputs without channels, of shape {shape}', data_format)
        return "none"
    if data_format != "auto":
        return data_format
    found = kept_with(model).get(("data_format", shape), lambda: _of_layers(model, shape)) or channels.of_sizes(shape)
    if found is None and keras.config.image_data_format() == "channels_first":
        found = "channels_first"
    if found in channels.DATA_FORMATS:
        return found
    raise ValueError(
        '`data_format` must be "channels_last", "channels_first", or "none" for inputs without channels, where neither '
        "a layer nor sizes say whether the first or the last axis holds them. "
        f"Received: data_format='auto', inputs of shape {shape}"
    )


_SIZE = 64  # stands for sizes that vary
_BETWEEN = "between"  # other axes


def _of_layers(model: Any, shape: tuple[int | None, ...]) -> Any:
    """What the first layer with an axis of channels says: a data format, `_BETWEEN`, or `None`.

    Of inputs that differ at the first index of one axis alone, those that get there differ at one index of one axis.
    """
    layers = [layer for layer in operations(model) if _has_channels(layer)]
    if not layers:
        return None
    seen: list[tuple[np.ndarray, int]] = []

    def spy(layer: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        if tf.is_tensor(inputs) and inputs.shape.rank == len(shape) + 1:
            after_time = isinstance(layer, keras.layers.RNN)  # a convolutional LSTM
            seen.append((inputs.numpy(), after_time if layer.data_format == "channels_first" else len(shape) - 1))
            raise StopIteration  # the rest of the network is not needed
        return type(layer).call(layer, inputs, *args, **options)

    sizes = [size or _SIZE for size in shape]
    x = np.random.default_rng(0).uniform(0.25, 0.75, size=(1 + len(sizes), *sizes)).astype("float32")
    x[1:] = x[0]
    for axis in range(len(sizes)):
        np.moveaxis(x[1 + axis], axis, 0)[0] += 0.125
    network = copy_with(model, [(layer, "call", spy) for layer in layers])
    with tf.init_scope(), contextlib.suppress(Exception):  # of the spy, or of sizes that do not fit
        network(tf.constant(x), training=False)
    return _traced(*seen[0], sizes) if seen else None


def _has_channels(layer: Any) -> bool:
    """Whether a layer says which axis of its inputs holds channels; `Flatten` has the attribute, and no need of it."""
    return getattr(layer, "data_format", None) in channels.DATA_FORMATS and not isinstance(layer, keras.layers.Flatten)


def _traced(h: np.ndarray, here: int, sizes: list[int]) -> Any:
    """Which axis of the inputs, of these sizes, reaches the axis of channels of h, here."""
    if len(h) != 1 + len(sizes):
        return None
    moved = {axis: _axis_of(h[1 + axis] != h[0]) for axis, size in enumerate(sizes) if size > 1}
    found = [axis for axis, there in moved.items() if there == here]
    if not found and h.shape[1 + here] == 1 and None not in moved.values():  # an axis of one entry is seen nowhere
        found = [axis for axis, size in enumerate(sizes) if size == 1]
    if len(found) != 1:
        return None
    return {0: "channels_first", len(sizes) - 1: "channels_last"}.get(found[0], _BETWEEN)


def _axis_of(changed: np.ndarray) -> int | None:
    """The axis of which only one index has changed, if it is the only such axis of several entries."""
    axes = range(changed.ndim)
    touched = [int(np.sum(changed.any(axis=tuple(a for a in axes if a != axis)))) for axis in axes]
    single = [axis for axis in axes if touched[axis] == 1 and changed.shape[axis] > 1]
    return single[0] if len(single) == 1 else None
