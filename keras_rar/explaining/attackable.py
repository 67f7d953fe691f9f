"""Saliency methods as attacks follow them: by name, as an object, or as a function of the user's."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_rar.core import checks
from keras_rar.core import saliency_methods as core
from keras_rar.core.saliency_methods import Saliency
from keras_rar.explaining.saliency_maps import BACKWARD, get
from keras_rar.networks.classifier import Classifier
from keras_rar.networks.surrogates import softplus_twin


def get_differentiable(
    method: str | Saliency | Callable, *, rule: str, m: int, baseline: Any, chunk: int | str | None
) -> Saliency | Callable:
    """A saliency method to attack, from its name, an object, or a function of the user's."""
    if callable(method):
        return method
    if isinstance(method, str) and method in BACKWARD:
        checks.fail("saliency", f"one of {list(core.METHODS)}: {method} has no second derivative to follow", method)
    if not isinstance(method, Saliency):
        checks.one_of("saliency", method, core.METHODS)
    return get(method, rule, m, baseline, chunk)


def of_function(function: Callable, classifier: Classifier, beta: float | None) -> Callable:
    """The attributions by a function `(model, x, y) -> attributions` of TensorFlow operations, for an attack."""
    model = classifier.model if beta is None else softplus_twin(classifier.model, beta)

    def explain(x, y):
        try:
            attributions = function(model, x, y)
        except (NotImplementedError, AttributeError) as error:  # asked a symbolic tensor for its values
            raise TypeError("`saliency` must be made of TensorFlow operations to be attacked.") from error
        if not tf.is_tensor(attributions):
            raise TypeError(
                "`saliency` must be made of TensorFlow operations to be attacked. "
                f"Received: a function that returns {type(attributions).__name__}"
            )
        return attributions

    return explain
