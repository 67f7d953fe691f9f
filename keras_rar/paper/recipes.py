"""The settings that methods are trained with: the paper's, and fast ones, which are the defaults."""

import dataclasses
from typing import Any

import keras

from keras_rar.core import checks

Options = dict[str, Any]


def _paper(epsilon: float, steps: int, step_size: float, attack_m: int, factor: float, beta: float, high: float):
    inner = {"epsilon": epsilon, "bounds": (0.0, high), "steps": steps, "step_size": step_size, "random_start": True}
    shared = {**inner, "rule": "right", "m": 50, "attack_m": attack_m}
    return {
        "natural": shared,
        "madry": shared,
        "ig_norm": {**shared, "factor": factor},
        "ig_sum_norm": {**shared, "beta": beta},
    }


PAPER: dict[str, dict[str, Options]] = {
    "mnist": _paper(0.3, 40, 0.01, 10, 1.0, 0.1, 1.0),
    "fashion_mnist": _paper(0.1, 20, 0.01, 10, 1.0, 0.1, 1.0),
    "gtsrb": _paper(8.0, 7, 2.0, 5, 1.0, 1.0, 255.0),
    "oxford_flower17": _paper(8.0, 7, 2.0, 5, 0.1, 0.1, 255.0),
}
"""Chen et al. 2019, sec. 5 and supplement: data set, method, arguments of its regularizer."""

RECIPES = ("fast", "paper")


def options(recipe: str, method: str, dataset: str | None = None) -> Options:
    """The arguments of a method's regularizer in a recipe.

    Args:
        recipe: `"paper"`, the exact settings for a `dataset`; or `"fast"`, the defaults of the method, with the ε and
            bounds of a `dataset` if one is named.
        method: A name in `keras_rar.METHODS`.
        dataset: `"mnist"`, `"fashion_mnist"`, `"gtsrb"` or `"oxford_flower17"`. Defaults to none, for `"fast"`.

    Raises:
        ValueError: If there is none of that name.

    Example:

    >>> options("paper", "ig_sum_norm", "mnist")["steps"]
    40
    """
    checks.one_of("recipe", recipe, RECIPES)
    if recipe == "paper":
        return dict(PAPER[checks.one_of("dataset", dataset, PAPER)][checks.one_of("method", method, PAPER["mnist"])])
    if dataset is None:
        return {}
    of_data = PAPER[checks.one_of("dataset", dataset, PAPER)]["natural"]
    return {name: of_data[name] for name in ("epsilon", "bounds")}


@dataclasses.dataclass(frozen=True)
class Training:
    """How the paper trains with one method on one data set, for an objective that is a mean over the batch, as Keras'.

    The authors' code minimises sums over the batch with some methods. Then a gradient is `batch_size` times that of the
    mean: SGD's learning rate is so many times theirs, the weight decay that part of theirs, and so is Adam's epsilon.

    Args:
        batch_size: Positive integer.
        updates: Number of updates of the weights.
        rates: Learning rates, one after the other.
        until: The update after which each of them but the last ends.
        momentum: Of SGD; `None` for Adam.
        epsilon: Of Adam.
        weight_decay: w of a penalty `w/2 ‖θ‖²` on the kernels, for `networks.resnet(weight_decay=…)`.
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
    """`v ← μ v + g, θ ← θ − η v`, as TensorFlow 1 has it: with the learning rate of now for the whole velocity.

    Keras has it in each gradient that the velocity keeps, which is not the same while the rate changes.
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
