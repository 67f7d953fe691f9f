"""The compiled loss of a classifier, per example, as a function of its logits."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.networks.output import OutputHead

_CLASSES = {  # a loss function of Keras -> the class that computes it
    keras.losses.binary_crossentropy: keras.losses.BinaryCrossentropy,
    keras.losses.binary_focal_crossentropy: keras.losses.BinaryFocalCrossentropy,
    keras.losses.categorical_crossentropy: keras.losses.CategoricalCrossentropy,
    keras.losses.categorical_focal_crossentropy: keras.losses.CategoricalFocalCrossentropy,
    keras.losses.sparse_categorical_crossentropy: keras.losses.SparseCategoricalCrossentropy,
}

_EXPECTED = {  # its class -> the activation whose probabilities it takes
    loss: "sigmoid" if loss.__name__.startswith("Binary") else "softmax" for loss in _CLASSES.values()
}

PerExample = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class ClassificationLoss:
    """The compiled loss, per example, as a function of labels and logits.

    Args:
        loss: What was given to `compile`: a name, a function `(y_true, y_pred) -> (batch,)`, or a
            `keras.losses.Loss`.
        head: The `OutputHead` of the model.

    Raises:
        ValueError: If there is no loss, or it expects logits where the model gives probabilities, or the reverse.
    """

    def __init__(self, loss: Any, head: OutputHead):
        while isinstance(loss, (list, tuple, dict)) and len(loss) == 1:
            loss = next(iter(loss.values())) if isinstance(loss, dict) else loss[0]
        if loss is None or isinstance(loss, (list, tuple, dict)):
            raise ValueError(f"`compile` needs one loss, for the one output. Received: loss={loss!r}")
        self.head = head
        self.reduction = getattr(loss, "reduction", "sum_over_batch_size")
        if self.reduction in (None, "none"):
            raise ValueError("`loss` must be reduced over the batch. Received: reduction=None")
        self._by_labels = isinstance(loss, str) and loss.lower() in ("crossentropy", "ce")
        self.takes_indices: bool | None = None  # unknown, for a loss of the user's
        if not self._by_labels:
            self._per_example, self.takes_indices = _on_logits(keras.losses.get(loss), head)

    def __call__(self, y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """The loss of each example, `(n,)`, in the dtype of the logits."""
        per_example = _on_logits(_crossentropy_for(y, logits), self.head)[0] if self._by_labels else self._per_example
        if logits.shape[-1] == 1:
            y = tf.reshape(y, [-1, 1])
        values = per_example(tf.cast(y, logits.dtype), logits)
        if values.shape.rank == 0:
            raise ValueError("The loss function must return one value per example, `(batch,)`. Received: a scalar")
        return tf.reduce_mean(tf.cast(values, logits.dtype), axis=list(range(1, values.shape.rank)))


def _crossentropy_for(y: tf.Tensor, logits: tf.Tensor) -> keras.losses.Loss:
    if logits.shape[-1] == 1:
        return keras.losses.BinaryCrossentropy()
    one_hot = y.shape.rank == logits.shape.rank and y.shape[-1] != 1
    return keras.losses.CategoricalCrossentropy() if one_hot else keras.losses.SparseCategoricalCrossentropy()


def _on_logits(loss: Any, head: OutputHead) -> tuple[PerExample, bool | None]:
    """The loss as a function `(y, logits) -> (n, ...)`, and whether it takes class indices."""
    loss = _CLASSES[loss]() if loss in _CLASSES else loss
    if isinstance(loss, keras.losses.KLDivergence) or loss is keras.losses.kl_divergence:
        raise ValueError(
            "The loss of KLDivergence clips probabilities, which zeroes gradients: use CategoricalCrossentropy, "
            f"which differs from it by a constant of the labels. Received: loss={loss!r}"
        )
    expected = _EXPECTED.get(type(loss))
    if expected is None:  # a loss of the user's: it gets what the model outputs, as in Keras
        call = loss.call if isinstance(loss, keras.losses.Loss) else loss
        return lambda y, logits: call(y, head.activate(logits)), None
    config = loss.get_config()
    if config["from_logits"] and head.activation is not None:
        raise ValueError(
            f"The loss {loss.name!r} has from_logits=True, but the model ends in a {head.activation}: "
            "take the activation off the model, or from_logits=True off the loss."
        )
    if not config["from_logits"] and head.activation != expected:
        raise ValueError(
            f"The loss {loss.name!r} expects the probabilities of a {expected}, and no {expected} was found at "
            "the end of the model: if the model returns logits, pass the loss object with from_logits=True."
        )
    if config.get("ignore_class") is not None:
        checks.fail("ignore_class", "None: every example has a loss", config["ignore_class"])
    if isinstance(loss, keras.losses.CategoricalFocalCrossentropy):
        return functools.partial(_categorical_focal, config), False
    indices = {keras.losses.SparseCategoricalCrossentropy: True, keras.losses.CategoricalCrossentropy: False}
    return type(loss).from_config({**config, "from_logits": True}).call, indices.get(type(loss))


def _categorical_focal(config: dict[str, Any], y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """`Σ_c α_c (1 − p_c)^γ (−y_c log p_c)` (Lin et al. 2017); Keras's own clips p even with from_logits=True."""
    smoothing = config["label_smoothing"]
    y = y * (1 - smoothing) + smoothing / logits.shape[-1]
    log_p = tf.nn.log_softmax(logits)
    alpha = tf.constant(config["alpha"], logits.dtype)
    return tf.reduce_sum(alpha * (1 - tf.exp(log_p)) ** config["gamma"] * -y * log_p, axis=-1)
