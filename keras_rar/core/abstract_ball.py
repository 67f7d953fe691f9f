"""What every neighborhood N(x, ε) is: a ball intersected with the box of valid inputs."""

import abc
import copy
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

    @property
    def reach(self) -> Any:
        """How far a coordinate, or with L2 the whole input, may go: what lengths of steps are shares of."""
        return self.epsilon

    def check_shape(self, shape: tuple[int | None, ...]) -> None:
        """Refuse inputs of a shape that this ball is nothing for.

        Args:
            shape: The shape of one input.

        Raises:
            ValueError: If the bounds do not broadcast to them, or the ball holds everything.
        """
        for bound in self.bounds or ():
            checks.broadcasts("bounds", bound, shape)

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
