"""`wrap` a classifier for robust training, and `unwrap` it to ship."""

import sys
from typing import Any, Literal

import keras

from keras_rar.core import checks
from keras_rar.methods.regularizer import AbstractAttributionRegularizer
from keras_rar.methods.table import METHODS, Method, Options, make
from keras_rar.training import recipes
from keras_rar.training.model import RARModel

if sys.version_info >= (3, 11):
    from typing import Unpack
else:
    from typing_extensions import Unpack


def wrap(
    base_model: keras.Model,
    method: Method | AbstractAttributionRegularizer = "ig_topk",
    *,
    recipe: Literal["fast", "paper"] | None = None,
    dataset: str | None = None,
    on_nonfinite: Literal["skip", "raise"] = "skip",
    seed: int | None = None,
    layer: str | None = None,
    batch_statistics: Literal["auto", "frozen", "updated"] = "auto",
    attribution_layer: str | None = None,
    name: str | None = None,
    **options: Unpack[Options],
) -> RARModel:
    """Make a classifier ready to be compiled and fitted for robust attributions.

    The result is a `keras.Model` with the weights of `base_model`, shared, and its `call`, `predict` and
    `evaluate`. Only `fit` differs: it minimises the objective of the method.

    The recommended training is adversarial first and compares maps in the last fifth of `fit`: `begin=0.8`. The first
    part costs what adversarial training costs.

    Args:
        base_model: A built Keras 3 classifier with one input and one output, logits or probabilities.
        method: A name in `keras_rar.METHODS` or a regularizer object. `"ig_topk"` keeps the pixels that count most
            and is recommended; `"ig_norm"` and `"ig_sum_norm"` are the paper's methods; `"igr"` compares whole maps;
            `"madry"` is adversarial training; `"natural"` is plain training; the page of methods has the others.
            Defaults to `"ig_topk"`.
        recipe: Where the options come from that are not given: `"paper"`, the exact settings for a `dataset`, or
            `"fast"`, the defaults of the method's class.
        dataset: `"mnist"`, `"fashion_mnist"`, `"gtsrb"` or `"oxford_flower17"`: whose ε and bounds, and with
            `recipe="paper"` all settings, are taken.
        on_nonfinite: What to do with an update whose loss or gradient, or what it would write to weights, statistics
            and optimizer, is NaN or infinite: `"skip"` it, counted in `skipped_updates`, or `"raise"`. Defaults to
            `"skip"`.
        seed: Integer seed of the random starts. Defaults to a random one.
        layer: Name of a layer whose output is perturbed and explained in place of the input, as `"embedding"` for
            words, which are integers. ε, `step_size` and `baseline` are in the units of its output, and `bounds`
            default to `None`. Rows that are padding, by the mask of the layer, are never perturbed. What comes before
            the layer runs in inference mode, and is trained with the rest. Defaults to `None`.
        batch_statistics: What layers of batch normalisation do while the attribution term is trained: `"frozen"`, they
            normalise by their moving statistics, as in the network that will be deployed; `"updated"`, by each batch,
            as in plain training. Defaults to `"auto"`: frozen if there was training before, such as that before
            `begin`.
        attribution_layer: Name of a layer whose output the change of the loss is attributed to, in place of the input
            that is perturbed: the term `attributions`, of `"ig_norm"` and `"ig_sum_norm"`, is then IG_h (Chen et al.
            2019). Every path from the input to the output must run through the layer. It is not `layer`, whose output
            is perturbed too and explained in all terms; here maps that people see stay those of the input. Defaults to
            `None`, the input.
        name: Name of the model.
        **options: Options of the method. All methods have `epsilon` (ε, in the units of `bounds`; a float, an array
            of one per feature, or a Keras schedule), `norm`, `bounds` (the range of valid inputs), `steps`,
            `step_size`, `random_start`, `rule`, `m`, `attack_m`, `baseline`, `chunk`, `memory_budget`, `price` (of
            perturbations, in place of a ball) and `begin` (when the attribution term begins: an integer, after that
            many epochs, or a float below 1, a share of them): see `keras_rar.AbstractAttributionRegularizer`. The
            weight of the attribution term is `factor`, of `"ig_sum_norm"` `beta`, also a float or a schedule. For the
            rest see the class of the method, such as `keras_rar.IGTopKRegularizer`.

    Returns:
        A `keras_rar.RARModel`.

    Raises:
        TypeError: If `base_model` is not a Keras 3 model, or an option is unknown to the method; the error lists
            those that it has.
        ValueError: If the model is not built or has several inputs or outputs, or an option is out of range.

    Example:

    >>> base_model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(3)])
    >>> model = keras_rar.wrap(base_model, epsilon=0.1, begin=0.8)
    >>> type(model.regularizer).__name__
    'IGTopKRegularizer'
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
        settings: dict[str, Any] = {} if recipe is None else recipes.options(recipe, method, dataset)
        of_layer: dict[str, Any] = {} if layer is None else {"bounds": None}
        regularizer = make(method, {**settings, **of_layer, **options})
    return RARModel(
        base_model,
        regularizer,
        on_nonfinite=on_nonfinite,
        seed=seed,
        layer=layer,
        batch_statistics=batch_statistics,
        attribution_layer=attribution_layer,
        name=name,
    )


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
