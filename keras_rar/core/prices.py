"""The inner maximum at a price: what moves an input farther costs more, and no ball holds it."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_rar.core import graphs
from keras_rar.core.gradients import ScalarFunction, floating, input_gradient
from keras_rar.core.neighborhoods import Neighborhood

Cost = str | Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""The name of a cost in `COSTS`, or a function `(x, x′) -> (batch,)` with a derivative in x′."""


def squared_l2(x: tf.Tensor, x_prime: tf.Tensor) -> tf.Tensor:
    """`‖x′ − x‖₂²`, `(batch,)`.

    Example:

    >>> squared_l2(tf.zeros([1, 2]), tf.constant([[3.0, 4.0]])).numpy()
    array([25.], dtype=float32)
    """
    change = _change(x, x_prime)
    return tf.reduce_sum(change**2, axis=list(range(1, change.shape.rank)))


def squared_linf(x: tf.Tensor, x_prime: tf.Tensor) -> tf.Tensor:
    """`‖x′ − x‖∞²`, `(batch,)`.

    Example:

    >>> squared_linf(tf.zeros([1, 2]), tf.constant([[3.0, -4.0]])).numpy()
    array([16.], dtype=float32)
    """
    change = _change(x, x_prime)
    return tf.reduce_max(tf.abs(change), axis=list(range(1, change.shape.rank))) ** 2


COSTS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {"l2": squared_l2, "linf": squared_linf}


def priced_ascent(
    objective: ScalarFunction,
    x: tf.Tensor,
    start: tf.Tensor,
    neighborhood: Neighborhood,
    *,
    gamma: Any,
    cost: Cost,
    steps: int,
) -> tf.Tensor:
    """An approximate maximiser of `objective(x′) − γ c(x, x′)` among all valid inputs.

    `x′ ← x′ + ρ_t (z − x′)` with `z = argmax_z ⟨∇ objective(x′), z − x⟩ − γ c(x, z)` in the box and
    `ρ_t = 1/√(t + 1)`. For the L2 cost, `z = x + ∇ objective(x′) / 2γ`, these are the steps of the code of Sinha et al.
    (2018). The first step is exact for a linear objective. With another cost a step is
    `x′ + ρ_t/2γ · ∇(objective − γ c)`, which is the same for the L2 cost written as a function.

    The steps converge where the price is steep enough for the difference to be concave, `2γ` above the curvature of
    the objective. Elsewhere the box alone bounds x′. The last iterate is returned, and no gradient flows through it.
    A feature with ε = 0 in `neighborhood` stays as it is; nothing else of its ball is read.

    Args:
        objective: Function `(batch, ...) -> (batch,)` to ascend.
        x: Tensor of shape `(batch, ...)`.
        start: Tensor of the shape of `x`.
        neighborhood: A `Neighborhood`, which holds the bounds.
        gamma: Float > 0, γ, in units of the objective over those of the cost.
        cost: `"l2"`, `"linf"`, the squared norms of `x′ − x`, or a function `(x, x′) -> (batch,)`.
        steps: Number of iterations, a gradient of the objective each.

    Returns:
        Tensor of the shape of `x`, within the bounds.

    Raises:
        TypeError: If `x` or `start` is not floating point.

    Example:

    >>> x = tf.constant([[0.5, 0.5]])
    >>> f = lambda z: z[:, 0] - 2.0 * z[:, 1]
    >>> priced_ascent(f, x, x, LinfBall(0.1), gamma=4.0, cost="l2", steps=3).numpy()
    array([[0.625, 0.25 ]], dtype=float32)
    """
    x = floating("x", x)
    start = floating("start", start, x.dtype)

    @graphs.body
    def step(t, x_prime):
        share = 1 / tf.sqrt(tf.cast(t + 1, x.dtype))
        gradient = neighborhood.felt(input_gradient(objective, x_prime))
        if callable(cost):
            slope = neighborhood.felt(input_gradient(lambda z: tf.cast(cost(x, z), x.dtype), x_prime))
            moved = x_prime + share * (gradient / (2 * gamma) - slope / 2)
        else:
            best = {"l2": _best_l2, "linf": _best_linf}[cost](x, gradient / (2 * gamma), neighborhood)
            moved = x_prime + share * (best - x_prime)
        return t + 1, neighborhood.held(x, neighborhood.clip(moved))

    _, x_star = tf.while_loop(
        lambda t, x_prime: t < steps,
        step,
        (tf.constant(0), start),
        shape_invariants=(tf.TensorShape([]), x.shape),
        maximum_iterations=steps,  # as in `projected_ascent`
        parallel_iterations=1,
    )
    return tf.stop_gradient(x_star)


def _change(x: Any, x_prime: Any) -> tf.Tensor:
    x = floating("x", x)
    return floating("x_prime", x_prime, x.dtype) - x


def _best_l2(x: tf.Tensor, pull: tf.Tensor, neighborhood: Neighborhood) -> tf.Tensor:
    """`argmax_z ⟨2 pull, z − x⟩ − ‖z − x‖₂²` in the box: coordinate by coordinate."""
    return neighborhood.clip(x + pull)


def _best_linf(x: tf.Tensor, pull: tf.Tensor, neighborhood: Neighborhood) -> tf.Tensor:
    """`argmax_z ⟨2 pull, z − x⟩ − ‖z − x‖∞²` in the box: `x + r sign(pull)`, cut, with the best r.

    The slope in r, twice `Σ |pullᵢ| − r` over the coordinates that the box does not stop before r, falls with r: a
    bisection finds where it is 0.
    """
    axes = list(range(1, x.shape.rank))
    sizes, signs = tf.abs(pull), tf.sign(pull)
    most = tf.reduce_sum(sizes, axes, keepdims=True)
    room = tf.abs(neighborhood.clip(x + most * signs) - x)

    def halve(low, high):
        middle = (low + high) / 2
        rises = tf.reduce_sum(tf.where(room > middle, sizes, tf.zeros_like(sizes)), axes, keepdims=True) > middle
        return tf.where(rises, middle, low), tf.where(rises, high, middle)

    high = most
    if neighborhood.bounds is not None:  # as of the projection on an L2 ball
        _, high = tf.while_loop(lambda *_: True, halve, (tf.zeros_like(most), most), maximum_iterations=30)
    return neighborhood.clip(x + high * signs)
