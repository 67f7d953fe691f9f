"""What `fit` needs to run on several replicas and in several processes, where Keras alone fails."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar.core import replicas

BUILD = "_maybe_symbolic_build"
"""The only private method of Keras that is overridden, by `MinMaxModel`; a test says so if it goes."""


def first_part(strategy: tf.distribute.Strategy, batch: Any) -> Any:
    """The part of a distributed batch that the first replica of this process has."""
    return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], batch)


def as_logs(numbers: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a step as Keras takes them: of several processes it averages vectors, and fails with scalars."""
    if replicas.workers(tf.distribute.get_strategy()) == 1:
        return numbers
    return {name: tf.reshape(value, [1]) for name, value in numbers.items()}


def check_divides(strategy: tf.distribute.Strategy, batch_size: int | None) -> None:
    """Refuse batches that TensorFlow would deal out wrongly, some examples twice: the last one alone may be smaller.

    Raises:
        ValueError: If there are several processes, and the batch size is no multiple of the number of replicas.
    """
    number = strategy.num_replicas_in_sync
    if batch_size is not None and batch_size % number and replicas.workers(strategy) > 1:
        raise ValueError(
            f"`batch_size` must be a multiple of the number of replicas, {number}, where there are several workers. "
            f"Received: batch_size={batch_size}"
        )


def check_alike(model: keras.Model, epoch: int) -> None:
    """Refuse processes that would train networks of their own, since each has read other files; all call it together.

    Args:
        model: The model, as it is in this process.
        epoch: The epoch that it begins with.

    Raises:
        ValueError: If the epoch, the step or the weights are not those of the other processes.
    """
    strategy = model.distribute_strategy
    if replicas.workers(strategy) == 1:
        return
    weights = float(sum(np.abs(np.asarray(value, "float64")).sum() for value in model.get_weights()))
    state = f"epoch {epoch}, step {int(model.optimizer.iterations.numpy())}, weights of sum {weights!r}"
    found = replicas.exchanged(strategy, [state.encode()] * len(replicas.own(strategy)))
    states = list(dict.fromkeys(message.decode() for message in found))
    if len(states) > 1:
        raise ValueError(
            f"All workers must begin from the same weights, such as one backup that all read. Received: {states}"
        )
