"""How a network ends: a trace of it leads from its output back to the softmax or sigmoid that made it.

So it does not matter whether a layer, a function, an operation or the code of a `call` computes it.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_rar.networks import structure
from keras_rar.networks.copies import Change, copy_with, operations
from keras_rar.networks.graph import is_of_keras
from keras_rar.networks.squashing import OPERATIONS, PASSED, Squashing, kind_of

_ACTIVATED = (keras.layers.Activation, keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Conv2D)
"""Layers whose activation comes last. That of a recurrent layer does not."""

_BOUNDING = {
    "ClipByValue", "Cos", "Erf", "Exp", "IdentityN", "Inv", "Minimum", "Reciprocal", "Relu6", "Sigmoid", "Sin",
    "Softmax", "Softsign", "Tanh",
    # What is inside of these is not looked at.
    "Case", "EagerPyFunc", "If", "PartitionedCall", "PyFunc", "PyFuncStateless", "StatefulPartitionedCall",
    "StatelessCase", "StatelessIf", "StatelessWhile", "While", "XlaCallModule", "XlaLaunch",
}  # fmt: skip
"""Operations of a graph after which numbers may lie within bounds."""

_DIVISIONS = ("Div", "DivNoNan", "RealDiv", "Xdivy")
"""The same, if the divisor is made of the input."""


def find(model: keras.Model, inputs: Any, last: Any, classes: int) -> Squashing:
    """The squashing at the end of a model.

    Args:
        model: A built Keras model with one output.
        inputs: Its inputs as symbolic tensors.
        last: Its last layer, if the model says which, and it is called once.
        classes: Number of output units.
    """
    if isinstance(last, keras.layers.Softmax) and last.axis in (-1, 1) and is_of_keras(last):
        return Squashing("softmax", last, "call")
    if isinstance(last, _ACTIVATED) and is_of_keras(last):
        function = last.activation
        kind = kind_of(function, classes)
        if kind is not None:
            return Squashing(kind, last, "activation")
        if function is keras.activations.linear and hasattr(last, "kernel"):
            return Squashing(None)
    if len(keras.tree.flatten(inputs)) != 1:
        return Squashing(None, hidden=True)
    return _Trace(model, inputs, classes).squashing


class _Trace:
    """The graph of a model in inference mode, and which layers and operations made which of its tensors."""

    def __init__(self, model: keras.Model, inputs: Any, classes: int):
        self._classes = classes
        self._made: list[tuple[Any, str, Any, Any]] = []  # operation, attribute, what it was given, its result
        changes: list[Change] = []
        for operation in operations(model):
            if not isinstance(operation, keras.Model):
                changes.append((operation, "call", self._watched_call(operation)))
            function = vars(operation).get("activation")
            if callable(function) and not isinstance(function, keras.Operation):
                changes.append((operation, "activation", self._watched_activation(operation, function)))
        twin = copy_with(model, changes)
        outputs: list[Any] = []

        def trace(x: Any) -> None:
            outputs.append(structure.only("output", twin(x, training=False)))

        specs = keras.tree.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), inputs)
        with tf.init_scope():
            graph = tf.function(trace, autograph=False).get_concrete_function(specs).graph
        self.squashing = self._found(outputs[0], graph)

    def _watched_call(self, operation: Any) -> Callable:
        def call(copied: Any, *args: Any, **kwargs: Any) -> Any:
            result = type(copied).call(copied, *args, **kwargs)
            self._made.append((operation, "call", args[0] if args else None, result))
            return result

        return call

    def _watched_activation(self, operation: Any, function: Callable) -> Callable:
        def activation(x: Any, *args: Any, **kwargs: Any) -> Any:
            result = function(x, *args, **kwargs)
            self._made.append((operation, "activation", x, result))
            return result

        return activation

    def _found(self, output: Any, graph: Any) -> Squashing:
        tensor = output
        while tf.is_tensor(tensor) and hasattr(tensor, "op"):
            for operation, attribute, given, result in self._made:  # an activation before its layer
                if result is tensor and self._is_changeable(operation, attribute, given):
                    function = operation if attribute == "call" else operation.activation
                    kind = kind_of(function, self._classes)
                    if kind is not None:
                        return Squashing(kind, operation, attribute)
            if tensor.op.type not in PASSED:
                break
            tensor = tensor.op.inputs[0]
        if not hasattr(tensor, "op"):
            return Squashing(None, hidden=True)
        last = tensor.op.type
        kind = OPERATIONS.get(last)
        if kind == "sigmoid" or (kind == "softmax" and self._is_over_classes(tensor)):
            return Squashing(kind)
        return Squashing(None, hidden=_may_be_bounded(tensor, graph), last=last)

    def _is_changeable(self, operation: Any, attribute: str, given: Any) -> bool:
        """Whether a layer or operation does nothing but compute a function of all classes, once."""
        calls = [made for made in self._made if made[0] is operation and made[1] == attribute]
        weightless = attribute == "activation" or not getattr(operation, "variables", [])
        return len(calls) == 1 and weightless and tf.is_tensor(given) and self._is_over_classes(given)

    def _is_over_classes(self, tensor: Any) -> bool:
        return tensor.shape.rank is not None and tensor.shape.rank >= 2 and tensor.shape[-1] == self._classes


def _may_be_bounded(output: Any, graph: Any) -> bool:
    """Whether what may keep scores within bounds comes after the last operation with a weight."""
    of_weights: set[str] = set()
    of_inputs = {graph.inputs[0].op.name}  # variables, and constants of the user's, come after
    for operation in graph.get_operations():  # each after what it takes
        made_of = {tensor.op.name for tensor in operation.inputs}
        if made_of & of_inputs:
            of_inputs.add(operation.name)
        elif operation.type == "ReadVariableOp" or made_of & of_weights:
            of_weights.add(operation.name)
    waiting, seen = [output.op], set()
    while waiting:
        operation = waiting.pop()
        if operation.type in _BOUNDING:
            return True
        before = [tensor.op for tensor in operation.inputs]
        if operation.type in _DIVISIONS and before[1].name in of_inputs:
            return True
        if operation.name not in seen and not any(other.name in of_weights for other in before):
            waiting += [other for other in before if other.name in of_inputs]
        seen.add(operation.name)
    return False
