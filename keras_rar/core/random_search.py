"""A search without gradients: a change is proposed, and kept where it does better."""

from collections.abc import Callable

import tensorflow as tf

from keras_rar.core import graphs
from keras_rar.core.attack_loop import Kept, as_tensors, improved

Propose = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""`(k, x′) -> (batch, ...)`: what to try at step k, given the best point so far."""


def search(
    kept: Kept,
    *,
    propose: Propose,
    similarity: Callable[[tf.Tensor], tf.Tensor],
    first: tf.Tensor | int,
    last: tf.Tensor | int,
    steps: int,
) -> Kept:
    """Some steps of a random search: `x′ ← x″ where similarity(x″) < similarity(x′)`, x″ proposed at random.

    It needs values of the network and no gradient, so a network that hides its gradients does not hide from it
    (Andriushchenko et al. 2020). Each step costs one pass.

    Args:
        kept: The best point of each example so far, with its similarity.
        propose: Function `(k, x′) -> (batch, ...)`, which stays in the neighborhood.
        similarity: Function `(batch, ...) -> (batch,)`; least is best.
        first: The first step, from 0; an integer tensor, so that one graph serves all.
        last: The step to stop before.
        steps: Number of steps of the whole search, known when it is compiled.

    Returns:
        `Kept`, at least as good as the one given.

    Example:

    >>> x = tf.constant([[0.5], [0.9]])
    >>> begin = Kept(x, x[:, 0], tf.zeros([2], tf.int32))
    >>> fewer = lambda k, best: best - 0.1 * tf.cast(k + 1, tf.float32)
    >>> search(begin, propose=fewer, similarity=lambda z: z[:, 0], first=0, last=2, steps=2).x.numpy().round(2).ravel()
    array([0.2, 0.6], dtype=float32)
    """
    kept = as_tensors(kept)
    shape = kept.x.shape

    def step(k, kept):
        tried = propose(k, kept.x)
        return [improved(kept, tried, similarity(tried), k + 1)]

    shapes = [Kept(shape, shape[:1], shape[:1])]
    (kept,) = graphs.loop(step, [kept], first=first, last=last, steps=steps, shapes=shapes)
    return kept
