"""Batches of training data in an order that is known, so that a run can go on in the middle of it."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_rar.core import checks


@dataclasses.dataclass(frozen=True)
class Batches:
    """Batches `(x, y)`, epoch after epoch, each in an order of its own.

    Args:
        rows: Number of examples.
        make: Function from int64 row numbers, `(batch,)`, and the number of the batch, to `(x, y)`.
        batch_size: Positive integer.
        seed: Integer. Defaults to `0`.
        whole: Whether what is left over of an epoch is dropped; it is another part every time. Defaults to `True`.

    Example:

    >>> batches = Batches(10, lambda rows, number: (rows, rows), 4)
    >>> len(batches)
    2
    >>> [x.shape[0] for x, _ in batches.stream().take(3)]
    [4, 4, 4]
    """

    rows: int
    make: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    batch_size: int
    seed: int = 0
    whole: bool = True

    def __post_init__(self) -> None:
        checks.positive_int("batch_size", self.batch_size)

    def __len__(self) -> int:
        """Batches an epoch."""
        return self.rows // self.batch_size if self.whole else -(-self.rows // self.batch_size)

    def stream(self, start: int = 0) -> tf.data.Dataset:
        """All batches from a number on, without end; those before it are not made.

        Args:
            start: Integer >= 0. Defaults to `0`.

        Returns:
            A `tf.data.Dataset`, for `fit(steps_per_epoch=…)`.
        """
        epoch, skipped = divmod(start, len(self))
        epochs, numbers = (tf.data.Dataset.range(first, np.iinfo(np.int64).max) for first in (epoch, start))
        rows = epochs.flat_map(self._order).skip(skipped)
        return tf.data.Dataset.zip(rows, numbers).map(self.make).prefetch(tf.data.AUTOTUNE)

    def _order(self, epoch: tf.Tensor) -> tf.data.Dataset:
        seed = tf.stack([tf.cast(self.seed, tf.int64), epoch])
        order = tf.random.experimental.stateless_shuffle(tf.range(self.rows, dtype=tf.int64), seed)
        return tf.data.Dataset.from_tensor_slices(order).batch(self.batch_size, drop_remainder=self.whole)


def shuffled(x: np.ndarray, y: np.ndarray, batch_size: int, seed: int = 0) -> Batches:
    """Batches of arrays; one of all, where there are fewer examples than that.

    Args:
        x: Inputs, `(n, ...)`.
        y: Labels, `(n,)`.
        batch_size: Positive integer.
        seed: Integer. Defaults to `0`.

    Example:

    >>> len(shuffled(np.zeros((10, 2)), np.zeros(10), 4))
    2
    """
    inputs, labels = tf.constant(x), tf.constant(y)
    size = min(checks.positive_int("batch_size", batch_size), len(x))
    return Batches(len(x), lambda rows, _: (tf.gather(inputs, rows), tf.gather(labels, rows)), size, seed)
