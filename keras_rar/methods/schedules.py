"""Settings of a method that may follow a schedule over the steps of a training, as a learning rate does in Keras."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from keras_rar.core import checks

Schedule: TypeAlias = keras.optimizers.schedules.LearningRateSchedule


def is_schedule(setting: Any) -> bool:
    """Whether a setting is a schedule."""
    return isinstance(setting, keras.optimizers.schedules.LearningRateSchedule)


def checked(name: str, value: Any, check: Callable[[str, Any], float]) -> Any:
    """The value as a float, or the schedule, if its values are what `check` accepts.

    A schedule must begin with a value that `check` accepts, and may not become negative later. It is looked at where
    it begins, far out, and at the steps that its config names, such as the end of a warm-up.

    Args:
        name: Name of the setting, for the error.
        value: A number, or a `keras.optimizers.schedules.LearningRateSchedule`.
        check: Function `(name, value) -> float` that raises for a value that is out of range.

    Raises:
        TypeError: If the value is neither.
        ValueError: If it, or a value of the schedule, is out of range.

    Example:

    >>> checked("factor", 2, checks.nonnegative_float)
    2.0
    >>> checked("beta", keras.optimizers.schedules.PolynomialDecay(0.0, 10, -1.0), checks.nonnegative_float)
    Traceback (most recent call last):
    ValueError: `beta` must be a float >= 0. Received: beta=-0.1 at step 1 of its schedule
    """
    if not is_schedule(value):
        return check(name, value)
    for step, number in _values(value):
        try:
            (checks.nonnegative_float if step else check)(name, number)
        except ValueError as error:
            raise ValueError(f"{error} at step {step} of its schedule") from None
    return value


def largest(setting: Any) -> float:
    """A number itself, and of a schedule the largest value that it takes.

    Example:

    >>> largest(keras.optimizers.schedules.PolynomialDecay(0.25, 10, 0.5))
    0.5
    """
    return max(number for _, number in _values(setting)) if is_schedule(setting) else setting


def serialized(setting: Any) -> Any:
    """A setting, such as a schedule, an object with a config or a function, as plain values; see `deserialized`."""
    known = hasattr(setting, "get_config") or inspect.isfunction(setting)
    return keras.saving.serialize_keras_object(setting) if known else setting


def deserialized(config: Any) -> Any:
    """The setting of which a config holds this value."""
    if isinstance(config, dict) and "class_name" in config:
        return keras.saving.deserialize_keras_object(config)
    return config


def _values(schedule: Schedule) -> Iterator[tuple[int, float]]:
    """Steps that matter, and the values of the schedule there, to the digits of a float32."""
    named = [value for value in keras.tree.flatten(schedule.get_config()) if isinstance(value, (int, float))]
    near = {round(value) + offset for value in named if 1 <= value < 2**31 for offset in (-1, 0, 1)}
    far = {2**power for power in range(21)}
    for step in sorted({0, *near, *far}):
        yield step, float(f"{float(schedule(tf.constant(step, tf.int64))):.7g}")
