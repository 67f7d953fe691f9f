"""Neighborhoods N(x, ε): a norm ball intersected with the box of valid inputs.

A norm is three short methods; the ascent is written once, in `keras_rar.core.ascent`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.core.abstract_ball import Neighborhood
from keras_rar.core.gradients import floating
from keras_rar.core.l1_ball import L1Ball


class LinfBall(Neighborhood):
    """`N(x, ε) = {x′ : ‖x′ − x‖∞ ≤ ε} ∩ [lower, upper]`; with an array of ε `|x′ᵢ − xᵢ| ≤ εᵢ`.

    Args:
        epsilon: Float > 0, the radius, in the units of the input; or an array of floats >= 0, one per feature.
        bounds: Pair `(lower, upper)` of floats or per-feature arrays, or `None`. Defaults to `(0., 1.)`.

    Raises:
        TypeError: As `Neighborhood`.
        ValueError: As `Neighborhood`.

    Example:

    >>> LinfBall(0.1).project(tf.constant([[0.0, 0.5]]), tf.constant([[-1.0, 1.0]])).numpy()
    array([[0. , 0.6]], dtype=float32)
    """

    def sample(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """`x + U(−ε, ε)`, drawn for each coordinate, then clipped to the box."""
        x = floating("x", x)
        epsilon = self.radius(x.dtype)
        noise = tf.random.stateless_uniform(tf.shape(x), seed, -epsilon, epsilon, x.dtype, alg="philox")
        return self.held(x, self.clip(x + noise))

    def steepest(self, gradient: tf.Tensor) -> tf.Tensor:
        """`w ∘ sign(g)`, with sign(0) = 0."""
        return self.stretched(tf.sign(floating("gradient", gradient)))

    def project(self, x: tf.Tensor, x_prime: tf.Tensor) -> tf.Tensor:
        x = floating("x", x)
        x_prime = floating("x_prime", x_prime, x.dtype)
        epsilon = self.radius(x.dtype)
        nearest = self.clip(x + tf.clip_by_value(x_prime - x, -epsilon, epsilon))  # rounded like the authors' code
        return self.held(x, nearest)


class L2Ball(Neighborhood):
    """`N(x, ε) = {x′ : ‖x′ − x‖₂ ≤ ε} ∩ [lower, upper]`; with an array of ε the ellipsoid `‖(x′ − x)/ε‖₂ ≤ 1`.

    Args:
        epsilon: Float > 0, the radius, in the units of the input; or an array of floats >= 0, one per feature.
        bounds: Pair `(lower, upper)` of floats or per-feature arrays, or `None`. Defaults to `(0., 1.)`.

    Raises:
        TypeError: As `Neighborhood`.
        ValueError: As `Neighborhood`.

    Example:

    >>> L2Ball(1.0, bounds=None).project(tf.constant([[0.0, 0.0]]), tf.constant([[3.0, 4.0]])).numpy()
    array([[0.6, 0.8]], dtype=float32)
    """

    def sample(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """`x + ε u^(1/d) g/‖g‖₂` with g normal and u uniform, which is uniform in the ball; then clipped to the box.

        d is the number of features that may change.
        """
        x = floating("x", x)
        seeds = tf.random.split(seed, 2)
        noise = tf.random.stateless_normal(tf.shape(x), seeds[0], dtype=x.dtype, alg="philox")
        direction = self.steepest(self.along(noise))
        free = tf.ones(tf.shape(x)[1:]) if self._shares is None else tf.cast(self._shares > 0, tf.float32)
        dimension = tf.reduce_sum(tf.broadcast_to(tf.cast(free, x.dtype), tf.shape(x)[1:]))
        shape = tf.concat([tf.shape(x)[:1], tf.ones([x.shape.rank - 1], tf.int32)], 0)
        radius = self.reach * tf.random.stateless_uniform(shape, seeds[1], dtype=x.dtype, alg="philox") ** (
            1 / dimension
        )
        return self.held(x, self.clip(x + radius * direction))

    def steepest(self, gradient: tf.Tensor) -> tf.Tensor:
        """`w ∘ (w ∘ g) / ‖w ∘ g‖₂`, and 0 where g = 0; with one ε `g / ‖g‖₂`."""
        gradient = self.stretched(floating("gradient", gradient))
        # Divided by its largest entry first, a tiny gradient has squares that do not underflow.
        axes = list(range(1, gradient.shape.rank))
        scaled = tf.math.divide_no_nan(gradient, tf.reduce_max(tf.abs(gradient), axes, keepdims=True))
        return self.stretched(tf.math.divide_no_nan(scaled, _l2_norm(scaled)))

    def project(self, x: tf.Tensor, x_prime: tf.Tensor) -> tf.Tensor:
        """`clip(x + t(x′ − x))` with the largest t ≤ 1 that stays in the ball, found by bisection.

        The nearest point has this form because its Lagrangian is a sum over coordinates. With an array of ε it is
        the nearest in units of ε.
        """
        x = floating("x", x)
        x_prime = floating("x_prime", x_prime, x.dtype)
        step = x_prime - x
        low = tf.minimum(tf.math.divide_no_nan(self.reach, self.length(step)), 1)  # the solution without a box
        high = tf.ones_like(low)
        inside = self.length(self.clip(x_prime) - x) <= self.reach

        def halve(low, high):
            middle = (low + high) / 2
            feasible = self.length(self.clip(x + middle * step) - x) <= self.reach
            return tf.where(feasible, middle, low), tf.where(feasible, high, middle)

        if self.bounds is not None:  # 30 halvings of [0, 1] reach 1e-9, below the precision of float32
            low, high = tf.while_loop(lambda *_: True, halve, (low, high), maximum_iterations=30)
        return self.held(x, tf.where(inside, self.clip(x_prime), self.clip(x + low * step)))

    def length(self, change: tf.Tensor) -> tf.Tensor:
        """`‖change‖₂` in units of the ball, `(batch, 1, …)`."""
        return _l2_norm(self.shrunk(change))


class L0Ball(Neighborhood):
    """`N(x, ε) = {x′ : ‖x′ − x‖₀ ≤ ε} ∩ [lower, upper]`: at most ε features differ, each as far as the box allows.

    A pixel is one feature, however many channels it has: of inputs of three or more axes, such as images, the last
    axis holds the channels. It is a threat that no network of this package is trained against, for attacks only.

    Args:
        epsilon: Integer >= 1, how many features or pixels may differ; fewer than there are.
        bounds: Pair `(lower, upper)` of floats or per-feature arrays; without a box the ball has no end. Defaults to
            `(0., 1.)`.

    Raises:
        TypeError: As `Neighborhood`.
        ValueError: If `epsilon` is not a positive whole number, or `bounds` is `None` or no increasing pair.

    Example:

    >>> L0Ball(1).project(tf.constant([[0.0, 0.5]]), tf.constant([[0.3, 1.0]])).numpy()
    array([[0., 1.]], dtype=float32)
    """

    def __init__(self, epsilon: Any, bounds: Any = (0.0, 1.0)):
        super().__init__(epsilon, bounds)
        if self._shares is not None or self.epsilon != int(self.epsilon):
            checks.fail("epsilon", 'a positive integer with norm="l0", the number of features that differ', epsilon)
        if self.bounds is None:
            checks.fail("bounds", 'given with norm="l0", where nothing else ends a change', bounds)

    @property
    def reach(self) -> float:
        """The width of the box, on average over features: ε says how many differ, and not how far."""
        lower, upper = (np.asarray(bound, "float64") for bound in self.bounds or (0.0, 1.0))
        return float(np.mean(upper - lower))

    def check_shape(self, shape: tuple[int | None, ...]) -> None:
        super().check_shape(shape)
        features = self.positions([size or 1 for size in shape])
        if self.epsilon >= features:
            checks.fail("epsilon", f'less than the number of features with norm="l0", {features}', self.epsilon)

    def positions(self, shape: Any) -> int:
        """How many features an input of this shape has: pixels, not channels.

        Args:
            shape: The shape of one input.
        """
        return int(np.prod(shape[:-1] if len(shape) >= 3 else shape))

    def sample(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """ε features at random, each drawn from the box; the others stay."""
        x = floating("x", x)
        seeds = tf.random.split(seed, 2)
        by_feature = self._by_feature(x)
        keys = tf.random.stateless_uniform(tf.shape(by_feature)[:2], seeds[0], dtype=x.dtype, alg="philox")
        lower, upper = (tf.constant(bound, x.dtype) for bound in self.bounds or (0.0, 1.0))
        drawn = tf.random.stateless_uniform(tf.shape(x), seeds[1], dtype=x.dtype, alg="philox")
        return tf.where(self._highest(keys, x), lower + drawn * (upper - lower), x)

    def steepest(self, gradient: tf.Tensor) -> tf.Tensor:
        """`sign(g)` at the ε features with the greatest `Σ_channels |g|`, and 0 elsewhere."""
        gradient = floating("gradient", gradient)
        slopes = tf.reduce_sum(tf.abs(self._by_feature(gradient)), axis=-1)
        return tf.where(self._highest(slopes, gradient), tf.sign(gradient), tf.zeros_like(gradient))

    def project(self, x: tf.Tensor, x_prime: tf.Tensor) -> tf.Tensor:
        """`x_prime` in the box at the ε features that change most, x elsewhere: the nearest point.

        What is kept of a feature is what it saves: `|x′ − x|² − |x′ − clip(x′)|²`, summed over channels. Of equal ones
        the first is kept.
        """
        x = floating("x", x)
        x_prime = floating("x_prime", x_prime, x.dtype)
        clipped = self.clip(x_prime)
        saved = tf.reduce_sum(self._by_feature((x_prime - x) ** 2 - (x_prime - clipped) ** 2), axis=-1)
        return tf.where(self._highest(saved, x), clipped, x)

    def _by_feature(self, values: tf.Tensor) -> tf.Tensor:
        """`(batch, features, channels)`."""
        shape = values.shape[1:]
        return tf.reshape(values, [-1, self.positions(shape), shape[-1] if len(shape) >= 3 else 1])

    def _highest(self, values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
        """Whether a feature is one of the ε highest, to go with inputs."""
        chosen = tf.math.top_k(values, min(int(self.epsilon), values.shape[1])).indices
        rows = tf.broadcast_to(tf.range(tf.shape(chosen)[0])[:, tf.newaxis], tf.shape(chosen))
        hits = tf.tensor_scatter_nd_update(
            tf.zeros(tf.shape(values), tf.int32), tf.stack([rows, chosen], axis=-1), tf.ones_like(chosen)
        )
        shape = like.shape[1:]
        return tf.reshape(hits > 0, [-1, *([*shape[:-1], 1] if len(shape) >= 3 else shape)])


def _l2_norm(values: tf.Tensor) -> tf.Tensor:
    axes = list(range(1, values.shape.rank))
    return tf.sqrt(tf.reduce_sum(values**2, axes, keepdims=True))


NORMS: dict[str, Callable[..., Neighborhood]] = {"linf": LinfBall, "l2": L2Ball, "l1": L1Ball, "l0": L0Ball}
TRAINED = ("linf", "l2", "l1")
"""The norms that a network can be trained in: the steps of an inner maximum are shares of a radius."""


def get(norm: str, epsilon: Any, bounds: Any = (0.0, 1.0)) -> Neighborhood:
    """The ball of a norm, by its name.

    Args:
        norm: A name in `NORMS`.
        epsilon: As for `Neighborhood`.
        bounds: As for `Neighborhood`.

    Returns:
        A `Neighborhood`.

    Raises:
        ValueError: If `norm` is not in `NORMS`, or an argument is out of range.

    Example:

    >>> get("l2", 0.5).epsilon
    0.5
    """
    return NORMS[checks.one_of("norm", norm, NORMS)](epsilon, bounds)
