"""Several attacks on predictions, one after another on what is left: the worst case over them."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args

import keras
import numpy as np
import tensorflow as tf

from keras_rar.attacks import any_batch, choices
from keras_rar.attacks.attack import Attack
from keras_rar.attacks.prediction import MOST, PGDResult, is_right
from keras_rar.attacks.prediction_members import LOOPS, MEMBERS, Members
from keras_rar.attacks.watch import Watch
from keras_rar.core import checks, keywords
from keras_rar.core.attack_loop import Kept
from keras_rar.networks.classifier import Classifier
from keras_rar.networks.tail import at_layer, tail_of


@dataclasses.dataclass(frozen=True)
class PredictionEnsembleResult(PGDResult):
    """What the ensemble found, one row per example, NumPy arrays; with the columns of `PGDResult`.

    Args:
        x: The inputs, `(n, ...)`.
        x_adv: The inputs that broke an example; where none did, those with the greatest margin of another class; the
            input itself where it is misclassified, `(n, ...)`.
        y: The labels, `(n,)`.
        predicted: The classes predicted at `x`, `(n,)`.
        correct: Whether these are `y`, `(n,)`.
        robust: Whether no member changed them, `(n,)`; its mean is the adversarial accuracy.
        members: Names of the attacks, in the order in which they were tried.
        broken_by: The first member that broke an example, an index into `members`, `(n,)`; -1 where none did, and
            where the example is misclassified, so that nothing was tried.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> attack = keras_rar.attacks.PredictionEnsembleAttack(epsilon=0.1, steps=2, queries=5)
    >>> result = attack(model, np.full([2, 4], 0.5), [0, 1])
    >>> bool(np.all((result.broken_by >= 0) == (result.correct & ~result.robust)))
    True
    """

    members: tuple[str, ...]
    broken_by: np.ndarray


class PredictionEnsembleAttack(Attack):
    """An attack on predictions without a parameter but ε: the worst case over different attacks.

    `max_{x′ ∈ N(x, ε)} max_{c ≠ y} z_c − z_y`, looked for in several ways, as AutoAttack does (Croce & Hein 2020). Each
    member goes on with the examples that the ones before left; nothing is chosen by hand, and a member that sees no
    gradient is among them.

    - `"apgd_crossentropy"`: Auto-PGD on the cross-entropy. It halves its own step when it stops paying.
    - `"apgd_ratio"`: Auto-PGD on the difference of logits ratio, which a large scale of the logits does not blind. With
      fewer than three classes there is no such ratio: it is the margin then.
    - `"apgd_targeted"`: Auto-PGD towards each of the `targets` likeliest wrong classes, by the targeted ratio. Left out
      with fewer than four classes, or several labels.
    - `"square"`: a random search without gradients: squares in L∞ and L2 (Andriushchenko et al. 2020), other pixels in
      L0 (Croce et al. 2022). Where it breaks what the others leave, gradients are masked.
    - `"noise"`: as many random vertices of the ball, for a control: `members="noise"`.

    An example counts as robust if no iterate changes its prediction; scores that are NaN or infinite count as wrong.
    What an example draws depends on its row and the seed alone, so neither `batch_size` nor what was settled changes
    it, up to rounding. Costs at most `3 steps (restarts + 1) · 2 + 3 steps · targets + queries` passes per example.

    Args:
        epsilon: Float > 0, radius of the ball, in the units of the input; or an array of one float >= 0 per feature;
            with `norm="l0"` how many features differ.
        norm: `"linf"`, `"l2"`, `"l1"` or `"l0"`. Defaults to `"linf"`.
        bounds: Pair `(lower, upper)` of floats or arrays, the valid range of inputs, or `None`. Defaults to `(0., 1.)`.
        steps: Positive integer, iterations of each ascent. Defaults to `50`.
        restarts: Integer >= 0, number of random starts after the one at the input. Defaults to `1`.
        targets: Integer >= 0, number of classes to aim at. Defaults to `3`.
        queries: Positive integer, number of steps of the search without gradients, and of the noise. Defaults to
            `1000`.
        members: Names of the attacks, in the order to try them. Defaults to all but the noise.
        seed: Integer seed of random starts and steps. Defaults to `0`.
        layer: Name of a layer whose output is perturbed, as for `AttributionAttack`. Defaults to `None`, the input.
        batch_size: Positive integer, examples attacked at once; `None` for as many as fit in memory, but at most 100.
            Defaults to `None`.
        jit_compile: Whether to compile with XLA: `True`, `False`, or `"auto"` for "on a GPU". Defaults to `"auto"`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
    >>> model.set_weights([np.eye(2)])
    >>> x, y = np.array([[0.9, 0.1], [0.6, 0.5]]), np.array([0, 0])
    >>> result = PredictionEnsembleAttack(epsilon=0.1, steps=5, queries=10)(model, x, y)
    >>> result.robust, result.members[result.broken_by[1]]
    (array([ True, False]), 'apgd_crossentropy')
    """

    @keywords.checked
    def __init__(
        self,
        epsilon: choices.Radius,
        *,
        norm: choices.Norm = "linf",
        bounds: choices.Bounds = (0.0, 1.0),
        steps: int = 50,
        restarts: int = 1,
        targets: int = 3,
        queries: int = 1000,
        members: choices.MemberName | Iterable[choices.MemberName] = MEMBERS,
        seed: int = 0,
        layer: str | None = None,
        batch_size: int | None = None,
        jit_compile: choices.JitCompile = "auto",
    ):
        super().__init__(
            epsilon,
            norm=norm,
            bounds=bounds,
            steps=steps,
            step_size=None,
            softplus_beta=None,
            restarts=restarts,
            seed=seed,
            layer=layer,
            batch_size=batch_size,
            jit_compile=jit_compile,
        )
        self.targets = checks.nonnegative_int("targets", targets)
        self.queries = checks.positive_int("queries", queries)
        known = get_args(choices.MemberName)
        names = (members,) if isinstance(members, str) else tuple(members)
        self.members = tuple(checks.one_of("members", name, known) for name in names)
        if not self.members:
            checks.fail("members", f"one or more of {list(known)}", members)

    def __call__(self, model: keras.Model, x: Any, y: Any) -> PredictionEnsembleResult:
        """Attack the predictions of a model.

        Args:
            model: Any Keras classifier with one input and one output, or a `RARModel`.
            x: Array of shape `(n, ...)`, in the units of `bounds`; or a dictionary or list that holds it.
            y: Labels.

        Returns:
            A `PredictionEnsembleResult`.

        Raises:
            TypeError: If `model` is not a Keras 3 model.
            ValueError: If the inputs or labels are wrong, or ε does not fit them.
        """
        return PredictionEnsembleResult.concatenate(list(self.iterate(model, x, y)))

    def iterate(
        self, model: keras.Model, x: Any, y: Any, *, first: int = 0, progress: choices.Progress | None = None
    ) -> Iterator[PredictionEnsembleResult]:
        """The attack batch by batch.

        Args:
            model: As for a call.
            x: As for a call.
            y: As for a call.
            first: The row to begin at, the end of an earlier batch.
            progress: Function that is called about once a second, with the number of examples done until then, a
                float: it counts the share done of those that are being attacked. Defaults to none.

        Yields:
            A `PredictionEnsembleResult` for each batch of at most `batch_size` rows.
        """
        model, x = at_layer(model, self.layer, x)
        classifier, run = self._function(model, None)
        x = classifier.check_inputs(x, self.bounds)
        self.neighborhood.check_shape(classifier.columns.free(x).shape[1:])
        y = classifier.check_labels(y, len(x))
        watch = Watch(self.iterates(model), 1, progress)
        sizes = self._sizes(classifier.model, x.shape[1:], MOST)
        for place, (inputs, classes) in self._batches(sizes, x, y, first=first):
            watch.begin(place.rows)
            n = place.examples
            found = self._attacked(classifier, run, inputs[:n], classes[:n], place.rows.start, watch)
            yield found.with_inputs(classifier.columns.free)

    def iterates(self, model: keras.Model) -> int:
        """How many iterates of each example the members look at, if none breaks it.

        Args:
            model: As for a call.
        """
        seen = model if self.layer is None else tail_of(model, self.layer)
        return sum(length for *_, length in self._plan(Classifier(seen)).runs())

    def _attacked(
        self, classifier: Classifier, run: Callable, x: np.ndarray, y: np.ndarray, offset: int, watch: Watch
    ) -> PredictionEnsembleResult:
        """The members one after another, each on the examples that are still right."""
        plan, predicted = self._plan(classifier), classifier.predict(x)
        x_adv, broken_by, left = x.copy(), np.full(len(x), -1), np.flatnonzero(predicted == y)
        least, likeliest = (value.numpy() for value in run("look", tf.constant(x), tf.constant(y)))
        for member, turn, length in plan.runs():
            if not len(left):
                break
            here = self._padded(left, len(x))
            aim = likeliest[here, turn] if member == "apgd_targeted" else y[here]
            given = [tf.constant(value) for value in (x[here], y[here], aim, here + offset, *plan.which(member, turn))]
            begin, advance = plan.phases(member)
            state = run(begin, *given)
            for segment in watch.segments(length):
                state = run(advance, *given, state, *(tf.constant(step) for step in segment))
                _kept(state).iteration.numpy()  # a GPU answers before it has computed
            found = [value.numpy()[: len(left)] for value in _kept(state)[:2]]
            better = found[1] < least[left]
            x_adv[left[better]], least[left[better]] = found[0][better], found[1][better]
            right = is_right(classifier, x_adv[left], y[left])
            broken_by[left[~right]] = plan.names.index(member)
            left = left[right]
        robust = np.isin(np.arange(len(x)), left)
        return PredictionEnsembleResult(x, x_adv, y, predicted, predicted == y, robust, plan.names, broken_by)

    def _padded(self, left: np.ndarray, size: int) -> np.ndarray:
        """The rows that are left; for XLA, which compiles for each size, repeated up to one of few sizes."""
        if not self._compiles():
            return left
        while size // 2 >= len(left):
            size //= 2
        return left[np.minimum(np.arange(size), len(left) - 1)]

    def _run(self, classifier: Classifier, gradient_classifier: Classifier | None) -> Callable:
        return self._plan(classifier).of(classifier)

    def _compile(self, run: Callable) -> Callable:
        """A graph for each phase, that serves batches of all sizes: they become smaller."""
        return any_batch.compiled(run, LOOPS, self._compiles())

    def _plan(self, classifier: Classifier) -> Members:
        return Members(
            self.members,
            classifier.classes,
            classifier.ball(self.neighborhood),
            self.steps,
            self.restarts,
            0 if classifier.multilabel else self.targets,
            self.queries,
            self.seed,
        )


def _kept(state: Any) -> Kept:
    return state if isinstance(state, Kept) else state[1]
