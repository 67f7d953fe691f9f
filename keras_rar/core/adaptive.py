"""An ascent whose step adapts to each example, after Auto-PGD (Croce & Hein 2020, Algorithm 1)."""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from keras_rar.core import apgd, checks, graphs
from keras_rar.core.attack_loop import of_examples
from keras_rar.core.gradients import floating
from keras_rar.core.neighborhoods import Neighborhood
from keras_rar.core.worst import Worst, choose


class Climb(NamedTuple):
    """The state of an ascent between two iterations. Every entry has one row per example.

    Args:
        x: The iterate.
        before: The iterate before it.
        allowed: Whether the iterate is allowed.
        step: Length η of the next step.
        value: The objective at the iterate before; −∞ where that was not allowed.
        best_x: The allowed iterate of the greatest value so far.
        best_gradient: The direction there.
        best_value: The value there.
        rises: How often the value has risen since the last checkpoint.
        checked_step: η at the last checkpoint.
        checked_value: `best_value` at the last checkpoint.
    """

    x: tf.Tensor
    before: tf.Tensor
    allowed: tf.Tensor
    step: tf.Tensor
    value: tf.Tensor
    best_x: tf.Tensor
    best_gradient: tf.Tensor
    best_value: tf.Tensor
    rises: tf.Tensor
    checked_step: tf.Tensor
    checked_value: tf.Tensor

    def changed(self, **changes: tf.Tensor) -> "Climb":
        """A copy with some entries changed."""
        return self._replace(**changes)

    @classmethod
    def begun(cls, x: tf.Tensor, start: tf.Tensor, allowed: tf.Tensor, step_size: float) -> "Climb":
        """The state before the first iteration.

        Args:
            x: Tensor of shape `(batch, ...)`, the centre, to which an ascent returns that finds nothing allowed.
            start: Tensor of the shape of `x`.
            allowed: Booleans of shape `(batch,)`: whether `start` is allowed.
            step_size: Float > 0, the first η, in the norm of the neighborhood.
        """
        x = floating("x", x)
        start = floating("start", start, x.dtype)
        allowed = tf.convert_to_tensor(allowed)
        step = tf.fill(tf.shape(x)[:1], tf.constant(step_size, x.dtype))
        lowest = tf.fill(tf.shape(x)[:1], tf.constant(-math.inf, x.dtype))
        rises = tf.zeros(tf.shape(x)[:1], tf.int32)
        zero = tf.zeros_like(x)
        return cls(start, start, allowed, step, lowest, x, zero, lowest, rises, step, lowest)


def checkpoints(steps: int) -> tuple[int, ...]:
    """After how many iterations the step may be halved: those of `apgd.checkpoints` within the ascent.

    Args:
        steps: Positive integer N, number of iterations of the whole ascent.

    Returns:
        Increasing integers below `steps`.

    Raises:
        ValueError: If `steps` is not positive.

    Example:

    >>> checkpoints(100)
    (22, 41, 57, 70, 80, 87, 93, 99)
    """
    marks = apgd.checkpoints(checks.positive_int("steps", steps))
    return tuple(mark for mark in marks if 0 < mark < steps)


def ascend(
    x: tf.Tensor,
    climb: Climb,
    worst: Worst,
    *,
    objective: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    similarities: Callable[[tf.Tensor], tf.Tensor],
    allowed: Callable[[tf.Tensor], tf.Tensor],
    neighborhood: Neighborhood,
    first: tf.Tensor | int,
    last: tf.Tensor | int,
    steps: int,
) -> tuple[Climb, Worst]:
    """Some iterations of an ascent with momentum, whose step is halved where it no longer pays.

    `z = Π(x′ + η steepest(g))`, `x′ ← Π(x′ + ¾ (z − x′) + ¼ (x′ − x″))` with the gradient g of the objective at the
    iterate x′, and x″ the iterate before it (Croce & Hein 2020). At each of the `checkpoints` η is halved for the
    examples whose objective has risen in less than three quarters of the iterations since the last one, or whose
    η and greatest value are what they were there; they go on from their best iterate. What the paper does not need:
    the value of an iterate that is not allowed is −∞, so that the way back leads to one that is.

    Args:
        x: Tensor of shape `(batch, ...)`, the centre.
        climb: The state before.
        worst: What is kept so far, to be improved on.
        objective: Function `(k, x′) -> ((batch,), (batch, ...))`: the value at the iterate before step k, and the
            direction of the step.
        similarities: Function `(batch, ...) -> (measures, batch)`; least is worst.
        allowed: Function `(batch, ...) -> (batch,)` of booleans: whether an iterate may be kept.
        neighborhood: A `Neighborhood`.
        first: The first iteration, from 0; an integer tensor, so that one graph serves all.
        last: The iteration to stop before.
        steps: Number of iterations of the whole ascent, known when it is compiled, as XLA needs.

    Returns:
        The state after, and `Worst`, at least as bad as the one given.

    Raises:
        TypeError: If `x` is not floating point.
    """
    x = floating("x", x)
    points = (0, *checkpoints(steps))
    ends = tf.constant([*points[1:], -1])  # never empty
    lengths = tf.constant([*(b - a for a, b in itertools.pairwise(points)), 1], x.dtype)

    def step(k, climb, worst):
        value, gradient = objective(k, climb.x)
        climb = _noted(climb, value, gradient)
        here = tf.equal(ends, k)
        length = tf.reduce_sum(tf.where(here, lengths, tf.zeros_like(lengths)))
        climb, gradient = _checked(climb, gradient, tf.reduce_any(here), length)
        push = of_examples(climb.step, x) * neighborhood.steepest(neighborhood.open(climb.x, gradient))
        there = neighborhood.project(x, climb.x + push)
        share = tf.where(k == 0, tf.ones([], x.dtype), tf.constant(apgd.MOMENTUM, x.dtype))
        moved = climb.x + share * (there - climb.x) + (1 - share) * (climb.x - climb.before)
        x_prime = neighborhood.project(x, moved)
        may = allowed(x_prime)
        worst = worst.updated(x_prime, similarities(x_prime), may, k + 1)
        return climb.changed(x=x_prime, before=climb.x, allowed=may), worst

    climb, worst = graphs.loop(step, (climb, worst), first=first, last=last, steps=steps)
    return climb, worst


def _noted(climb: Climb, value: tf.Tensor, gradient: tf.Tensor) -> Climb:
    """With the value at the iterate."""
    usable = climb.allowed & tf.math.is_finite(value)
    value = tf.where(usable, tf.cast(value, climb.value.dtype), -math.inf)
    better = value > climb.best_value
    return climb.changed(
        value=value,
        rises=climb.rises + tf.cast(value > climb.value, tf.int32),
        best_x=choose(better, climb.x, climb.best_x),
        best_gradient=choose(better, gradient, climb.best_gradient),
        best_value=tf.where(better, value, climb.best_value),
    )


def _checked(climb: Climb, gradient: tf.Tensor, here: tf.Tensor, length: tf.Tensor) -> tuple[Climb, tf.Tensor]:
    """At a checkpoint, with halved steps where they do not pay; and the direction of the next step."""
    rarely = tf.cast(climb.rises, length.dtype) < apgd.PAYING * length
    same = (climb.step == climb.checked_step) & (climb.best_value == climb.checked_value)
    halve = here & (rarely | same)
    step = tf.where(halve, climb.step / 2, climb.step)
    x = choose(halve, climb.best_x, climb.x)
    after = climb.changed(
        x=x,
        before=choose(halve, x, climb.before),
        step=step,
        rises=tf.where(here, 0, climb.rises),
        checked_step=tf.where(here, climb.step, climb.checked_step),
        checked_value=tf.where(here, climb.best_value, climb.checked_value),
        value=tf.where(halve, climb.best_value, climb.value),
    )
    return after, choose(halve, climb.best_gradient, gradient)
