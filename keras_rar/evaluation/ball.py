"""The ball that a model is measured in: of a `RARModel` that of its training, of any other model the user says it."""

from collections.abc import Iterable
from typing import Any

import keras

from keras_rar.core import checks
from keras_rar.core.channels import DataFormat
from keras_rar.evaluation.plain_values import plain
from keras_rar.evaluation.settings import Settings
from keras_rar.methods.gradient_regularizers import R2ETRegularizer
from keras_rar.methods.map_regularizers import IGTopKRegularizer
from keras_rar.methods.regularizer import AbstractAttributionRegularizer
from keras_rar.methods.sums import SumOfRegularizers
from keras_rar.networks.base_model import is_wrapped
from keras_rar.networks.channel_axis import data_format_of
from keras_rar.networks.classifier import Classifier
from keras_rar.networks.tail import tail_of


def of_training(model: keras.Model, data_format: DataFormat = "auto") -> Settings:
    """Radius, norm, bounds, baseline and layer that a `RARModel` is trained with, and k if its method has one.

    A training with a price has neither radius nor norm. Where ε follows a schedule it is the largest radius.
    `keras_rar.IGTopKRegularizer` and `keras_rar.R2ETRegularizer` count the entries of an input, a map those without
    channels: their k is divided by the number of channels. A method of the user's may have another `k`, which is not
    taken.

    Args:
        model: Any model.
        data_format: Where inputs have their channels, as for `saliency_map`. Defaults to `"auto"`.

    Returns:
        Settings by name; none for a model that keras_rar does not train.

    Example:

    >>> base_model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> of_training(keras_rar.wrap(base_model, "ig_topk", epsilon=0.3, k=2))
    {'bounds': (0.0, 1.0), 'baseline': 0.0, 'epsilon': 0.3, 'norm': 'linf', 'k': 2}
    >>> of_training(base_model)
    {}
    """
    regularizer: Any = getattr(model, "regularizer", None) if is_wrapped(model) else None
    if not isinstance(regularizer, AbstractAttributionRegularizer):
        return {}
    ball = Settings(bounds=regularizer.bounds, baseline=regularizer.baseline)
    if regularizer.price is None:
        ball["epsilon"] = regularizer.epsilon
        ball["norm"] = regularizer.norm  # type: ignore[typeddict-item]  # checked when it was made
    layer: str | None = getattr(model, "layer", None)
    if layer is not None:
        ball["layer"] = layer
    k = _k_of(regularizer)
    if k is not None:
        classifier = Classifier(model if layer is None else tail_of(model, layer))
        shape = classifier.input_shape
        layout = data_format_of(classifier.model, shape, data_format)
        channels = {"channels_last": shape[-1], "channels_first": shape[0]}.get(layout)
        ball["k"] = max(1, k // (channels or 1))
    return ball


def _k_of(regularizer: Any) -> int | None:
    """k of a method that has one, or of the first summand of a sum that has."""
    if isinstance(regularizer, SumOfRegularizers):
        found = [_k_of(one) for one in regularizer.regularizers]
        return next((k for k in found if k is not None), None)
    return regularizer.k if isinstance(regularizer, (IGTopKRegularizer, R2ETRegularizer)) else None


def completed(model: keras.Model, given: Settings) -> Settings:
    """The settings given, with those of the training of a `RARModel` in place of what is missing of the ball.

    Args:
        model: The model to be measured.
        given: Settings by name.

    Raises:
        ValueError: If the radius is missing: of a model that keras_rar does not train, or where the norm or the
            bounds given are not those of the training.
    """
    return _complete(of_training(model, given.get("data_format", "auto")), given)


def shared(models: Iterable[keras.Model], given: Settings) -> Settings:
    """As `completed`, for models that are to be measured with the same settings.

    Raises:
        ValueError: As for `completed`, or if the models are trained in different balls and what differs is not given.
    """
    data_format = given.get("data_format", "auto")
    balls = [ball for ball in (of_training(model, data_format) for model in models) if ball]
    first = balls[0] if balls else Settings()
    for name, value in first.items():
        others = [ball.get(name) for ball in balls if plain(ball.get(name)) != plain(value)]
        if others and name not in given:
            checks.fail(
                name, f"given where trainings differ, {checks.shown(value)} and {checks.shown(others[0])}", None
            )
    return _complete(first, given)


def _complete(ball: Settings, given: Settings) -> Settings:
    if "layer" in given and given["layer"] != ball.get("layer"):  # whose units are others
        ball = {} if given["layer"] is None else {"bounds": None}
    if "epsilon" not in given:
        if "epsilon" not in ball:
            priced = "baseline" in ball
            which = "is trained with a price, which has no radius" if priced else "keras_rar does not train"
            checks.fail("epsilon", f"given for a model that {which}, such as epsilon=0.1", None)
        for name, wanted, trained in (
            ("norm", given.get("norm", ball["norm"]), ball["norm"]),
            ("bounds", given.get("bounds", ball["bounds"]), ball["bounds"]),
        ):
            if plain(wanted) != plain(trained):
                checks.fail(
                    name, f"that of the training, {checks.shown(trained)}, unless `epsilon` is given too", wanted
                )
    return {**ball, **given}
