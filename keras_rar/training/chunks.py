"""How much of a computation goes at once, so that it fits in the memory budget of a method."""

from typing import Any

import tensorflow as tf

from keras_rar.core.memory import chunk_size
from keras_rar.methods.regularizer import AbstractAttributionRegularizer
from keras_rar.networks.output import OutputHead


class Chunks:
    """Sizes of chunks for one network and one method.

    Args:
        head: The `OutputHead` of the network.
        regularizer: The method, with its `chunk` and `memory_budget`.
        input_shape: Shape of an input, without the batch.
    """

    def __init__(
        self, head: OutputHead, regularizer: AbstractAttributionRegularizer, input_shape: tuple[int | None, ...]
    ):
        self.head, self.regularizer, self.input_shape = head, regularizer, input_shape
        self.batch_size = 32  # where a trace does not know it
        self._bytes_per_point: float | None = None

    @property
    def is_automatic(self) -> bool:
        """Whether sizes depend on the batch."""
        return isinstance(self.regularizer.chunk, str)

    def nodes(self, examples: int, nodes: int, variables: bool) -> Any:
        """Nodes of an IG to evaluate at once; `None` for all."""
        if not self.is_automatic:
            return self.regularizer.chunk
        return chunk_size(nodes, examples, self._point_size, self.regularizer.memory_budget, variables=variables)

    def examples(self, x: tf.Tensor) -> int | None:
        """Examples to attack at once, all nodes of each: cheaper than chunks of nodes. `None` for all."""
        if not self.is_automatic:
            return None
        nodes, budget = len(self.regularizer.attack_rule), self.regularizer.memory_budget
        return chunk_size(self.batch(x), nodes, self._point_size, budget, variables=False)

    def batch(self, x: tf.Tensor) -> int:
        """Examples in a batch."""
        return x.shape[0] or self.batch_size

    @property
    def _point_size(self) -> float:
        if self._bytes_per_point is None:
            self._bytes_per_point = self.head.bytes_per_point(self.input_shape)
        return self._bytes_per_point
