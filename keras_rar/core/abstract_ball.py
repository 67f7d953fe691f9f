"""What every neighborhood N(x, ε) is: a ball intersected with the box of valid inputs."""

import abc
import copy
from typing import Any

import numpy as np
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.core.gradients import floating


class Neighborhood(abc.ABC):
    """A norm ball of radius ε around x, intersected with the valid box.

    With an array of ε the norm is that of the change in units of ε: `‖(x′ − x)/ε‖ ≤ 1`. With `ε = r w`, r the largest
    entry, that is `‖(x′ − x)/w‖ ≤ r`: lengths, as of steps, are measured in units of r, and the step of a feature is in
    proportion to its ε. A feature with ε = 0 keeps the very value that it has.

    Args:
        epsilon: Float > 0, the radius, in the units of the input; or an array of floats >= 0 that broadcasts to one
            input, one per feature, not all 0.
        bounds: Pair `(lower, upper)` of floats, or of arrays that broadcast to one input (per-feature
            bounds), or `None` for no box. Defaults to `(0., 1.)`.

    Raises:
        TypeError: If `epsilon` is not a number or an array of them, or `bounds` not a pair of numbers or arrays.
        ValueError: If `epsilon` is not positive, or `bounds` is not an increasing pair. Both must hold in float32 too.
    """

    _shares: np.ndarray | None = None  # w, for an array of ε

    def __init__(self, epsilon: Any, bounds: Any = (0.0, 1.0)):
        self.epsilon: Any = checks.radius("epsilon", epsilon)
        self.bounds = checks.increasing_bounds("bounds", bounds)
        self._largest: Any = float(np.max(self.epsilon))
        if np.ndim(self.epsilon):
            self._shares = np.asarray(self.epsilon) / self._largest

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

    def open(self, x_prime: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        """The gradient for a step from x′: without what the box lets no step follow, where steps go to few features.

        Args:
            x_prime: Tensor of shape `(batch, ...)`, where the step begins.
            gradient: Tensor of the shape of `x_prime`.

        Returns:
            Tensor of the shape of `gradient`; itself where steps go to all features.
        """
        return gradient

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
        """How far a coordinate, or with L2 the whole input, may go: what lengths of steps are shares of.

        With an array of ε it is the largest: how far the feature may go that goes furthest.
        """
        return self._largest

    @property
    def reach_of_features(self) -> Any:
        """How far each feature may go: a float, or an array that broadcasts to an input."""
        return self.reach if self._shares is None else np.asarray(self.epsilon)

    def radius(self, dtype: tf.DType) -> tf.Tensor:
        """ε as a tensor: a scalar, or one entry per feature."""
        scheduled = tf.is_tensor(self.epsilon)
        return tf.cast(self.epsilon, dtype) if scheduled else tf.constant(self.epsilon, dtype)

    def free(self, shape: Any) -> np.ndarray:
        """Which entries of an input may change: booleans of its shape.

        Args:
            shape: The shape of one input.
        """
        return np.broadcast_to(True if self._shares is None else self._shares > 0, tuple(shape))

    def check_shape(self, shape: tuple[int | None, ...]) -> None:
        """Refuse inputs of a shape that this ball is nothing for.

        Args:
            shape: The shape of one input.

        Raises:
            ValueError: If ε or the bounds do not broadcast to them, or the ball holds everything.
        """
        checks.broadcasts("epsilon", self.epsilon, shape)
        for bound in self.bounds or ():
            checks.broadcasts("bounds", bound, shape)

    def clip(self, x_prime: tf.Tensor) -> tf.Tensor:
        """`x_prime` clipped to the valid box."""
        x_prime = floating("x_prime", x_prime)
        if self.bounds is None:
            return x_prime
        lower, upper = (tf.constant(bound, x_prime.dtype) for bound in self.bounds)
        return tf.clip_by_value(x_prime, lower, upper)

    def along(self, noise: tf.Tensor) -> tf.Tensor:
        """The gradient whose steepest step follows the noise, as even over the ball as the noise is.

        Args:
            noise: Tensor of shape `(batch, ...)`, such as normal noise.

        Returns:
            Tensor of the shape of `noise`: `noise / w`, and 0 where ε = 0.
        """
        return self.shrunk(noise)

    def stretched(self, change: tf.Tensor) -> tf.Tensor:
        """A change in units of the ball in those of the input: `w ∘ change`."""
        return change if self._shares is None else change * tf.constant(self._shares, change.dtype)

    def shrunk(self, change: tf.Tensor) -> tf.Tensor:
        """A change of the input in units of the ball: `change / w`, and 0 where ε = 0."""
        if self._shares is None:
            return change
        return tf.math.divide_no_nan(change, tf.constant(self._shares, change.dtype))

    def felt(self, gradient: tf.Tensor) -> tf.Tensor:
        """A gradient where features may change, and 0 where ε = 0: whether it leads anywhere is up to these."""
        return gradient if self._shares is None else tf.where(self._shares > 0, gradient, tf.zeros_like(gradient))

    def held(self, x: tf.Tensor, x_prime: tf.Tensor) -> tf.Tensor:
        """`x_prime`, with the features of x, to the bit, where ε = 0."""
        return x_prime if self._shares is None else tf.where(self._shares > 0, x_prime, x)

    def of_radius(self, epsilon: tf.Tensor) -> "Neighborhood":
        """The same ball with a radius that is a scalar tensor, such as the value of a schedule."""
        ball = copy.copy(self)
        vars(ball).update(_largest=epsilon)
        ball.epsilon = self.stretched(epsilon)
        return ball

    def get_config(self) -> dict[str, Any]:
        bounds = None if self.bounds is None else list(self.bounds)
        return {"epsilon": self.epsilon, "bounds": bounds}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Neighborhood":
        return cls(**config)
