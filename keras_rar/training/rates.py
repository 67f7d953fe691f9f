"""The optimizer of a training in phases: its learning rate over the updates, and averages of the weights."""

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


def optimizer_for(
    template: keras.optimizers.Optimizer,
    network: keras.Model,
    *,
    rate: float,
    schedule: str,
    updates: int,
    last: int,
    average: bool,
) -> keras.optimizers.Optimizer:
    """A new optimizer like the template, built for a network.

    Args:
        template: The optimizer whose settings it has.
        network: Whose weights it is for.
        rate: The highest learning rate; 0 for the template's own schedule.
        schedule: A name in `SCHEDULES`.
        updates: Updates of its cycle.
        last: Updates of the last phase that it is used in: the averages are over a twentieth of them.
        average: Whether it keeps averages of the weights, if the template does not keep its own.
    """
    config = template.get_config()
    if rate and schedule == "constant":
        config["learning_rate"] = rate
    elif rate:
        config["learning_rate"] = cycle(rate, updates)
    if average and not config["use_ema"]:
        averaged = min(500, max(1, last // 20))
        config |= {"use_ema": True, "ema_momentum": 1 - 1 / averaged}
    optimizer = type(template).from_config(config)
    optimizer.build(network.trainable_variables)  # with the averages, also where an early phase does not use them
    return optimizer


def cycle(highest: float, updates: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """A learning rate that rises for a seventh of the updates, and falls as a cosine to a fiftieth."""
    rising = max(1, updates // 7)
    falling = max(1, updates - rising)
    return keras.optimizers.schedules.CosineDecay(0.0, falling, alpha=0.02, warmup_target=highest, warmup_steps=rising)
