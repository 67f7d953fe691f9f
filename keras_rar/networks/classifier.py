"""A uniform view of a Keras classifier for code that measures it: labels, predictions, scores."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar.core import checks, labels
from keras_rar.core.gradients import ScalarFunction, repeat_labels
from keras_rar.networks import structure
from keras_rar.networks.base_model import check_base_model, is_wrapped
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
OBJECTIVES = {"crossentropy": _loss, "margin": _margin}


class Classifier:
    """A model to be measured.

    Args:
        model: A built Keras 3 classifier with one input and one output; of a `RARModel`, its base model.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If it is not built, or has several inputs or outputs.
    """

    def __init__(self, model: keras.Model):
        self.model = model.base_model if is_wrapped(model) else model
        self.input_shape, self.classes = check_base_model(self.model)
        self.head = head_of(self.model)
        inputs = getattr(self.model, "inputs", None)
        dtype = inputs[0].dtype if inputs else self.model.variable_dtype
        self.dtype = "float64" if dtype == "float64" else "float32"

    def logits(self, x: tf.Tensor) -> tf.Tensor:
        """Logits in inference mode, at least in float32."""
        return self.head.logits(x, False)

    def predicted(self, x: tf.Tensor) -> tf.Tensor:
        """The predicted class of each example, `(n,)` int64; of one output unit, whether its logit is positive."""
        logits = self.logits(x)
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

        def scaled(logits):
            return self.head.gradient_scale * target(repeat_labels(y, tf.shape(logits)[0]), logits)

        return self.head.scored(scaled, relu, staged=False)  # rounded as the published code, which attacks amplify

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
                checks.broadcasts("bounds", bound, self.input_shape)
            lower, upper = (np.asarray(bound, "float64") for bound in bounds)
            slack = 1e-5 * (upper - lower)
            if np.any(x < lower - slack) or np.any(x > upper + slack):
                raise ValueError(
                    f"`x` must lie within `bounds`={tuple(bounds)}. Received: values from {x.min():g} to {x.max():g}"
                )
        self._check_scores(x[:32])
        return x

    def _check_scores(self, x: np.ndarray) -> None:
        """Refuse probabilities whose softmax was not found: as logits they hide gradients and flatter a model."""
        scores = self.logits(tf.constant(x)).numpy()
        if self.head.activation is None and np.all(scores >= 0) and np.allclose(scores.sum(axis=1), 1, atol=1e-3):
            raise ValueError(
                "`model` must return logits, or end in a layer whose softmax can be taken off, such as "
                "keras.layers.Softmax. Received: scores that sum to 1"
            )

    def check_labels(self, y: Any, n: int) -> np.ndarray:
        """Labels as class indices, `(n,)` int64; one-hot labels are turned into indices.

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
            if np.any(np.sum(y == y.max(axis=1, keepdims=True), axis=1) != 1):
                raise ValueError("`y` must be one-hot, with one largest entry per row. Received: a row without")
            y = y.argmax(axis=1)
        y = y.reshape(-1)
        if not np.all((y >= 0) & (y < max(self.classes, 2)) & (y == np.floor(y))):
            checks.fail("y", f"class indices from 0 to {max(self.classes, 2) - 1}", y)
        return y.astype("int64")
