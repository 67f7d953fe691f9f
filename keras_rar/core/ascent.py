"""The inner maximum: projected gradient ascent in a neighborhood of the input."""

import tensorflow as tf

from keras_rar.core import graphs
from keras_rar.core.gradients import ScalarFunction, floating, input_gradient
from keras_rar.core.neighborhoods import Neighborhood


def projected_ascent(
    objective: ScalarFunction,
    x: tf.Tensor,
    start: tf.Tensor,
    neighborhood: Neighborhood,
    *,
    steps: int,
    step_size: float,
) -> tf.Tensor:
    """An approximate maximiser of `objective` in N(x, ε).

    `x′ ← Π_N(x, ε)( x′ + η · steepest(∇ objective(x′)) )`, repeated `steps` times; for the L∞ ball this is PGD
    (Madry et al. 2018). The last iterate is returned, as in the paper, and no gradient flows through it.
    It costs `steps` gradients of the objective. A point whose gradient is zero does not move.

    Args:
        objective: Function `(batch, ...) -> (batch,)` to ascend.
        x: Tensor of shape `(batch, ...)`, the centre.
        start: Tensor of the shape of `x`: `x` itself or `neighborhood.sample(x, seed)`.
        neighborhood: A `Neighborhood`, which says how to step and to project.
        steps: Number of iterations.
        step_size: Length η of a step, in the norm of the neighborhood and the units of `x`.

    Returns:
        Tensor of the shape of `x`, inside the neighborhood.

    Raises:
        TypeError: If `x` or `start` is not floating point.

    Example:

    >>> x = tf.constant([[0.5, 0.5]])
    >>> f = lambda z: z[:, 0] - z[:, 1]
    >>> projected_ascent(f, x, x, LinfBall(0.25), steps=3, step_size=0.125).numpy()
    array([[0.75, 0.25]], dtype=float32)
    """

    x = floating("x", x)
    start = floating("start", start, x.dtype)

    @graphs.body
    def step(k, x_prime):
        direction = neighborhood.steepest(neighborhood.open(x_prime, input_gradient(objective, x_prime)))
        return k + 1, neighborhood.project(x, x_prime + step_size * direction)

    _, x_star = tf.while_loop(
        lambda k, x_prime: k < steps,
        step,
        (tf.constant(0), start),
        shape_invariants=(tf.TensorShape([]), x.shape),
        maximum_iterations=steps,  # XLA needs a number that is known when it compiles
        parallel_iterations=1,
    )
    return tf.stop_gradient(x_star)
