"""The loss and the metric of a training, where none are given: those that fit the network and its labels."""

from typing import Any

import keras

from keras_rar.core import labels
from keras_rar.networks.base_model import check_base_model
from keras_rar.networks.output import head_of


def loss_for(network: keras.Model, spec: Any) -> keras.losses.Loss:
    """The cross-entropy of logits or probabilities, for class indices, one-hot labels or one output unit.

    Args:
        network: A Keras classifier.
        spec: What a batch is made of: `(x, y)` or `(x, y, sample_weight)`.

    Raises:
        ValueError: If a batch has no labels.
    """
    if not isinstance(spec, (tuple, list)) or len(spec) < 2:
        raise ValueError("Labels are needed: pass `y`, or a data set of (x, y) pairs.")
    classes, activation = check_base_model(network)[1], head_of(network).activation
    parts, from_logits = keras.tree.flatten(spec[1]), activation is None
    rows = len(parts) == 1 and parts[0].shape.rank is not None and not labels.are_indices(parts[0], classes)
    if classes == 1 or (rows and activation == "sigmoid"):  # of several sigmoids: labels of their own
        return keras.losses.BinaryCrossentropy(from_logits=from_logits)
    if rows:
        return keras.losses.CategoricalCrossentropy(from_logits=from_logits)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)


def accuracy_of(network: keras.Model) -> Any:
    """The accuracy, which for one output unit without a sigmoid is decided at 0; of several sigmoids, their mean."""
    classes, activation = check_base_model(network)[1], head_of(network).activation
    if classes == 1 and activation is None:
        return keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)
    if classes > 1 and activation == "sigmoid":
        return keras.metrics.BinaryAccuracy(name="accuracy")
    return "accuracy"
