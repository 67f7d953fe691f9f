"""The output of a classifier, resolved: its logits, and its loss as a function of them.

Keras clips probabilities at 1e-7 inside its losses, which silently zeroes gradients where a model is sure
and makes attacks look weak. So a softmax or sigmoid at the end of the model is taken off, and a loss that
expects probabilities is replaced by the same loss on logits; what cannot be resolved is refused.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_rar import stem
from keras_rar.core import checks
from keras_rar.core.gradients import ScalarFunction, Staged
from keras_rar.core.memory import bytes_a_point
from keras_rar.relus import swapped

_PROBABILITIES = {keras.activations.softmax: "softmax", keras.activations.sigmoid: "sigmoid"}
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


class OutputHead:
    """The layer that a single-output model ends in, and the activation it applies.

    Args:
        model: A Keras model. Of a subclassed one the last layer cannot be found: it counts as logits.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        ending = list(_ending(model))
        self.layer: Any = ending[-1][1]
        self.gradient_scale = 1024.0 if _uses_float16(model) else 1.0  # keeps small gradients from underflowing
        if isinstance(self.layer, keras.layers.Softmax):
            self.activation: str | None = "softmax"
        else:
            self.activation = _PROBABILITIES.get(getattr(self.layer, "activation", None))
        if self.activation is not None and any(_is_called_twice(last, outer) for outer, last in ending):
            raise ValueError(
                f"The last layer, {self.layer.name!r}, must be called once in the model: its {self.activation} is "
                "taken off to get the logits. Received: a layer that is called twice; use two layers."
            )

    @functools.cached_property
    def _stem(self) -> stem.Stem | None:
        return stem.find(self.model)

    @functools.cached_property
    def _pools(self) -> list[tuple[Any, Any]]:
        return stem.find_pools(self.model)

    def logits(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        """The model's output before its softmax or sigmoid, at least in float32."""
        with self._linear():
            scores = self.model(x, training=training)
        return tf.cast(scores, "float64" if scores.dtype == tf.float64 else "float32")

    def scored(
        self,
        score: Callable[[tf.Tensor], tf.Tensor],
        replaced: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
        staged: bool = True,
    ) -> ScalarFunction:
        """`z -> score(logits(z))` in inference mode, in the form that is fastest to differentiate twice.

        Args:
            score: Function `(n, classes) -> (n,)` of logits.
            replaced: Makes a context that the model is called in.
            staged: Whether the first layers may be a stage of their own: faster, and rounded otherwise.
        """

        pools = self._pools  # found before anything is replaced

        def of(x, *swaps):
            with replaced(), swapped([*stem.pool_swaps(pools), *swaps]):
                return score(self.logits(x, False))

        first = self._stem if staged else None
        if first is None:
            return of
        return Staged(first, lambda h: of(first.placeholder(h), first.swap(h)))

    def bytes_a_point(self, input_shape: tuple[int | None, ...]) -> float:
        """Memory of all that `scored` computes at one input of a shape, without the stem."""
        f = self.scored(lambda logits: logits[:, 0])
        z = tf.TensorSpec([1, *(size or 1 for size in input_shape)], self.model.variable_dtype)
        if isinstance(f, Staged):
            h = tf.function(f.stem, autograph=False).get_concrete_function(z).structured_outputs
            return bytes_a_point(f.rest, h.shape[1:], h.dtype)
        return bytes_a_point(f, z.shape[1:], z.dtype)

    def activate(self, logits: tf.Tensor) -> tf.Tensor:
        """What the model outputs for these logits."""
        return logits if self.activation is None else getattr(keras.activations, self.activation)(logits)

    @contextlib.contextmanager
    def _linear(self) -> Iterator[None]:
        """For the time of a call, the last layer without its softmax or sigmoid."""
        if self.activation is None:
            yield
        elif isinstance(self.layer, keras.layers.Softmax):
            self.layer.call = lambda inputs, mask=None: inputs
            try:
                yield
            finally:
                del self.layer.call
        else:
            activation, self.layer.activation = self.layer.activation, keras.activations.linear
            try:
                yield
            finally:
                self.layer.activation = activation


def _ending(model: Any) -> Iterator[tuple[keras.Model, Any]]:
    """A model and its last layer, then that layer and its own if it is a model, and so on inwards.

    The layer is `None` where it cannot be known: of a subclassed model, or one that ends in an operation, such as
    `keras.ops.add`.
    """
    while isinstance(model, keras.Model):
        if isinstance(model, keras.Sequential):
            last = model.layers[-1]
        elif getattr(model, "output_names", None):
            last = next((layer for layer in model.layers if layer.name == model.output_names[0]), None)
        else:
            last = None
        yield model, last
        model = last


def _uses_float16(layer: keras.layers.Layer) -> bool:
    return layer.compute_dtype == "float16" or any(_uses_float16(inner) for inner in getattr(layer, "layers", []))


def _is_called_twice(layer: keras.layers.Layer, model: keras.Model) -> bool:
    """Whether a layer stands at two places of a Functional model."""
    if not getattr(model, "output_names", None):
        return False
    try:
        config = model.get_config()
    except NotImplementedError:  # a layer without a config: a model that Keras cannot save either
        return False
    calls = {entry["name"]: len(entry["inbound_nodes"]) for entry in config["layers"]}
    return calls.get(layer.name, 1) > 1


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
            raise ValueError("The loss function must return one value an example, `(batch,)`. Received: a scalar")
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
