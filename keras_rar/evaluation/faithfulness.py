"""How faithful maps are to a network, beside the controls that show what a map that knows nothing of it scores."""

from typing import Any

import keras
import numpy as np

from keras_rar.core import ablation, checks
from keras_rar.evaluation.ablated import Ablated
from keras_rar.evaluation.ablation_curves import TARGETS, Target, area_and_curve, stages_of

_ROUNDING = 1e-6  # a change of the score below this share of it is none


def infidelity(
    model: keras.Model,
    x: Any,
    attributions: Any,
    y: Any = None,
    *,
    target: Target = "logit",
    baseline: Any = "auto",
    samples: int = 100,
    normalized: bool = True,
    seed: int = 0,
    batch_size: int | None = None,
    layer: str | None = None,
) -> np.ndarray:
    """How far the attributions of each example are from measured ablations: 0 if the map is faithful.

    `E_S[(β Σ_{i ∈ S} aᵢ − (f(x) − f(x without S)))²]` (Yeh et al. 2019): a baseline stands in place of the entries of a
    random subset S, in images a square. The attributions of S should sum to what the score loses, so they must be
    signed and shares of the score: integrated gradients, or gradient × input, not a gradient. If normalised, the best
    scale β ≥ 0 is taken and the result is divided by the mean square of the changes, `1 − R²` without intercept: it is
    in [0, 1], does not depend on the scales of map and score, and a map of zeros or of the wrong sign scores 1.
    Otherwise β is 1, and the result is in squares of the score.

    It costs `samples + 1` forward passes per example. All examples have the same subsets.

    Args:
        model: Any Keras classifier with one input and one output, or a `RARModel`.
        x: Array of shape `(n, ...)`.
        attributions: Signed array of the shape of `x`, or of `x` without its axis of channels: a pixel is ablated with
            all of its channels, whose attributions are summed.
        y: Labels whose score is explained. Defaults to the predicted ones.
        target: The score that is attributed, `"logit"` or `"probability"` of the label. Defaults to `"logit"`.
        baseline: Float or array that broadcasts to an input. Defaults to `"auto"`: that of the training, or `0.`.
        samples: Positive integer, the number of subsets. Defaults to `100`.
        normalized: Whether to take the best scale and divide. Defaults to `True`.
        seed: Integer, of the subsets. Defaults to `0`.
        batch_size: How many rows the network sees at once. Defaults to `None`, what fits in memory.
        layer: Name of a layer whose output is ablated in place of the input, as for `saliency_map`: row by row, and not
            where it is padding. Defaults to `None`.

    Returns:
        float64 array of shape `(n,)`; if normalised, NaN where no ablation changes the score.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If attributions have a wrong shape or NaN, the baseline is all there is, or an argument is out of
            range.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    >>> model.set_weights([np.array([[3.0], [1.0]])])
    >>> infidelity(model, [[1.0, 1.0]], [[6.0, 2.0]], [1])  # every subset's share, up to a scale
    array([0.])
    """
    checks.boolean("normalized", normalized)
    ablated = Ablated(model, x, y, baseline, seed, batch_size, layer)
    attributions = ablated.check_maps("attributions", attributions)
    shape = ablated.shape_of_maps(attributions)
    subsets = _subsets(ablated, shape, "target", target, samples)
    changes = _changes(ablated, shape, target, subsets)
    values = ablated.without_channels(attributions, shape)
    return ablation.infidelity(values, subsets, changes, normalized).numpy()


def faithfulness(
    model: keras.Model,
    x: Any,
    maps: Any,
    y: Any = None,
    *,
    attributions: Any = None,
    target: Target = "probability",
    attributed: Target = "logit",
    baseline: Any = "auto",
    points: int | None = None,
    samples: int = 100,
    seed: int = 0,
    batch_size: int | None = None,
    layer: str | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Deletion, insertion and normalised infidelity of maps and of two controls that know nothing of the network.

    The control `"random"` is the map with its entries in a random order. `"input"` is the input itself, `|x − b|`
    summed over channels (signed for infidelity): the most stable map of all. A map that is not better than both says
    nothing of the network that they do not say, however stable it is.

    It costs `6 (points + 1) + samples + 1` forward passes per example.

    Args:
        model: Any Keras classifier with one input and one output, or a `RARModel`.
        x: Array of shape `(n, ...)`.
        maps: Array of the shape of `x`, or of `x` without its axis of channels.
        y: Labels whose score is explained. Defaults to the predicted ones.
        attributions: Signed attributions for infidelity, see `infidelity`; of the shape of `maps` or of `x`. Defaults
            to `maps`, although no unsigned map can tell where the score rises.
        target: The score of the curves: `"probability"` or `"logit"` of the label. Defaults to `"probability"`.
        attributed: The score that the attributions are shares of, likewise. Defaults to `"logit"`.
        baseline: Float or array b that broadcasts to an input. Defaults to `"auto"`: that of the training, or `0.`.
        points: Number of stages of the curves, see `deletion`. Defaults to 50, or fewer if a map has fewer entries.
        samples: Positive integer, the number of subsets for infidelity. Defaults to `100`.
        seed: Integer, of the random map, the order of equal entries and the subsets. Defaults to `0`.
        batch_size: How many rows the network sees at once. Defaults to `None`, what fits in memory.
        layer: Name of a layer whose output is ablated in place of the input, as for `saliency_map`: row by row, and not
            where it is padding. Defaults to `None`.

    Returns:
        For each of `"map"`, `"random"` and `"input"` a dictionary of the arrays `"deletion"` (low is faithful),
        `"insertion"` (high is) and `"infidelity"` (low is), of shape `(n,)`; NaN as in these functions.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If maps have a wrong shape or NaN, the baseline is all there is, or an argument is out of range.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    >>> model.set_weights([np.array([[3.0], [1.0], [-2.0]])])
    >>> found = faithfulness(model, [[1.0, 1.0, 1.0]], [[3.0, 1.0, -2.0]], [1])
    >>> {name: float(scores["infidelity"][0].round(2)) for name, scores in found.items()}
    {'map': 0.0, 'random': 0.37, 'input': 0.78}
    """
    ablated = Ablated(model, x, y, baseline, seed, batch_size, layer)
    maps = ablated.check_maps("maps", maps)
    shape = maps.shape
    values = maps if attributions is None else ablated.check_maps("attributions", attributions, shape)
    values = ablated.without_channels(values, shape)
    checks.one_of("target", target, TARGETS)
    counts = stages_of(maps, points)
    subsets = _subsets(ablated, shape, "attributed", attributed, samples)
    away = ablated.x - ablated.baseline
    order = ablated.random(lambda rng: rng.permutation(maps[0].size))
    if ablated.words is not None:  # padding stays: a map in which it took the place of words would be a weak control
        order = _among(order, ablated.words.reshape(order.shape))
    compared = {
        "map": (maps, values),
        "random": tuple(np.take_along_axis(m.reshape(order.shape), order, 1).reshape(shape) for m in (maps, values)),
        "input": tuple(ablated.without_channels(m, shape) for m in (np.abs(away), away)),
    }
    changes = _changes(ablated, shape, attributed, subsets)
    return {
        name: {
            "deletion": area_and_curve(ablated, m, target, counts, insert=False)[0],
            "insertion": area_and_curve(ablated, m, target, counts, insert=True)[0],
            "infidelity": ablation.infidelity(a, subsets, changes).numpy(),
        }
        for name, (m, a) in compared.items()
    }


def _among(order: np.ndarray, words: np.ndarray) -> np.ndarray:
    """A permutation of each row that moves words alone, made of one of all."""
    found = np.tile(np.arange(order.shape[1]), (len(order), 1))
    for row, drawn, at in zip(found, order, words, strict=True):
        row[at] = np.flatnonzero(at)[np.argsort(drawn[at])]
    return found


def _subsets(ablated: Ablated, shape: tuple[int, ...], name: str, target: str, samples: int) -> np.ndarray:
    """Random subsets of the entries of maps of a shape, `(samples, *map)`, once all settings are valid."""
    checks.one_of(name, target, TARGETS)
    return ablation.random_subsets(shape[1:], checks.positive_int("samples", samples), ablated.seed)


def _changes(ablated: Ablated, shape: tuple[int, ...], target: str, subsets: np.ndarray) -> np.ndarray:
    """What the score loses without each subset, `(n, samples)`."""
    none = np.zeros_like(subsets[:1])
    masks = ablated.of_x(np.concatenate([none, subsets])[:, None], shape)
    scores = ablated.scores(target, lambda examples, sets: masks[sets], len(masks), insert=False).astype("float64")
    whole, without = scores[:, :1], scores[:, 1:]
    changes = whole - without
    changes[np.abs(changes) <= _ROUNDING * np.maximum(np.abs(whole), np.abs(without))] = 0
    return changes
