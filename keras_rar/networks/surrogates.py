"""Twins of a model: the same variables, with other activations, or another backward pass, in place of its ReLUs.

The gradient of a ReLU network is constant where no unit switches, so an attack on it has no slope to follow: it
climbs the softplus twin instead. A twin is an object of its own; the model is never altered.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.networks import hidden_relus, relus, second_orders
from keras_rar.networks.base_model import input_structure
from keras_rar.networks.copies import copy_with
from keras_rar.networks.kept import kept_with
from keras_rar.networks.relus import Replacement
from keras_rar.networks.shared_variables import SharedVariables


def softplus_twin(model: keras.Model, beta: float = 1.0) -> keras.Model:
    """The model with softplus for ReLU: the same variables, and second derivatives.

    `max(x, 0) → s(x) = log(1 + e^{βx})/β`, and `leaky(x) → a x + (1 − a) s(x)` (Chen et al. 2019, whose twin
    has β = 1). A ceiling becomes `s(x) − s(x − max)`, and a threshold t `s(x − t) + t σ(β(x − t))`. The twin
    tends to the model as β → ∞.

    Replaced are the activations `relu`, `relu6` and `leaky_relu` of any layer, by name or as a function of
    `keras.activations`, `keras.ops` or `tf.nn`; the layers `ReLU`, `LeakyReLU`, `PReLU` and `Activation`; and,
    in a Functional model, these functions applied as operations, with `keras.ops.maximum(x, 0)`. All else is
    kept: other activations, max-pooling. A layer or a subclassed model of your own is traced once, and refused if its
    own code applies a ReLU, rather than a layer or an attribute that it holds. What cannot be found is a ReLU spelt
    out, as `keras.ops.where(x > 0, x, 0)` or `keras.ops.clip`: it stays.

    Args:
        model: A built Keras model, with models inside it or not. It is never changed; training it moves the twin,
            which has the same variables, and follows when the model gets another layer.
        beta: Float > 0, the sharpness β. Defaults to `1.0`.

    Returns:
        A `keras.Model` that is called as `model`. It is not to be saved: save `model`.

    Raises:
        TypeError: If `model` is not a Keras 3 model or `beta` not a number.
        ValueError: If `beta` is not positive, or `model` is not built or has a ReLU out of reach.

    Example:

    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.ReLU()])
    >>> twin = softplus_twin(model)
    >>> print(model(np.float32([[0.0], [20.0]])).numpy().ravel(), twin(np.float32([[0.0], [20.0]])).numpy().ravel())
    [ 0. 20.] [ 0.6931472 20.       ]
    """
    return _Twin(model, softplus(beta), "softplus")


def guided_backprop_twin(model: keras.Model) -> keras.Model:
    """The model with the backward pass of guided backpropagation: a saliency method, not a gradient.

    At each ReLU `dx = max(dy, 0) · 1[x > 0]` (Springenberg et al. 2015); with a slope or a ceiling
    `dx = max(dy, 0) · f′(x)`. What is computed forward is the same, to the bit.

    Args:
        model: As for `softplus_twin`.

    Returns:
        A `keras.Model` that is called as `model` and shares its variables.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If it is not built, or has a ReLU out of reach.

    Example:

    >>> x = tf.constant([[1.0, 2.0, -1.0]])
    >>> twin = guided_backprop_twin(keras.Sequential([keras.Input((3,)), keras.layers.ReLU()]))
    >>> with tf.GradientTape() as tape:
    ...     tape.watch(x)
    ...     y = tf.constant([[1.0, -1.0, 1.0]]) * twin(x)
    >>> print(tape.gradient(y, x).numpy())
    [[1. 0. 0.]]
    """
    return _Twin(model, guided, "guided")


def deconvolution_twin(model: keras.Model) -> keras.Model:
    """The model with the backward pass of a deconvolution network: a saliency method, not a gradient.

    At each ReLU `dx = max(dy, 0)`, whatever x, its slope and its ceiling (Zeiler & Fergus 2014). What is computed
    forward is the same, to the bit.

    Args:
        model: As for `softplus_twin`.

    Returns:
        A `keras.Model` that is called as `model` and shares its variables.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If it is not built, or has a ReLU out of reach.

    Example:

    >>> x = tf.constant([[1.0, 2.0, -1.0]])
    >>> twin = deconvolution_twin(keras.Sequential([keras.Input((3,)), keras.layers.ReLU()]))
    >>> with tf.GradientTape() as tape:
    ...     tape.watch(x)
    ...     y = tf.constant([[1.0, -1.0, 1.0]]) * twin(x)
    >>> print(tape.gradient(y, x).numpy())
    [[1. 0. 1.]]
    """
    return _Twin(model, deconvolution, "deconvolution")


class _Twin(SharedVariables):
    """A model, computed by a copy whose ReLUs are replaced; it follows the model when that gets another layer."""

    def __init__(self, model: keras.Model, replacement: Replacement, kind: str):
        hidden_relus.checked(model)
        super().__init__(model, f"{model.name}_{kind}_twin")
        self.replacement = replacement

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        options = {} if mask is None else {"mask": mask}
        return replaced_relus(self.network, self.replacement)(inputs, training=training, **options)

    @property
    def input(self) -> Any:
        return input_structure(self.network)

    @property
    def inputs(self) -> list[Any]:
        return keras.tree.flatten(self.input)

    @property
    def outputs(self) -> list[Any]:
        return getattr(self.network, "outputs", None) or []


def replaced_relus(model: keras.Model, replacement: Replacement) -> Callable:
    """A copy of the model that computes `replacement` wherever the model has a ReLU, and shares its variables.

    Args:
        model: As for `softplus_twin`.
        replacement: Function `(x, negative_slope, max_value, threshold) -> tensor` of the shape and dtype of `x`,
            such as `softplus(beta)`, `guided` or `deconvolution`. The slope of a `PReLU` is a tensor.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If it is not built, or has a ReLU out of reach.

    Example:

    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.LeakyReLU(0.1)])
    >>> copy = replaced_relus(model, lambda x, negative_slope, max_value, threshold: negative_slope * x)
    >>> print(copy(np.float32([[10.0]])).numpy())
    [[1.]]
    """

    def make() -> Any:
        hidden_relus.checked(model)
        more = second_orders.changes(model) if isinstance(replacement, softplus) else ()
        return copy_with(model, [*relus.changes(model, replacement), *more])

    return kept_with(model).get(("replaced", replacement), make)


# The replacements


def relu(x: tf.Tensor, negative_slope: Any = 0.0, max_value: float | None = None, threshold: float = 0.0) -> tf.Tensor:
    """What Keras computes: `x` above the threshold t, `a (x − t)` below, at most `max_value`."""
    if tf.is_tensor(negative_slope):  # of a PReLU
        return keras.activations.relu(x) - negative_slope * keras.activations.relu(-x)
    return keras.activations.relu(x, negative_slope, max_value, threshold)


@dataclasses.dataclass(frozen=True)
class softplus:  # noqa: N801  # used as the functions beside it
    """The replacement of `softplus_twin`: `log(1 + e^{βx})/β`.

    Args:
        beta: Float > 0, the sharpness β.
    """

    beta: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "beta", checks.positive_float("beta", self.beta))

    def _smooth(self, z: tf.Tensor) -> tf.Tensor:
        return tf.math.softplus(self.beta * z) / self.beta

    def __call__(self, x: tf.Tensor, negative_slope: Any, max_value: float | None, threshold: float) -> tf.Tensor:
        dtype, x = x.dtype, tf.cast(x, "float32") if x.dtype.size == 2 else x  # β x overflows a float16
        start, step = threshold, threshold
        if max_value is not None:  # Keras clips to [0, max_value], so that a step cannot reach out of it
            start = max(threshold, 0.0)
            step = min(start, max_value)
        value = self._smooth(x - start)
        if max_value is not None:
            value -= self._smooth(x - max(start, max_value))
        if step:
            value += step * tf.sigmoid(self.beta * (x - start))
        if tf.is_tensor(negative_slope):
            value -= tf.cast(negative_slope, x.dtype) * self._smooth(threshold - x)
        elif negative_slope:
            value -= float(negative_slope) * self._smooth(threshold - x)
        return tf.cast(value, dtype)


def guided(x: tf.Tensor, negative_slope: Any, max_value: float | None, threshold: float) -> tf.Tensor:
    """The replacement of `guided_backprop_twin`."""
    return _positive_backward(relu(x, negative_slope, max_value, threshold))


@tf.custom_gradient
def _positive_backward(y: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    return tf.identity(y), tf.nn.relu


def deconvolution(x: tf.Tensor, negative_slope: Any, max_value: float | None, threshold: float) -> tf.Tensor:
    """The replacement of `deconvolution_twin`."""
    return tf.custom_gradient(lambda x: (relu(x, negative_slope, max_value, threshold), tf.nn.relu))(x)
