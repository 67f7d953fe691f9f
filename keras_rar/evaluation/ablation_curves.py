"""Deletion and insertion curves: a score while the entries of a map are ablated, the highest first."""

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypedDict, overload

import keras
import numpy as np

from keras_rar.core import ablation, checks
from keras_rar.evaluation.ablated import Ablated

if TYPE_CHECKING:
    from typing_extensions import Unpack

Target: TypeAlias = Literal["logit", "probability"]
TARGETS = ("logit", "probability")

_POINTS = 50  # stages of a curve, where a map has as many entries


class Curve(NamedTuple):
    """Scores while the entries of a map are ablated.

    Args:
        share: The share of entries that is deleted, or inserted, at each stage, `(points + 1,)`.
        scores: The score at each stage, `(n, points + 1)`.
    """

    share: np.ndarray
    scores: np.ndarray


class _Options(TypedDict, total=False):
    """The settings of `deletion` and `insertion` that do not change what they return."""

    target: Target
    baseline: Any
    points: int | None
    seed: int
    batch_size: int | None
    layer: str | None


@overload
def deletion(
    model: keras.Model,
    x: Any,
    maps: Any,
    y: Any = None,
    *,
    return_curve: Literal[False] = False,
    **options: "Unpack[_Options]",
) -> np.ndarray: ...
@overload
def deletion(
    model: keras.Model, x: Any, maps: Any, y: Any = None, *, return_curve: Literal[True], **options: "Unpack[_Options]"
) -> tuple[np.ndarray, Curve]: ...
def deletion(
    model: keras.Model,
    x: Any,
    maps: Any,
    y: Any = None,
    *,
    target: Target = "probability",
    baseline: Any = "auto",
    points: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    layer: str | None = None,
    return_curve: bool = False,
) -> np.ndarray | tuple[np.ndarray, Curve]:
    """The area under the deletion curve of each example: low if the map is faithful.

    `∫₀¹ f(x without the share t of its highest entries) dt` (Petsiuk et al. 2018): a baseline stands in place of the
    entries, all channels of a pixel at once, in the order of decreasing map. Of equal entries a random one comes first.
    Compare with the controls of `faithfulness`: alone, the area says above all how sure the model is.

    It costs `points + 1` forward passes per example.

    Args:
        model: Any Keras classifier with one input and one output, or a `RARModel`.
        x: Array of shape `(n, ...)`.
        maps: Array of the shape of `x`, or of `x` without its axis of channels. Signed maps are taken by their sign.
        y: Labels whose score is measured. Defaults to the predicted ones.
        target: The score: `"probability"` or `"logit"` of the label. Defaults to `"probability"`.
        baseline: Float or array that broadcasts to an input. Defaults to `"auto"`: that of the training, or `0.`.
        points: Integer from 1 to the number of entries of a map, the stages of the curve. Defaults to 50, or fewer if
            a map has fewer entries.
        seed: Integer, of the order of equal entries. Defaults to `0`.
        batch_size: How many rows the network sees at once. Defaults to `None`, what fits in memory.
        layer: Name of a layer whose output is ablated in place of the input, as for `saliency_map`: row by row, and not
            where it is padding. Defaults to `None`.
        return_curve: Whether to return a `Curve` too. Defaults to `False`.

    Returns:
        Array of shape `(n,)`, NaN where a map is constant or an example equals the baseline; with `return_curve` a pair
        of it and a `Curve`.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If maps have a wrong shape or NaN, the baseline is all there is, or an argument is out of range.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    >>> model.set_weights([np.array([[3.0], [1.0]])])
    >>> deletion(model, [[1.0, 1.0]], [[3.0, 1.0]], [1], target="logit")  # 4, then 1, then 0
    array([1.5], dtype=float32)
    """
    checks.boolean("return_curve", return_curve)
    ablated = Ablated(model, x, y, baseline, seed, batch_size, layer)
    maps = ablated.check_maps("maps", maps)
    result = area_and_curve(ablated, maps, target, stages_of(maps, points), insert=False)
    return result if return_curve else result[0]


@overload
def insertion(
    model: keras.Model,
    x: Any,
    maps: Any,
    y: Any = None,
    *,
    return_curve: Literal[False] = False,
    **options: "Unpack[_Options]",
) -> np.ndarray: ...
@overload
def insertion(
    model: keras.Model, x: Any, maps: Any, y: Any = None, *, return_curve: Literal[True], **options: "Unpack[_Options]"
) -> tuple[np.ndarray, Curve]: ...
def insertion(
    model: keras.Model,
    x: Any,
    maps: Any,
    y: Any = None,
    *,
    target: Target = "probability",
    baseline: Any = "auto",
    points: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    layer: str | None = None,
    return_curve: bool = False,
) -> np.ndarray | tuple[np.ndarray, Curve]:
    """The area under the insertion curve of each example: high if the map is faithful.

    `∫₀¹ f(b with the share t of the highest entries of x) dt` (Petsiuk et al. 2018): the entries are put into the
    baseline b in the order in which `deletion` takes them away, and all else is as there.

    Args:
        model: Any Keras classifier with one input and one output, or a `RARModel`.
        x: Array of shape `(n, ...)`.
        maps: Array of the shape of `x`, or of `x` without its axis of channels. Signed maps are taken by their sign.
        y: Labels whose score is measured. Defaults to the predicted ones.
        target: The score: `"probability"` or `"logit"` of the label. Defaults to `"probability"`.
        baseline: Float or array that broadcasts to an input. Defaults to `"auto"`: that of the training, or `0.`.
        points: Integer from 1 to the number of entries of a map, the stages of the curve. Defaults to 50, or fewer if
            a map has fewer entries.
        seed: Integer, of the order of equal entries. Defaults to `0`.
        batch_size: How many rows the network sees at once. Defaults to `None`, what fits in memory.
        layer: Name of a layer whose output is ablated in place of the input, as for `saliency_map`: row by row, and not
            where it is padding. Defaults to `None`.
        return_curve: Whether to return a `Curve` too. Defaults to `False`.

    Returns:
        Array of shape `(n,)`, NaN where a map is constant or an example equals the baseline; with `return_curve` a pair
        of it and a `Curve`.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If maps have a wrong shape or NaN, the baseline is all there is, or an argument is out of range.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    >>> model.set_weights([np.array([[3.0], [1.0]])])
    >>> insertion(model, [[1.0, 1.0]], [[3.0, 1.0]], [1], target="logit")  # 0, then 3, then 4
    array([2.5], dtype=float32)
    """
    checks.boolean("return_curve", return_curve)
    ablated = Ablated(model, x, y, baseline, seed, batch_size, layer)
    maps = ablated.check_maps("maps", maps)
    result = area_and_curve(ablated, maps, target, stages_of(maps, points), insert=True)
    return result if return_curve else result[0]


def stages_of(maps: np.ndarray, points: int | None) -> np.ndarray:
    """How many entries of maps are ablated at each stage."""
    entries = math.prod(maps.shape[1:])
    return ablation.stages(entries, min(_POINTS, entries) if points is None else points)


def area_and_curve(
    ablated: Ablated, maps: np.ndarray, target: str, counts: np.ndarray, insert: bool
) -> tuple[np.ndarray, Curve]:
    """The area under the curve of each example, and the `Curve`."""
    checks.one_of("target", target, TARGETS)
    ties = ablated.random(lambda rng: rng.random(maps.shape[1:]))
    rows, entries = maps.reshape(len(maps), -1), math.prod(maps.shape[1:])
    lowest, highest = rows.min(axis=1), rows.max(axis=1)
    if ablated.words is None:
        ranks = ablation.removal_ranks(maps, ties).numpy()
    else:  # a share is one of the words of each text
        words = ablated.words.reshape(rows.shape)
        lowest, highest = np.where(words, rows, np.inf).min(axis=1), np.where(words, rows, -np.inf).max(axis=1)
        ranks = ablation.removal_ranks(np.where(ablated.words, maps, -np.inf), ties).numpy()
        scale = entries / np.maximum(words.sum(axis=1), 1)
        ranks = ranks * scale.reshape(-1, *[1] * (ranks.ndim - 1))
    ranks = ablated.of_x(ranks, maps.shape)
    at = counts.reshape(-1, *[1] * ranks.ndim)
    scores = ablated.scores(target, lambda examples, sets: ranks[examples][None] < at[sets], len(counts), insert)
    area = ablation.curve_area(scores, counts).numpy()
    says_nothing = ablated.is_baseline | (lowest >= highest)
    return np.where(says_nothing, np.nan, area).astype(area.dtype), Curve(counts / counts[-1], scores)
