"""What attacks return: one row per example."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

R = TypeVar("R", bound="Rows")


@dataclasses.dataclass(frozen=True)
class Rows:
    """A result with one row per example."""

    @classmethod
    def concatenate(cls: type[R], parts: list[R]) -> R:
        """Several results as one.

        Args:
            parts: A list of one or more results.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: _joined([getattr(part, name) for part in parts]) for name in names})

    def with_inputs(self: R, change: Callable[[np.ndarray], np.ndarray]) -> R:
        """The result with a function of `x` and of `x_adv` in their places.

        Args:
            change: Function of an array.
        """
        return dataclasses.replace(self, **{name: change(getattr(self, name)) for name in ("x", "x_adv")})


@dataclasses.dataclass(frozen=True)
class AttackResult(Rows):
    """What an attribution attack found, one row per example, NumPy arrays.

    Args:
        x: The inputs, `(n, ...)`.
        x_adv: The perturbed inputs, `(n, ...)`; the input itself where no change was found.
        y: The classes whose attributions were attacked, `(n,)`.
        correct: Whether the model predicts `y` at `x`, `(n,)`. Reports leave the others out.
        map_before: Saliency maps at `x`, `(n, height, width)`, or of the shape of `x` where it has no channels.
        map_after: Saliency maps at `x_adv`, of the same shape.
        scores: Similarity of the two maps by name, each `(n,)`: `kendall_tau`, `spearman_rho`, `topk_intersection`.
        iteration: The iterate kept, `(n,)`; 0 where no change was found.
        restart: The start that it came from, `(n,)`; 0 is the one at the input.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> result = keras_rar.attacks.RandomAttack(epsilon=0.1, steps=1, m=1)(model, np.full([2, 4], 0.5), [0, 1])
    >>> result.iteration.shape, sorted(result.scores)
    ((2,), ['kendall_tau', 'spearman_rho', 'topk_intersection'])
    """

    x: np.ndarray
    x_adv: np.ndarray
    y: np.ndarray
    correct: np.ndarray
    map_before: np.ndarray
    map_after: np.ndarray
    scores: dict[str, np.ndarray]
    iteration: np.ndarray
    restart: np.ndarray


@dataclasses.dataclass(frozen=True)
class EnsembleResult(AttackResult):
    """What `EnsembleAttack` found, one row per example, NumPy arrays.

    What it has of one perturbed input belongs to the worst for the measure `keep`, by default Kendall's tau.

    Args:
        x: The inputs, `(n, ...)`.
        x_adv: The perturbed inputs, `(n, ...)`; the input itself where no change was found.
        y: The classes whose attributions were attacked, `(n,)`.
        correct: Whether the model predicts `y` at `x`, `(n,)`. Reports leave the others out.
        map_before: Saliency maps at `x`, `(n, height, width)`, or of the shape of `x` where it is no image.
        map_after: Saliency maps at `x_adv`, of the same shape.
        scores: The worst of all members by measure, each `(n,)`: `kendall_tau`, `spearman_rho`, `topk_intersection`.
        iteration: The iterate kept, `(n,)`; 0 where no change was found.
        restart: The start that it came from, `(n,)`; 0 is the one at the input.
        members: Names of the attacks in the order they ran. The last one, `"noise"`, is the control.
        member_scores: Scores by member and measure, each `(n,)`; NaN where a member did not run any more because no
            measure of the example could fall further.
        worst: Index of the member that was the worst, by measure, each `(n,)`; the first of several, and -1 where the
            map of no member was less similar than the map itself. Noise is named only where it is worse than all.
        queries: How many maps of each example the members looked at, without noise, which looked at as many.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])
    >>> result = keras_rar.attacks.EnsembleAttack(epsilon=0.1, steps=2, m=2)(model, np.full([2, 4], 0.5))
    >>> result.members
    ('topk', 'rank', 'evolution', 'noise')
    """

    members: tuple[str, ...]
    member_scores: dict[str, dict[str, np.ndarray]]
    worst: dict[str, np.ndarray]
    queries: int


def _joined(parts: list[Any]) -> Any:
    """Arrays one after the other, also those within dictionaries; of anything else the first."""
    if isinstance(parts[0], dict):
        return {name: _joined([part[name] for part in parts]) for name in parts[0]}
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else parts[0]
