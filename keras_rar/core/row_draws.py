"""Random numbers that belong to an example, whatever batch it is in.

An attack that drops the examples that are settled goes on with smaller and smaller batches. What an example draws may
not depend on its neighbours there, nor on how many there are.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf


def each(draw: Callable[..., tf.Tensor], seed: tf.Tensor, rows: tf.Tensor, *arrays: tf.Tensor) -> tf.Tensor:
    """`draw(array_i, …, seed_i)` of each example, with a seed of its own.

    Args:
        draw: Function of one row of each array and of a seed that returns one row, of the dtype of the first array.
        seed: Integer tensor of shape `(2,)`.
        rows: Integer tensor of shape `(batch,)`, the numbers of the examples.
        *arrays: Tensors of shape `(batch, ...)`.

    Returns:
        Tensor of shape `(batch, ...)`.

    Example:

    >>> x, draw = tf.zeros([3, 1]), lambda x, seed: x + tf.random.stateless_uniform([1], seed)
    >>> together = each(draw, [0, 0], [4, 5, 6], x)
    >>> bool(tf.reduce_all(together[1] == each(draw, [0, 0], [5], x[:1])))
    True
    """
    arrays = tuple(tf.convert_to_tensor(array) for array in arrays)
    seed = tf.convert_to_tensor(seed)
    rows = tf.cast(rows, tf.int64)
    return tf.map_fn(
        lambda row: draw(*row[1:], tf.random.fold_in(seed, row[0])),
        (rows, *arrays),
        fn_output_signature=arrays[0].dtype,
    )


def uniform(seed: tf.Tensor, k: tf.Tensor, shifts: tf.Tensor) -> tf.Tensor:
    """Numbers of step k, uniform on [0, 1): `(u_k + v_i) mod 1`, u drawn anew at each step, v once for each example.

    A sum with one uniform part is uniform modulo 1. For one example the numbers of two steps are independent, since
    the u are; at one step those of two examples are, since the v are. One draw serves a whole batch (Cranley &
    Patterson 1976).

    Args:
        seed: Integer tensor of shape `(2,)`.
        k: Integer, the step.
        shifts: Tensor of shape `(batch, ...)`, the v, uniform on [0, 1).

    Returns:
        Tensor of the shape of `shifts`.

    Example:

    >>> uniform([0, 0], 3, tf.constant([[0.0], [0.5]])).shape
    TensorShape([2, 1])
    """
    shifts = tf.convert_to_tensor(shifts)
    anew = tf.random.stateless_uniform(
        tf.shape(shifts)[1:], tf.random.fold_in(tf.convert_to_tensor(seed), k), dtype=shifts.dtype, alg="philox"
    )
    total = anew + shifts
    return total - tf.floor(total)


def normal(seed: tf.Tensor, k: tf.Tensor, shifts: tf.Tensor) -> tf.Tensor:
    """Normal numbers of step k, `Φ⁻¹` of `uniform`.

    Args:
        seed: Integer tensor of shape `(2,)`.
        k: Integer, the step.
        shifts: Tensor of shape `(batch, ...)`, as for `uniform`.

    Returns:
        Tensor of the shape of `shifts`.

    Example:

    >>> normal([0, 0], 3, tf.constant([[0.0], [0.5]])).shape
    TensorShape([2, 1])
    """
    return tf.math.ndtri(tf.clip_by_value(uniform(seed, k, shifts), 1e-6, 1 - 1e-6))


class Block(NamedTuple):
    """The place of a batch among rows that draw their random numbers together.

    The numbers of a row are those that it gets when all rows of the block are one batch: a batch of fewer rows, where
    memory does not take them all, changes none.

    Args:
        seed: Integer tensor of shape `(2,)`, the seed of the whole block.
        first: The row of the block that the batch begins with, an integer or a tensor of one.
        size: Integer, how many rows the block has.

    Example:

    >>> noise = lambda z, seed: z + tf.random.stateless_normal(tf.shape(z), seed)
    >>> together = Block([0, 0], 0, 3).drawn(noise, tf.zeros([3, 1]))
    >>> bool(tf.reduce_all(together[1:] == Block([0, 0], 1, 3).drawn(noise, tf.zeros([2, 1]))))
    True
    """

    seed: Any
    first: Any
    size: int

    def drawn(self, draw: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], x: tf.Tensor) -> tf.Tensor:
        """`draw(x, seed)` for the rows of the batch, as it would be drawn among those of the whole block.

        Args:
            draw: Function of rows and a seed, whose result for a row depends on that row and its place alone.
            x: Tensor of shape `(batch, ...)`. Rows beyond the end of the block repeat the numbers of its last.

        Returns:
            Tensor of the shape of `x`.
        """
        x, seed = tf.convert_to_tensor(x), tf.convert_to_tensor(self.seed)
        if x.shape[0] == self.size:
            return draw(x, seed)
        batch = tf.shape(x)[0]
        places = tf.minimum(self.first + tf.range(batch), self.size - 1)
        inside = tf.clip_by_value(tf.range(self.size) - self.first, 0, batch - 1)
        return tf.gather(draw(tf.gather(x, inside), seed), places)
