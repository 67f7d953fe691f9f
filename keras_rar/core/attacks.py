"""Attribution attacks: one loop, a handful of objectives.

After Ghorbani et al. (2019) as Chen et al. (2019, sec. 5) use them: move the input within N(x, ε) so that the
prediction stays and the saliency map changes. Each objective is one function of two maps, to be ascended: one at the
input, and that of the smooth twin at the iterate.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_rar.core import graphs, ranking
from keras_rar.core.gradients import input_gradient
from keras_rar.core.neighborhoods import Neighborhood

MapObjective = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def topk(k: int) -> MapObjective:
    """`−Σ_{i ∈ T_k(M)} M̃ᵢ(x′)`: drain the k highest entries of the map at the input."""

    def objective(before, after):
        before, after = (tf.reshape(m, [tf.shape(m)[0], -1]) for m in (before, after))
        highest = tf.math.top_k(before, k).indices
        return -tf.reduce_sum(tf.gather(after, highest, batch_dims=1), axis=-1)

    return objective


def mass_center(before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
    """`‖C(M̃(x′)) − ⌊C(M̃(x))⌋‖₂²`, C the centre of mass in pixels: carry it away. `before` is of the smooth twin too.

    Rounded down as in the authors' code, which gives the first step a direction: without it x is a stationary point.
    """
    shift = _mass_center(after) - tf.floor(_mass_center(before))
    return tf.reduce_sum(shift**2, axis=-1)


def _mass_center(saliency: tf.Tensor) -> tf.Tensor:
    """`Σ position · M / Σ M`, `(batch, 2)`; differentiable, unlike that of `ranking`."""
    height, width = saliency.shape[1:]
    rows = tf.reshape(tf.range(height), [height, 1])
    columns = tf.reshape(tf.range(width), [1, width])
    total = tf.reduce_sum(saliency, axis=(1, 2))
    moments = [tf.reduce_sum(saliency * tf.cast(p, saliency.dtype), axis=(1, 2)) for p in (rows, columns)]
    return tf.math.divide_no_nan(tf.stack(moments, axis=-1), total[:, tf.newaxis])


def target(region: np.ndarray) -> MapObjective:
    """`Σ_{i ∈ region} M̃ᵢ(x′)`: raise the map within a region, a mask of its shape."""

    def objective(before, after):
        return tf.reduce_sum(tf.constant(region, after.dtype) * after, axis=list(range(1, after.shape.rank)))

    return objective


SIMILARITIES: dict[str, Callable[[tf.Tensor, tf.Tensor, int], tf.Tensor]] = {
    "kendall_tau": lambda a, b, k: ranking.kendall_tau_b(a, b),
    "spearman_rho": lambda a, b, k: ranking.spearman_rho(a, b),
    "topk_intersection": lambda a, b, k: ranking.topk_intersection(a, b, k),
    "mass_center": lambda a, b, k: -ranking.mass_center_distance(a, b),
}


class Kept(NamedTuple):
    """The iterate kept for each example: the one with the least similarity among those allowed.

    `x` has the shape of the inputs; `similarity` and `iteration` are `(batch,)`. Iteration 0 is the input itself.
    """

    x: tf.Tensor
    similarity: tf.Tensor
    iteration: tf.Tensor


def attack(
    x: tf.Tensor,
    start: tf.Tensor,
    kept: Kept,
    *,
    direction: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    similarity: Callable[[tf.Tensor], tf.Tensor],
    allowed: Callable[[tf.Tensor], tf.Tensor],
    neighborhood: Neighborhood,
    steps: int,
    step_size: float,
) -> Kept:
    """Ascend from `start`, and keep the iterate that is least similar.

    `x′ ← Π_N(x, ε)( x′ + η · steepest(direction(x′)) )`, repeated. An iterate at which the prediction is another
    is not kept, but the ascent goes on from it, as in the authors' code.

    Args:
        x: Tensor of shape `(batch, ...)`, the centre.
        start: Tensor of the shape of `x`.
        kept: What is kept so far, to be improved on.
        direction: Function `(k, x′) -> (batch, ...)`: the direction of step k.
        similarity: Function `(batch, ...) -> (batch,)` of the map at an iterate with the map at x; least is best.
        allowed: Function `(batch, ...) -> (batch,)` of booleans: whether an iterate may be kept.
        neighborhood: A `Neighborhood`.
        steps: Number of iterations.
        step_size: Length η of a step, in the norm of the neighborhood.

    Returns:
        `Kept`, at least as dissimilar as the one given.
    """

    @graphs.body
    def step(k, x_prime, kept):
        x_prime = neighborhood.project(x, x_prime + step_size * neighborhood.steepest(direction(k, x_prime)))
        found = similarity(x_prime)
        better = allowed(x_prime) & (found < kept.similarity)
        mask = tf.reshape(better, [-1] + [1] * (x.shape.rank - 1))
        kept = Kept(
            tf.where(mask, x_prime, kept.x),
            tf.where(better, found, kept.similarity),
            tf.where(better, k + 1, kept.iteration),
        )
        return k + 1, x_prime, kept

    *_, kept = tf.while_loop(
        lambda k, *_: k < steps,
        step,
        (tf.constant(0), start, kept),
        shape_invariants=(
            tf.TensorShape([]),
            x.shape,
            Kept(x.shape, kept.similarity.shape, kept.iteration.shape),
        ),
        maximum_iterations=steps,
        parallel_iterations=1,
    )
    return kept


def map_gradient(objective: MapObjective, before: tf.Tensor, smooth_map: Callable[[tf.Tensor], tf.Tensor]) -> Callable:
    """The direction of an attack, `∇ objective(M(x), M̃(x′))`."""
    return lambda k, x_prime: input_gradient(lambda z: objective(before, smooth_map(z)), x_prime)


def unless_zero(direction: Callable, otherwise: Callable) -> Callable:
    """`d(k, x′)`, or `d₂(k, x′)` for examples where the first is zero everywhere: a plateau, which no step would leave.

    Where a top-k attack drains at least as many entries as a map has that are not zero, it begins on one: all of the
    map is in the top k, and the sum of a normalised map cannot change. So it is with IG from black and the paper's
    k = 200 for nearly nine in ten images of MNIST. There the gradient is zero, or what rounding leaves of zero.
    """

    def chosen(k, x_prime):
        first = direction(k, x_prime)
        moves = tf.reduce_any(first != 0, axis=list(range(1, x_prime.shape.rank)), keepdims=True)
        return tf.where(moves, first, otherwise(k, x_prime))

    return chosen


def random_direction(seed: tf.Tensor, shape: tf.Tensor) -> Callable:
    """The direction of the negative control: normal noise, another at each step."""

    def direction(k, x_prime):
        return tf.random.stateless_normal(shape, tf.random.fold_in(seed, k), dtype=x_prime.dtype, alg="philox")

    return direction
