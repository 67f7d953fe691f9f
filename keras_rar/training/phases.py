"""What `train` is told and what it returns: phases, each with a method of its own, and plans of them."""

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

import keras

from keras_rar.core import checks
from keras_rar.methods.regularizer import AbstractAttributionRegularizer
from keras_rar.methods.table import METHODS, Method
from keras_rar.training import rates
from keras_rar.training.model import RARModel
from keras_rar.training.wrapping import wrap


@dataclasses.dataclass(frozen=True)
class Phase:
    """A number of epochs with one method.

    Args:
        method: A name in `keras_rar.METHODS`, or a regularizer object.
        epochs: Positive integer.
        options: Options of the method, as for `keras_rar.wrap`, such as `{"epsilon": 0.1}`; of a regularizer object
            none. Defaults to none.

    Raises:
        TypeError: If `options` is not a dictionary, or `epochs` not a number.
        ValueError: If there is no method of that name, or `epochs` is not a positive integer.

    Example:

    >>> Phase("igr", 3).options
    {}
    """

    method: Method | AbstractAttributionRegularizer
    epochs: int
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.method, AbstractAttributionRegularizer):
            checks.one_of("method", self.method, METHODS)
        checks.positive_int("epochs", self.epochs)
        if not isinstance(self.options, dict):
            checks.fail("options", "a dictionary of options of the method", self.options, TypeError)

    @property
    def name(self) -> str:
        """The name of the method."""
        return self.method if isinstance(self.method, str) else type(self.method).__name__

    def wrap(self, network: keras.Model, dataset: str | None, seed: int, later: bool = False) -> RARModel:
        """The network, wrapped with the method.

        Args:
            network: The network.
            dataset: Whose ε and bounds are taken.
            seed: Of the random starts.
            later: Whether another phase comes before, which leaves statistics of batch normalisation.
        """
        method: Any = self.method
        options = {**({"batch_statistics": "frozen"} if later else {}), **self.options}
        if isinstance(method, str):
            return wrap(network, cast(Method, method), recipe="fast", dataset=dataset, seed=seed, **options)
        if dataset is not None:
            checks.fail("dataset", "None with a regularizer object", dataset)
        return wrap(network, method, seed=seed, **options)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Arguments of `train` that do not depend on the data.

    Args:
        phases: The `Phase` objects, in their order.
        learning_rate: As for `train`. Defaults to `2e-3`.
        batch_size: As for `train`. Defaults to `100`.
        schedule: As for `train`. Defaults to `"cycles"`.
        average: As for `train`. Defaults to `True`.
        initializer: Initial weights of the paper's network, as for `keras_rar.paper.networks.cnn`; `train` does not use
            it. Defaults to `"glorot_uniform"`.

    Raises:
        TypeError: If an argument is of a wrong type.
        ValueError: If an argument is out of range.

    Example:

    >>> Plan([Phase("igr", 3)]).batch_size
    100
    """

    phases: Sequence[Phase]
    learning_rate: float = 2e-3
    batch_size: int = 100
    schedule: str = "cycles"
    average: bool = True
    initializer: str | None = "glorot_uniform"

    def __post_init__(self) -> None:
        checks.positive_float("learning_rate", self.learning_rate)
        checks.positive_int("batch_size", self.batch_size)
        checks.one_of("schedule", self.schedule, rates.SCHEDULES)
        checks.boolean("average", self.average)
        checked_phases(self.phases)


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """What `train` returns.

    Args:
        seconds: Time of the training, over all runs that it took.
        history: One dictionary per phase, as `keras.callbacks.History.history`: the values of each epoch by name.
        skipped_updates: Number of updates that were skipped because they were not finite, over all phases.

    Example:

    >>> TrainingResult(1.5, [{"loss": [2.0, 1.0]}], 0).history[0]["loss"]
    [2.0, 1.0]
    """

    seconds: float
    history: list[dict[str, list[float]]]
    skipped_updates: int


def checked_phases(phases: Any) -> list[Phase]:
    """Phases as a list, if they are phases."""
    if not isinstance(phases, (list, tuple)) or not phases or not all(isinstance(p, Phase) for p in phases):
        checks.fail("phases", "one Phase or more, in a list", phases)
    return list(phases)
