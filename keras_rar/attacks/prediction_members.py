"""The members of the ensemble on predictions: what each begins with, and what it does in a step."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from keras_rar.attacks.choices import MemberName
from keras_rar.attacks.prediction import closeness
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
from keras_rar.core.neighborhoods import L0Ball, L2Ball, LinfBall, Neighborhood
from keras_rar.core.proposals import Proposals
from keras_rar.networks.classifier import OBJECTIVES, Classifier

MEMBERS: tuple[MemberName, ...] = ("apgd_crossentropy", "apgd_ratio", "apgd_targeted", "square")
"""What an ensemble is made of, unless its user says otherwise."""

_PROPOSALS: dict[type[Neighborhood], Any] = {
    LinfBall: squares.LinfSquares,
    L2Ball: squares.L2Squares,
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

    def compiled(self, classifier: Classifier) -> Callable:
        """The function of tensors to compile: its first argument is `"look"`, `"begin"` or `"advance"`."""

        def look(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            """How close each label is to another, and the other classes from the likeliest down."""
            return classifier.score(y, closeness)(x), self._likeliest(y, classifier.logits(x))

        def begin(name: str, turn: Any, x: tf.Tensor, y: tf.Tensor, aim: tf.Tensor, rows: tf.Tensor) -> Any:
            seed = self._seed(name, turn)
            found = classifier.score(y, closeness)
            nothing = Kept(x, found(x), tf.zeros(tf.shape(x)[:1], tf.int32))
            if name == "noise":
                return nothing
            if name == "square":
                proposals = self._proposals(x)
                start = proposals.start(x, row_draws.uniform(seed, -1, self._shifts(x, rows, seed, proposals.draws)))
                return Kept(start, found(start), nothing.iteration)
            sample = row_draws.each(lambda z, s: self.neighborhood.sample(z[tf.newaxis], s)[0], seed, rows, x)
            is_random = turn > 0 if name != "apgd_targeted" else turn < 0
            start = tf.where(is_random, sample, x)
            evaluate = self._evaluate(classifier, name, x, y, aim, rows, seed)
            return apgd.begin(start, nothing, evaluate, 2 * self.neighborhood.reach)

        def advance(
            name: str, turn: Any, x: tf.Tensor, y: tf.Tensor, aim: tf.Tensor, rows: tf.Tensor, state: Any, *span: Any
        ) -> Any:
            seed, (first, last) = self._seed(name, turn), span
            if name in ("square", "noise"):
                return random_search.search(
                    state,
                    propose=self._noise(x, rows, seed) if name == "noise" else self._squares(x, rows, seed),
                    similarity=classifier.score(y, closeness),
                    first=first,
                    last=last,
                    steps=self.queries,
                )
            return apgd.advance(
                x,
                *state,
                evaluate=self._evaluate(classifier, name, x, y, aim, rows, seed),
                neighborhood=self.neighborhood,
                first=first,
                last=last,
                steps=self.steps,
            )

        phases: dict[str, Callable[..., Any]] = {"look": look, "begin": begin, "advance": advance}
        return lambda phase, *state: phases[phase](*state)

    def _evaluate(
        self,
        classifier: Classifier,
        name: str,
        x: tf.Tensor,
        y: tf.Tensor,
        aim: tf.Tensor,
        rows: tf.Tensor,
        seed: tf.Tensor,
    ) -> apgd.Evaluate:
        """One pass forward and one back: the objective, its gradient, never zero nor NaN, and how close y is."""

        def both(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
            return tf.stack([_objective(name, y, aim, logits), closeness(y, tf.stop_gradient(logits))], axis=-1)

        score, shifts = classifier.score(y, both), self._shifts(x, rows, seed, *x.shape[1:])

        def evaluate(k: Any, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(z)
                values = score(z)
                value = values[:, 0]
            gradient = tape.gradient(value, z, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            noise = row_draws.normal(seed, k, shifts)
            return value, directions.leading(gradient, noise), values[:, 1]

        return evaluate

    def _squares(self, x: tf.Tensor, rows: tf.Tensor, seed: tf.Tensor) -> random_search.Propose:
        proposals = self._proposals(x)
        shifts = self._shifts(x, rows, seed, proposals.draws)
        return lambda k, best: proposals.propose(x, k, best, row_draws.uniform(seed, k, shifts))

    def _noise(self, x: tf.Tensor, rows: tf.Tensor, seed: tf.Tensor) -> random_search.Propose:
        """Random vertices of the ball, of which each is as good as the first."""
        shifts, ball = self._shifts(x, rows, seed, *x.shape[1:]), self.neighborhood

        def propose(k: tf.Tensor, best: tf.Tensor) -> tf.Tensor:
            return ball.project(x, x + 2 * ball.reach * ball.steepest(row_draws.normal(seed, k, shifts)))

        return propose

    def _proposals(self, x: tf.Tensor) -> Proposals:
        return _PROPOSALS[type(self.neighborhood)](self.neighborhood, tuple(x.shape[1:]), self.queries)

    def _seed(self, name: str, turn: Any) -> tf.Tensor:
        """Its own for each run; the same whatever other members there are."""
        number = ("apgd_crossentropy", "apgd_ratio", "apgd_margin", "apgd_targeted", "square", "noise").index(name)
        return tf.random.fold_in(tf.constant([self.seed, number], tf.int64), turn)

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


def _objective(name: str, y: tf.Tensor, aim: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """What a member ascends, of labels, classes to aim at, and logits."""
    if name == "apgd_crossentropy":
        return OBJECTIVES["crossentropy"](y, logits)
    if name == "apgd_targeted":
        return ratios.targeted_ratio(labels.label_logit(aim, logits) - labels.label_logit(y, logits), logits)
    margin = OBJECTIVES["margin"](y, logits)
    return margin if name == "apgd_margin" else ratios.difference_ratio(margin, logits)
