"""A uniform view of a Keras classifier for code that measures it: labels, predictions, scores."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar.core import checks, label_sets, labels
from keras_rar.core.gradients import ScalarFunction, repeat_labels
from keras_rar.core.held import NOTHING, Held, HeldBall
from keras_rar.core.neighborhoods import Neighborhood
from keras_rar.networks import differentiable, plausible, structure
from keras_rar.networks.base_model import check_base_model, is_wrapped
from keras_rar.networks.kept import are_independent
from keras_rar.networks.output import head_of
from keras_rar.networks.relus import Replacement


def _logit(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return labels.label_logit(y, logits)


def _loss(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy, `log Σ_c e^{z_c} − z_y`."""
    if logits.shape[-1] == 1:
        return tf.nn.softplus(-labels.label_logit(y, logits))
    return tf.reduce_logsumexp(logits, axis=-1) - labels.label_logit(y, logits)


def _probability(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.exp(-_loss(y, logits))


def _crossentropy(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return _loss(y, logits)


def _margin(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """`max_{c ≠ y} z_c − z_y`: positive where the label is not the prediction (Carlini & Wagner 2017)."""
    if logits.shape[-1] == 1:
        return -labels.label_logit(y, logits)
    chosen = tf.one_hot(tf.cast(y, tf.int32), logits.shape[-1], dtype=tf.bool, on_value=True, off_value=False)
    others = tf.where(chosen, tf.constant(-np.inf, logits.dtype), logits)
    return tf.reduce_max(others, axis=-1) - labels.label_logit(y, logits)


TARGETS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "logit": _logit,
    "loss": _loss,
    "probability": _probability,
}
OBJECTIVES = {"crossentropy": _crossentropy, "margin": _margin}


def _label_logit(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The logit of a label; of a set of labels the highest of theirs. See `Classifier.explained`."""
    return tf.gather(logits, label_sets.leading(y, logits), batch_dims=1)


def _label_loss(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy of the label's own output, `log(1 + e^{−z_y})`."""
    return tf.nn.softplus(-_label_logit(y, logits))


_OF_LABELS: dict[Callable, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    _logit: _label_logit,
    _loss: _label_loss,
    _probability: lambda y, logits: tf.sigmoid(_label_logit(y, logits)),
    _crossentropy: label_sets.binary_crossentropy,
    _margin: label_sets.margin,
}
"""A target or objective of one class among others, and the same of independent labels, each with a sigmoid."""


class Classifier:
    """A model to be measured.

    Several sigmoids, or logits compiled with a binary cross-entropy, are labels that do not exclude each other:
    `multilabel` is true then, and what is predicted is a set of labels, as an integer (see `core.label_sets`). A class
    index is the set of this one label.

    Args:
        model: A built Keras 3 classifier with one input and one output; of a `RARModel`, its base model.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If it is not built, or has several inputs or outputs.
    """

    def __init__(self, model: keras.Model):
        self.model = model.base_model if is_wrapped(model) else model
        self.input_shape, self.classes = check_base_model(self.model)
        differentiable.check_reached(self.model)
        self.columns = getattr(self.model, "columns", NOTHING)  # of the inputs, which columns are free
        self.head = head_of(self.model)
        self.multilabel = are_independent(self.classes, self.head.activation, model, self.model)
        inputs = getattr(self.model, "inputs", None)
        dtype = inputs[0].dtype if inputs else self.model.variable_dtype
        self.dtype = "float64" if dtype == "float64" else "float32"

    @property
    def free_shape(self) -> tuple[int | None, ...]:
        """The shape of what is free of an input: of all of it, but for a network from a layer on that masks pass by."""
        width = self.columns.width
        return self.input_shape if width is None else (*self.input_shape[:-1], width)

    def ball(self, ball: Neighborhood) -> Neighborhood:
        """The neighborhood, of what is free of the inputs."""
        return HeldBall(ball, self.columns) if self.columns.holds else ball

    def logits(self, x: tf.Tensor) -> tf.Tensor:
        """Logits in inference mode, at least in float32."""
        return self.head.logits(x)

    def predicted(self, x: tf.Tensor) -> tf.Tensor:
        """The predicted class of each example, `(n,)` int64; of one output unit, whether its logit is positive.

        Of a multi-label model the set of the labels whose logits are positive, as an integer.
        """
        logits = self.logits(x)
        if self.multilabel:
            return label_sets.code(logits > 0)
        return tf.cast(logits[:, 0] > 0, tf.int64) if self.classes == 1 else tf.argmax(logits, axis=-1)

    def predict(self, x: np.ndarray | tf.Tensor) -> np.ndarray:
        """`predicted` as an array.

        Raises:
            ValueError: If the model does not know: NaN would count as its first class.
        """
        x = tf.convert_to_tensor(x)
        if np.isnan(self.logits(x)).any():
            raise ValueError(f"`model` must return finite scores. Received: NaN from {self.model.name!r}")
        return self.predicted(x).numpy()

    def explained(self, x: np.ndarray, y: np.ndarray, batch_size: int = 32) -> np.ndarray:
        """The class whose score is explained, `(n,)`: the label itself; of a set of labels the one of highest score.

        Args:
            x: Inputs.
            y: Labels, as `check_labels` or `predict` returns them.
            batch_size: Positive integer, examples at once.
        """
        if not self.multilabel:
            return y
        rows = [slice(start, start + batch_size) for start in range(0, len(x), batch_size)]
        return np.concatenate([label_sets.leading(y[part], self.logits(tf.constant(x[part]))) for part in rows])

    def score(
        self,
        y: tf.Tensor,
        target: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
        relu: Replacement | None = None,
    ) -> ScalarFunction:
        """`z -> target(y, logits(z))` for any number of points per example, scaled against underflow in float16.

        Args:
            y: Class indices, `(batch,)`.
            target: One of `TARGETS` or `OBJECTIVES`.
            relu: What stands for the model's ReLUs, such as `surrogates.softplus(beta)`; `None` for themselves.
        """

        target = self.of_labels(target)

        def scaled(logits):
            return self.head.gradient_scale * target(repeat_labels(y, tf.shape(logits)[0]), logits)

        f = self.head.scored(scaled, relu, staged=False)  # rounded as the published code, which attacks amplify
        return Held(f, self.columns) if self.columns.holds else f

    def of_labels(self, target: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> Callable:
        """A target or objective as it is of the labels of this model: of a multi-label one each has its own sigmoid."""
        return _OF_LABELS.get(target, target) if self.multilabel else target

    def check_inputs(self, x: Any, bounds: Any = None) -> np.ndarray:
        """The inputs as an array of the model's dtype.

        Raises:
            TypeError: If they are not numbers.
            ValueError: If they are empty, of a wrong shape, not finite, or outside `bounds`.
        """
        x = np.asarray(structure.only("x", x, len(self.input_shape) + 1))
        if x.dtype.kind not in "fiub" and x.dtype.name != "bfloat16":
            raise TypeError(f"`x` must be an array of numbers. Received: dtype={x.dtype.name}")
        fits = x.ndim == len(self.input_shape) + 1 and all(
            size in (None, given) for size, given in zip(self.input_shape, x.shape[1:], strict=False)
        )
        if not fits or not len(x):
            expected = ", ".join(str(size) for size in ("n", *self.input_shape))
            raise ValueError(f"`x` must have the shape ({expected}) with n > 0. Received: x.shape={x.shape}")
        if not np.all(np.isfinite(x)):
            raise ValueError("`x` must be finite. Received: NaN or infinite values")
        x = x.astype(self.dtype)
        if bounds is not None:
            for bound in bounds:
                checks.broadcasts("bounds", bound, self.free_shape)
            lower, upper = (np.asarray(bound, "float64") for bound in bounds)
            slack = 1e-5 * (upper - lower)
            free = self.columns.free(x)
            if np.any(free < lower - slack) or np.any(free > upper + slack):
                seen = f"values from {free.min():g} to {free.max():g}"
                raise ValueError(f"`x` must lie within `bounds`={checks.shown(tuple(bounds))}. Received: {seen}")
        plausible.check_scores(self, x[:32])
        return x

    def check_labels(self, y: Any, n: int) -> np.ndarray:
        """Labels as class indices, `(n,)` int64; one-hot labels are turned into indices, rows of zeros and ones for a
        multi-label model into the integers of sets.

        Raises:
            ValueError: If they are not one valid label per example.
        """
        y = np.asarray(structure.only("y", y))
        if y.dtype.kind not in "fiub":
            raise TypeError(f"`y` must be an array of numbers. Received: dtype={y.dtype.name}")
        if not np.all(np.isfinite(y)):
            raise ValueError("`y` must be finite. Received: NaN or infinite values")
        labels.check_layout(tf.convert_to_tensor(y), self.classes)
        if len(y) != n:
            raise ValueError(f"`y` must hold one label per example, {n}. Received: {len(y)} labels")
        if not labels.are_indices(tf.convert_to_tensor(y), self.classes):
            if self.multilabel:
                return self._sets(y)
            if np.any(np.sum(y == y.max(axis=1, keepdims=True), axis=1) != 1):
                raise ValueError("`y` must be one-hot, with one largest entry per row. Received: a row without")
            y = y.argmax(axis=1)
        y = y.reshape(-1)
        sets = (y >= label_sets.FIRST) & (y - label_sets.FIRST < 2 ** min(self.classes, label_sets.MOST))
        indices = (y >= 0) & (y < max(self.classes, 2)) & (y == np.floor(y))
        if not np.all(indices | (sets & self.multilabel)):
            checks.fail("y", f"class indices from 0 to {max(self.classes, 2) - 1}", y)
        return y.astype("int64")

    def _sets(self, y: np.ndarray) -> np.ndarray:
        """The integer of the set of labels of each row."""
        if not np.all((y == 0) | (y == 1)):
            checks.fail("y", "class indices, or rows of zeros and ones", y)
        if self.classes > label_sets.MOST and np.any(y.sum(axis=1) != 1):
            raise ValueError(
                f"`y` must hold one label per row where there are more than {label_sets.MOST}. "
                f"Received: rows of {int(y.sum(axis=1).min())} to {int(y.sum(axis=1).max())} labels of {self.classes}"
            )
        return label_sets.code(y).numpy()
