"""What attacks return: one row per example."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class AttackResult:
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

    @classmethod
    def concatenate(cls, parts: list["AttackResult"]) -> "AttackResult":
        """Several results as one.

        Args:
            parts: A list of one or more results.
        """
        names = [field.name for field in dataclasses.fields(cls) if field.name != "scores"]
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        scores = {name: np.concatenate([part.scores[name] for part in parts]) for name in parts[0].scores}
        return cls(scores=scores, **columns)
