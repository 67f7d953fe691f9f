"""What a search within an L0 ball tries: other pixels (Croce et al. 2022)."""

import numpy as np
import tensorflow as tf

from keras_rar.core.neighborhoods import L0Ball
from keras_rar.core.proposals import Proposals, ranks

_AT = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8]
_DIVIDED_BY = np.array([1, 2, 4, 5, 6, 8, 10, 12, 15, 20])
_SHARE = 0.3


class OtherPixels(Proposals):
    """Some of the changed pixels are given back, and others take their place (Sparse-RS, Croce et al. 2022).

    A changed pixel is at a corner of the box: each channel at one of its bounds, at random. The share exchanged
    begins at 0.3 and falls to a twentieth of that.
    """

    def __init__(self, ball: L0Ball, shape: tuple[int, ...], queries: int):
        super().__init__(ball, shape, queries)
        self._positions = ball.positions(self.shape)
        self._channels = self.size // self._positions
        self.draws = 2 * self._positions + self.size
        by = _DIVIDED_BY[np.searchsorted(_AT, np.arange(queries) / queries)]
        self._exchanged = np.maximum(np.round(_SHARE * ball.epsilon / by), 1).astype("int32")

    def start(self, x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        chosen = ranks(-u[:, : self._positions]) < int(self.ball.epsilon)
        return tf.where(self._of_pixels(chosen), self._corners(x, u), x)

    def propose(self, x: tf.Tensor, k: tf.Tensor, x_prime: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        first, second = u[:, : self._positions], u[:, self._positions : 2 * self._positions]
        changed = tf.reduce_any(tf.reshape(x_prime != x, [-1, self._positions, self._channels]), axis=-1)
        number = tf.reduce_sum(tf.cast(changed, tf.int32), axis=1, keepdims=True)
        keep = tf.maximum(number - self._at(k, self._exchanged, tf.int32), 0)
        kept = changed & (ranks(tf.where(changed, first + 1, first)) < keep)
        new = ~changed & (ranks(tf.where(changed, second, second + 1)) < int(self.ball.epsilon) - keep)
        unchanged = tf.where(self._of_pixels(kept), x_prime, x)
        return tf.where(self._of_pixels(new), self._corners(x, u), unchanged)

    def _of_pixels(self, chosen: tf.Tensor) -> tf.Tensor:
        shape = [*self.shape[:-1], 1] if len(self.shape) >= 3 else self.shape
        return tf.reshape(chosen, [-1, *shape])

    def _corners(self, x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        high = tf.reshape(u[:, 2 * self._positions :], [-1, *self.shape]) < 0.5
        lower, upper = (tf.constant(bound, x.dtype) for bound in self.ball.bounds or (0.0, 1.0))
        return tf.where(high, upper + tf.zeros_like(x), lower + tf.zeros_like(x))
