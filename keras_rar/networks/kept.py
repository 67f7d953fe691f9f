"""What is made once for a model as it is, such as twins and compiled functions, and goes with the model."""

import collections
import dataclasses
import functools
import threading
from collections.abc import Callable, Hashable
from typing import Any

import keras
import tensorflow as tf

from keras_rar.networks.copies import KEPT, notes_of, operations

_MOST = 64  # things of one model: settings that change at every call must not fill the memory
_LOCK = threading.RLock()
_SIMPLE = (bool, int, float, complex, str, bytes, type(None))

# Attributes that training and calling a Keras model changes, and that say nothing of what it computes.
_OF_TRAINING = {
    "auto_scale_loss", "compiled", "history", "loss", "optimizer", "predict_function", "steps_per_execution",
    "stop_evaluating", "stop_predicting", "stop_training", "test_function", "train_function",
}  # fmt: skip
_OF_CALLS = {
    "_build_shapes_dict", "_call_context_args", "_call_signature", "_called", "_inbound_nodes", "_lock", "_loss_ids",
    "_losses", "_losses_override", "_metrics", "_outbound_nodes", "_parent_path", "_path", "_self_setattr_tracking",
    "_tracker", "built",
}  # fmt: skip


class Kept:
    """Things made of one model as it is, by key; the least recently used go first.

    Args:
        state: What the model was like, as `state_of` tells.
    """

    def __init__(self, state: Any):
        self.state = state
        self._made: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What was made for a key, or is made now; in one thread at a time."""
        with _LOCK:
            if key not in self._made:
                self._made[key] = make()
                while len(self._made) > _MOST:
                    self._made.popitem(last=False)
            self._made.move_to_end(key)
            return self._made[key]


def kept_with(model: Any) -> Kept:
    """What is kept with a model: the same object until the model gets another layer, activation or setting.

    It goes with the model, is no attribute of it, and is not saved with it. Weights are no part of what a model is like
    here: variables are shared, and read when they are needed.
    """
    with _LOCK:
        state = state_of(model)
        notes = notes_of(model)
        if KEPT not in notes or notes[KEPT].state != state:
            notes[KEPT] = Kept(state)
        return notes[KEPT]


def compiled(model: keras.Model, key: Hashable, function: Callable) -> Callable:
    """The function as a `tf.function`, or the one that the model, unchanged, was given for the same key before.

    Args:
        model: The model that the function calls.
        key: Everything else that it depends on; `None` to keep nothing.
        function: Function of tensors.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    >>> compiled(model, "twice", lambda x: model(2 * x)) is compiled(model, "twice", lambda x: model(2 * x))
    True
    """

    def make() -> Callable:
        return tf.function(functools.partial(function), autograph=False, reduce_retracing=True)  # see `Attack`

    return make() if key is None else kept_with(model).get(("function", key), make)


@dataclasses.dataclass(frozen=True, eq=False)
class _Same:
    """Equal to another one of the very same object, which it keeps alive: an id may be given again."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def state_of(model: Any) -> list[Any]:
    """What a model is like: its layers and operations, and the attributes of each that decide what it computes."""
    found: list[Any] = [(_Same(operation), _attributes(operation)) for operation in operations(model)]
    return [*found, independent_logits(model)]


def are_independent(classes: int, activation: str | None, *models: Any) -> bool:
    """Whether several labels have a sigmoid each, of this activation or of the loss that one of the models has."""
    sigmoids = activation == "sigmoid" or any(map(independent_logits, models))
    return classes > 1 and activation != "softmax" and sigmoids


def independent_logits(model: Any) -> bool:
    """Whether a model is compiled with a binary cross-entropy of logits, which takes each for a label of its own."""
    loss = getattr(model, "loss", None)
    while isinstance(loss, (list, tuple, dict)) and len(loss) == 1:
        loss = next(iter(loss.values())) if isinstance(loss, dict) else loss[0]
    binary = isinstance(loss, (keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy))
    return binary and bool(getattr(loss, "from_logits", False))


def _attributes(operation: Any) -> dict[str, Any]:
    ignored = _OF_CALLS | (_OF_TRAINING if isinstance(operation, keras.Model) else set())
    names = [name for name in list(vars(operation)) if name not in ignored]
    if isinstance(operation, keras.Model):  # the rest that begins so is of Keras's own training
        names = [name for name in names if not name.startswith("_") or name in ("_trainable", "_nodes_by_depth")]
    return {name: _key(vars(operation).get(name)) for name in names}


def _key(value: Any) -> Any:
    """A value, as equal to itself as it is unchanged."""
    if isinstance(value, _SIMPLE):
        return value
    if isinstance(value, dict):
        return [(str(name), _key(item)) for name, item in list(value.items())]
    if isinstance(value, (list, tuple)):
        return [_key(item) for item in list(value)]
    return _Same(value)
