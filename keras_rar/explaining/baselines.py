"""How neutral a baseline is."""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.networks.base_model import baseline_of
from keras_rar.networks.classifier import Classifier
from keras_rar.networks.tail import tail_of


class Baseline(NamedTuple):
    """What a model says of a baseline.

    Args:
        predicted: The class predicted there.
        probability: Its probability.
        neutrality: Entropy of the prediction as a share of the largest, from 0 (sure) to 1 (knows nothing).
    """

    predicted: int
    probability: float
    neutrality: float


def baseline_report(model: keras.Model, baseline: Any = "auto", *, layer: str | None = None) -> Baseline:
    """How neutral a model's prediction at a baseline is: IG explains the way from there.

    `H(p) / log C` with p the class probabilities at the baseline. A baseline at which the model is sure of a
    class hides what speaks for that class (Sundararajan et al. 2017, sec. 3, ask for a prediction near zero). Of a
    multi-label model it is the label of the highest probability, and the mean of `H(σ(z_c)) / log 2` over the labels.

    Args:
        model: Any Keras classifier with one input and one output, or a `RARModel`.
        baseline: Float or array that broadcasts to an input. Defaults to `"auto"`: that of the training of a `RARModel`
            at this layer, or `0.`.
        layer: Name of a layer of whose output it is in place of the input, as for `saliency_map`: not one with
            padding, where the prediction depends on the text. Defaults to `None`.

    Returns:
        A `Baseline`: `predicted`, `probability`, `neutrality`.

    Raises:
        ValueError: If there is no such layer, or masks or inputs pass by it; if the baseline does not broadcast to an
            input, or the input's shape is not known.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4, use_bias=False)])
    >>> baseline_report(model)
    Baseline(predicted=0, probability=0.25, neutrality=1.0)
    """
    baseline = baseline_of(model, layer, baseline)
    classifier = Classifier(model if layer is None else tail_of(model, layer))
    if classifier.columns.holds:
        checks.fail("layer", "one that no mask and no input passes by, or the baseline is not all there is", layer)
    shape = [size for size in classifier.input_shape if size is not None]
    if len(shape) < len(classifier.input_shape):
        raise ValueError(f"`model` must have an input of known shape. Received: {classifier.input_shape}")
    checks.broadcasts("baseline", checks.finite_array("baseline", baseline), classifier.input_shape)
    start = np.broadcast_to(baseline, (1, *shape)).astype(classifier.dtype)
    logits = classifier.logits(tf.constant(start))
    if classifier.multilabel:
        return _of_labels(tf.sigmoid(tf.cast(logits[0], tf.float64)).numpy())
    if classifier.classes == 1:
        logits = tf.concat([tf.zeros_like(logits), logits], axis=-1)
    p = tf.nn.softmax(tf.cast(logits[0], tf.float64)).numpy()
    entropy = np.sum(_entropies(p))
    return Baseline(int(p.argmax()), round(float(p.max()), 6), round(float(entropy / np.log(len(p))), 6))


def _of_labels(p: np.ndarray) -> Baseline:
    """The most probable label, and the mean entropy of all, as a share of that of a coin."""
    entropy = np.mean(_entropies(p) + _entropies(1 - p)) / np.log(2)
    return Baseline(int(p.argmax()), round(float(p.max()), 6), round(float(entropy), 6))


def _entropies(p: np.ndarray) -> np.ndarray:
    return -p * np.log(np.maximum(p, np.finfo(p.dtype).tiny))
