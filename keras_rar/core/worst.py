"""The worst iterates of an attack on maps, one for each measure, and random numbers that belong to a row."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from keras_rar.core.attack_loop import of_examples
from keras_rar.core.gradients import floating
from keras_rar.core.neighborhoods import Neighborhood


class Worst(NamedTuple):
    """The worst allowed iterate of each example so far, for each of several measures of similarity.

    Args:
        x: Tensor of shape `(measures, batch, ...)`, the iterates.
        similarity: Tensor of shape `(measures, batch)`.
        iteration: Integer tensor of shape `(measures, batch)`, the numbers of the iterates; 0 is the input itself.
    """

    x: tf.Tensor
    similarity: tf.Tensor
    iteration: tf.Tensor

    @classmethod
    def nothing(cls, x: tf.Tensor, measures: int) -> "Worst":
        """Nothing found yet: the input itself, whose similarity with itself is 1.

        Args:
            x: Tensor of shape `(batch, ...)`, the inputs.
            measures: Number of measures.
        """
        x = floating("x", x)
        x = tf.repeat(x[tf.newaxis], measures, axis=0)
        return cls(x, tf.ones(tf.shape(x)[:2]), tf.zeros(tf.shape(x)[:2], tf.int32))

    def updated(self, x: tf.Tensor, similarity: tf.Tensor, allowed: tf.Tensor, iteration: tf.Tensor) -> "Worst":
        """With an iterate in place of those that are allowed, and more similar.

        A similarity that is NaN is not lower than any, and its iterate never kept.

        Args:
            x: Tensor of shape `(batch, ...)`, the iterate.
            similarity: Tensor of shape `(measures, batch)`.
            allowed: Booleans of shape `(batch,)`: whether the iterate may be kept.
            iteration: Its number.
        """
        x = floating("x", x, self.x.dtype)
        similarity = tf.cast(similarity, self.similarity.dtype)
        better = tf.convert_to_tensor(allowed) & (similarity < self.similarity)
        mask = tf.reshape(better, tf.concat([tf.shape(better), tf.ones([x.shape.rank - 1], tf.int32)], 0))
        return Worst(
            tf.where(mask, x, self.x),
            tf.where(better, similarity, self.similarity),
            tf.where(better, iteration, self.iteration),
        )


def choose(condition: tf.Tensor, new: tf.Tensor, old: tf.Tensor) -> tf.Tensor:
    """`tf.where` by rows: the condition is of shape `(batch,)`."""
    new = tf.convert_to_tensor(new)
    return tf.where(of_examples(condition, new), new, old)


def by_rows(draw: Callable[[tf.Tensor], tf.Tensor], seed: tf.Tensor, rows: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Random numbers of which those of an example depend on its row only, not on the batch that it is in.

    Args:
        draw: Function of a seed that returns the random numbers of one example.
        seed: Integer tensor of shape `(2,)`.
        rows: Integer tensor of shape `(batch,)`, the row of each example in the whole data.
        like: Tensor of shape `(batch, ...)`, whose shape and dtype the random numbers have.

    Returns:
        Tensor of the shape of `like`.
    """
    like = tf.convert_to_tensor(like)
    spec = tf.TensorSpec(like.shape[1:], like.dtype)
    rows = tf.cast(rows, tf.int32)
    return tf.map_fn(lambda row: draw(tf.random.fold_in(seed, row)), rows, fn_output_signature=spec)


def normal_by_rows(seed: tf.Tensor, rows: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Normal random numbers, `by_rows`."""
    like = floating("like", like)

    def draw(seed):
        return tf.random.stateless_normal(tf.shape(like)[1:], seed, dtype=like.dtype, alg="philox")

    return by_rows(draw, seed, rows, like)


def sample_by_rows(neighborhood: Neighborhood, x: tf.Tensor, seed: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """A random point of the neighborhood of each example, of which that of an example depends on its row only.

    Args:
        neighborhood: A `Neighborhood`.
        x: Tensor of shape `(batch, ...)`, the centres.
        seed: Integer tensor of shape `(2,)`.
        rows: Integer tensor of shape `(batch,)`, the row of each example in the whole data.

    Returns:
        Tensor of the shape of `x`.
    """
    x = floating("x", x)

    def draw(example):
        centre, row = example
        return neighborhood.sample(centre[tf.newaxis], tf.random.fold_in(seed, row))[0]

    return tf.map_fn(draw, (x, tf.cast(rows, tf.int32)), fn_output_signature=tf.TensorSpec(x.shape[1:], x.dtype))
