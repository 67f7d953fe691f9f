"""Saliency methods as attacks follow them: by name, as an object, or as a function of the user's."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_rar.core import checks
from keras_rar.core import saliency_methods as core
from keras_rar.core.channels import DataFormat
from keras_rar.core.saliency_methods import Saliency
from keras_rar.explaining import user_maps
from keras_rar.explaining.saliency_maps import BACKWARD
from keras_rar.explaining.scores import score_of
from keras_rar.explaining.settled import fitted, named
from keras_rar.networks import at_once
from keras_rar.networks.base_model import baseline_of
from keras_rar.networks.channel_axis import data_format_of
from keras_rar.networks.classifier import Classifier
from keras_rar.networks.shared_variables import LayersError
from keras_rar.networks.surrogates import softplus_twin


def get_differentiable(
    method: str | Saliency | Callable, *, rule: str, m: int, baseline: Any, chunk: int | str | None
) -> Saliency | Callable:
    """A saliency method to attack, from its name, an object, or a function of the user's; 0 is no baseline said."""
    if callable(method):
        return method
    if isinstance(method, str) and method in BACKWARD:
        checks.fail("saliency", f"one of {list(core.METHODS)}: {method} has no second derivative to follow", method)
    checks.one_of("saliency", method, core.METHODS)
    return named(method, rule, m, baseline=baseline_of(None, None, baseline), chunk=chunk)


def of_function(
    function: Callable, classifier: Classifier, beta: float | None, data_format: DataFormat = "auto"
) -> Callable:
    """The map by a function `(model, x, y) -> attributions` of TensorFlow operations, for an attack."""
    model = classifier.model if beta is None else softplus_twin(classifier.model, beta)

    def attribute(x, y):
        try:
            attributions = function(model, x, y)
        except LayersError:
            raise
        except (NotImplementedError, AttributeError) as error:  # asked a symbolic tensor for its values
            raise TypeError("`saliency` must be made of TensorFlow operations to be attacked.") from error
        if not tf.is_tensor(attributions):
            raise TypeError(
                "`saliency` must be made of TensorFlow operations to be attacked. "
                f"Received: a function that returns {type(attributions).__name__}"
            )
        return attributions

    return _maps_of(attribute, classifier, data_format)


def of_saliency(
    saliency: Saliency,
    classifier: Classifier,
    target: str,
    beta: float | None,
    data_format: DataFormat = "auto",
    derivatives: at_once.Derivatives = "second",
) -> Callable:
    """The map by a `Saliency` of a score, one of `TARGETS`, for an attack."""

    def attribute(x, y):
        known = fitted(saliency, lambda: data_format_of(classifier.model, tuple(x.shape[1:]), data_format))
        fitting = at_once.chunked(known, classifier.model, x, derivatives)
        return fitting(score_of(saliency, classifier, y, target, beta), x)

    return _maps_of(attribute, classifier, data_format)


def _maps_of(attribute: Callable, classifier: Classifier, data_format: DataFormat) -> Callable:
    layout = functools.cache(lambda shape: data_format_of(classifier.model, shape, data_format))
    return lambda x, y: user_maps.as_maps("saliency", attribute(x, y), x, layout(tuple(x.shape[1:])))
