"""Saliency maps of a Keras classifier."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, overload

import keras
import numpy as np
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.core import saliency_methods as core
from keras_rar.core.channels import DataFormat
from keras_rar.core.saliency_methods import Saliency
from keras_rar.explaining import user_maps
from keras_rar.explaining.completeness import Completeness, complete_ig
from keras_rar.explaining.scores import score_of
from keras_rar.explaining.settled import fitted, key_of, named
from keras_rar.networks import at_once
from keras_rar.networks.base_model import baseline_of
from keras_rar.networks.channel_axis import data_format_of
from keras_rar.networks.classifier import TARGETS, Classifier
from keras_rar.networks.kept import compiled
from keras_rar.networks.surrogates import deconvolution, guided
from keras_rar.networks.tail import at_layer

if TYPE_CHECKING:
    from typing_extensions import Unpack

Method: TypeAlias = (
    Literal[
        "ig",
        "gradient",
        "gradient_x_input",
        "smoothgrad",
        "expected_gradients",
        "occlusion",
        "grad_cam",
        "lrp",
        "deeplift",
        "guided_backprop",
        "deconvolution",
    ]
    | Saliency
    | Callable[[Any, np.ndarray, np.ndarray], Any]
)
Target: TypeAlias = Literal["logit", "loss", "probability"]
Rule: TypeAlias = Literal["left", "right", "midpoint", "trapezoid", "gauss_legendre"]

BACKWARD = {"guided_backprop": guided, "deconvolution": deconvolution}

METHODS = [*core.METHODS, *BACKWARD]

_MOST_EXAMPLES = 32


class _Options(TypedDict, total=False):
    """The settings of `saliency_map` that do not change what it returns."""

    target: Target
    rule: Rule
    m: int | Literal["auto"]
    baseline: Any
    tolerance: float
    samples: int
    noise: float
    seed: int
    normalize: bool
    data_format: DataFormat
    layer: str | None
    batch_size: int | None
    chunk: int | Literal["auto"] | None


@overload
def saliency_map(
    model: keras.Model,
    x: Any,
    y: Any = None,
    method: Method = "ig",
    *,
    return_completeness: Literal[False] = False,
    **options: "Unpack[_Options]",
) -> np.ndarray: ...
@overload
def saliency_map(
    model: keras.Model,
    x: Any,
    y: Any = None,
    method: Method = "ig",
    *,
    return_completeness: Literal[True],
    **options: "Unpack[_Options]",
) -> tuple[np.ndarray, Completeness]: ...
def saliency_map(
    model: keras.Model,
    x: Any,
    y: Any = None,
    method: Method = "ig",
    *,
    target: Target = "logit",
    rule: Rule = "right",
    m: int | Literal["auto"] = 100,
    baseline: Any = "auto",
    tolerance: float = 0.01,
    samples: int = 50,
    noise: float = 0.1,
    seed: int = 0,
    normalize: bool = True,
    data_format: DataFormat = "auto",
    layer: str | None = None,
    batch_size: int | None = None,
    chunk: int | Literal["auto"] | None = "auto",
    return_completeness: bool = False,
) -> np.ndarray | tuple[np.ndarray, Completeness]:
    """The saliency map of each example: how much each pixel counts for the score of a class.

    By default what the paper shows and compares: integrated gradients of the label's logit from a zero baseline,
    `right(100)`, absolute values, summed over channels, scaled to sum to the number of pixels.

    Args:
        model: Any Keras classifier with one input and one output, or a `RARModel`.
        x: Array of shape `(n, ...)`.
        y: Labels whose score is explained; of several per row the one of the highest score. Defaults to the predicted.
        method: `"ig"`, `"gradient"`, `"gradient_x_input"`, `"smoothgrad"`, `"expected_gradients"`, `"occlusion"`,
            `"grad_cam"`, `"lrp"`, `"deeplift"`, `"guided_backprop"` (Springenberg et al. 2015) or `"deconvolution"`
            (Zeiler & Fergus 2014); a `Saliency` object, which has more settings; or a function
            `(model, x, y) -> attributions` of NumPy arrays, such as an explainer of another library.
        target: The score: `"logit"`, `"loss"` (cross-entropy) or `"probability"` of the label. Of several sigmoids the
            label's own counts alone.
        rule: Name of the quadrature rule of IG. Defaults to `"right"`.
        m: Number of nodes of IG, or `"auto"` to double it, from 16, until the relative gap of every example is at
            most `tolerance`; a warning says if 4096 are not enough. Defaults to `100`.
        baseline: Float or array that broadcasts to an input, `None` in it for the input itself, which gets no share.
            Of `"expected_gradients"` it may be a background, an array of inputs; of `"occlusion"` it covers a window.
            See `baseline_report`. Defaults to `"auto"`: that of the training of a `RARModel`, or `0.`; a training at
            another layer than the one explained has none for it.
        tolerance: Float > 0, for `m="auto"`. Defaults to `0.01`.
        samples: Number of draws of SmoothGrad and of expected gradients. Defaults to `50`.
        noise: Standard deviation of those of SmoothGrad, in the units of the input. Defaults to `0.1`.
        seed: Their integer seed. Defaults to `0`.
        normalize: Whether to reduce to the map above; if not, the signed attributions. Defaults to `True`.
        data_format: Where images and volumes have their channels: `"channels_last"`, `"channels_first"`, `"none"`, or
            `"auto"`: as the first convolution or pooling layer has them, or as sizes tell. Defaults to `"auto"`.
        layer: Name of a layer whose output is explained in place of the input, as `"embedding"` for words, which are
            integers: attributions have the shape of its output, `baseline` and `noise` are in its units, and rows that
            are padding get 0. Of rows, such as those of an embedding, the map has one value each, `|Σ_c a_jc|`.
            Defaults to `None`, the input.
        batch_size: Positive integer, examples explained at once. Defaults to `None`: what fits in memory, at most 32.
        chunk: Number of nodes evaluated at once: an integer, `None` for all, or `"auto"`. Defaults to `"auto"`.
        return_completeness: Whether to return a `Completeness` too, for `method="ig"`. Defaults to `False`.

    Returns:
        NumPy array of shape `(n, height, width)`, or of the shape of `x` where that has no channels or with
        `normalize=False`; with `return_completeness` a pair of it and a `Completeness`.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If an argument is out of range, or there is no layer of that name.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
    >>> model.set_weights([np.array([[1.0, 0.0], [-2.0, 0.0]])])
    >>> print(saliency_map(model, [[0.5, 0.5]], [0], normalize=False).round(3))
    [[ 0.5 -1. ]]
    """
    baseline = baseline_of(model, layer, baseline)
    model, x = at_layer(model, layer, x)
    classifier = Classifier(model)
    user_maps.check_known("method", method, classifier)
    x = classifier.check_inputs(x)
    if batch_size is None:
        drawn = dict.fromkeys(("smoothgrad", "expected_gradients"), samples)
        points = getattr(method, "points", {"ig": m, **drawn}.get(str(method), 1))
        points = at_once.points_said(getattr(method, "chunk", chunk), points)
        kind = core.METHODS.get(method) if isinstance(method, str) else type(method)
        if not hasattr(kind, "chunk"):  # all of its points go at once
            points = int(getattr(kind, "points", 1))
        batch_size = at_once.examples(classifier.model, x.shape[1:], "first", _MOST_EXAMPLES, points)
    batch_size = checks.positive_int("batch_size", batch_size)
    checks.one_of("target", target, TARGETS)
    if return_completeness and method != "ig":
        checks.fail("return_completeness", 'False unless method="ig"', return_completeness)
    y = _predicted(classifier, x, batch_size) if y is None else classifier.check_labels(y, len(x))
    y, completeness = classifier.explained(x, y, batch_size), None
    layout = data_format_of(classifier.model, x.shape[1:], data_format) if normalize else "none"
    if method == "ig":
        explained, completeness = complete_ig(classifier, x, y, target, rule, m, baseline, tolerance, chunk, batch_size)
    elif callable(method) and not isinstance(method, Saliency):
        explained = user_maps.of_function(method, classifier, x, y, layout if normalize else None)
    else:
        relu = BACKWARD.get(method) if isinstance(method, str) else None
        name = method if relu is None else "gradient"
        saliency = name
        if not isinstance(name, Saliency):
            checks.one_of("method", name, METHODS)
            settings = {"samples": samples, "noise": noise, "seed": seed, "baseline": baseline, "chunk": chunk}
            saliency = named(name, rule, m, **settings)
        saliency = fitted(saliency, lambda: data_format_of(classifier.model, x.shape[1:], data_format))

        def explain(x, y):
            score = score_of(saliency, classifier, y, target, None)
            score = score if relu is None else classifier.score(y, TARGETS[target], relu)
            return at_once.chunked(saliency, classifier.model, x, "first")(score, x) / classifier.head.gradient_scale

        user_maps.check_saliency(saliency, explain, x, layout, classifier.columns)
        said = (method, target, samples, noise, seed, chunk, key_of(saliency), classifier.multilabel)
        run = compiled(classifier.model, said if isinstance(method, str) else None, explain)
        explained = at_once.in_batches(run, batch_size, x, y)
    if normalize:
        result = user_maps.as_maps("method", explained, tf.constant(x), layout).numpy()
    else:
        result = classifier.columns.free(explained)
    return (result, completeness) if completeness is not None and return_completeness else result


def _predicted(classifier: Classifier, x: np.ndarray, batch_size: int) -> np.ndarray:
    predicted = compiled(classifier.model, ("predicted", classifier.multilabel), lambda x, y: classifier.predicted(x))
    return at_once.in_batches(predicted, batch_size, x, np.zeros(len(x), "int64"))
