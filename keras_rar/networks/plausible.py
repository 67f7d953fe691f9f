"""Whether scores can be logits: what looks squashed, never changes or is NaN is refused before anything is measured."""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_rar.networks.kept import kept_with
from keras_rar.networks.row_parts import integer_columns

_WITHIN_ONE = ("Cos", "Erf", "Sin", "Softsign", "Tanh")
_SCALES = (10.0, 1e3, -1e3)


def check_scores(classifier: Any, x: np.ndarray) -> None:
    """Refuse probabilities whose softmax or sigmoid was not found: as logits they hide gradients and flatter a model.

    Logits leave every interval somewhere, so the network is called on noise too, and on noise that is much too large,
    once: unless it ends in something that cannot keep its scores within bounds, such as a dense layer.

    Args:
        classifier: A `Classifier`.
        x: A few inputs.

    Raises:
        ValueError: If the scores cannot be logits.
    """
    head = classifier.head
    if head.activation is not None:
        return
    scores = classifier.logits(tf.constant(x)).numpy()
    received = None
    if np.all(scores >= 0) and np.allclose(scores.sum(axis=1), 1, atol=1e-3):
        received = "scores that sum to 1"
    elif head.squashing.last == "Log" and np.allclose(np.sum(np.exp(scores), axis=1), 1, atol=1e-2):
        received = "scores that are logarithms of probabilities: log_softmax has a gradient where these are 0"
    elif head.squashing.hidden:
        received = kept_with(classifier.model).get("squashed", lambda: _squashed(classifier, x))
    if received is not None:
        raise ValueError(
            "`model` must return logits, or end in a layer whose softmax or sigmoid can be taken off, such as "
            f"keras.layers.Softmax. Received: {received}"
        )


def check_varies(classifier: Any, x: np.ndarray) -> None:
    """Refuse a network whose scores are NaN, or the same for every input: there is nothing to attack.

    Args:
        classifier: A `Classifier`.
        x: A few inputs.

    Raises:
        ValueError: If it is one.
    """
    name = classifier.model.name
    scores = classifier.logits(tf.constant(x)).numpy()
    if np.isnan(scores).any():
        raise ValueError(f"`model` must return finite scores. Received: NaN from {name!r}")
    if not _differs(np.concatenate([scores, classifier.logits(_noise(classifier, x)).numpy()])):
        raise ValueError(f"`model` must return scores that depend on the input. Received: constant ones from {name!r}")


def _squashed(classifier: Any, x: np.ndarray) -> str | None:
    """What scores look like that are kept within bounds; `None` for logits."""
    near = classifier.logits(_noise(classifier, x)).numpy()
    far = np.concatenate([classifier.logits(_noise(classifier, x, scale)).numpy() for scale in _SCALES])
    scores = np.concatenate([near, far])
    if not (np.isfinite(near).any() and np.isfinite(far).any()):
        return None
    sums = near.sum(axis=1)
    if near.shape[1] > 1 and np.all(near >= 0) and _differs(near) and np.allclose(sums, sums[0], rtol=1e-3):
        return f"scores that always sum to {sums[0]:.3g}"
    if _within(scores, 0, 1):
        return "scores that stay between 0 and 1 whatever the input"
    saturated = np.mean(np.abs(far[np.isfinite(far)]) > 0.9) >= 0.5
    if _within(scores, -1, 1) and (saturated or classifier.head.squashing.last in _WITHIN_ONE):
        return "scores that stay between -1 and 1 whatever the input, as those of a tanh"
    if scores.shape[1] == 1 and _within(scores, 0, np.inf):
        return "the score of one unit, which is never negative"
    return None


def _differs(scores: np.ndarray) -> bool:
    return bool(np.any(scores != scores[:1]))


def _within(scores: np.ndarray, lower: float, upper: float) -> bool:
    found = scores[np.isfinite(scores)]
    return bool(np.all((found >= lower - 1e-6) & (found <= upper + 1e-6)))


def _noise(classifier: Any, x: np.ndarray, scale: float | None = None) -> tf.Tensor:
    """Random inputs of the range of `x`; with a scale centred, and that many times as large.

    Integers that are cast back, such as indices of words, are those of `x`, and so is what no attack may change.
    """
    given, x = x, classifier.columns.free(x)
    rng, low, high = np.random.default_rng(0), float(x.min()), float(x.max())
    low, high = (low, high) if low < high else (low - 1, high + 1)
    if scale is None:
        values = rng.uniform(low, high, x.shape)
    else:
        values = scale * rng.normal(size=x.shape) * max(abs(low), abs(high))
    values = np.where(integer_columns(classifier.model), x, values)
    return classifier.columns.joined(tf.constant(values, x.dtype), tf.constant(given))
