"""`wrap` a classifier for robust training, and `unwrap` it to ship."""

from typing import Any

import keras

from keras_rar.core import checks
from keras_rar.model import RARModel
from keras_rar.regularizers import (
    AbstractAttributionRegularizer,
    IGNormRegularizer,
    IGSumNormRegularizer,
    MadryRegularizer,
    NaturalRegularizer,
)

METHODS: dict[str, type[AbstractAttributionRegularizer]] = {
    "natural": NaturalRegularizer,
    "madry": MadryRegularizer,
    "ig_norm": IGNormRegularizer,
    "ig_sum_norm": IGSumNormRegularizer,
}


def wrap(
    base_model: keras.Model,
    method: str | AbstractAttributionRegularizer = "ig_sum_norm",
    *,
    on_nonfinite: str = "skip",
    seed: int | None = None,
    name: str | None = None,
    **options: Any,
) -> RARModel:
    """The classifier, ready to be compiled and fitted for robust attributions.

    The result is a `keras.Model` with the weights of `base_model`, shared, and its `call`, `predict` and
    `evaluate`. Only `fit` differs: it minimises the objective of the method.

    Args:
        base_model: A built Keras 3 classifier with one input and one output, logits or probabilities.
        method: A name in `keras_rar.METHODS` (`"natural"`, `"madry"`, `"ig_norm"`, `"ig_sum_norm"`) or
            a regularizer object. Defaults to `"ig_sum_norm"`.
        on_nonfinite: What to do with an update whose loss or gradient is NaN or infinite: `"skip"` it,
            counted in `skipped_updates`, or `"raise"`. Defaults to `"skip"`.
        seed: Integer seed of the random starts. Defaults to a random one.
        name: Name of the model.
        **options: Arguments of the method, such as `epsilon`, `bounds`, `steps`, `m`, `beta`: see
            `keras_rar.IGSumNormRegularizer` and `keras_rar.AbstractAttributionRegularizer`.

    Returns:
        A `keras_rar.RARModel`.

    Raises:
        TypeError: If `base_model` is not a Keras 3 model, or an option is unknown to the method.
        ValueError: If the model is not built or has several inputs or outputs, or an option is out of range.

    Example:

    >>> base_model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> model = keras_rar.wrap(base_model, "ig_sum_norm", epsilon=0.1, beta=0.1)
    >>> model.regularizer.steps
    7
    """
    if isinstance(method, AbstractAttributionRegularizer):
        if options:
            raise TypeError(f"With a regularizer object there are no other options. Received: {sorted(options)}")
        regularizer = method
    else:
        regularizer = METHODS[checks.one_of("method", method, METHODS)](**options)
    return RARModel(base_model, regularizer, on_nonfinite=on_nonfinite, seed=seed, name=name)


def unwrap(model: RARModel) -> keras.Model:
    """The base model: the same object that was wrapped, with the trained weights.

    Args:
        model: What `wrap` returned, or a loaded one.

    Returns:
        A plain Keras model; saving it needs nothing of keras_rar.

    Raises:
        TypeError: If `model` is not a `keras_rar.RARModel`.

    Example:

    >>> base_model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> keras_rar.unwrap(keras_rar.wrap(base_model)) is base_model
    True
    """
    if not isinstance(model, RARModel):
        raise TypeError(f"`model` must be a keras_rar.RARModel. Received: model={model!r}")
    return model.base_model
