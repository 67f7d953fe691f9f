"""The L1 ball: changes whose sizes sum to ε at most, so that few features change much."""

import tensorflow as tf

from keras_rar.core.abstract_ball import Neighborhood
from keras_rar.core.gradients import floating

_SHARE = 100
"""A step changes one feature in so many: the sparsity of 99 % of the code of Tramèr & Boneh (2019)."""


class L1Ball(Neighborhood):
    """`N(x, ε) = {x′ : ‖x′ − x‖₁ ≤ ε} ∩ [lower, upper]`; with an array of ε `Σ |x′ᵢ − xᵢ| / εᵢ ≤ 1`.

    Args:
        epsilon: Float > 0, the radius, in the units of the input; or an array of floats >= 0, one per feature.
        bounds: Pair `(lower, upper)` of floats or per-feature arrays, or `None`. Defaults to `(0., 1.)`.

    Raises:
        TypeError: As `Neighborhood`.
        ValueError: As `Neighborhood`.

    Example:

    >>> L1Ball(1.0, bounds=None).project(tf.constant([[0.0, 0.0]]), tf.constant([[3.0, 2.5]])).numpy()
    array([[0.75, 0.25]], dtype=float32)
    """

    def sample(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """`x + ε s e / (Σ e + e₀)` with exponential e and random signs, which is uniform in the ball; then clipped."""
        x = floating("x", x)
        seeds = tf.random.split(seed, 3)

        def exponential(shape, seed):
            drawn = tf.random.stateless_uniform(shape, seed, dtype=x.dtype, alg="philox")
            return -tf.math.log1p(-drawn)

        signs = tf.where(tf.random.stateless_uniform(tf.shape(x), seeds[0], alg="philox") < 0.5, -1.0, 1.0)
        drawn = self.felt(exponential(tf.shape(x), seeds[1]))
        beside = exponential(tf.concat([tf.shape(x)[:1], tf.ones([x.shape.rank - 1], tf.int32)], 0), seeds[2])
        whole = tf.reduce_sum(drawn, _axes(x), keepdims=True) + beside
        change = self.stretched(tf.cast(self.reach, x.dtype) * tf.cast(signs, x.dtype) * drawn / whole)
        return self.held(x, self.clip(x + change))

    def steepest(self, gradient: tf.Tensor) -> tf.Tensor:
        """`w ∘ sign(g)/k` at the k features of the largest `|w ∘ g|`, a hundredth of all, at least one.

        With one feature it is the direction in which a linear function rises fastest. That step is too sparse for few
        steps on images, where the next few features count nearly as much (sparse L1 descent, Tramèr & Boneh 2019).
        """
        gradient = self.stretched(floating("gradient", gradient))
        slopes = tf.abs(gradient)
        flat = tf.reshape(slopes, tf.stack([tf.shape(slopes)[0], -1]))
        size = gradient.shape[1:].num_elements() or tf.size(flat[0])  # of an input of any size the run tells
        count = tf.maximum(1, size // _SHARE) if tf.is_tensor(size) else max(1, size // _SHARE)
        least = tf.math.top_k(flat, count).values[:, -1]
        least = tf.reshape(least, [-1] + [1] * (gradient.shape.rank - 1))
        chosen = tf.where(slopes >= least, tf.sign(gradient), tf.zeros_like(gradient))  # all of those that are equal
        number = tf.reduce_sum(tf.abs(chosen), _axes(chosen), keepdims=True)
        return self.stretched(tf.math.divide_no_nan(chosen, number))

    def open(self, x_prime: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        """The gradient, and 0 where the box stops a feature: steps go to few features, which would be the same ones."""
        gradient = floating("gradient", gradient)
        if self.bounds is None:
            return gradient
        x_prime = floating("x_prime", x_prime, gradient.dtype)
        lower, upper = (tf.constant(bound, gradient.dtype) for bound in self.bounds)
        stopped = ((x_prime >= upper) & (gradient > 0)) | ((x_prime <= lower) & (gradient < 0))
        return tf.where(stopped, tf.zeros_like(gradient), gradient)

    def project(self, x: tf.Tensor, x_prime: tf.Tensor) -> tf.Tensor:
        """`clip(x + sign(x′ − x) max(|x′ − x| − τ, 0))` with the least τ >= 0 in the ball, found by bisection.

        The nearest point has this form because its Lagrangian is a sum over coordinates. With an array of ε it is
        the nearest in units of ε.
        """
        x = floating("x", x)
        x_prime = floating("x_prime", x_prime, x.dtype)
        step = self.shrunk(x_prime - x)

        def shortened(threshold):
            return self.clip(x + self.stretched(tf.sign(step) * tf.maximum(tf.abs(step) - threshold, 0)))

        def halve(low, high):
            middle = (low + high) / 2
            feasible = self.length(shortened(middle) - x) <= self.reach
            return tf.where(feasible, low, middle), tf.where(feasible, middle, high)

        high = tf.reduce_max(tf.abs(step), _axes(step), keepdims=True)
        inside = self.length(self.clip(x_prime) - x) <= self.reach
        halvings = 50 if x.dtype == tf.float64 else 30  # of all of what is cut off, below the precision of a sum
        _, high = tf.while_loop(lambda *_: True, halve, (tf.zeros_like(high), high), maximum_iterations=halvings)
        return self.held(x, tf.where(inside, self.clip(x_prime), shortened(high)))

    def length(self, change: tf.Tensor) -> tf.Tensor:
        """`‖change‖₁` in units of the ball, `(batch, 1, …)`."""
        return tf.reduce_sum(tf.abs(self.shrunk(change)), _axes(change), keepdims=True)


def _axes(x: tf.Tensor) -> list[int]:
    return list(range(1, x.shape.rank))
