"""The optimizer of a training in phases: its learning rate over the updates, and averages of the weights."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from keras_rar.core import checks

SCHEDULES = ("cycles", "one_cycle", "constant")


def checked(optimizer: Any, learning_rate: float | None, schedule: str) -> tuple[keras.optimizers.Optimizer, float]:
    """A template of the optimizers, and the highest learning rate; errors for what does not go together.

    Args:
        optimizer: An optimizer, its name or its config; `None` for Adam.
        learning_rate: Float > 0, or `None` for that of the optimizer.
        schedule: A name in `SCHEDULES`.
    """
    checks.one_of("schedule", schedule, SCHEDULES)
    if optimizer is None:
        rate = 2e-3 if learning_rate is None else checks.positive_float("learning_rate", learning_rate)
        return keras.optimizers.Adam(rate, beta_2=0.99, global_clipnorm=10.0), rate
    template = keras.optimizers.get(optimizer)
    if isinstance(template, keras.optimizers.LossScaleOptimizer):
        checks.fail("optimizer", "one without loss scaling, which is added where the precision needs it", optimizer)
    own = template.get_config()["learning_rate"]
    if learning_rate is not None:
        return template, checks.positive_float("learning_rate", learning_rate)
    if isinstance(own, float):
        return template, own
    if schedule != "constant":
        checks.fail("schedule", '"constant" for an optimizer with a learning rate schedule of its own', schedule)
    return template, 0.0


def optimizers(
    template: keras.optimizers.Optimizer,
    network: keras.Model,
    lengths: Sequence[int],
    *,
    learning_rate: float,
    schedule: str,
    average: bool,
) -> Iterator[keras.optimizers.Optimizer]:
    """The optimizer of each phase: like the template, and built for a network.

    Args:
        template: The optimizer whose settings they have.
        network: The network whose weights are trained.
        lengths: The number of updates of each phase.
        learning_rate: The highest; 0 for the template's own schedule.
        schedule: A name in `SCHEDULES`. With `"cycles"` there is a new optimizer for each phase, otherwise one for all.
        average: Whether weights are averaged, if the template does not average them itself: in each phase of its own
            optimizer, otherwise in the last one. In an earlier one the averages would reach back to its beginning.
    """
    in_cycles = schedule == "cycles"
    average = average and not template.use_ema
    for number, updates in enumerate(lengths):
        if number == 0 or in_cycles:
            of_cycle, last = (updates, updates) if in_cycles else (sum(lengths), lengths[-1])
            config = template.get_config()
            if learning_rate:
                config["learning_rate"] = learning_rate if schedule == "constant" else cycle(learning_rate, of_cycle)
            if average:
                config |= {"use_ema": True, "ema_momentum": 1 - 1 / min(500, max(1, last // 20))}
            optimizer = type(template).from_config(config)
            optimizer.build(network.trainable_variables)  # with the averages, also where a phase does not use them
        if average:
            optimizer.use_ema = in_cycles or number == len(lengths) - 1
        yield optimizer


def cycle(highest: float, updates: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """A learning rate that rises for a seventh of the updates, and falls as a cosine to a fiftieth."""
    rising = max(1, updates // 7)
    falling = max(1, updates - rising)
    return keras.optimizers.schedules.CosineDecay(0.0, falling, alpha=0.02, warmup_target=highest, warmup_steps=rising)
