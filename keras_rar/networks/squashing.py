"""The softmax or sigmoid that squashes the scores of a network, recognised by what it computes, and taken off."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar.networks import structure
from keras_rar.networks.copies import Change

OPERATIONS = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
"""Operations of a TensorFlow graph, and what they compute."""

_KNOWN = {
    keras.activations.linear: None,
    keras.activations.relu: None,
    keras.activations.sigmoid: "sigmoid",
    keras.activations.softmax: "softmax",
    keras.activations.tanh: None,
}

PASSED = ("Cast", "CheckNumerics", "ExpandDims", "Identity", "PreventGradient", "Reshape", "Snapshot", "Squeeze")
"""Operations that leave each number where it is, and what it is."""


@dataclasses.dataclass(frozen=True)
class Squashing:
    """What squashes the scores of a network.

    Args:
        kind: `"softmax"` or `"sigmoid"`; `None` if there is neither.
        operation: The layer or operation to change; `None` if it is to be found in each graph.
        attribute: Its attribute to change, `"activation"` or `"call"`.
        hidden: Whether there may be another squashing at the end, that only the scores tell of.
        last: The last operation of the graph, if it was looked at.
    """

    kind: str | None
    operation: Any = None
    attribute: str = ""
    hidden: bool = False
    last: str = ""

    @property
    def in_graph(self) -> bool:
        """Whether no layer or operation of Keras's is the squashing, so that it has to be found in each graph."""
        return self.kind is not None and self.operation is None

    def change(self) -> list[Change]:
        """The change that takes the squashing off a copy of the network."""
        if self.operation is None:
            return []
        linear = keras.activations.linear if self.attribute == "activation" else _as_it_is
        return [(self.operation, self.attribute, linear)]


def _as_it_is(operation: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
    return inputs


def kind_of(function: Callable, classes: int = 3) -> str | None:
    """Whether a callable computes the softmax or the sigmoid of a few vectors, whatever its name.

    Args:
        function: Function `(n, classes) -> (n, classes)`.
        classes: A number of classes that it must be able to take, if it is not for any.

    Example:

    >>> kind_of(lambda z: tf.exp(z) / (1 + tf.exp(z))), kind_of(tf.tanh)
    ('sigmoid', None)
    """
    try:
        if function in _KNOWN:
            return _KNOWN[function]
    except TypeError:  # it has no hash
        pass
    if isinstance(function, keras.Operation):
        function = function.call  # calling the layer would change it
    return _compared(function, 3) or (_compared(function, classes) if classes not in (1, 3) else None)


def _compared(function: Callable, columns: int) -> str | None:
    z = np.random.default_rng(0).normal(size=(4, columns)) * np.array([[1.0], [1.0], [4.0], [10.0]])
    odds = np.exp(z)
    expected = {"softmax": odds / odds.sum(axis=1, keepdims=True), "sigmoid": odds / (1 + odds)}
    try:
        with tf.init_scope():  # values, also where a graph is being made
            found = np.asarray(function(tf.constant(z, tf.float32)), "float64")
    except Exception:  # a function of the user's, which may be made for other things
        return None
    fits = (kind for kind, values in expected.items() if found.shape == values.shape and _close(found, values))
    return next(fits, None)


def _close(found: np.ndarray, expected: np.ndarray) -> bool:
    """Up to what is clipped at 1e-7, as against a logarithm of zero: logits are right there too."""
    return np.allclose(found, expected, rtol=1e-4, atol=1e-6)


class Unsquashed:
    """A network whose squashing is found in each graph, as its logits.

    Args:
        network: Returns the squashed scores.
        kind: `"softmax"` or `"sigmoid"`.
    """

    def __init__(self, network: Any, kind: str):
        self._network, self._kind = network, kind
        self.losses: list[tf.Tensor] = []
        self._in_graph = tf.function(self._traced, autograph=False, reduce_retracing=True)

    def __call__(self, x: Any, training: bool = False) -> tf.Tensor:
        logits, self.losses = (self._in_graph if tf.executing_eagerly() else self._traced)(x, training)
        return logits

    def _traced(self, x: Any, training: bool) -> tuple[tf.Tensor, list[tf.Tensor]]:
        scores = tensor = structure.only("output", self._network(x, training=training))
        while OPERATIONS.get(tensor.op.type) != self._kind:
            if tensor.op.type not in PASSED:
                raise ValueError(f"`model` must end in the same {self._kind} in all its calls. Received: another one")
            tensor = tensor.op.inputs[0]
        logits = tf.reshape(tensor.op.inputs[0], tf.shape(scores))
        logits.set_shape(scores.shape)
        return logits, list(self._network.losses)
