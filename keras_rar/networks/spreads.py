"""How large the inputs of a network's ReLUs are: the unit in which a softplus is sharp."""

import threading
from typing import Any

import numpy as np
import tensorflow as tf

from keras_rar.networks import relus, surrogates
from keras_rar.networks.classifier import Classifier

_HERE = threading.local()  # what the network of this thread has shown so far


def relu_spread(classifier: Classifier, x: tf.Tensor) -> float | None:
    """The size of what a network's ReLUs get: the geometric mean over ReLUs of `√(mean h²)`, h the inputs of one.

    A softplus of sharpness β differs from a ReLU at inputs of the size 1/β and below. So β times this tells how
    sharp it is in this network, whatever the scale of its hidden units. One pass over the network.

    Args:
        classifier: The network.
        x: Inputs, `(batch, ...)`.

    Returns:
        A float > 0, or `None` of a network without ReLUs.

    Raises:
        ValueError: If a ReLU of the model is out of reach.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.ReLU()])
    >>> round(relu_spread(Classifier(model), tf.constant([[1.0, 7.0]])), 3)
    5.0
    """
    if next(relus.changes(classifier.model, _noted), None) is None:
        classifier.head.twin(_noted)  # refuses a ReLU that nothing can replace
        return None
    _HERE.sizes = []
    try:
        classifier.head.scored(lambda logits: logits, _noted, staged=False)(x)
        sizes = np.array([size for size in _HERE.sizes if np.isfinite(size) and size > 0])
    finally:
        del _HERE.sizes
    return float(np.exp(np.mean(np.log(sizes)))) if len(sizes) else 1.0


def _noted(x: tf.Tensor, negative_slope: Any, max_value: float | None, threshold: float) -> tf.Tensor:
    """A ReLU that leaves a note of how large its inputs are."""
    sizes = getattr(_HERE, "sizes", None)
    if sizes is not None and hasattr(x, "numpy"):  # within a loop of Keras it is symbolic
        sizes.append(float(tf.sqrt(tf.reduce_mean(tf.square(tf.cast(x, "float32"))))))
    return surrogates.relu(x, negative_slope, max_value, threshold)
