"""How much of a computation goes at once, so that it fits in the memory budget of a method."""

import math
import warnings
from typing import Any

import tensorflow as tf

from keras_rar.core.memory import chunk_size, points_that_fit
from keras_rar.methods.regularizer import AbstractAttributionRegularizer
from keras_rar.networks.output import OutputHead


class Chunks:
    """Sizes of chunks for one network and one method.

    With `chunk="auto"` as many examples go at once as fit, each with all of its nodes. Where not even one example fits
    with all nodes, its nodes go in chunks.

    Args:
        head: The `OutputHead` of the network.
        regularizer: The method, with its `chunk` and `memory_budget`.
        input_shape: Shape of an input, without the batch.
        attributed: Whether the IG of the loss is that of a layer. Defaults to `False`.
    """

    def __init__(
        self,
        head: OutputHead,
        regularizer: AbstractAttributionRegularizer,
        input_shape: tuple[int | None, ...],
        attributed: bool = False,
    ):
        self.head, self.regularizer, self.input_shape, self.attributed = head, regularizer, input_shape, attributed
        self.batch_size: int | None = None  # of the largest batch, where it is known but not to a trace
        self._bytes_per_point: float | None = None

    @property
    def is_automatic(self) -> bool:
        """Whether sizes depend on the batch."""
        return isinstance(self.regularizer.chunk, str)

    def nodes(self, examples: int | None, nodes: int, variables: bool) -> Any:
        """Nodes of an IG to evaluate at once, for as many examples; `None` for all."""
        if not self.is_automatic:
            return self.regularizer.chunk
        budget = self._budget(variables)
        return chunk_size(nodes, examples or 32, self._point_size, budget, variables=variables)

    def examples(self, x: tf.Tensor, points: int, *, variables: bool) -> int | None:
        """Examples to take at once, all points of each: cheaper than chunks of nodes. `None` for all of a batch.

        Args:
            x: The batch. Where neither the graph nor a `fit` knows its size, it may be any.
            points: Points per example that are held at once: the nodes of its IGs, and its gradients.
            variables: Whether derivatives in variables are computed too.
        """
        if not self.is_automatic:
            return None
        fit = points_that_fit(self._point_size, self._budget(variables), variables=variables)
        if fit < 1 and variables:
            self._warn()
        fitting = max(1, int(fit / points))
        batch = self.batch(x)
        return None if batch is not None and batch <= fitting else fitting

    def batch(self, x: tf.Tensor) -> int | None:
        """Examples in a batch, or the most that there may be; `None` if only the run will tell."""
        return x.shape[0] or self.batch_size

    def _budget(self, variables: bool) -> float:
        """The budget, less the two sums of derivatives in the weights that an update in parts holds."""
        return max(0.0, self.regularizer.memory_budget - variables * self._sums)

    def _warn(self) -> None:
        budget, needed = self.regularizer.memory_budget, self._sums + 1 / points_that_fit(self._point_size, 1.0)
        warnings.warn(
            f"One node of one example takes about {needed:.2g} GB in this network, with its derivatives in the "
            f"weights, more than memory_budget={budget:g}: an update takes that much beside what plain training takes.",
            RuntimeWarning,
            stacklevel=2,
        )

    @property
    def _sums(self) -> float:
        """Gigabytes of two sums of derivatives in the weights."""
        values = [variable.value for variable in self.head.model.trainable_variables]
        return 2 * sum(math.prod(value.shape) * value.dtype.size for value in values) / 1e9

    @property
    def _point_size(self) -> float:
        if self._bytes_per_point is None:
            at_layer = self.attributed  # whose forward products take the passes through the front once more
            self._bytes_per_point = self.head.bytes_per_point(self.input_shape, staged=not at_layer) * (1 + at_layer)
        return self._bytes_per_point
