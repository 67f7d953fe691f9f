"""Attribution attacks: one loop, a handful of objectives.

After Ghorbani et al. (2019) as Chen et al. (2019, sec. 5) use them: move the input within N(x, ε) so that the
prediction stays and the saliency map changes. An objective is a function of two maps that the attack increases: the map
at the input, and the map of the smooth twin at the current iterate.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from keras_rar.core import graphs
from keras_rar.core.directions import leading
from keras_rar.core.gradients import floating, input_gradient
from keras_rar.core.map_objectives import MapObjective
from keras_rar.core.neighborhoods import Neighborhood


class Kept(NamedTuple):
    """The best iterate of each example so far: the allowed one whose map is least similar to the map at the input.

    Args:
        x: Tensor of the shape of the inputs, the iterates.
        similarity: Tensor of shape `(batch,)`.
        iteration: Integer tensor of shape `(batch,)`, the number of the iterate; 0 is the input itself.
    """

    x: tf.Tensor
    similarity: tf.Tensor
    iteration: tf.Tensor


def as_tensors(kept: Kept, dtype: tf.DType | None = None) -> Kept:
    """What is kept, as tensors.

    Args:
        kept: Arrays or tensors.
        dtype: Floating-point dtype of the points. Defaults to their own.

    Raises:
        TypeError: If what is kept is not floating point.
    """
    return Kept(
        floating("kept", kept.x, dtype), floating("kept", kept.similarity), tf.convert_to_tensor(kept.iteration)
    )


def improved(
    kept: Kept, x_prime: tf.Tensor, similarity: tf.Tensor, iteration: tf.Tensor | int, allowed: tf.Tensor | bool = True
) -> Kept:
    """What is kept once an iterate has been looked at: it takes the place of one that is more similar.

    A similarity that is NaN is less than none: such an iterate is never kept.

    Args:
        kept: What is kept so far.
        x_prime: Tensor of shape `(batch, ...)`, the iterates.
        similarity: Tensor of shape `(batch,)`.
        iteration: The number of the iterate.
        allowed: Whether an iterate may be kept, `(batch,)`. Defaults to all.

    Returns:
        `Kept`.
    """
    similarity = tf.cast(similarity, kept.similarity.dtype)
    better = (similarity < kept.similarity) & allowed
    return Kept(
        tf.where(of_examples(better, x_prime), x_prime, kept.x),
        tf.where(better, similarity, kept.similarity),
        tf.where(better, tf.cast(iteration, kept.iteration.dtype), kept.iteration),
    )


def of_examples(values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """One number per example, `(batch,)`, as `(batch, 1, …)`, to go with tensors of the rank of `like`."""
    return tf.reshape(values, [-1] + [1] * (like.shape.rank - 1))


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
    """Ascend from `start`, and keep the iterate that is least similar: `advance` from the first step to the last.

    Args:
        x: Tensor of shape `(batch, ...)`, the centre.
        start: Tensor of the shape of `x`.
        kept: What is kept so far, to be improved on.
        direction: As for `advance`.
        similarity: As for `advance`.
        allowed: As for `advance`.
        neighborhood: A `Neighborhood`.
        steps: Number of iterations.
        step_size: Length η of a step, in the norm of the neighborhood.

    Returns:
        `Kept`, at least as dissimilar as the one given.

    Raises:
        TypeError: If `x`, `start` or what is kept is not floating point.
    """
    x = floating("x", x)
    _, kept = advance(
        x,
        floating("start", start, x.dtype),
        kept,
        direction=direction,
        similarity=similarity,
        allowed=allowed,
        neighborhood=neighborhood,
        first=0,
        last=steps,
        steps=steps,
        step_size=step_size,
    )
    return kept


def advance(
    x: tf.Tensor,
    x_prime: tf.Tensor,
    kept: Kept,
    *,
    direction: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    similarity: Callable[[tf.Tensor], tf.Tensor],
    allowed: Callable[[tf.Tensor], tf.Tensor],
    neighborhood: Neighborhood,
    first: tf.Tensor | int,
    last: tf.Tensor | int,
    steps: int,
    step_size: float,
) -> tuple[tf.Tensor, Kept]:
    """Some iterations of an ascent, which keeps the iterate that is least similar.

    `x′ ← Π_N(x, ε)( x′ + η · steepest(direction(x′)) )`, repeated. An iterate at which the prediction is another
    is not kept, but the ascent goes on from it, as in the authors' code.

    Args:
        x: Tensor of shape `(batch, ...)`, the centre.
        x_prime: Tensor of the shape of `x`, the iterate before.
        kept: What is kept so far, to be improved on.
        direction: Function `(k, x′) -> (batch, ...)`: the direction of step k.
        similarity: Function `(batch, ...) -> (batch,)` of the map at an iterate with the map at x; least is best.
        allowed: Function `(batch, ...) -> (batch,)` of booleans: whether an iterate may be kept.
        neighborhood: A `Neighborhood`.
        first: The first iteration, from 0; an integer tensor, so that one graph serves all.
        last: The iteration to stop before.
        steps: Number of iterations of the whole ascent, known when it is compiled, as XLA needs.
        step_size: Length η of a step, in the norm of the neighborhood.

    Returns:
        The last iterate, and `Kept`, at least as dissimilar as the one given.

    Raises:
        TypeError: If `x`, `x_prime` or what is kept is not floating point.
    """
    x = floating("x", x)
    x_prime = floating("x_prime", x_prime, x.dtype)
    kept = as_tensors(kept, x.dtype)

    def step(k, x_prime, kept):
        gradient = neighborhood.open(x_prime, direction(k, x_prime))
        x_prime = neighborhood.project(x, x_prime + step_size * neighborhood.steepest(gradient))
        return x_prime, improved(kept, x_prime, similarity(x_prime), k + 1, allowed(x_prime))

    shapes = x.shape, Kept(x.shape, kept.similarity.shape, kept.iteration.shape)
    x_prime, kept = graphs.loop(step, (x_prime, kept), first=first, last=last, steps=steps, shapes=shapes)
    return x_prime, kept


def map_gradient(objective: MapObjective, before: tf.Tensor, smooth_map: Callable[[tf.Tensor], tf.Tensor]) -> Callable:
    """The direction of an attack: `∇ objective(M(x), M̃(x′))`, the gradient in x′.

    Args:
        objective: Function of two maps, to be increased.
        before: Tensor, the map M(x) at the input.
        smooth_map: Function that returns the map M̃ of the smooth twin.

    Returns:
        Function `(k, x′) -> (batch, ...)`, as `attack` takes it.
    """
    return lambda k, x_prime: input_gradient(lambda z: objective(before, smooth_map(z)), x_prime)


def unless_zero(direction: Callable, otherwise: Callable) -> Callable:
    """A direction that is never zero and never undefined: `direction`, and `otherwise` where that leads nowhere.

    On a plateau the first direction is zero everywhere, and no step would leave it. A top-k attack begins on one if the
    map has at most k entries that are not zero: then the top k hold the whole map, and the sum of a normalised map
    cannot change. With IG from black and the paper's k = 200 this happens for nearly nine in ten images of MNIST.
    There the gradient is zero, or what rounding leaves of zero. Where it is NaN, see `directions.defined`.

    Args:
        direction: Function `(k, x′) -> (batch, ...)`.
        otherwise: Function of the same kind.

    Returns:
        Function of the same kind.
    """

    def chosen(k, x_prime):
        x_prime = floating("x_prime", x_prime)
        return leading(direction(k, x_prime), otherwise(k, x_prime))

    return chosen


def random_direction(seed: tf.Tensor, shape: tf.Tensor) -> Callable:
    """The direction of the negative control: normal noise, drawn anew at each step.

    Args:
        seed: Integer tensor of shape `(2,)`.
        shape: Shape of the inputs.

    Returns:
        Function `(k, x′) -> shape`.
    """

    def direction(k, x_prime):
        dtype = floating("x_prime", x_prime).dtype
        return tf.random.stateless_normal(shape, tf.random.fold_in(seed, k), dtype=dtype, alg="philox")

    return direction
