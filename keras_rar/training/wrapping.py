"""`wrap` a classifier for robust training, and `unwrap` it to ship."""

from typing import Any

import keras

from keras_rar.core import checks
from keras_rar.methods.regularizer import AbstractAttributionRegularizer
from keras_rar.methods.table import METHODS
from keras_rar.training import recipes
from keras_rar.training.model import RARModel


def wrap(
    base_model: keras.Model,
    method: str | AbstractAttributionRegularizer = "ig_sum_norm",
    *,
    recipe: str | None = None,
    dataset: str | None = None,
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
        method: A name in `keras_rar.METHODS` (`"natural"`, `"madry"`, `"ig_norm"`, `"ig_sum_norm"`, `"igr"`,
            `"ig_topk"`) or a regularizer object. Defaults to `"ig_sum_norm"`.
        recipe: Where the options come from that are not given: `"paper"`, the exact settings for a `dataset`, or
            `"fast"`, the defaults of the method's class.
        dataset: `"mnist"`, `"fashion_mnist"`, `"gtsrb"` or `"oxford_flower17"`: whose ε and bounds, and with
            `recipe="paper"` all settings, are taken.
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
    5
    """
    if dataset is not None and recipe is None:
        checks.fail("dataset", "None without a recipe", dataset)
    if isinstance(method, AbstractAttributionRegularizer):
        if options or recipe is not None:
            given = sorted([*options, *(["recipe"] if recipe is not None else [])])
            raise TypeError(f"With a regularizer object there are no other options. Received: {given}")
        regularizer = method
    else:
        checks.one_of("method", method, METHODS)
        settings = {} if recipe is None else recipes.options(recipe, method, dataset)
        regularizer = METHODS[method](**{**settings, **options})
    return RARModel(base_model, regularizer, on_nonfinite=on_nonfinite, seed=seed, name=name)


def unwrap(model: RARModel) -> keras.Model:
    """The base model: the same object that was wrapped, with the trained weights.

    Args:
        model: What `wrap` returned, or a loaded one.

    Returns:
        A plain Keras model. A file that it is saved to needs nothing of keras_rar to be loaded, unless the base model
        did before: `keras_rar.paper.networks.resnet` has a layer of keras_rar.

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
