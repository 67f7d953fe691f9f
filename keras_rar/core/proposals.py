"""What a search without gradients tries next, for inputs of one shape."""

import abc
from typing import Any

import numpy as np
import tensorflow as tf

from keras_rar.core.abstract_ball import Neighborhood

SHARE = 0.8
"""p: the share of an image that the first square covers."""

_HALVED_AT = [0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8]


def shares(queries: int) -> np.ndarray:
    """The share of an image that the square of each query covers (Andriushchenko et al. 2020, sec. 5).

    It begins at 0.8 and is halved after 0.1, 0.5, 2, 5, 10, 20, 40, 60 and 80 % of the queries.

    Args:
        queries: Number of queries.

    Returns:
        Array of shape `(queries,)`.

    Example:

    >>> shares(10)[[0, 1, 9]].tolist()
    [0.8, 0.05, 0.0015625]
    """
    return SHARE / 2.0 ** np.searchsorted(_HALVED_AT, np.arange(queries) / queries)


class Proposals(abc.ABC):
    """What a search tries, for inputs of one shape: images `(height, width, channels)`, or features of any shape.

    A method draws nothing itself: it gets `u`, uniform numbers of shape `(batch, draws)`.

    Args:
        ball: A `Neighborhood`.
        shape: The shape of one input.
        queries: Number of queries.

    Attributes:
        draws: How many uniform numbers a proposal takes for each example.
    """

    draws: int

    def __init__(self, ball: Neighborhood, shape: tuple[int, ...], queries: int):
        self.ball, self.shape, self.queries = ball, tuple(shape), queries
        self.is_image = len(self.shape) == 3
        self.size = int(np.prod(self.shape))
        self._may_change = ball.free(self.shape).reshape(1, -1)
        self.free = int(self._may_change.sum())

    @abc.abstractmethod
    def start(self, x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """Where the search begins, of the shape of `x`."""

    @abc.abstractmethod
    def propose(self, x: tf.Tensor, k: tf.Tensor, x_prime: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """What step k tries in place of `x_prime`, within the ball around `x`."""

    def _at(self, k: tf.Tensor, table: np.ndarray, dtype: Any) -> tf.Tensor:
        return tf.gather(tf.constant(table, dtype), tf.minimum(k, self.queries - 1))

    def _window(self, u: tf.Tensor, side: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Rows and columns of each pixel relative to a square at a random place, and whether it lies within."""
        height, width, _ = self.shape
        places = []
        for axis, length in enumerate((height, width)):
            room = tf.cast(length - side + 1, u.dtype)
            begin = tf.cast(tf.floor(u[:, axis] * room), tf.int32)
            places.append(tf.range(length) - begin[:, tf.newaxis])
        row, column = places[0][:, :, tf.newaxis], places[1][:, tf.newaxis, :]
        inside = (row >= 0) & (row < side) & (column >= 0) & (column < side)
        return row, column, inside[..., tf.newaxis]

    def _chosen(self, u: tf.Tensor, first: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
        """Features by their place in a random order, fixed ones last: whether it is one from `first` to `last − 1`."""
        place = ranks(tf.where(self._may_change, -u, -2.0))
        return tf.reshape((place >= first) & (place < last), [-1, *self.shape])

    def _signs(self, u: tf.Tensor, *shape: int) -> tf.Tensor:
        return tf.reshape(tf.where(u < 0.5, -tf.ones_like(u), tf.ones_like(u)), [-1, *shape])


def ranks(values: tf.Tensor) -> tf.Tensor:
    """The place of each entry of a row from the greatest down, 0 first: `(batch, n)` integers.

    Args:
        values: Tensor of shape `(batch, n)`.

    Example:

    >>> ranks(tf.constant([[0.2, 0.9, 0.5]])).numpy()
    array([[2, 0, 1]], dtype=int32)
    """
    order = tf.argsort(values, axis=-1, direction="DESCENDING", stable=True)
    return tf.argsort(order, axis=-1, stable=True)
