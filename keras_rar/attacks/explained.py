"""The maps that an attribution attack sees, and how two of them are compared."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_rar.attacks.choices import AnySaliency
from keras_rar.core import checks
from keras_rar.core.correlations import kendall_tau_b, spearman_rho
from keras_rar.core.saliency_methods import AT_ONCE, METHODS, Saliency, normalize_map
from keras_rar.core.top_sets import topk_intersection
from keras_rar.explaining import attackable
from keras_rar.networks.classifier import TARGETS, Classifier
from keras_rar.networks.surrogates import softplus


class Explainers:
    """The maps of a network, `own(x, y)`, and those that gradients are taken through, `smooth(x, y)`.

    Args:
        saliency: A `Saliency`, or a function of the user's.
        target: Name of the score explained.
        beta: Sharpness of the softplus in the twin, or `None` to take gradients through the network as it is.
        classifier: The network.
        gradient_classifier: A smooth twin of the user's, or `None`.
    """

    def __init__(
        self,
        saliency: Saliency | Callable[..., Any],
        target: str,
        beta: float | None,
        classifier: Classifier,
        gradient_classifier: Classifier | None,
    ):
        self._saliency, self._target = saliency, target
        self._smooth_classifier = classifier if gradient_classifier is None else gradient_classifier
        self._beta = beta if gradient_classifier is None else None
        self.own = self._explainer(classifier, None)
        self.smooth = self._explainer(self._smooth_classifier, self._beta)

    def check(self, x: np.ndarray, smooth: bool) -> tuple[int, ...]:
        """Refuse what cannot be attacked; the shape of a map. Nothing is compiled, and no map computed.

        Args:
            x: One or more inputs.
            smooth: Whether gradients are taken at all.

        Raises:
            TypeError: If a saliency function is not made of TensorFlow operations.
            ValueError: If the twin cannot be made, or a saliency does not return one map per example.
        """
        if isinstance(self._saliency, Saliency) and smooth:
            point, label = tf.constant(x[:1]), tf.constant([0], tf.int64)
            self._score(self._smooth_classifier, label, self._beta)(point)  # the twin is made, and called
        if type(self._saliency) in METHODS.values():
            return map_shape(x.shape[1:])
        specs = tf.TensorSpec([2, *x.shape[1:]], x.dtype), tf.TensorSpec([2], tf.int64)
        shapes = []
        for explain in (self.own, self.smooth)[: 1 + smooth]:
            found = tf.function(explain, autograph=False).get_concrete_function(*specs).structured_outputs
            if found.shape.rank is None or found.shape.rank < 2 or found.shape[0] not in (2, None):
                raise ValueError(
                    "`saliency` must return one map per example, of shape (batch, ...). "
                    f"Received, for a batch of 2: {found.shape}"
                )
            shapes.append(tuple(size or 1 for size in found.shape[1:]))
        return shapes[0]

    def _explainer(self, classifier: Classifier, beta: float | None) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        if not isinstance(self._saliency, Saliency):
            return attackable.of_function(self._saliency, classifier, beta)
        saliency = self._saliency
        return lambda x, y: normalize_map(saliency(self._score(classifier, y, beta), x))

    def _score(self, classifier: Classifier, y: tf.Tensor, beta: float | None) -> Callable[[tf.Tensor], tf.Tensor]:
        return classifier.score(y, TARGETS[self._target], None if beta is None else softplus(beta))


def map_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one map, given that of one input: images lose their channels."""
    return tuple(shape[:-1]) if len(shape) == 3 else tuple(shape)


def batch_size(saliency: AnySaliency, shape: tuple[int, ...]) -> int:
    """How many inputs of this shape to attack at once, with all points of the saliency."""
    return int(np.clip(AT_ONCE // (getattr(saliency, "points", 1) * np.prod(shape)), 1, 50))


def eighth(shape: Any) -> int:
    """The default number of highest entries of a map of this shape."""
    return max(1, int(np.prod(shape)) // 8)


def check_twin(twin: Classifier | None, shape: tuple[int | None, ...]) -> None:
    """Refuse a smooth twin of the user's that takes other inputs than the model."""
    if twin is not None and twin.input_shape != shape:
        raise ValueError(
            f"`gradient_model` must take the inputs of the model, of shape {shape}. Received: {twin.input_shape}"
        )


def check_k(name: str, k: int | None, shape: tuple[int, ...]) -> None:
    """Refuse more highest entries than a map has."""
    if k is not None and k > np.prod(shape):
        checks.fail(name, f"at most the number of entries of the map, {np.prod(shape)}", k)


def scores(before: np.ndarray, after: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """The similarity of two maps per example, by name."""
    return {
        "kendall_tau": kendall_tau_b(before, after).numpy(),
        "spearman_rho": spearman_rho(before, after).numpy(),
        "topk_intersection": topk_intersection(before, after, k).numpy(),
    }
