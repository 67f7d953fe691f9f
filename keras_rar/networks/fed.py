"""A network in which one layer returns what it is fed, and that notes what this layer computes."""

import functools
import threading
from typing import Any

import keras
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.networks.base_model import input_structure
from keras_rar.networks.copies import copy_with
from keras_rar.networks.kept import kept_with
from keras_rar.networks.shared_variables import SharedVariables

_MASK = "_keras_mask"  # where Keras notes which rows of a tensor are padding: private, and a test says so if it goes


class FedNetwork(SharedVariables):
    """A network and one of its layers.

    Args:
        network: A built Keras model.
        layer: One of its layers.
    """

    layer: Any
    same_inputs = False
    _fed: threading.local
    _structure: Any

    def __init__(self, network: keras.Model, layer: Any):
        super().__init__(network, f"{network.name}_at_{layer.name}")
        self.__dict__.update(layer=layer, _fed=threading.local(), _structure=input_structure(network))

    def feed(self, inputs: Any, h: tf.Tensor, free: tf.Tensor | None, training: bool | None = None) -> Any:
        """What the network returns for its inputs where the layer returns h.

        Args:
            inputs: Inputs of the network, for all that passes by the layer.
            h: In place of the output of the layer.
            free: Booleans that broadcast to h; elsewhere the output of the layer stays. `None` for everywhere.
            training: As for a call of the network.
        """
        self._fed.h, self._fed.free = tf.cast(h, self.layer.compute_dtype), free
        try:
            return self._copy()(inputs, training=training)
        finally:
            self._fed.h = self._fed.free = None

    def front(self, inputs: Any) -> tuple[Any, Any]:
        """The output of the layer in inference mode and its mask, or `None`; twice `None` if it is not called once."""
        seen: list[tuple[Any, Any]] = []
        self._fed.seen = seen
        self._copy()(inputs, training=False)
        return seen[0] if len(seen) == 1 and tf.is_tensor(seen[0][0]) else (None, None)

    @property
    def losses(self) -> list[Any]:
        return self._copy().losses

    # The copy of the network, in which the layer is fed, or notes what it computes

    def _copy(self) -> Any:
        key = "fed", id(self._fed)
        return kept_with(self.network).get(key, lambda: copy_with(self.network, [(self.layer, "call", self._call())]))

    def _call(self) -> Any:
        fed, changed = self._fed, vars(self.layer).get("call")  # in a copy: what stands for the call of its class

        def call(layer: Any, *args: Any, **options: Any) -> Any:
            h, free = getattr(fed, "h", None), getattr(fed, "free", None)
            if h is not None and free is None:
                return h
            own = (changed or functools.partial(type(layer).call, layer))(*args, **options)
            if h is None:
                fed.seen.append((own, _mask_of(layer, args, own)))  # now: attention takes it off its inputs
                return own
            return tf.where(free, h, own)  # a row that is padding is the layer's own, whatever is fed

        return call

    def traced_front(self) -> tuple[Any, bool]:
        """The output of the layer as a symbolic tensor, or `None` as of `front`; and whether it has a mask."""
        found: list[Any] = []
        specs = self._specs()
        with tf.init_scope():
            tf.function(lambda x: found.extend(self.front(x)), autograph=False).get_concrete_function(specs)
        h, mask = found
        if mask is not None and mask.shape.rank != h.shape.rank - 1:
            checks.fail("layer", "one with a mask of its rows", self.layer.name)
        return h, mask is not None

    def is_passed_by(self, h: Any) -> bool:
        """Whether the output of the network depends on its inputs when the layer's output is given."""
        specs = self._specs()

        def fed(x: Any, h: tf.Tensor) -> Any:
            return keras.tree.flatten(self.feed(x, h, None, training=False))

        with tf.init_scope():
            traced = tf.function(fed, autograph=False)
            function = traced.get_concrete_function(specs, tf.TensorSpec(h.shape, h.dtype))
        inputs = {tensor.op.name for tensor in function.inputs[: len(keras.tree.flatten(specs))]}
        waiting, seen = [tensor.op for tensor in function.outputs], set()
        while waiting:
            operation = waiting.pop()
            if operation.name not in seen:
                seen.add(operation.name)
                waiting += [tensor.op for tensor in operation.inputs]
        return bool(inputs & seen)

    def _specs(self) -> Any:
        return keras.tree.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), self._structure)


def _mask_of(layer: Any, inputs: Any, output: Any) -> Any:
    """Which rows of the output of a layer are no padding, or `None`, as Keras notes it after the call."""
    mask = getattr(output, _MASK, None)
    if mask is None and layer.supports_masking and inputs:
        mask = layer.compute_mask(inputs[0], getattr(inputs[0], _MASK, None))
    return mask
