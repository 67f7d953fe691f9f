"""Auto-PGD: an ascent that halves its own step when it stops paying (Croce & Hein 2020, algorithm 1)."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_rar.core import graphs
from keras_rar.core.attack_loop import Kept, as_tensors, improved, of_examples
from keras_rar.core.gradients import floating
from keras_rar.core.neighborhoods import Neighborhood

MOMENTUM = 0.75
"""α: the share of a step that is new."""

PAYING = 0.75
"""ρ: the share of steps that must raise the objective."""


class Climb(NamedTuple):
    """Where an ascent stands, for each example; see `advance`.

    Args:
        x_prime: Tensor of the shape of the inputs, the iterate.
        before: The iterate before.
        value: Tensor of shape `(batch,)`, the objective at the iterate.
        gradient: Its gradient there, in which to go on.
        best: The iterate with the greatest objective so far.
        best_value: That objective.
        best_gradient: The gradient there.
        step_size: Tensor of shape `(batch,)`, the length of a step.
        rises: Tensor of shape `(batch,)`, how many steps raised the objective since the last check.
        best_then: `best_value` at the last check.
        halved: Whether the step was halved then.
    """

    x_prime: tf.Tensor
    before: tf.Tensor
    value: tf.Tensor
    gradient: tf.Tensor
    best: tf.Tensor
    best_value: tf.Tensor
    best_gradient: tf.Tensor
    step_size: tf.Tensor
    rises: tf.Tensor
    best_then: tf.Tensor
    halved: tf.Tensor


Evaluate = Callable[[tf.Tensor | int, tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]
"""`(k, x′) -> value, gradient, similarity` of iterate k: the objective, its gradient, and what is to be least."""


def checkpoints(steps: int) -> list[int]:
    """After which steps an ascent asks whether they pay: `w_j = ⌈p_j steps⌉`.

    `p₀ = 0, p₁ = 0.22, p_{j+1} = p_j + max(p_j − p_{j−1} − 0.03, 0.06)` (Croce & Hein 2020, sec. 3).

    Args:
        steps: Number of steps.

    Returns:
        List of integers, from 0 up.

    Example:

    >>> checkpoints(100)
    [0, 22, 41, 57, 70, 80, 87, 93, 99]
    """
    shares = [0.0, 0.22]
    while (following := shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06)) <= 1:
        shares.append(following)
    return sorted({math.ceil(round(share * steps, 9)) for share in shares})


def begin(start: tf.Tensor, kept: Kept, evaluate: Evaluate, step_size: float) -> tuple[Climb, Kept]:
    """An ascent before its first step.

    Args:
        start: Tensor of shape `(batch, ...)`.
        kept: What is kept so far, to be improved on.
        evaluate: As for `advance`.
        step_size: Length of the first step; the authors' is twice the radius.

    Returns:
        `Climb`, and `Kept` with the start where that is the best so far.
    """
    start = floating("start", start)
    value, gradient, similarity = evaluate(0, start)
    value = _defined(value)
    size = tf.fill(tf.shape(value), tf.constant(step_size, value.dtype))
    never = tf.zeros_like(value)
    climb = Climb(start, start, value, gradient, start, value, gradient, size, never, value, never > 0)
    return climb, improved(as_tensors(kept, start.dtype), start, similarity, 0)


def advance(
    x: tf.Tensor,
    climb: Climb,
    kept: Kept,
    *,
    evaluate: Evaluate,
    neighborhood: Neighborhood,
    first: tf.Tensor | int,
    last: tf.Tensor | int,
    steps: int,
) -> tuple[Climb, Kept]:
    """Some steps of Auto-PGD.

    `z = Π(x′ₖ + η · steepest(∇))`, then `x′ₖ₊₁ = Π(x′ₖ + α (z − x′ₖ) + (1 − α)(x′ₖ − x′ₖ₋₁))`. At a checkpoint an
    example halves its η and goes on from its best iterate if fewer than `ρ` of the steps since the last checkpoint
    raised the objective, or if η was not halved then and the best has not become better since (Croce & Hein 2020,
    algorithm 1; α = ρ = 0.75).

    An objective that is NaN counts as −∞: the ascent goes on from there, and does not come back to it.

    Args:
        x: Tensor of shape `(batch, ...)`, the centre.
        climb: Where the ascent stands.
        kept: What is kept so far, to be improved on.
        evaluate: Function `(k, x′) -> (value, gradient, similarity)`, `(batch,)`, `(batch, ...)` and `(batch,)`.
        neighborhood: A `Neighborhood`.
        first: The first step, from 0; an integer tensor, so that one graph serves all.
        last: The step to stop before.
        steps: Number of steps of the whole ascent, known when it is compiled.

    Returns:
        `Climb`, and `Kept`: the iterates of least similarity, over all that were tried.
    """
    x = floating("x", x)
    kept = as_tensors(kept, x.dtype)
    since = np.zeros(steps + 1, "float64")  # how many steps a check looks back on; 0 where there is none
    marks = checkpoints(steps)
    for mark, mark_before in zip(marks[1:], marks, strict=False):
        since[mark] = mark - mark_before

    def step(k, climb, kept):
        size = of_examples(climb.step_size, x)
        gradient = neighborhood.open(climb.x_prime, climb.gradient)
        moved = neighborhood.project(x, climb.x_prime + size * neighborhood.steepest(gradient))
        carried = MOMENTUM * (moved - climb.x_prime) + (1 - MOMENTUM) * (climb.x_prime - climb.before)
        x_prime = tf.where(k > 0, neighborhood.project(x, climb.x_prime + carried), moved)
        value, gradient, similarity = evaluate(k + 1, x_prime)
        value = _defined(value)
        kept = improved(kept, x_prime, similarity, k + 1)
        better = value > climb.best_value
        best, best_value, best_gradient = (
            tf.where(of_examples(better, new), new, old)
            for new, old in zip((x_prime, value, gradient), climb[4:7], strict=True)
        )
        rises = climb.rises + tf.cast(value > climb.value, value.dtype)
        looked_back = tf.gather(tf.constant(since, value.dtype), k + 1)
        check = looked_back > 0
        stalled = (rises < PAYING * looked_back) | (~climb.halved & (best_value <= climb.best_then))
        halve = check & stalled
        climb = Climb(
            x_prime=tf.where(of_examples(halve, x), best, x_prime),
            before=climb.x_prime,
            value=tf.where(halve, best_value, value),
            gradient=tf.where(of_examples(halve, x), best_gradient, gradient),
            best=best,
            best_value=best_value,
            best_gradient=best_gradient,
            step_size=tf.where(halve, climb.step_size / 2, climb.step_size),
            rises=tf.where(check, tf.zeros_like(rises), rises),
            best_then=tf.where(check, best_value, climb.best_then),
            halved=tf.where(check, halve, climb.halved),
        )
        return climb, kept

    shapes = (
        Climb(*(x.shape if value.shape.rank > 1 else x.shape[:1] for value in climb)),
        Kept(x.shape, x.shape[:1], x.shape[:1]),
    )
    climb, kept = graphs.loop(step, (climb, kept), first=first, last=last, steps=steps, shapes=shapes)
    return climb, kept


def _defined(value: tf.Tensor) -> tf.Tensor:
    return tf.where(tf.math.is_nan(value), tf.constant(-np.inf, value.dtype), value)
