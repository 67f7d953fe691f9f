"""The members of the ensemble on predictions: what each begins with, and what it does in a step."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from keras_rar.attacks.choices import MemberName
from keras_rar.attacks.prediction import closeness_of
from keras_rar.core import (
    apgd,
    checks,
    directions,
    labels,
    other_pixels,
    random_search,
    ratios,
    row_draws,
    squares,
)
from keras_rar.core.attack_loop import Kept
from keras_rar.core.held import HeldBall, HeldProposals
from keras_rar.core.neighborhoods import L0Ball, L1Ball, L2Ball, LinfBall, Neighborhood
from keras_rar.core.proposals import Proposals
from keras_rar.networks.classifier import OBJECTIVES, Classifier

MEMBERS: tuple[MemberName, ...] = ("apgd_crossentropy", "apgd_ratio", "apgd_targeted", "square")
"""What an ensemble is made of, unless its user says otherwise."""

NAMES = ("apgd_crossentropy", "apgd_ratio", "apgd_margin", "apgd_targeted", "square", "noise")
"""All members; what is drawn depends on their places here."""

LOOPS = ("advance apgd", "advance square", "advance noise")
"""The phases that are long."""

_PROPOSALS: dict[type[Neighborhood], Any] = {
    LinfBall: squares.LinfSquares,
    L2Ball: squares.L2Squares,
    L1Ball: squares.L1Squares,
    L0Ball: other_pixels.OtherPixels,
}


@dataclasses.dataclass(frozen=True)
class Members:
    """The attacks that are tried on a network of some number of classes, and how long each is.

    Args:
        wanted: Names of members.
        classes: Number of output units of the network.
        neighborhood: The ball.
        steps: Iterations of each ascent.
        restarts: Number of random starts.
        targets: Number of classes to aim at.
        queries: Iterations of each search.
        seed: Seed of all that is random.
    """

    wanted: tuple[str, ...]
    classes: int
    neighborhood: Neighborhood
    steps: int
    restarts: int
    targets: int
    queries: int
    seed: int

    @property
    def names(self) -> tuple[str, ...]:
        """The members that there are for so many classes.

        Raises:
            ValueError: If there is none.
        """
        unfit = {"apgd_targeted"} if self.classes < 4 or not self.targets else set()
        names = [name for name in self.wanted if name not in unfit]
        if not names:
            checks.fail("members", f"more than the targeted one for {self.classes} classes", self.wanted)
        if self.classes < 3:
            names = ["apgd_margin" if name == "apgd_ratio" else name for name in names]
        return tuple(names)

    def runs(self) -> Iterator[tuple[str, int, int]]:
        """Each run: the name of the member, the start or target it is the turn of, and its iterations."""
        for name in self.names:
            if name in ("square", "noise"):
                yield name, 0, self.queries
                continue
            turns = min(self.targets, self.classes - 1) if name == "apgd_targeted" else self.restarts + 1
            for turn in range(turns):
                yield name, turn, self.steps

    def which(self, name: str, turn: int) -> tuple[int, int]:
        """Numbers that a graph tells members and their runs by: one graph serves several."""
        return NAMES.index(name), turn

    def phases(self, name: str) -> tuple[str, str]:
        """The names of the phases of a member: how it begins and how it goes on."""
        kind = name if name in ("square", "noise") else "apgd"
        return f"begin {kind}", f"advance {kind}"

    def of(self, classifier: Classifier) -> Callable:
        """The function of tensors to compile, the name of a phase its first argument."""

        def look(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            """How close each label is to another, and the other classes from the likeliest down."""
            return classifier.score(y, closeness_of(classifier))(x), self._likeliest(y, classifier.logits(x))

        def begin_apgd(*given: tf.Tensor) -> Any:
            x, y, aim, rows, number, turn = given
            seed = self._seed(number, turn)
            start = x
            if turn > 0 and number != NAMES.index("apgd_targeted"):
                start = row_draws.each(lambda z, s: self.neighborhood.sample(z[tf.newaxis], s)[0], seed, rows, x)
            evaluate = self._evaluate(classifier, x, y, aim, rows, number, seed)
            return apgd.begin(start, begin_noise(*given), evaluate, 2 * self.neighborhood.reach)

        def advance_apgd(*given: Any) -> Any:
            x, y, aim, rows, number, turn, state, first, last = given
            return apgd.advance(
                x,
                *state,
                evaluate=self._evaluate(classifier, x, y, aim, rows, number, self._seed(number, turn)),
                neighborhood=self.neighborhood,
                first=first,
                last=last,
                steps=self.steps,
            )

        def begin_noise(*given: tf.Tensor) -> Kept:
            x, y = given[:2]
            return Kept(x, classifier.score(y, closeness_of(classifier))(x), tf.zeros(tf.shape(x)[:1], tf.int32))

        def begin_square(*given: tf.Tensor) -> Kept:
            x, y, _, rows, number, turn = given
            seed, proposals = self._seed(number, turn), self._proposals(x)
            start = proposals.start(x, row_draws.uniform(seed, -1, self._shifts(x, rows, seed, proposals.draws)))
            return Kept(
                start, classifier.score(y, closeness_of(classifier))(start), tf.zeros(tf.shape(x)[:1], tf.int32)
            )

        def advance_search(propose: Callable[..., random_search.Propose], *given: Any) -> Kept:
            x, y, _, rows, number, turn, kept, first, last = given
            return random_search.search(
                kept,
                propose=propose(x, rows, self._seed(number, turn)),
                similarity=classifier.score(y, closeness_of(classifier)),
                first=first,
                last=last,
                steps=self.queries,
            )

        phases: dict[str, Callable[..., Any]] = {
            "look": look,
            "begin apgd": begin_apgd,
            "advance apgd": advance_apgd,
            "begin noise": begin_noise,
            "advance noise": functools.partial(advance_search, self._noise),
            "begin square": begin_square,
            "advance square": functools.partial(advance_search, self._squares),
        }
        return lambda phase, *state: phases[phase](*state)

    def _evaluate(
        self,
        classifier: Classifier,
        x: tf.Tensor,
        y: tf.Tensor,
        aim: tf.Tensor,
        rows: tf.Tensor,
        number: tf.Tensor,
        seed: tf.Tensor,
    ) -> apgd.Evaluate:
        """One pass forward and one back: the objective, its gradient, never zero nor NaN, and how close y is."""

        closeness = closeness_of(classifier)

        def both(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
            objective = _objective(classifier, number, y, aim, logits)
            return tf.stack([objective, closeness(y, tf.stop_gradient(logits))], axis=-1)

        score, shifts = classifier.score(y, both), self._shifts(x, rows, seed, *x.shape[1:])

        def evaluate(k: Any, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(z)
                values = score(z)
                value = values[:, 0]
            gradient = tape.gradient(value, z, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            noise = row_draws.normal(seed, k, shifts)
            return value, directions.leading(self.neighborhood.felt(gradient), noise), values[:, 1]

        return evaluate

    def _squares(self, x: tf.Tensor, rows: tf.Tensor, seed: tf.Tensor) -> random_search.Propose:
        proposals = self._proposals(x)
        shifts = self._shifts(x, rows, seed, proposals.draws)
        return lambda k, best: proposals.propose(x, k, best, row_draws.uniform(seed, k, shifts))

    def _noise(self, x: tf.Tensor, rows: tf.Tensor, seed: tf.Tensor) -> random_search.Propose:
        """Random vertices of the ball, of which each is as good as the first."""
        shifts, ball = self._shifts(x, rows, seed, *x.shape[1:]), self.neighborhood

        def propose(k: tf.Tensor, best: tf.Tensor) -> tf.Tensor:
            return ball.project(x, x + 2 * ball.reach * ball.steepest(ball.along(row_draws.normal(seed, k, shifts))))

        return propose

    def _proposals(self, x: tf.Tensor) -> Proposals:
        ball, shape = self.neighborhood, tuple(x.shape[1:])
        if isinstance(ball, HeldBall):
            return HeldProposals(ball, shape, self.queries, _PROPOSALS[type(ball.ball)])
        return _PROPOSALS[type(ball)](ball, shape, self.queries)

    def _seed(self, number: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
        """Its own for each run; the same whatever other members there are."""
        return tf.random.fold_in(tf.random.fold_in(tf.constant([self.seed, 0], tf.int64), number), turn)

    def _shifts(self, x: tf.Tensor, rows: tf.Tensor, seed: tf.Tensor, *shape: int) -> tf.Tensor:
        """Uniform numbers of each example, drawn once."""
        like = tf.zeros([tf.shape(x)[0], 1], x.dtype)
        draw = lambda _, s: tf.random.stateless_uniform(shape, s, dtype=x.dtype, alg="philox")  # noqa: E731
        return tf.ensure_shape(row_draws.each(draw, seed, rows, like), [x.shape[0], *shape])

    def _likeliest(self, y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        if self.classes < 2:
            return (1 - y)[:, tf.newaxis]
        chosen = tf.one_hot(y, self.classes, on_value=True, off_value=False, dtype=tf.bool)
        return tf.argsort(tf.where(chosen, logits.dtype.min, logits), axis=-1, direction="DESCENDING", stable=True)


def _objective(classifier: Classifier, number: tf.Tensor, y: tf.Tensor, aim: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """What a member ascends, of labels, classes to aim at, and logits. To choose late costs less than other graphs."""
    margin, crossentropy = (classifier.of_labels(OBJECTIVES[name])(y, logits) for name in ("margin", "crossentropy"))
    known = {"apgd_crossentropy": crossentropy, "apgd_margin": margin}
    if logits.shape[-1] >= 3:
        known["apgd_ratio"] = ratios.difference_ratio(margin, logits)
    if logits.shape[-1] >= 4 and not classifier.multilabel:
        difference = labels.label_logit(aim, logits) - labels.label_logit(y, logits)
        known["apgd_targeted"] = ratios.targeted_ratio(difference, logits)
    chosen = margin
    for name, value in known.items():
        chosen = tf.where(number == NAMES.index(name), value, chosen)
    return chosen
