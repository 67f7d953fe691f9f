"""Batches of training data in an order that is known, so that a run can go on in the middle of it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.training import identity


@dataclasses.dataclass(frozen=True)
class Batches:
    """Batches `(x, y)` or `(x, y, sample_weight)`, epoch after epoch, each epoch in an order of its own.

    Args:
        rows: Number of examples.
        make: Function from int64 row numbers, `(batch,)`, and the number of the batch, to the batch. It must give the
            same batch for the same numbers: then a run that was stopped goes on exactly.
        batch_size: Positive integer.
        seed: Integer seed of the orders. Defaults to `0`.
        whole: Whether the last batch of an epoch is dropped if it is not whole; other examples are dropped in each
            epoch. Defaults to `True`.
        content: Function without arguments that returns a description of the data, by which a run knows them. Defaults
            to a description of the first batch.

    Example:

    >>> batches = Batches(10, lambda rows, number: (rows, rows), 4)
    >>> len(batches)
    2
    >>> [x.shape[0] for x, _ in batches.stream().take(3)]
    [4, 4, 4]
    """

    rows: int
    make: Callable[[tf.Tensor, tf.Tensor], tuple[Any, ...]]
    batch_size: int
    seed: int = 0
    whole: bool = True
    content: Callable[[], Any] | None = None

    def __post_init__(self) -> None:
        checks.positive_int("rows", self.rows)
        checks.positive_int("batch_size", self.batch_size)
        checks.integer("seed", self.seed)
        if self.whole and self.batch_size > self.rows:
            checks.fail("batch_size", f"at most the number of rows, {self.rows}, for whole batches", self.batch_size)

    def __len__(self) -> int:
        """Batches per epoch."""
        return self.rows // self.batch_size if self.whole else -(-self.rows // self.batch_size)

    def stream(self, start: int = 0) -> tf.data.Dataset:
        """All batches from a number on, without end; those before it are not made.

        Args:
            start: Integer >= 0. Defaults to `0`.

        Returns:
            A `tf.data.Dataset`, for `fit(steps_per_epoch=…)`.
        """
        return self._numbered(start).map(self.make).prefetch(tf.data.AUTOTUNE)

    def description(self) -> dict[str, Any]:
        """The data in words, by which a run knows them.

        Returns:
            Dictionary of plain values.
        """
        if self.content is None:
            first = self._numbered(0).take(1).map(self.make)
            content = [identity.about_arrays(part) for part in next(iter(first.as_numpy_iterator()))]
        else:
            content = self.content()
        order = {name: getattr(self, name) for name in ("rows", "batch_size", "seed", "whole")}
        return {**order, "content": content}

    def _numbered(self, start: int) -> tf.data.Dataset:
        """The rows of each batch, and its number, from a number on."""
        epoch, skipped = divmod(start, len(self))
        epochs, numbers = (tf.data.Dataset.range(first, np.iinfo(np.int64).max) for first in (epoch, start))
        return tf.data.Dataset.zip(epochs.flat_map(self._order).skip(skipped), numbers)

    def _order(self, epoch: tf.Tensor) -> tf.data.Dataset:
        seed = tf.stack([tf.cast(self.seed, tf.int64), epoch])
        order = tf.random.experimental.stateless_shuffle(tf.range(self.rows, dtype=tf.int64), seed)
        return tf.data.Dataset.from_tensor_slices(order).batch(self.batch_size, drop_remainder=self.whole)


def shuffled(x: Any, y: Any, batch_size: int, seed: int = 0, *, sample_weight: Any = None) -> Batches:
    """Whole batches of arrays, in another order in each epoch; one batch of all, if there are fewer examples than that.

    Args:
        x: Array of inputs, `(n, ...)`.
        y: Array of labels, `(n,)` or one-hot, `(n, classes)`.
        batch_size: Positive integer.
        seed: Integer. Defaults to `0`.
        sample_weight: Array of weights, `(n,)`. Defaults to none.

    Returns:
        `Batches`.

    Raises:
        ValueError: If there is no example, or not one label and one weight per example.

    Example:

    >>> len(shuffled(np.zeros((10, 2)), np.zeros(10), 4))
    2
    """
    arrays = {"x": x, "y": y, **({} if sample_weight is None else {"sample_weight": sample_weight})}
    tensors = keras.tree.map_structure(tf.convert_to_tensor, arrays)
    n = _examples("x", tensors["x"])
    if n == 0:
        raise ValueError("`x` must hold at least one example. Received: an empty array")
    for name in list(tensors)[1:]:
        if _examples(name, tensors[name]) != n:
            what = {"y": "one label per example", "sample_weight": "one weight per example"}[name]
            raise ValueError(f"`{name}` must hold {what}, {n}. Received: {_examples(name, tensors[name])}")

    def make(rows: tf.Tensor, _: tf.Tensor) -> tuple[Any, ...]:
        return tuple(keras.tree.map_structure(lambda part: tf.gather(part, rows), part) for part in tensors.values())

    size = min(checks.positive_int("batch_size", batch_size), n)
    return Batches(n, make, size, seed, content=lambda: identity.of_arrays(tensors))


def _examples(name: str, structure: Any) -> int:
    """How many examples arrays hold, all of the same number."""
    sizes = {int(part.shape[0]) if part.shape.rank else None for part in keras.tree.flatten(structure)}
    if len(sizes) != 1 or None in sizes:
        raise ValueError(f"`{name}` must be an array with one entry per example. Received: {name} of sizes {sizes}")
    return next(iter(sizes))  # type: ignore[return-value]
