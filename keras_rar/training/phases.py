"""Training as the fast recipe does it, and as the paper does: resumable."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np

from keras_rar.core import checks
from keras_rar.methods.table import METHODS, Method
from keras_rar.training.batches import Batches, shuffled
from keras_rar.training.runs import Run
from keras_rar.training.wrapping import wrap

SCHEDULES = ("cycles", "one_cycle", "constant")


@dataclasses.dataclass(frozen=True)
class Phase:
    """A number of epochs with one method.

    Args:
        method: A name in `keras_rar.METHODS`.
        epochs: Positive integer.
        options: Options of `keras_rar.wrap` beyond the fast recipe, such as `{"factor": 6.0}`.

    Example:

    >>> Phase("igr", 3).options
    {}
    """

    method: str
    epochs: int
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.one_of("method", self.method, METHODS)
        checks.positive_int("epochs", self.epochs)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a network is trained: what `train` takes that is of no data set.

    Args:
        phases: As for `train`.
        learning_rate: As for `train`.
        batch_size: As for `train`.
        schedule: As for `train`.
        average: As for `train`.
        initializer: As for `networks.cnn`: `None` for the paper's. Defaults to `"glorot_uniform"`.

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
        checks.one_of("schedule", self.schedule, SCHEDULES)
        checks.boolean("average", self.average)
        if not self.phases or not all(isinstance(phase, Phase) for phase in self.phases):
            checks.fail("phases", "one Phase or more, in a list", self.phases)


def train(
    network: keras.Model,
    x: np.ndarray | Batches,
    y: np.ndarray | None,
    phases: Sequence[Phase],
    *,
    dataset: str | None = None,
    learning_rate: float = 2e-3,
    batch_size: int = 100,
    seed: int = 0,
    schedule: str = "cycles",
    average: bool = True,
    folder: str | Path | None = None,
    verbose: int = 2,
) -> float:
    """Train a classifier of logits, one phase after the other; returns the seconds that took, over all runs.

    Adam. In a cycle the learning rate rises for a seventh of the updates, and falls as a cosine to a fiftieth. The
    weights that it ends with are exponential averages, over 500 updates or a twentieth of those of the last phase.

    Args:
        network: A built Keras classifier that returns logits; its weights are trained.
        x: Array of inputs, `(n, ...)`, which come in whole batches, in another order every epoch; or `Batches`.
        y: Class indices, `(n,)`; `None` with `Batches`.
        phases: The phases, `Phase` objects.
        dataset: Whose ε and bounds are taken, as for `keras_rar.wrap`.
        learning_rate: Float > 0, the highest. Defaults to `2e-3`.
        batch_size: Positive integer, of arrays. Defaults to `100`.
        seed: Integer seed of the order of batches and of random starts.
        schedule: `"cycles"`, a new one with each phase, each of which ends in averages and begins with an optimizer of
            its own; `"one_cycle"` over all phases; or `"constant"`. Defaults to `"cycles"`.
        average: Whether the weights are averaged in the end. Defaults to `True`.
        folder: Where a run is kept, so that another one goes on where it was stopped. Defaults to nowhere.
        verbose: As for `keras.Model.fit`.

    Raises:
        ValueError: If the folder is that of a run with other settings.

    Example:

    >>> network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> x, y = np.random.default_rng(0).uniform(size=(8, 4)), np.arange(8) % 3
    >>> train(network, x, y, [Phase("madry", 1), Phase("igr", 1)], verbose=0) > 0
    True
    """
    checks.one_of("schedule", schedule, SCHEDULES)
    checks.boolean("average", average)
    batches = x if isinstance(x, Batches) else shuffled(x, np.asarray(y), batch_size, seed)
    an_epoch = len(batches)
    settings = {
        "phases": [dataclasses.asdict(phase) for phase in phases],
        **{"dataset": dataset, "learning_rate": learning_rate, "batch_size": batches.batch_size, "seed": seed},
        **{"schedule": schedule, "average": average, "dtype": network.dtype_policy.name},
    }
    run = Run(folder, settings)
    keras.utils.set_random_seed(seed)
    in_cycles, start = schedule == "cycles", 0
    lengths = [an_epoch * phase.epochs for phase in phases]
    for number, (phase, updates) in enumerate(zip(phases, lengths, strict=True)):
        if number == 0 or in_cycles:
            cycle, ending = (updates, updates) if in_cycles else (sum(lengths), lengths[-1])
            rate = learning_rate if schedule == "constant" else _cycle(learning_rate, cycle)
            optimizer = _adam(network, rate, ending)
        method = cast(Method, phase.method)
        model = wrap(network, method, recipe="fast", dataset=dataset, seed=seed, **phase.options)
        # In one cycle an earlier phase would end in averages with its beginning.
        optimizer.use_ema = average and (in_cycles or number == len(phases) - 1)
        compile_classifier(model, optimizer)
        run.fit(model, batches, f"phase{number}", start=start, steps=an_epoch, epochs=phase.epochs, verbose=verbose)
        start += updates
    return run.seconds


def _cycle(highest: float, updates: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """A rate that rises, and falls for six times as long."""
    rising = max(1, updates // 7)
    falling = max(1, updates - rising)
    return keras.optimizers.schedules.CosineDecay(0.0, falling, alpha=0.02, warmup_target=highest, warmup_steps=rising)


def _adam(network: keras.Model, rate: Any, updates: int) -> keras.optimizers.Optimizer:
    """Adam for a network, with averages over the end of so many updates."""
    averaged = min(500, max(1, updates // 20))
    optimizer = keras.optimizers.Adam(
        rate, beta_2=0.99, use_ema=True, ema_momentum=1 - 1 / averaged, global_clipnorm=10.0
    )
    optimizer.build(network.trainable_variables)  # with the averages, also where an early phase does not use them
    return optimizer


def compile_classifier(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
