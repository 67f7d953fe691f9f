"""Neighborhoods N(x, ε): a norm ball intersected with the box of valid inputs.

A norm is three short methods; the ascent is written once, in `keras_rar.core.ascent`.
"""

import abc
import copy
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_rar.core import checks
from keras_rar.core.gradients import floating


class Neighborhood(abc.ABC):
    """A norm ball of radius ε around x, intersected with the valid box.

    Args:
        epsilon: Float > 0, the radius, in the units of the input.
        bounds: Pair `(lower, upper)` of floats, or of arrays that broadcast to one input (per-feature
            bounds), or `None` for no box. Defaults to `(0., 1.)`.

    Raises:
        TypeError: If `epsilon` is not a number, or `bounds` not a pair of numbers or arrays.
        ValueError: If `epsilon` is not positive, or `bounds` is not an increasing pair. Both must hold in float32 too.
    """

    def __init__(self, epsilon: float, bounds: Any = (0.0, 1.0)):
        self.epsilon: Any = checks.positive_float("epsilon", epsilon)
        self.bounds = checks.increasing_bounds("bounds", bounds)

    @abc.abstractmethod
    def sample(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """A random point of N(x, ε) for each example.

        Args:
            x: Tensor of shape `(batch, ...)`, the centre.
            seed: Integer tensor of shape `(2,)`.

        Returns:
            Tensor of the shape of `x`.
        """

    @abc.abstractmethod
    def steepest(self, gradient: tf.Tensor) -> tf.Tensor:
        """The step of unit norm along which a function with that gradient rises fastest; 0 where the gradient is 0.

        Args:
            gradient: Tensor of shape `(batch, ...)`.

        Returns:
            Tensor of the shape of `gradient`.
        """

    @abc.abstractmethod
    def project(self, x: tf.Tensor, x_prime: tf.Tensor) -> tf.Tensor:
        """The point of N(x, ε) that is nearest to `x_prime` in the Euclidean norm.

        Args:
            x: Tensor of shape `(batch, ...)`, the centre.
            x_prime: Tensor of the shape of `x`.

        Returns:
            Tensor of the shape of `x`.
        """

    def clip(self, x_prime: tf.Tensor) -> tf.Tensor:
        """`x_prime` clipped to the valid box."""
        x_prime = floating("x_prime", x_prime)
        if self.bounds is None:
            return x_prime
        lower, upper = (tf.constant(bound, x_prime.dtype) for bound in self.bounds)
        return tf.clip_by_value(x_prime, lower, upper)

    def of_radius(self, epsilon: tf.Tensor) -> "Neighborhood":
        """The same ball with a radius that is a scalar tensor, such as the value of a schedule."""
        ball = copy.copy(self)
        ball.epsilon = epsilon
        return ball

    def get_config(self) -> dict[str, Any]:
        bounds = None if self.bounds is None else list(self.bounds)
        return {"epsilon": self.epsilon, "bounds": bounds}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Neighborhood":
        return cls(**config)


class LinfBall(Neighborhood):
    """`N(x, ε) = {x′ : ‖x′ − x‖∞ ≤ ε} ∩ [lower, upper]`.

    Args:
        epsilon: Float > 0, the radius, in the units of the input.
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
        noise = tf.random.stateless_uniform(tf.shape(x), seed, -self.epsilon, self.epsilon, x.dtype, alg="philox")
        return self.clip(x + noise)

    def steepest(self, gradient: tf.Tensor) -> tf.Tensor:
        """`sign(g)`, with sign(0) = 0."""
        return tf.sign(floating("gradient", gradient))

    def project(self, x: tf.Tensor, x_prime: tf.Tensor) -> tf.Tensor:
        x = floating("x", x)
        x_prime = floating("x_prime", x_prime, x.dtype)
        return self.clip(
            x + tf.clip_by_value(x_prime - x, -self.epsilon, self.epsilon)
        )  # rounded like the authors' code


class L2Ball(Neighborhood):
    """`N(x, ε) = {x′ : ‖x′ − x‖₂ ≤ ε} ∩ [lower, upper]`.

    Args:
        epsilon: Float > 0, the radius, in the units of the input.
        bounds: Pair `(lower, upper)` of floats or per-feature arrays, or `None`. Defaults to `(0., 1.)`.

    Raises:
        TypeError: As `Neighborhood`.
        ValueError: As `Neighborhood`.

    Example:

    >>> L2Ball(1.0, bounds=None).project(tf.constant([[0.0, 0.0]]), tf.constant([[3.0, 4.0]])).numpy()
    array([[0.6, 0.8]], dtype=float32)
    """

    def sample(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """`x + ε u^(1/d) g/‖g‖₂` with g normal and u uniform, which is uniform in the ball; then clipped to the box."""
        x = floating("x", x)
        seeds = tf.random.split(seed, 2)
        direction = self.steepest(tf.random.stateless_normal(tf.shape(x), seeds[0], dtype=x.dtype, alg="philox"))
        dimension = tf.cast(tf.reduce_prod(tf.shape(x)[1:]), x.dtype)
        shape = tf.concat([tf.shape(x)[:1], tf.ones([x.shape.rank - 1], tf.int32)], 0)
        radius = self.epsilon * tf.random.stateless_uniform(shape, seeds[1], dtype=x.dtype, alg="philox") ** (
            1 / dimension
        )
        return self.clip(x + radius * direction)

    def steepest(self, gradient: tf.Tensor) -> tf.Tensor:
        """`g / ‖g‖₂`, and 0 where g = 0."""
        gradient = floating("gradient", gradient)
        # Divided by its largest entry first, a tiny gradient has squares that do not underflow.
        axes = list(range(1, gradient.shape.rank))
        scaled = tf.math.divide_no_nan(gradient, tf.reduce_max(tf.abs(gradient), axes, keepdims=True))
        return tf.math.divide_no_nan(scaled, _l2_norm(scaled))

    def project(self, x: tf.Tensor, x_prime: tf.Tensor) -> tf.Tensor:
        """`clip(x + t(x′ − x))` with the largest t ≤ 1 that stays in the ball, found by bisection.

        The nearest point has this form because its Lagrangian is a sum over coordinates.
        """
        x = floating("x", x)
        x_prime = floating("x_prime", x_prime, x.dtype)
        step = x_prime - x
        low = tf.minimum(tf.math.divide_no_nan(self.epsilon, _l2_norm(step)), 1)  # the solution without a box
        high = tf.ones_like(low)
        inside = _l2_norm(self.clip(x_prime) - x) <= self.epsilon

        def halve(low, high):
            middle = (low + high) / 2
            feasible = _l2_norm(self.clip(x + middle * step) - x) <= self.epsilon
            return tf.where(feasible, middle, low), tf.where(feasible, high, middle)

        if self.bounds is not None:  # 30 halvings of [0, 1] reach 1e-9, below the precision of float32
            low, high = tf.while_loop(lambda *_: True, halve, (low, high), maximum_iterations=30)
        return tf.where(inside, self.clip(x_prime), self.clip(x + low * step))


def _l2_norm(values: tf.Tensor) -> tf.Tensor:
    axes = list(range(1, values.shape.rank))
    return tf.sqrt(tf.reduce_sum(values**2, axes, keepdims=True))


NORMS: dict[str, Callable[..., Neighborhood]] = {"linf": LinfBall, "l2": L2Ball}


def get(norm: str, epsilon: float, bounds: Any = (0.0, 1.0)) -> Neighborhood:
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
