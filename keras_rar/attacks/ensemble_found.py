"""What the members of the ensemble of attacks on maps found, and the worst of it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_rar.attacks import explained
from keras_rar.attacks.choices import AnySaliency
from keras_rar.core.worst import Worst, choose
from keras_rar.networks.classifier import Classifier

MEASURES = ("topk_intersection", "kendall_tau", "spearman_rho")


_ITERATES = ("x", "maps", "iteration", "restart")


@dataclasses.dataclass(frozen=True)
class Found:
    """What one member found for a batch: an iterate for each measure, once or several times, and all measures of each.

    Args:
        x: Iterates, `(iterates, n, ...)`.
        maps: Their maps, `(iterates, n, ...)`.
        all_scores: Scores, each `(iterates, n)`, by measure: of every iterate.
        iteration: `(iterates, n)`.
        restart: `(iterates, n)`.
    """

    x: np.ndarray
    maps: np.ndarray
    all_scores: dict[str, np.ndarray]
    iteration: np.ndarray
    restart: np.ndarray

    @classmethod
    def nothing(cls, x: tf.Tensor, before: tf.Tensor) -> "Found":
        """What a member found that did not run."""
        none = np.zeros((1, len(x)), "int32")
        scores = {measure: np.full((1, len(x)), np.nan, "float32") for measure in MEASURES}
        return cls(x.numpy()[np.newaxis], before.numpy()[np.newaxis], scores, none, none)

    @classmethod
    def measured(
        cls,
        classifier: Classifier,
        saliency: AnySaliency,
        run: Callable,
        y: tf.Tensor,
        before: tf.Tensor,
        worst: Worst,
        restart: tf.Tensor,
        k: int,
    ) -> "Found":
        """What was worst while searching, measured as reports are."""
        maps = np.stack([run("map", x, y).numpy() for x in worst.x])
        each = [explained.scores(classifier, saliency, before.numpy(), after, k) for after in maps]
        scores = {measure: np.stack([scores[measure] for scores in each]) for measure in MEASURES}
        return cls(worst.x.numpy(), maps, scores, worst.iteration.numpy(), restart.numpy())

    def without(self, skipped: np.ndarray) -> "Found":
        """With NaN for the scores of some examples."""
        scores = {name: np.where(skipped, np.float32(np.nan), score) for name, score in self.all_scores.items()}
        return dataclasses.replace(self, all_scores=scores)

    def joined(self, other: "Found") -> "Found":
        """With the iterates of another run beside these."""
        scores = {name: np.concatenate([score, other.all_scores[name]]) for name, score in self.all_scores.items()}
        rest = (np.concatenate([getattr(one, name) for one in (self, other)]) for name in _ITERATES)
        return Found(**dict(zip(_ITERATES, rest, strict=True)), all_scores=scores)

    def worst(self, measure: str, x: tf.Tensor) -> tf.Tensor:
        """The iterate of each example that is worst for a measure, or the input x where none is less than 1."""
        score = self.all_scores[measure]
        which = np.argmin(np.where(np.isnan(score), np.inf, score), axis=0)
        return choose(self.scores[measure] < 1, self.x[which, np.arange(len(which))], x)

    @property
    def scores(self) -> dict[str, np.ndarray]:
        """The worst by measure, each `(n,)`."""
        return {name: np.fmin.reduce(score, axis=0) for name, score in self.all_scores.items()}


def worst_of(found: dict[str, Found], keep: str, size: int) -> dict[str, Any]:
    """The worst of all members, for the first examples of a batch: columns of an `EnsembleResult` by name.

    Args:
        found: What was found, by member.
        keep: The measure whose worst iterate is the one returned.
        size: Number of examples.
    """
    scores, worst = {}, {}
    for measure in MEASURES:
        every = np.stack([one.scores[measure] for one in found.values()])
        scores[measure] = np.fmin.reduce(every, axis=0)[:size]
        first = np.argmin(np.where(np.isnan(every), np.inf, every), axis=0)[:size]
        worst[measure] = np.where(scores[measure] < 1, first, -1)
    members = list(found.values())
    picked = []
    for row, member in enumerate(worst[keep]):
        one = members[max(member, 0)]
        of_keep = one.all_scores[keep][:, row]
        which = int(np.argmin(np.where(np.isnan(of_keep), np.inf, of_keep)))
        picked.append((one.x[which, row], one.maps[which, row], one.iteration[which, row], one.restart[which, row]))
    columns = (np.stack(column) for column in zip(*picked, strict=True))
    named = dict(zip(("x_adv", "map_after", "iteration", "restart"), columns, strict=True))
    return {"scores": scores, "worst": worst, **named}
