"""The functions of a model as TensorFlow functions, compiled once for each size of chunk."""

from collections.abc import Callable

import tensorflow as tf

from keras_rar.training.chunks import Chunks


class Functions:
    """Compiled functions of batches, kept until the model is compiled again.

    Args:
        chunks: How much goes at once; it depends on the batch, so larger batches get a function of their own.
        jit_compile: Whether XLA compiles them.
    """

    def __init__(self, chunks: Chunks, jit_compile: bool | None):
        self.chunks, self.jit_compile = chunks, jit_compile
        self._kept: dict[tuple[str, int], Callable] = {}

    def compiled(self, function: Callable, x: tf.Tensor) -> Callable:
        """The function, compiled for batches of the size of `x`, or for somewhat larger ones."""
        largest = 1 << max(5, ((x.shape[0] or 1) - 1).bit_length()) if self.chunks.is_automatic else 0
        key = function.__name__, largest

        def traced(*arguments):
            before, self.chunks.batch_size = self.chunks.batch_size, largest or None
            try:
                return function(*arguments)
            finally:
                self.chunks.batch_size = before

        if key not in self._kept:
            options = {"reduce_retracing": True, "jit_compile": self.jit_compile, "autograph": False}
            self._kept[key] = tf.function(traced, **options)
        return self._kept[key]
