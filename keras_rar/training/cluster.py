"""What `fit` needs so that it runs on several replicas and in several processes; one place for what Keras leaves open."""

from typing import Any

import tensorflow as tf

from keras_rar.core import replicas


def first_part(strategy: tf.distribute.Strategy, batch: Any) -> Any:
    """The part of a distributed batch that the first replica of this process has."""
    return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], batch)


def as_logs(numbers: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a step as Keras takes them: of several processes it averages vectors, and fails with scalars."""
    if replicas.workers(tf.distribute.get_strategy()) == 1:
        return numbers
    return {name: tf.reshape(value, [1]) for name, value in numbers.items()}
