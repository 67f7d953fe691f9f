"""The score that a saliency method explains: of the network itself, or of a twin whose way back is the method."""

from typing import Any

import tensorflow as tf

from keras_rar.core.gradients import ScalarFunction
from keras_rar.core.network_maps import LRP, DeepLIFT, GradCAM
from keras_rar.networks.classifier import TARGETS, Classifier
from keras_rar.networks.epsilon_rule import EpsilonRule
from keras_rar.networks.probes import Probe, layer_of, observed
from keras_rar.networks.rescale_rule import RescaleRule
from keras_rar.networks.surrogates import softplus


def score_of(saliency: Any, classifier: Classifier, y: tf.Tensor, target: str, beta: float | None) -> ScalarFunction:
    """The score of labels, as a saliency method takes it.

    Args:
        saliency: A `Saliency`.
        classifier: The network.
        y: Class indices, `(batch,)`.
        target: One of `TARGETS`.
        beta: Sharpness of the softplus that stands for ReLUs, or `None` for the network itself.

    Raises:
        ValueError: If the network has not what the method needs.
    """
    smooth, score = None if beta is None else softplus(beta), TARGETS[target]
    if isinstance(saliency, GradCAM):
        probe = Probe(layer_of(classifier.model, saliency.layer).name, smooth)
        return observed(classifier.model, probe, classifier.score(y, score, probe))
    squashed = classifier.head.squashing.operation
    if isinstance(saliency, LRP):
        return classifier.score(y, score, EpsilonRule(saliency.epsilon, squashed, smooth))
    if isinstance(saliency, DeepLIFT):
        return classifier.score(y, score, RescaleRule(squashed, smooth))
    return classifier.score(y, score, smooth)
