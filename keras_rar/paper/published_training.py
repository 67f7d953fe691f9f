"""How the paper trains: optimizers, batch sizes, learning rates and numbers of updates."""

import dataclasses
from typing import Any

import keras

from keras_rar.core import checks
from keras_rar.training.recipes import PAPER


@dataclasses.dataclass(frozen=True)
class Training:
    """How the paper trains with one method on one data set, for objectives that are means over the batch, as in Keras.

    With some methods the authors' code minimises sums over the batch, whose gradient is `batch_size` times that of the
    mean. For these methods the learning rate of SGD is multiplied by `batch_size` here; the weight decay and Adam's
    epsilon are divided by it.

    Args:
        batch_size: Positive integer.
        updates: Number of updates of the weights.
        rates: Learning rates, in their order.
        until: The update after which each rate ends, except the last rate.
        momentum: Momentum of SGD; `None` for Adam.
        epsilon: Epsilon of Adam.
        weight_decay: The w of a penalty `w/2 ‖θ‖²` on the kernels, for `networks.resnet(weight_decay=…)`.
    """

    batch_size: int
    updates: int
    rates: tuple[float, ...]
    until: tuple[int, ...] = ()
    momentum: float | None = None
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def optimizer(self) -> keras.optimizers.Optimizer:
        """A new optimizer.

        Returns:
            `keras.optimizers.Adam` or `Momentum`.
        """
        if self.momentum is None:
            return keras.optimizers.Adam(self.rates[0], epsilon=self.epsilon)
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay(list(self.until), list(self.rates))
        return Momentum(schedule, momentum=self.momentum)


@keras.saving.register_keras_serializable("keras_rar")
class Momentum(keras.optimizers.SGD):
    """`v ← μ v + g, θ ← θ − η v`, as in TensorFlow 1: the current learning rate is applied to the whole velocity.

    Keras applies the learning rate to each gradient before it enters the velocity. They differ while the rate changes.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One step of one variable."""
        velocity = self.momentums[self._get_variable_index(variable)]
        self.assign(velocity, self.momentum * velocity + gradient)
        self.assign_sub(variable, learning_rate * velocity)


_RESNETS = {"gtsrb": (64, 1e-3), "oxford_flower17": (16, 1e-4)}  # batch size, learning rate of the IG methods


def training(method: str, dataset: str) -> Training:
    """How the paper trains: optimizer, batch size, number of updates (Chen et al. 2019, supplement).

    Args:
        method: `"natural"`, `"madry"`, `"ig_norm"` or `"ig_sum_norm"`.
        dataset: A name in `PAPER`.

    Returns:
        A `Training`.

    Raises:
        ValueError: If there is none of that name.

    Example:

    >>> training("ig_norm", "gtsrb").rates
    (0.064, 0.64, 0.064)
    """
    checks.one_of("dataset", dataset, PAPER)
    checks.one_of("method", method, PAPER[dataset])
    if dataset not in _RESNETS:  # a sum over the batch with every method
        return Training(50, 25_000 if method == "natural" else 100_000, (1e-4,), epsilon=1e-8 / 50)
    batch_size, rate = _RESNETS[dataset]
    summed = method in ("ig_norm", "ig_sum_norm")
    scale = batch_size if summed else 1
    low = (rate if summed else 1e-3) * scale
    return Training(batch_size, 70_000, (low, 10 * low, low), (500, 60_000), 0.9, weight_decay=2e-4 / scale)
