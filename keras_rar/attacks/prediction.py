"""The attack on predictions, for adversarial accuracy."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar.attacks import choices, starts
from keras_rar.attacks.attack import Attack, Place
from keras_rar.attacks.results import Rows
from keras_rar.attacks.watch import Watch
from keras_rar.core import attack_loop, checks, directions, keywords
from keras_rar.core.gradients import ScalarFunction, input_gradient
from keras_rar.networks.classifier import OBJECTIVES, Classifier
from keras_rar.networks.surrogates import softplus
from keras_rar.networks.tail import at_layer

MOST = 100
"""Examples at once, where memory takes them."""


@dataclasses.dataclass(frozen=True)
class PGDResult(Rows):
    """What an attack on predictions found, one row per example, NumPy arrays.

    Args:
        x: The inputs, `(n, ...)`.
        x_adv: The inputs with the greatest margin of another class, `(n, ...)`.
        y: The labels, `(n,)`.
        predicted: The classes predicted at `x`, `(n,)`.
        correct: Whether these are `y`, `(n,)`.
        robust: Whether they are at `x_adv` as well, `(n,)`; its mean is the adversarial accuracy. Scores that are NaN
            or infinite there count as wrong.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> result = keras_rar.attacks.PGDAttack(epsilon=0.1, steps=1)(model, np.full([2, 4], 0.5), [0, 1])
    >>> bool(np.all(result.robust <= result.correct))
    True
    """

    x: np.ndarray
    x_adv: np.ndarray
    y: np.ndarray
    predicted: np.ndarray
    correct: np.ndarray
    robust: np.ndarray


class PGDAttack(Attack):
    """Projected gradient descent on predictions; the worst case over objectives, starts and iterates.

    `max_{x′ ∈ N(x, ε)}` of the cross-entropy (Madry et al. 2018), and of the difference of logits
    `max_{c ≠ y} z_c − z_y` (Carlini & Wagner 2017), which does not vanish where a model is sure. An example
    counts as robust if no iterate of any run changes its prediction. Of several sigmoids, each a label of its own, the
    objectives are the sum of the binary cross-entropies and the margin of the label nearest to changing. Where the
    gradient is NaN the step is a random one, and an iterate whose scores are NaN or infinite counts as wrong.

    Args:
        epsilon: Float > 0, or an array of one float >= 0 per feature: radius of the ball, in the units of the input.
        norm: `"linf"`, `"l2"`, `"l1"` or `"l0"`. Defaults to `"linf"`.
        bounds: Pair `(lower, upper)` of floats or arrays, the valid range of inputs, or `None`. Defaults to `(0., 1.)`.
        steps: Positive integer, number of iterations. Defaults to `40`.
        step_size: Float > 0, length of a step. Defaults to `epsilon / 10`; in L0, to a tenth of the range.
        objectives: One or both of `"crossentropy"` and `"margin"`. Defaults to both.
        softplus_beta: Float > 0: take gradients through the model's `softplus_twin` of that sharpness, where its own
            vanish, as below a `firm_threshold`; 30 suits inputs from 0 to 1. Which iterate is the worst is up to
            the model. `None` for its own gradients. Defaults to `None`.
        restarts: Integer >= 0, number of random starts after the one at the input. Defaults to `1`.
        seed: Integer seed of the random starts. Defaults to `0`.
        layer: Name of a layer whose output is perturbed, as for `AttributionAttack`. Defaults to `None`, the input.
        batch_size: Positive integer, examples attacked at once, on which random starts depend; `None` for as many as
            fit in memory, but at most 100: then they do not. Defaults to `None`.
        jit_compile: Whether to compile with XLA: `True`, `False`, or `"auto"` for "on a GPU". Defaults to `"auto"`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
    >>> model.set_weights([np.eye(2)])
    >>> x, y = np.array([[0.9, 0.1], [0.6, 0.5]]), np.array([0, 0])
    >>> PGDAttack(epsilon=0.1)(model, x, y).robust
    array([ True, False])
    """

    @keywords.checked
    def __init__(
        self,
        epsilon: choices.Radius,
        *,
        norm: choices.Norm = "linf",
        bounds: choices.Bounds = (0.0, 1.0),
        steps: int = 40,
        step_size: float | None = None,
        objectives: choices.ObjectiveName | Iterable[choices.ObjectiveName] = ("crossentropy", "margin"),
        softplus_beta: float | None = None,
        restarts: int = 1,
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
            step_size=step_size,
            softplus_beta=softplus_beta,
            restarts=restarts,
            seed=seed,
            layer=layer,
            batch_size=batch_size,
            jit_compile=jit_compile,
        )
        names = (objectives,) if isinstance(objectives, str) else tuple(objectives)
        self.objectives = tuple(checks.one_of("objectives", name, OBJECTIVES) for name in names)
        if not self.objectives:
            checks.fail("objectives", f"one or more of {list(OBJECTIVES)}", objectives)

    def __call__(self, model: keras.Model, x: Any, y: Any) -> PGDResult:
        """Attack the predictions of a model.

        Args:
            model: Any Keras classifier with one input and one output, or a `RARModel`.
            x: Array of shape `(n, ...)`, in the units of `bounds`; or a dictionary or list that holds it.
            y: Labels.

        Returns:
            A `PGDResult`.

        Raises:
            TypeError: If `model` is not a Keras 3 model.
            ValueError: If the inputs or labels are wrong, or, with `softplus_beta`, the model's activations cannot be
                found.
        """
        return PGDResult.concatenate(list(self.iterate(model, x, y)))

    def iterate(
        self, model: keras.Model, x: Any, y: Any, *, first: int = 0, progress: choices.Progress | None = None
    ) -> Iterator[PGDResult]:
        """The attack batch by batch.

        Args:
            model: As for a call.
            x: As for a call.
            y: As for a call.
            first: The row to begin at, the end of an earlier batch.
            progress: Function that is called about once a second, with the number of examples done until then, a
                float: it counts the share done of those that are being attacked. Defaults to none.

        Yields:
            A `PGDResult` for each batch of at most `batch_size` rows.
        """
        model, x = at_layer(model, self.layer, x)
        classifier, run = self._function(model, None)
        x = classifier.check_inputs(x, self.bounds)
        self.neighborhood.check_shape(classifier.columns.free(x).shape[1:])
        y = classifier.check_labels(y, len(x))
        watch = Watch(self.steps, (self.restarts + 1) * len(self.objectives), progress)
        sizes = self._sizes(classifier.model, x.shape[1:], MOST)
        for place, (inputs, classes) in self._batches(sizes, x, y, first=first):
            watch.begin(place.rows)
            z, labels = tf.constant(inputs), tf.constant(classes)
            worst = self._worst(classifier, run, z, labels, place, watch)
            here = slice(0, place.examples)
            predicted = classifier.predict(z)[here]
            correct = predicted == classes[here]
            robust = correct & is_right(classifier, worst, classes)[here]
            found = PGDResult(inputs[here], worst.numpy()[here], classes[here], predicted, correct, robust)
            yield found.with_inputs(classifier.columns.free)

    def iterates(self, model: keras.Model) -> int:
        """How many iterates of each example the attack looks at.

        Args:
            model: As for a call.
        """
        return self.steps * (self.restarts + 1) * len(self.objectives)

    def _worst(
        self, classifier: Classifier, run: Callable, x: tf.Tensor, y: tf.Tensor, place: Place, watch: Watch
    ) -> tf.Tensor:
        """The iterates with the greatest margin of another class, over all starts and objectives."""
        kept = attack_loop.Kept(x, run("closeness", x, y), tf.zeros([len(x)], tf.int32))
        for start, block in self._starts(classifier, x, place):
            for name in self.objectives:
                x_prime = start
                for segment in watch.segments():
                    first, last = (tf.constant(step) for step in segment)
                    x_prime, kept = run(name, x, y, x_prime, kept, first, last, block)
                    kept.iteration.numpy()  # a GPU answers before it has computed
        return kept.x

    def _run(self, classifier: Classifier, gradient_classifier: Classifier | None) -> Callable:
        relu = None if self.softplus_beta is None else softplus(self.softplus_beta)

        def run(phase, x, y, *state):
            if phase == "closeness":
                return classifier.score(y, closeness_of(classifier))(x)
            x_prime, kept, first, last, block = state
            gradient = _gradient_of(classifier.score(y, OBJECTIVES[phase], relu))
            return attack_loop.advance(
                x,
                x_prime,
                kept,
                direction=directions.unless_undefined(gradient, starts.random_direction(block, x)),
                similarity=classifier.score(y, closeness_of(classifier)),
                allowed=lambda z: tf.fill(tf.shape(z)[:1], True),
                first=first,
                last=last,
                neighborhood=classifier.ball(self.neighborhood),
                **self._loop,
            )

        return run


def closeness_of(classifier: Classifier) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """How far the label is from being another one, as a function `(y, logits) -> (n,)`.

    It is minus the margin, and −∞ where scores are NaN or infinite: such a network does not say the label, so that
    there is nothing worse to look for.
    """
    margin_of = classifier.of_labels(OBJECTIVES["margin"])

    def closeness(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        margin = margin_of(y, logits)
        said = tf.math.is_finite(margin) & ~tf.reduce_any(tf.math.is_nan(logits), axis=-1)
        return tf.where(said, -margin, tf.constant(-np.inf, margin.dtype))

    return closeness


def is_right(classifier: Classifier, x: Any, y: np.ndarray) -> np.ndarray:
    """Whether the labels are predicted, by scores that are finite, `(n,)`."""
    x = tf.convert_to_tensor(x)
    said = np.isfinite(closeness_of(classifier)(tf.constant(y), classifier.logits(x)))
    return (classifier.predicted(x).numpy() == y) & said


def _gradient_of(score: ScalarFunction) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    return lambda k, z: input_gradient(score, z)
