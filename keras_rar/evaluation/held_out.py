"""The held-out examples that a callback measures, as arrays."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.networks.structure import only


def read(x: Any, y: Any, most: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The first examples and their labels, as arrays.

    Args:
        x: Array, a dictionary or list that holds it, or a `tf.data.Dataset` of batches `(x, y)`.
        y: Labels; `None` for a data set.
        most: How many to take, or `None` for all.

    Raises:
        ValueError: If labels are missing, or there are no examples.
    """
    if not isinstance(x, tf.data.Dataset):
        if y is None:
            raise ValueError("`y` must be given, unless `x` is a tf.data.Dataset of (x, y). Received: y=None")
        x, y = only("x", x), only("y", y)
        if len(x) != len(y):
            raise ValueError(f"`y` must hold one label per example, {len(x)}. Received: {len(y)} labels")
        return np.asarray(x[:most]), np.asarray(y[:most])
    if y is not None:
        checks.fail("y", "left out where `x` is a tf.data.Dataset", y)
    if most is None and x.cardinality() == tf.data.INFINITE_CARDINALITY:
        checks.fail("max_images", "an integer for a data set that repeats for ever", most)
    inputs, labels, _ = keras.utils.unpack_x_y_sample_weight(x.element_spec)
    if labels is None or any(spec.shape.rank == 0 for spec in tf.nest.flatten((inputs, labels))):
        raise ValueError(f"`x` must be a data set of batches (x, y). Received: elements of {x.element_spec}")
    rows = list(x.unbatch().take(most or -1).as_numpy_iterator())
    if not rows:
        raise ValueError("`x` must hold at least one example. Received: an empty data set")
    return np.stack([only("x", row[0]) for row in rows]), np.stack([only("y", row[1]) for row in rows])
