"""The members of the ensemble of attacks on maps: what each follows, how it runs, and what it found."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_rar.attacks import explained
from keras_rar.attacks.choices import AnySaliency
from keras_rar.attacks.watch import Watch
from keras_rar.core import adaptive, directions, map_objectives, map_search
from keras_rar.core.gradients import value_and_gradient
from keras_rar.core.map_objectives import MapObjective
from keras_rar.core.neighborhoods import Neighborhood
from keras_rar.core.worst import Worst, normal_by_rows, sample_by_rows
from keras_rar.networks.classifier import Classifier

MEASURES = ("topk_intersection", "kendall_tau", "spearman_rho")
CONTROL = "noise"

OBJECTIVES: dict[str, Callable[[int], MapObjective]] = {
    "topk": map_objectives.topk,
    "rank": lambda k: map_objectives.rank,
    "mass_center": lambda k: map_objectives.mass_center,
}
"""What the ascents follow, given k."""


def limits(k: int, entries: int) -> dict[str, float]:
    """The least that each measure can be: of `2k` highest entries of `n` at least `2k − n` are the same."""
    return {"topk_intersection": max(0, 2 * k - entries) / k, "kendall_tau": -1.0, "spearman_rho": -1.0}


def phases(
    classifier: Classifier,
    *,
    own: Callable,
    explainers: explained.Explainers,
    k: Callable[[Any], tuple[int, int]],
    neighborhood: Neighborhood,
    steps: int,
    step_size: float,
    reach: float,
    queries: int,
) -> Callable:
    """The parts that are compiled, each once for all starts, as one function of the name of a part and its tensors.

    Args:
        classifier: The network.
        own: Function `(x, y)`, the map that is reported.
        explainers: The maps that are followed and compared while it searches.
        k: Function of the shape of a map: the k of the objective, and that of the intersection.
        neighborhood: A `Neighborhood`.
        steps: Iterations of an ascent, and most queries of a search at a time.
        step_size: First length of a step.
        reach: How far a feature can be from that of x.
        queries: Queries of the whole evolution.
    """
    explain = tf.function(explainers.own, autograph=False)  # called several times, traced once
    known = explained.similarities(classifier, explainers.saliency)

    def look(x, y):
        return own(x, y), explain(x, y), explainers.smooth(x, y), classifier.predicted(x)

    def begin(x, search, seed, rows, restart):
        start = tf.where(restart == 0, x, sample_by_rows(neighborhood, x, seed, rows))
        return adaptive.Climb.begun(x, start, classifier.predicted(start) == search[2], step_size)

    def measured(y, search, first, last):
        before, _, predicted = search
        k_report = k(before.shape[1:])[1]

        def similarities(z):
            after = explain(z, y)
            found = [known[measure](before, after, k_report) for measure in MEASURES]
            return tf.stack([tf.cast(value, tf.float32) for value in found])

        def allowed(z):
            return classifier.predicted(z) == predicted

        return {
            "similarities": similarities, "allowed": allowed, "neighborhood": neighborhood, "first": first,
            "last": last, "steps": steps,
        }  # fmt: skip

    def climb(name, x, y, rows, search, state, worst, first, last, seed):
        before, smooth_before, _ = search
        follow = OBJECTIVES[name](k(before.shape[1:])[0])
        reference = smooth_before if name == "mass_center" else before

        def objective(step, z):
            value, gradient = value_and_gradient(lambda z: follow(reference, explainers.smooth(z, y)), z)
            gradient = neighborhood.felt(gradient)
            return value, directions.leading(gradient, normal_by_rows(tf.random.fold_in(seed, step), rows, z))

        return adaptive.ascend(x, state, worst, objective=objective, **measured(y, search, first, last))

    def search_with(name, x, y, rows, search, state, worst, first, last, seed):
        if name == CONTROL:
            propose = map_search.noise(x, seed, rows, neighborhood, reach)
        else:
            propose = map_search.mutation(seed, rows, neighborhood, reach, queries)
        parent, total, worst = map_search.search(
            x, state[0], state[1], worst, propose=propose, **measured(y, search, first, last)
        )
        return (parent, total), worst

    table: dict[str, Callable[..., Any]] = {"look": look, "map": own, "begin": begin}

    def run(phase, *state):
        if phase in table:
            return table[phase](*state)
        return (climb if phase in OBJECTIVES else search_with)(phase, *state)

    return run


@dataclasses.dataclass(frozen=True)
class Search:
    """The runs of one member on a batch.

    Args:
        run: What `phases` made, compiled.
        x: Inputs.
        y: Classes.
        rows: The row of each example in the whole data.
        search: Maps and predictions at the input, for the search.
        seed: Seed of the attack.
        number: Index of the member.
        steps: Iterations of a run.
        watch: Cuts the iterations into segments.
    """

    run: Callable
    x: tf.Tensor
    y: tf.Tensor
    rows: tf.Tensor
    search: list[tf.Tensor]
    seed: int
    number: int
    steps: int
    watch: Watch

    def __call__(self, name: str, runs: int) -> tuple[Worst, tf.Tensor]:
        """The worst iterates over all runs, and the run that each came from, `(measures, batch)`."""
        worst = Worst.nothing(self.x, len(MEASURES))
        restart = tf.zeros_like(worst.iteration)
        state: Any = (self.x, tf.fill([len(self.x)], float(len(MEASURES))))
        for number in range(runs):
            climbs, before = name in OBJECTIVES, worst.similarity
            seed = tf.random.fold_in(tf.constant([self.seed, self.number], tf.int64), number if climbs else 0)
            offset = 0 if climbs else number * self.steps
            if climbs:
                state = self.run("begin", self.x, self.search, seed, self.rows, tf.constant(number))
            for segment in self.watch.segments():
                first, last = (tf.constant(step + offset) for step in segment)
                state, worst = self.run(
                    name, self.x, self.y, self.rows, self.search, state, worst, first, last, seed
                )  # fmt: skip
                worst.iteration.numpy()  # a GPU answers before it has computed
            restart = tf.where(worst.similarity < before, number if climbs else 0, restart)
        return worst, restart


@dataclasses.dataclass(frozen=True)
class Found:
    """What one member found for a batch: one iterate for each measure, and all measures of each.

    Args:
        x: Iterates, `(measures, n, ...)`.
        maps: Their maps, `(measures, n, ...)`.
        all_scores: Scores, each `(measures, n)`, by measure: of every iterate.
        iteration: `(measures, n)`.
        restart: `(measures, n)`.
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
