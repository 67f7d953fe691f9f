"""Replicas of `tf.distribute`: how many there are, and which examples of a batch each of them has."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


def number() -> int:
    """Number of replicas that take part in a step."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def workers(strategy: tf.distribute.Strategy) -> int:
    """Number of processes that a strategy has its replicas in."""
    replicas = strategy.num_replicas_in_sync
    return 1 if replicas == 1 else replicas // len(strategy.extended.worker_devices)


def place(replica: Any, replicas: int, processes: int) -> Any:
    """Which part of a batch a replica gets: TensorFlow deals the parts out to the processes in turn.

    Args:
        replica: Number of the replica, those of a process one after another.
        replicas: Number of replicas.
        processes: Number of processes.

    Returns:
        Number of the part.

    Example:

    >>> [place(replica, 4, 2) for replica in range(4)]
    [0, 2, 1, 3]
    """
    of_process = replicas // processes
    return replica % of_process * processes + replica // of_process


def own(strategy: tf.distribute.Strategy) -> range:
    """Numbers of the replicas that are in this process."""
    here, first = strategy.num_replicas_in_sync // workers(strategy), 0
    if workers(strategy) > 1:
        ids = strategy.experimental_distribute_values_from_function(lambda context: context.replica_id_in_sync_group)
        first = int(strategy.experimental_local_results(ids)[0])
    return range(first, first + here)


def exchanged(strategy: tf.distribute.Strategy, messages: Sequence[bytes]) -> list[bytes]:
    """The messages of all replicas, in each process; all processes call it together.

    Args:
        strategy: The strategy.
        messages: One for each replica that is in this process.

    Returns:
        One message for each replica.

    Example:

    >>> exchanged(tf.distribute.get_strategy(), [b"one"])
    [b'one']
    """
    if workers(strategy) == 1:
        return list(messages)

    def gathered(rows: Sequence[np.ndarray]) -> np.ndarray:
        left = iter(rows)
        values = strategy.experimental_distribute_values_from_function(lambda context: tf.constant(next(left)))
        return _gathering(strategy)(values).numpy()

    sizes = gathered([np.array([len(message)], "int32") for message in messages])
    words = gathered([np.frombuffer(message + bytes(4 - len(message) % 4), "int32") for message in messages])
    ends = np.cumsum(sizes // 4 + 1)
    return [
        words[end - size // 4 - 1 : end].tobytes()[:size]
        for size, end in zip(sizes.tolist(), ends.tolist(), strict=True)
    ]


@functools.lru_cache(maxsize=4)
def _gathering(strategy: tf.distribute.Strategy) -> Callable:
    """Gather vectors of any length, traced for two lengths at most: TensorFlow's own is traced at each call."""
    return tf.function(lambda value: strategy.gather(value, axis=0), autograph=False, reduce_retracing=True)


class Part(NamedTuple):
    """The part of a batch that a replica has.

    Args:
        examples: Number of examples of the whole batch, an integer scalar.
        first: The place of the part's first example among them, an integer scalar.
        weight: Sum of the sample weights of the whole batch, a scalar, or `None` without weights.
        counts: Boolean scalar, whether any of these weights is not 0.
    """

    examples: tf.Tensor
    first: tf.Tensor
    weight: tf.Tensor | None
    counts: tf.Tensor

    @classmethod
    def of(cls, x: tf.Tensor, sample_weight: tf.Tensor | None = None) -> "Part":
        """The part that these examples are; all replicas call it together.

        Args:
            x: Tensor of shape `(batch, ...)`, the examples of this replica.
            sample_weight: Their weights, or `None`.
        """
        size, replicas = tf.shape(x)[0], number()
        weights = tf.ones([size], tf.float64) if sample_weight is None else tf.cast(sample_weight, tf.float64)
        about = [tf.reduce_sum(weights), tf.cast(tf.reduce_any(weights != 0), tf.float64)]
        first, examples = tf.constant(0), size
        if replicas > 1:
            context = tf.distribute.get_replica_context()
            here = place(context.replica_id_in_sync_group, replicas, workers(context.strategy))
            mine = tf.one_hot(here, replicas, on_value=tf.cast(size, tf.float64), off_value=tf.zeros([], tf.float64))
            total = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.concat([mine, about], 0))
            sizes, about = tf.cast(total[:replicas], tf.int32), tf.unstack(total[replicas:])
            first, examples = tf.cumsum(sizes, exclusive=True)[here], tf.reduce_sum(sizes)
        counts = tf.constant(True) if sample_weight is None else about[1] > 0
        return cls(examples, first, None if sample_weight is None else about[0], counts)

    def drawn(self, draw: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """`draw(x, seed)` for these examples, with the numbers that they get where one replica has the whole batch.

        Args:
            draw: Function of rows and a seed, whose result for a row depends on that row and its place alone.
            x: Tensor of shape `(batch, ...)`, the examples of this replica.
            seed: Integer tensor of shape `(2,)`.
        """
        if number() == 1:
            return draw(x, seed)
        size = tf.shape(x)[0]
        after = self.examples - self.first - size
        rows = tf.pad(x, [[self.first, after], *[[0, 0]] * (x.shape.rank - 1)])
        drawn = draw(tf.ensure_shape(rows, [None, *x.shape[1:]]), seed)
        return tf.ensure_shape(drawn[self.first : self.first + size], x.shape)
