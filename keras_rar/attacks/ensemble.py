"""The worst of several attacks on maps, for each example and measure: one call, and nothing to choose but ε."""

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from keras_rar.attacks import ensemble_found, ensemble_members, explained
from keras_rar.attacks.attack import Place
from keras_rar.attacks.attribution import AttributionAttack
from keras_rar.attacks.choices import Options, Radius
from keras_rar.attacks.ensemble_found import MEASURES, Found
from keras_rar.attacks.ensemble_members import CONTROL, LOWERS, OBJECTIVES
from keras_rar.attacks.results import EnsembleResult
from keras_rar.attacks.watch import Watch
from keras_rar.core import checks, map_objectives, quadrature
from keras_rar.core.saliency_methods import IntegratedGradients
from keras_rar.networks.classifier import Classifier

if TYPE_CHECKING:
    from typing_extensions import Unpack  # of `typing` from Python 3.11 on

EVOLUTION_RUNS = 2
"""Queries of the evolution, in units of `steps`."""


class EnsembleAttack(AttributionAttack):
    """The worst of several attacks for each example and each measure: what AutoAttack is for predictions.

    `min_a min_{x′ ∈ a} similarity(M(x), M(x′))` over the members a, for the top-k intersection, Kendall's tau and
    Spearman's rho, each on its own, of all iterates x′ in N(x, ε) whose prediction is that at x. The members:

    - `topk` lowers the k highest entries, `rank` the correlation of the map with its ranks at x, and `mass_center`,
      where maps are images, moves the centre of mass. Each is an ascent with momentum whose step is halved where it
      no longer pays (Croce & Hein 2020), from the input and from `restarts` random points.
    - `evolution` follows no gradient: it keeps random changes that lower the three measures. Where it is the worst,
      gradients are hidden.
    - `noise` is the control: random points of the border, as many as all members look at together. It counts, since
      a worst case is what was found, but where it is the worst the ensemble has found nothing.

    Maps of IG are followed and compared with `search_m` nodes of the midpoint rule while it searches; what was worst
    of each member is then measured anew, with the nodes of the report. Where a network changes much along the segment
    of IG, few nodes and many are two maps, and what changes the one need not change the other. So `topk` and `rank` end
    with a run of a third of `steps` in the map that is reported, from the worst that they have found of it. One image
    of the paper's network costs, with the defaults, 1.7 times the paper's attack: 6 passes for each of 10 nodes in each
    of 600 steps, and of 100 nodes in each of 68, 2 in each of the 200 queries of the evolution and of the 868 of noise,
    and some at the end are about 102,000 passes; those of the paper are 60,000. Other maps are not made cheaper.

    The random numbers of an example depend on its row, so batches of other sizes find the same but for rounding. A
    member does not run for examples all of whose measures are at their limits: 0 or −1.

    Args:
        epsilon: Float > 0, or an array of one float >= 0 per feature: radius of the ball, in the units of the input.
        k: Positive integer, number of entries that `topk` lowers, below that of a map. Defaults to an eighth.
        search_m: Positive integer, number of nodes of IG while it searches, or `None` for the rule of the report.
            Defaults to `10`.
        **options: As for `AttributionAttack`, with other defaults: `restarts=1`; `k_report` is `k`; `step_size`, the
            first, is `2 epsilon`; `keep` names the measure whose worst iterate is `x_adv`, and is no `"mass_center"`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])
    >>> result = EnsembleAttack(epsilon=0.1, steps=5, m=5)(model, np.full([1, 4], 0.5))
    >>> bool(result.scores["kendall_tau"] <= result.member_scores["noise"]["kendall_tau"])
    True
    """

    def __init__(
        self, epsilon: Radius, *, k: int | None = None, search_m: int | None = 10, **options: "Unpack[Options]"
    ):
        self.k = None if k is None else checks.positive_int("k", k)
        self.search_m = None if search_m is None else checks.positive_int("search_m", search_m)
        if options.get("k_report") is None:
            options["k_report"] = self.k
        options.setdefault("restarts", 1)
        super().__init__(epsilon, **options)
        checks.one_of("keep", self.keep, MEASURES)
        self._searches_another = False
        ig = self.saliency
        if isinstance(ig, IntegratedGradients) and self.search_m and self.search_m < len(ig.rule):
            self._searches_another = True
            self.followed = dataclasses.replace(ig, rule=quadrature.midpoint(self.search_m))

    def default_step_size(self, reach: float) -> float:
        """The diameter of the ball."""
        return 2 * reach

    def objective(self, before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
        """That of the first member, `topk`."""
        return map_objectives.topk(self._k(before.shape[1:]))(before, after)

    def check_map(self, shape: tuple[int, ...]) -> None:
        for name, k in (("k", self._k(shape)), ("k_report", self._k_report(shape))):
            explained.check_k(name, k, shape)
        super().check_map(shape)

    def members(self, shape: tuple[int, ...]) -> tuple[str, ...]:
        """Names of the members for maps of this shape."""
        ascents = [name for name in OBJECTIVES if name != "mass_center" or len(shape) == 2]
        return (*ascents, "evolution", CONTROL)

    def queries(self, shape: tuple[int, ...]) -> int:
        """How many maps of each example the members look at, without noise, if maps are of this shape."""
        return sum(self._lengths(CONTROL, shape))

    def _attacked(
        self, classifier: Classifier, run: Callable, x: tf.Tensor, y: tf.Tensor, place: Place, known: dict, watch: Watch
    ) -> EnsembleResult:
        before, *search = run("look", x, y)
        names = self.members(before.shape[1:])
        size, shape = len(known["x"]), before.shape[1:]
        k, limits = self._k_report(shape), ensemble_members.limits(self._k_report(shape), int(np.prod(shape)))
        all_found: dict[str, Found] = {}
        settled = np.zeros(len(x), bool)
        for number, name in enumerate(names):
            skip = settled & (name != CONTROL)
            found = Found.nothing(x, before)
            if not skip.all():
                of_member = ensemble_members.Search(
                    run, x, y, tf.constant(place.indices, tf.int32), search, self.seed, number, watch
                )
                measured = functools.partial(Found.measured, classifier, self.saliency, run, y, before, k=k)
                lengths = self._lengths(name, shape)
                found = measured(*of_member(name, lengths))
                if self._ends_as_reported(name):
                    worst = of_member.as_reported(name, found.worst(LOWERS[name], x), before, self._last_steps)
                    found = found.joined(measured(worst, tf.fill(tf.shape(worst.iteration), len(lengths))))
            all_found[name] = found.without(skip)
            settled |= np.all([all_found[name].scores[m] <= limits[m] for m in MEASURES], axis=0)
        return EnsembleResult(
            **known,
            **ensemble_found.worst_of(all_found, self.keep, size),
            map_before=before.numpy()[:size],
            members=names,
            member_scores={n: {m: s[:size] for m, s in found.scores.items()} for n, found in all_found.items()},
            queries=self.queries(shape),
        )

    def _runs(self, shape: tuple[int, ...]) -> float:
        return 2 * self.queries(shape) / self.steps

    def _lengths(self, name: str, shape: tuple[int, ...]) -> list[int]:
        """The iterations of each run of a member, but for the last of an ascent; noise looks at as many as all do."""
        if name == CONTROL:
            others = [other for other in self.members(shape) if other != CONTROL]
            ends = [self._last_steps for other in others if self._ends_as_reported(other)]
            return [length for other in others for length in self._lengths(other, shape)] + ends
        return [self.steps] * (EVOLUTION_RUNS if name == "evolution" else self.restarts + 1)

    def _ends_as_reported(self, name: str) -> bool:
        """Whether a member ends with a run in the map that is reported, as it searched in another."""
        return name in LOWERS and self._searches_another

    @property
    def _last_steps(self) -> int:
        return -(-self.steps // 3)

    def _attack(self, classifier: Classifier, explainers_of: Callable) -> Callable:
        return ensemble_members.phases(
            classifier,
            own=explainers_of(self.saliency).own,
            explainers=explainers_of(self.followed),
            reported=explainers_of(self.saliency),
            k=lambda shape: (self._k(shape), self._k_report(shape)),
            neighborhood=classifier.ball(self.neighborhood),
            steps=self.steps,
            last_steps=self._last_steps,
            step_size=self.step_size,
            reach=self.neighborhood.reach,
            queries=EVOLUTION_RUNS * self.steps,
        )

    def _compile(self, run: Callable) -> Callable:
        compiled: dict[str, Callable] = {}  # one function for each part, or TensorFlow warns of many traces of one

        def call(phase, *state):
            if phase not in compiled:
                part = functools.partial(run, phase)
                compiled[phase] = tf.function(part, autograph=False, jit_compile=self._compiles())
            return compiled[phase](*state)

        return call

    def _k(self, shape: Any) -> int:
        return explained.eighth(shape) if self.k is None else self.k
