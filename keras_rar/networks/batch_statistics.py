"""Moving statistics of batch normalisation: whether they were measured, and a network that leaves them as they are."""

import inspect
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar.networks.copies import Change, operations


def changes(model: Any) -> Iterator[Change]:
    """With these a copy of a model normalises batches by the moving statistics in training mode too.

    The scale and the offset of each layer are trained as before, and dropout and noise are as they were.

    Args:
        model: A Keras model or layer.
    """
    for layer in _normalizing(model):
        yield layer, "call", _as_deployed


def are_there(model: Any) -> bool:
    """Whether a training moves statistics of the model."""
    return bool(_normalizing(model))


def were_measured(model: Any) -> bool:
    """Whether every layer whose statistics a training moves has seen a batch: its moving mean is no longer 0."""
    return all(np.any(tf.convert_to_tensor(layer.moving_mean).numpy()) for layer in _normalizing(model))


def _normalizing(model: Any) -> list[Any]:
    """The layers whose statistics move; a layer that is not `trainable` is in inference mode in Keras as it is."""
    kinds = keras.layers.BatchNormalization
    return [layer for layer in operations(model) if isinstance(layer, kinds) and layer.trainable and layer.built]


def _as_deployed(layer: Any, *args: Any, **options: Any) -> Any:
    bound = inspect.signature(type(layer).call).bind(layer, *args, **options)
    bound.arguments["training"] = False
    return type(layer).call(*bound.args, **bound.kwargs)
