"""The members of the ensemble of attacks on maps: what each follows, and how it runs."""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_rar.attacks import explained
from keras_rar.attacks.ensemble_found import MEASURES
from keras_rar.attacks.watch import Watch
from keras_rar.core import adaptive, directions, map_objectives, map_search
from keras_rar.core.gradients import value_and_gradient
from keras_rar.core.map_objectives import MapObjective
from keras_rar.core.neighborhoods import Neighborhood
from keras_rar.core.worst import Worst, normal_by_rows, sample_by_rows
from keras_rar.networks.classifier import Classifier

CONTROL = "noise"

OBJECTIVES: dict[str, Callable[[int], MapObjective]] = {
    "topk": map_objectives.topk,
    "rank": lambda k: map_objectives.rank,
    "mass_center": lambda k: map_objectives.mass_center,
}
"""What the ascents follow, given k."""

LOWERS = {"topk": "topk_intersection", "rank": "kendall_tau"}
"""The measures whose worst iterate an ascent goes on from, in the map that is reported."""

AS_REPORTED = "as reported"
_LAST = 1_000_000  # of the random numbers of that run


def limits(k: int, entries: int) -> dict[str, float]:
    """The least that each measure can be: of `2k` highest entries of `n` at least `2k − n` are the same."""
    return {"topk_intersection": max(0, 2 * k - entries) / k, "kendall_tau": -1.0, "spearman_rho": -1.0}


def phases(
    classifier: Classifier,
    *,
    own: Callable,
    explainers: explained.Explainers,
    reported: explained.Explainers,
    k: Callable[[Any], tuple[int, int]],
    neighborhood: Neighborhood,
    steps: int,
    last_steps: int,
    step_size: float,
    reach: float,
    queries: int,
) -> Callable:
    """The parts that are compiled, each once for all starts, as one function of the name of a part and its tensors.

    Args:
        classifier: The network.
        own: Function `(x, y)`, the map that is reported.
        explainers: The maps that are followed and compared while it searches.
        reported: The maps that are reported, for the last run of an ascent.
        k: Function of the shape of a map: the k of the objective, and that of the intersection.
        neighborhood: A `Neighborhood`.
        steps: Iterations of an ascent, and most queries of a search at a time.
        last_steps: Iterations of the last run of an ascent.
        step_size: First length of a step.
        reach: How far a feature can be from that of x.
        queries: Queries of the whole evolution.
    """
    explain, explain_reported = (tf.function(e.own, autograph=False) for e in (explainers, reported))  # traced once
    known = explained.similarities(classifier, explainers.saliency)

    def look(x, y):
        return own(x, y), explain(x, y), explainers.smooth(x, y), classifier.predicted(x)

    def begin(x, search, seed, rows, restart):
        start = tf.where(restart == 0, x, sample_by_rows(neighborhood, x, seed, rows))
        return adaptive.Climb.begun(x, start, classifier.predicted(start) == search[2], step_size)

    def resume(x, start, search):
        return adaptive.Climb.begun(x, start, classifier.predicted(start) == search[2], step_size / 4)

    def measured(y, search, first, last, explain=explain, steps=steps):
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

    def climb(name, x, y, rows, search, state, worst, first, last, seed, *, explainers=explainers, **of_run):
        before, smooth_before, _ = search
        follow = OBJECTIVES[name](k(before.shape[1:])[0])
        reference = smooth_before if name == "mass_center" else before

        def objective(step, z):
            value, gradient = value_and_gradient(lambda z: follow(reference, explainers.smooth(z, y)), z)
            gradient = neighborhood.felt(gradient)
            return value, directions.leading(gradient, normal_by_rows(tf.random.fold_in(seed, step), rows, z))

        compared = measured(y, search, first, last, **of_run)
        return adaptive.ascend(x, state, worst, objective=objective, **compared)

    def search_with(name, x, y, rows, search, state, worst, first, last, seed):
        if name == CONTROL:
            propose = map_search.noise(x, seed, rows, neighborhood, reach)
        else:
            propose = map_search.mutation(seed, rows, neighborhood, reach, queries)
        parent, total, worst = map_search.search(
            x, state[0], state[1], worst, propose=propose, **measured(y, search, first, last)
        )
        return (parent, total), worst

    table: dict[str, Callable[..., Any]] = {"look": look, "map": own, "begin": begin, "resume": resume}

    def run(phase: str, *state: Any) -> Any:
        if phase in table:
            return table[phase](*state)
        name, _, which = phase.partition(", ")
        if which == AS_REPORTED:
            exact: dict[str, Any] = {"explainers": reported, "explain": explain_reported, "steps": last_steps}
            return climb(name, *state, **exact)
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
        watch: Cuts the iterations into segments.
    """

    run: Callable
    x: tf.Tensor
    y: tf.Tensor
    rows: tf.Tensor
    search: list[tf.Tensor]
    seed: int
    number: int
    watch: Watch

    def __call__(self, name: str, lengths: list[int]) -> tuple[Worst, tf.Tensor]:
        """The worst iterates over runs of these lengths, and the run that each came from, `(measures, batch)`."""
        worst = Worst.nothing(self.x, len(MEASURES))
        restart = tf.zeros_like(worst.iteration)
        state: Any = (self.x, tf.fill([len(self.x)], float(len(MEASURES))))
        for number, length in enumerate(lengths):
            climbs, before = name in OBJECTIVES, worst.similarity
            seed = tf.random.fold_in(tf.constant([self.seed, self.number], tf.int64), number if climbs else 0)
            offset = 0 if climbs else sum(lengths[:number])
            if climbs:
                state = self.run("begin", self.x, self.search, seed, self.rows, tf.constant(number))
            state, worst = self._segments(name, self.search, state, worst, seed, length, offset)
            restart = tf.where(worst.similarity < before, number if climbs else 0, restart)
        return worst, restart

    def as_reported(self, name: str, start: tf.Tensor, before: tf.Tensor, length: int) -> Worst:
        """The worst iterates of an ascent in the map that is reported.

        Args:
            name: Name of the member.
            start: Where it begins, of the shape of `x`.
            before: The maps that are reported, at the input.
            length: Iterations.
        """
        search = [before, *self.search[1:]]
        seed = tf.random.fold_in(tf.constant([self.seed, self.number], tf.int64), _LAST)
        state = self.run("resume", self.x, start, search)
        worst = Worst.nothing(self.x, len(MEASURES))
        return self._segments(f"{name}, {AS_REPORTED}", search, state, worst, seed, length, 0)[1]

    def _segments(self, phase, search, state, worst, seed, length, offset):
        for segment in self.watch.segments(length):
            first, last = (tf.constant(step + offset) for step in segment)
            state, worst = self.run(phase, self.x, self.y, self.rows, search, state, worst, first, last, seed)
            worst.iteration.numpy()  # a GPU answers before it has computed
        return state, worst
