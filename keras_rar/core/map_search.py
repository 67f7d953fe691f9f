"""Searches that need no gradient: random points of the border, and an evolution of them."""

from collections.abc import Callable

import tensorflow as tf

from keras_rar.core import graphs
from keras_rar.core.gradients import floating
from keras_rar.core.neighborhoods import Neighborhood
from keras_rar.core.worst import Worst, by_rows, choose, normal_by_rows

Proposal = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def search(
    x: tf.Tensor,
    parent: tf.Tensor,
    total: tf.Tensor,
    worst: Worst,
    *,
    propose: Proposal,
    similarities: Callable[[tf.Tensor], tf.Tensor],
    allowed: Callable[[tf.Tensor], tf.Tensor],
    neighborhood: Neighborhood,
    first: tf.Tensor | int,
    last: tf.Tensor | int,
    steps: int,
) -> tuple[tf.Tensor, tf.Tensor, Worst]:
    """Some queries of a search that follows what is measured: `x′ ← c if Σ similarities(c) ≤ Σ similarities(x′)`.

    c is a proposal that is allowed, projected onto the ball.

    Args:
        x: Tensor of shape `(batch, ...)`, the centre.
        parent: Tensor of the shape of `x`, x′ before.
        total: Tensor of shape `(batch,)`, its similarities added up.
        worst: What is kept so far, to be improved on.
        propose: Function `(k, x′) -> (batch, ...)`.
        similarities: Function `(batch, ...) -> (measures, batch)`; least is worst.
        allowed: Function `(batch, ...) -> (batch,)` of booleans: whether a proposal may be kept.
        neighborhood: A `Neighborhood`.
        first: The first query, from 0; an integer tensor, so that one graph serves all.
        last: The query to stop before.
        steps: Number of queries at most, known when it is compiled, as XLA needs.

    Returns:
        x′ and its total after, and `Worst`, at least as bad as the one given.

    Raises:
        TypeError: If `x` or `parent` is not floating point.
    """
    x = floating("x", x)
    parent = floating("parent", parent, x.dtype)
    total = tf.convert_to_tensor(total)

    def query(k, parent, total, worst):
        proposal = neighborhood.project(x, propose(k, parent))
        found, may = similarities(proposal), allowed(proposal)
        worst = worst.updated(proposal, found, may, k + 1)
        sums = tf.cast(tf.reduce_sum(found, axis=0), total.dtype)
        better = may & (sums <= total)
        return choose(better, proposal, parent), tf.where(better, sums, total), worst

    parent, total, worst = graphs.loop(query, (parent, total, worst), first=first, last=last, steps=steps)
    return parent, total, worst


def noise(x: tf.Tensor, seed: tf.Tensor, rows: tf.Tensor, neighborhood: Neighborhood, reach: float) -> Proposal:
    """The negative control: a random point of the border of the ball, whatever was found before.

    `c = x + ε steepest(g)`, g normal: a corner of an L∞ ball, a direction of an L2 ball.

    Args:
        x: Tensor of shape `(batch, ...)`, the centre.
        seed: Integer tensor of shape `(2,)`.
        rows: Integer tensor of shape `(batch,)`, the row of each example in the whole data.
        neighborhood: A `Neighborhood`.
        reach: Float, how far a feature can be from that of x: ε of an L∞ or L2 ball.

    Returns:
        Function `(k, x′) -> (batch, ...)`, as `search` takes it.
    """
    x = floating("x", x)

    def propose(k, parent):
        drawn = normal_by_rows(tf.random.fold_in(seed, k), rows, x)
        return x + reach * neighborhood.steepest(neighborhood.along(drawn))

    return propose


def mutation(seed: tf.Tensor, rows: tf.Tensor, neighborhood: Neighborhood, reach: float, queries: int) -> Proposal:
    """An evolution with one parent and one child: ever fewer entries of the parent are drawn anew.

    `c = x′ + 2ε steepest(b g)`, g normal, b a share of ones that falls from 1 to 1 of 100 entries over the search, at
    the rate of the share of queries that are left. In an L∞ ball 2ε reaches from every point to the corner drawn.

    Args:
        seed: Integer tensor of shape `(2,)`.
        rows: Integer tensor of shape `(batch,)`, the row of each example in the whole data.
        neighborhood: A `Neighborhood`.
        reach: Float, how far a feature can be from that of x: ε of an L∞ or L2 ball.
        queries: Number of queries of the whole search.

    Returns:
        Function `(k, x′) -> (batch, ...)`, as `search` takes it.
    """

    def propose(k, parent):
        parent = floating("parent", parent)
        here = tf.random.fold_in(seed, k)
        share = tf.cast(0.01 ** (tf.cast(k, tf.float32) / queries), parent.dtype)
        seeds = tf.random.split(here, 2, alg="philox")

        def draw(seed):
            shape = tf.shape(parent)[1:]
            return tf.random.stateless_uniform(shape, seed, dtype=parent.dtype, alg="philox")

        chosen = by_rows(draw, seeds[0], rows, parent) < share
        drawn = normal_by_rows(seeds[1], rows, parent)
        push = neighborhood.steepest(neighborhood.along(tf.where(chosen, drawn, tf.zeros_like(drawn))))
        return parent + 2 * reach * push

    return propose
