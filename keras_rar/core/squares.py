"""What a search within an L∞, L2 or L1 ball tries: squares (Andriushchenko et al. 2020)."""

import numpy as np
import tensorflow as tf

from keras_rar.core.neighborhoods import L1Ball, L2Ball, LinfBall
from keras_rar.core.proposals import Proposals, shares


class LinfSquares(Proposals):
    """A square of an image is set to x ± ε, one sign per channel (Andriushchenko et al. 2020, algorithm 2).

    The search begins at vertical stripes. Inputs that are no images have no neighbours: as many features as the
    square has pixels are chosen at random, each with its own sign.

    Example:

    >>> found = LinfSquares(LinfBall(0.1), (2, 2, 1), 5).start(tf.fill([1, 2, 2, 1], 0.5), tf.constant([[0.1, 0.7]]))
    >>> found.numpy().round(1)[0, :, :, 0].tolist()
    [[0.4000000059604645, 0.6000000238418579], [0.4000000059604645, 0.6000000238418579]]
    """

    def __init__(self, ball: LinfBall, shape: tuple[int, ...], queries: int):
        super().__init__(ball, shape, queries)
        self.draws = max(2 + self.shape[2], self.shape[1] * self.shape[2]) if self.is_image else 2 * self.size

    def start(self, x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        stripe = (1, self.shape[1], self.shape[2]) if self.is_image else self.shape
        return self._moved(x, self._signs(u[:, : int(np.prod(stripe))], *stripe))

    def propose(self, x: tf.Tensor, k: tf.Tensor, x_prime: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        if self.is_image:
            side = self._at(k, _sides(self.shape, self.queries, 1), tf.int32)
            _, _, chosen = self._window(u, side)
            signs = self._signs(u[:, 2 : 2 + self.shape[2]], 1, 1, self.shape[2])
        else:
            chosen = self._chosen(u[:, : self.size], 0, self._at(k, _counts(self.free, self.queries), tf.int32))
            signs = self._signs(u[:, self.size :], *self.shape)
        return tf.where(chosen, self._moved(x, signs), x_prime)

    def _moved(self, x: tf.Tensor, signs: tf.Tensor) -> tf.Tensor:
        return self.ball.project(x, x + self.ball.reach * self.ball.steepest(signs))


class L2Squares(Proposals):
    """The change in one square is moved to another, with a bump added (Andriushchenko et al. 2020, algorithm 3).

    The other square gets the length of the change in both, and what the ball has left; its old change, made as long
    as the bump, is added to it. The bump has two halves of opposite sign, each a pyramid. The search begins at
    blocks of random signs. Inputs that are no images: features at random in place of squares, signs in place of bumps.
    """

    def __init__(self, ball: L2Ball, shape: tuple[int, ...], queries: int):
        super().__init__(ball, shape, queries)
        self._channels = self.shape[2] if self.is_image else 1
        self._block = max(1, min(self.shape[:2]) // 5) if self.is_image else 1
        self._blocks = tuple(-(-n // self._block) for n in self.shape[:2]) if self.is_image else self.shape
        start = int(np.prod(self._blocks)) * self._channels
        self.draws = max(5 + self._channels, start) if self.is_image else 2 * self.size

    def start(self, x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        if not self.is_image:
            return self._moved(x, self._signs(u[:, : self.size], *self.shape))
        count = int(np.prod(self._blocks)) * self._channels
        signs = self._signs(u[:, :count], *self._blocks, self._channels)
        for axis, length in enumerate(self.shape[:2], 1):
            signs = tf.gather(signs, np.arange(length) // self._block, axis=axis)
        return self._moved(x, signs)

    def propose(self, x: tf.Tensor, k: tf.Tensor, x_prime: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        change = self.ball.shrunk(x_prime - x)
        if self.is_image:
            side = self._at(k, _sides(self.shape, self.queries, 3), tf.int32)
            row, column, here = self._window(u[:, :2], side)
            _, _, there = self._window(u[:, 2:4], side)
            across = u[:, 4, tf.newaxis, tf.newaxis] < 0.5
            bump = _bump(tf.where(across, row, column), tf.where(across, column, row), side, max(self.shape[:2]))
            signs = self._signs(u[:, 5 : 5 + self._channels], 1, 1, self._channels)
            bump = tf.where(here, tf.cast(bump, x.dtype)[..., tf.newaxis], 0.0) * signs
            axes: tuple[int, ...] = (1, 2)
        else:
            count = self._at(k, _counts(self.free, self.queries), tf.int32)
            here = self._chosen(u[:, : self.size], 0, count)
            there = self._chosen(u[:, : self.size], count, 2 * count)
            bump = tf.where(here, self._signs(u[:, self.size :], *self.shape), 0.0)
            axes = tuple(range(1, len(self.shape) + 1))
        left = tf.maximum(self.ball.reach**2 - _squared(change, tuple(range(1, x.shape.rank))), 0)
        available = _squared(tf.where(here | there, change, 0.0), axes) + left / self._channels
        new = _unit(bump, axes) + _unit(tf.where(here, change, 0.0), axes)
        new = tf.sqrt(available) * _unit(new, axes)
        changed = tf.where(here, new, tf.where(there, tf.zeros_like(change), change))
        return self.ball.project(x, x + self.ball.stretched(changed))

    def _moved(self, x: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
        return self.ball.project(x, x + self.ball.reach * self.ball.steepest(self.ball.along(direction)))


class L1Squares(Proposals):
    """A square is pushed, one sign per channel, by as much as the ball holds; all else gives way: the nearest point.

    The sizes of squares are those of Andriushchenko et al. (2020), the change is ours: in L1 the projection takes the
    same from every changed feature. Inputs that are no images: features at random, each with its own sign.
    """

    def __init__(self, ball: L1Ball, shape: tuple[int, ...], queries: int):
        super().__init__(ball, shape, queries)
        self._length = ball.length
        self.draws = 2 + self.shape[2] if self.is_image else 2 * self.size

    def start(self, x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        return self.propose(x, tf.constant(0), x, u)

    def propose(self, x: tf.Tensor, k: tf.Tensor, x_prime: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        if self.is_image:
            _, _, chosen = self._window(u, self._at(k, _sides(self.shape, self.queries, 1), tf.int32))
            signs = self._signs(u[:, 2 : 2 + self.shape[2]], 1, 1, self.shape[2])
        else:
            chosen = self._chosen(u[:, : self.size], 0, self._at(k, _counts(self.free, self.queries), tf.int32))
            signs = self._signs(u[:, self.size :], *self.shape)
        push = tf.where(chosen, signs, tf.zeros_like(x))
        push = self.ball.reach * tf.math.divide_no_nan(push, self._length(self.ball.stretched(push)))
        return self.ball.project(x, self.ball.clip(x_prime + self.ball.stretched(push)))  # not lost beyond the box


def _sides(shape: tuple[int, ...], queries: int, least: int) -> np.ndarray:
    sides = np.round(np.sqrt(shares(queries) * shape[0] * shape[1]))
    return (
        np.clip(sides, least, min(shape[:2])).astype("int32")
        if min(shape[:2]) > least
        else np.full(queries, min(shape[:2]), "int32")
    )


def _counts(size: int, queries: int) -> np.ndarray:
    return np.maximum(np.round(shares(queries) * size), 1).astype("int32")


def _bump(along: tf.Tensor, across: tf.Tensor, side: tf.Tensor, longest: int) -> tf.Tensor:
    """Two pyramids of opposite sign beside each other: `Σ_{j > d} 1/j²`, d the distance to the middle of a half."""
    half = side // 2
    second = along >= half
    length = tf.where(second, side - half, half)
    along = tf.where(second, along - half, along)
    distance = tf.maximum(tf.abs(along - length // 2), tf.abs(across - side // 2))
    sums = tf.constant(np.cumsum([0.0, *(1 / np.arange(1, longest + 2) ** 2)]), tf.float32)
    reach = tf.clip_by_value(side // 2 + 1, 0, longest + 1)
    height = tf.gather(sums, reach) - tf.gather(sums, tf.clip_by_value(distance, 0, longest + 1))
    return tf.where(second, -1.0, 1.0) * tf.maximum(height, 0)


def _squared(values: tf.Tensor, axes: tuple[int, ...]) -> tf.Tensor:
    return tf.reduce_sum(values**2, axes, keepdims=True)


def _unit(values: tf.Tensor, axes: tuple[int, ...]) -> tf.Tensor:
    return tf.math.divide_no_nan(values, tf.sqrt(_squared(values, axes)))
