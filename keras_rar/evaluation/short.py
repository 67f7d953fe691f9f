"""Examples whose maps have too few entries to be compared, as texts of few words: known before anything is attacked."""

import warnings

import numpy as np

from keras_rar.attacks import AttributionAttack, explained
from keras_rar.networks.classifier import Classifier


def too_short(classifier: Classifier, x: np.ndarray, k: int) -> np.ndarray:
    """Which maps have no more than k entries that are not padding, booleans `(n,)`.

    Any two such maps have all of them in common. It depends on the examples alone, not on what a network has learned.

    Args:
        classifier: The network, or what of it is behind a layer.
        x: What it takes, `(n, ...)`.
        k: Number of entries compared.
    """
    columns = classifier.columns
    if not columns.masked:
        return np.zeros(len(x), bool)
    entries = np.sum(np.asarray(columns.is_free(x)).reshape(len(x), -1), axis=1)
    if not getattr(classifier.model, "by_rows", False):
        entries = entries * columns.width
    return entries <= k


def said(classifier: Classifier, x: np.ndarray, k: int | None) -> str:
    """A sentence about the examples that `too_short` finds, or nothing."""
    short = 0 if k is None else int(np.sum(too_short(classifier, x, k)))
    if not short:
        return ""
    return (
        f"{short} of {len(x)} examples have no more than k = {k} entries that are not padding: their top-k "
        "intersection is undefined and in no mean. A smaller `k_report` measures more of them."
    )


def counted(classifier: Classifier, x: np.ndarray, attack: AttributionAttack) -> dict[str, np.ndarray]:
    """Which examples count in the mean of each score, booleans `(n,)`; a warning says where some do not.

    Args:
        classifier: As for `too_short`.
        x: As for `too_short`.
        attack: The attack on maps.
    """
    k = attack.k_report or explained.eighth(explained.map_shape_of(classifier, x, attack.data_format))
    if sentence := said(classifier, x, k):
        warnings.warn(sentence, RuntimeWarning, stacklevel=3)
    least = {name: k if name == "topk_intersection" else 1 for name in explained.SCORES}
    picked = ~too_short(classifier, x, least.get(attack.keep, 0))
    return {name: picked & ~too_short(classifier, x, entries) for name, entries in least.items()}
