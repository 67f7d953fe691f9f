"""Inputs of which a part is held: last columns that say what the rest belongs to, and rows that are padding.

A network that is looked at behind a layer takes the output of the layer, and sometimes more: which of its rows are
padding, and the inputs themselves where they reach past the layer. That more stands in columns of its own behind the
others. No perturbation, no noise and no segment may change it.
"""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_rar.core.abstract_ball import Neighborhood
from keras_rar.core.gradients import ScalarFunction, floating
from keras_rar.core.neighborhoods import L0Ball, L1Ball, L2Ball
from keras_rar.core.proposals import Proposals
from keras_rar.core.segment_starts import start_of


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which columns of an input are free: the first ones, but not in rows that are masked.

    Args:
        width: How many columns are free. `None` for all: nothing is held.
        masked: Whether the first column after them says which rows are free, by numbers above 0.

    Example:

    >>> Columns(1).joined(tf.constant([[9.0]]), tf.constant([[1.0, 2.0]])).numpy()
    array([[9., 2.]], dtype=float32)
    """

    width: int | None = None
    masked: bool = False

    @property
    def holds(self) -> bool:
        """Whether anything is held."""
        return self.width is not None

    def free(self, z: Any) -> Any:
        """The free columns, with all rows."""
        return z if self.width is None else z[..., : self.width]

    def is_free(self, x: tf.Tensor) -> tf.Tensor:
        """Which rows are free, `(..., 1)` booleans."""
        if self.width is None or not self.masked:
            return tf.fill(tf.concat([tf.shape(x)[:-1], [1]], 0), True)
        return x[..., self.width : self.width + 1] > 0

    def joined(self, h: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """`h` in place of what is free of x; of more points than x has, `h` may have more axes in front."""
        h = floating("h", h)
        if self.width is None:
            return h
        x = floating("x", x, h.dtype)
        if self.masked:
            h = tf.where(self.is_free(x), h, self.free(x))
        held = x[..., self.width :]
        return tf.concat([h, tf.broadcast_to(held, tf.concat([tf.shape(h)[:-1], tf.shape(held)[-1:]], 0))], axis=-1)

    def start(self, baseline: Any, x: tf.Tensor) -> tf.Tensor:
        """Where the segment to x begins: at the baseline, as `start_of` of what is free, with all else as in x."""
        x = floating("x", x)
        return self.joined(start_of(baseline, self.free(x)), x)


NOTHING = Columns()
"""Nothing is held."""


@dataclasses.dataclass(frozen=True)
class Held:
    """A function of inputs of which a part is held.

    Args:
        f: Function `(n, ...) -> (n,)`.
        columns: What is free of an input.
    """

    f: ScalarFunction
    columns: Columns

    def __call__(self, z: tf.Tensor) -> tf.Tensor:
        return self.f(floating("z", z))


def columns_of(f: ScalarFunction) -> Columns:
    """What is free of the inputs of a function."""
    return f.columns if isinstance(f, Held) else NOTHING


class HeldBall(Neighborhood):
    """A neighborhood of what is free of an input; the rest stays as it is.

    In L1 and L2 what a step would move held rows by goes to the free ones, so that noise has the length that it is to
    have.

    Args:
        ball: The `Neighborhood` of what is free.
        columns: What is free.

    Raises:
        ValueError: If `ball` counts features, as an `L0Ball` does: held ones would count.

    Example:

    >>> from keras_rar.core.neighborhoods import LinfBall
    >>> ball = HeldBall(LinfBall(0.1), Columns(1))
    >>> ball.project(tf.constant([[0.0, 7.0]]), tf.constant([[3.0, 3.0]])).numpy()
    array([[0.1, 7. ]], dtype=float32)
    """

    def __init__(self, ball: Neighborhood, columns: Columns):
        if isinstance(ball, L0Ball):
            raise ValueError(
                '`norm` must be "linf", "l2" or "l1" at a layer with padding or a way past it. Received: norm=\'l0\''
            )
        self.ball, self.columns = ball, columns
        self.epsilon, self.bounds = ball.epsilon, ball.bounds

    def sample(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        x = floating("x", x)
        return self._joined(x, self.ball.sample(self.columns.free(x), seed))

    def steepest(self, gradient: tf.Tensor) -> tf.Tensor:
        gradient = floating("gradient", gradient)
        step = self.ball.steepest(self.columns.free(gradient))
        return tf.concat([step, tf.zeros_like(gradient[..., self.columns.width :])], axis=-1)

    def project(self, x: tf.Tensor, x_prime: tf.Tensor) -> tf.Tensor:
        x = floating("x", x)
        return self._joined(x, self.columns.free(floating("x_prime", x_prime, x.dtype)))

    def clip(self, x_prime: tf.Tensor) -> tf.Tensor:
        x_prime = floating("x_prime", x_prime)
        return self.columns.joined(self.ball.clip(self.columns.free(x_prime)), x_prime)

    @property
    def reach(self) -> Any:
        return self.ball.reach

    @property
    def reach_of_features(self) -> Any:
        return self.ball.reach_of_features

    def free(self, shape: Any) -> np.ndarray:
        held = np.zeros((*shape[:-1], shape[-1] - self.columns.width), bool)
        return np.concatenate([self.ball.free((*shape[:-1], self.columns.width)), held], axis=-1)

    def open(self, x_prime: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        free = self.ball.open(self.columns.free(x_prime), self.columns.free(gradient))
        return tf.concat([free, gradient[..., self.columns.width :]], axis=-1)

    def along(self, noise: tf.Tensor) -> tf.Tensor:
        noise = floating("noise", noise)
        return tf.concat([self.ball.along(self.columns.free(noise)), noise[..., self.columns.width :]], axis=-1)

    def felt(self, gradient: tf.Tensor) -> tf.Tensor:
        gradient = floating("gradient", gradient)
        felt = self.ball.felt(self.columns.free(gradient))
        return tf.concat([felt, tf.zeros_like(gradient[..., self.columns.width :])], axis=-1)

    def check_shape(self, shape: tuple[int | None, ...]) -> None:
        self.ball.check_shape((*shape[:-1], self.columns.width))

    def of_radius(self, epsilon: tf.Tensor) -> "HeldBall":
        ball = copy.copy(self)
        ball.ball, ball.epsilon = self.ball.of_radius(epsilon), epsilon
        return ball

    def _joined(self, x: tf.Tensor, h_prime: tf.Tensor) -> tf.Tensor:
        """x with another free part, in the ball."""
        h = self.columns.free(x)
        step = tf.where(self.columns.is_free(x), h_prime - h, tf.zeros_like(h))
        if isinstance(self.ball, (L1Ball, L2Ball)) and self.columns.masked:
            length, left = (self.ball.length(change) for change in (h_prime - h, step))
            step *= tf.where(left < length, tf.math.divide_no_nan(length, left), tf.ones_like(left))
        return self.columns.joined(self.ball.project(h, h + step), x)


class HeldProposals(Proposals):
    """What a search tries of what is free of an input.

    Args:
        ball: The `HeldBall`.
        shape: The shape of one input.
        queries: Number of queries.
        make: A class of `Proposals` for the ball of what is free.
    """

    def __init__(self, ball: HeldBall, shape: tuple[int, ...], queries: int, make: Callable[..., Proposals]):
        super().__init__(ball, shape, queries)
        free = (*shape[:-1], ball.columns.width)
        self.columns, self.inner = ball.columns, make(ball.ball, free, queries)
        self.draws = self.inner.draws

    def start(self, x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        return self.columns.joined(self.inner.start(self.columns.free(x), u), x)

    def propose(self, x: tf.Tensor, k: tf.Tensor, x_prime: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        free = self.columns.free
        return self.columns.joined(self.inner.propose(free(x), k, free(x_prime), u), x)
