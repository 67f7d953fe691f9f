"""What all attacks share."""

import abc
import copy
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_rar.attacks.choices import Auto, Bounds, JitCompile, Norm, Radius
from keras_rar.core import checks, neighborhoods
from keras_rar.core.row_draws import Block
from keras_rar.networks import at_once
from keras_rar.networks.classifier import Classifier
from keras_rar.networks.kept import kept_with

if TYPE_CHECKING:
    from typing_extensions import Self  # of `typing` from Python 3.11 on


class Sizes(NamedTuple):
    """How many examples to attack at once, and how many draw their random numbers together, which changes them."""

    batch: int
    block: int


class Place(NamedTuple):
    """Which rows a batch has, the row of each of its places, and where the block that they are in begins."""

    rows: slice
    indices: np.ndarray
    begin: int
    block: int

    @property
    def examples(self) -> int:
        """How many rows it has; places after them only fill it up."""
        return self.rows.stop - self.rows.start


class Attack(abc.ABC):
    """What all attacks share: the ball, the loop's length, the softplus of the twin, batches, compilation."""

    may_find_beta = False
    """Whether `softplus_beta` may be `"auto"`."""
    _share: tuple[int, int] = (0, 1)
    derivatives: at_once.Derivatives = "first"
    """Which derivatives in the input it computes, for the memory that it takes."""

    def __init__(
        self,
        epsilon: Radius,
        *,
        norm: Norm,
        bounds: Bounds,
        steps: int,
        step_size: float | None,
        softplus_beta: float | Auto | None,
        restarts: int,
        seed: int,
        layer: str | None,
        batch_size: int | None,
        jit_compile: JitCompile,
    ):
        self.neighborhood = neighborhoods.get(norm, epsilon, bounds)
        self.epsilon, self.norm, self.bounds = self.neighborhood.epsilon, norm, bounds
        self.steps = checks.positive_int("steps", steps)
        length = self.default_step_size(self.neighborhood.reach) if step_size is None else step_size
        self.step_size = checks.positive_float("step_size", length)
        self.softplus_beta: Any = softplus_beta
        if softplus_beta is not None and not (self.may_find_beta and softplus_beta == "auto"):
            self.softplus_beta = checks.positive_float("softplus_beta", softplus_beta)
        self.restarts = checks.nonnegative_int("restarts", restarts)
        self.seed = checks.seed(seed)
        self.layer = checks.layer(layer)
        self.batch_size = None if batch_size is None else checks.positive_int("batch_size", batch_size)
        self.jit_compile = checks.one_of("jit_compile", jit_compile, [True, False, "auto"])
        self._loop: dict[str, Any] = {"steps": self.steps, "step_size": self.step_size}
        self._compiled: tuple[Any, ...] = ()

    def share(self, number: int, of: int) -> "Self":
        """This attack on each so-many-th batch only, for several devices that share the batches of one `iterate`.

        Args:
            number: Which of them this one is, from 0.
            of: How many there are.
        """
        share = copy.copy(self)
        vars(share).update(_share=(number, of), _compiled=(), _trained=())  # compiled for a device of its own
        return share

    def _function(
        self, model: keras.Model, gradient_model: keras.Model | None, *settings: Any
    ) -> tuple[Classifier, Callable]:
        """The attack on a model as a compiled function, made once for the last model as it was.

        Args:
            model: The model.
            gradient_model: A smooth twin of the user's, or `None`.
            *settings: What else `_run` is to know, such as a sharpness chosen for this model; one function for each.
        """
        classifier = Classifier(model)
        seen = [kept_with(model), None if gradient_model is None else kept_with(gradient_model)]
        compiled = self._compiled  # another thread may put another one in its place
        if not compiled or any(now is not then for now, then in zip(seen, compiled[0], strict=True)):
            gradient_classifier = None if gradient_model is None else Classifier(gradient_model)
            if gradient_classifier is not None and gradient_classifier.classes != classifier.classes:
                raise ValueError(
                    f"`gradient_model` must have the classes of the model, {classifier.classes}. "
                    f"Received: {gradient_classifier.classes} classes"
                )
            if gradient_classifier is not None:
                gradient_classifier.multilabel = classifier.multilabel  # the labels are those of the model
            compiled = self._compiled = (seen, classifier, gradient_classifier, {})
        _, classifier, gradient_classifier, functions = compiled
        if settings not in functions:
            functions[settings] = self._compile(self._run(classifier, gradient_classifier, *settings))
        return classifier, functions[settings]

    def default_step_size(self, reach: float) -> float:
        """A tenth of the radius, as in the paper; in L0, where the radius is a number of features, of the box."""
        return reach / 10

    def _compile(self, run: Callable) -> Callable:
        """A function of tensors, compiled.

        As a partial function it is one of its own: TensorFlow would count those of all attacks as one that is traced
        again and again, and warn.
        """
        return tf.function(functools.partial(run), autograph=False, jit_compile=self._compiles())

    def _compiles(self) -> bool:
        """Whether XLA compiles."""
        return bool(tf.config.list_physical_devices("GPU")) if self.jit_compile == "auto" else self.jit_compile

    @abc.abstractmethod
    def _run(self, classifier: Classifier, gradient_classifier: Classifier | None, *settings: Any) -> Callable:
        """A function of tensors to compile."""

    def _sizes(self, model: keras.Model, shape: tuple[int, ...], most: int, points: int = 1) -> Sizes:
        """How many examples to attack at once, and how many draw their random numbers together.

        Args:
            model: The network.
            shape: Shape of one example.
            most: What is enough to keep a machine busy.
            points: Points of one example that are evaluated at once.
        """
        if self.batch_size is not None:
            return Sizes(self.batch_size, self.batch_size)
        return Sizes(at_once.examples(model, shape, self.derivatives, most, points), most)

    def _batches(self, sizes: Sizes, *arrays: np.ndarray, first: int = 0) -> Iterator[tuple[Place, list[np.ndarray]]]:
        """Batches of one size, so that one compilation serves: the last of a block is filled up with its last row."""
        n = len(arrays[0])
        block = min(n, sizes.block)
        size = -(-block // -(-block // min(block, sizes.batch)))  # as even as can be
        number, (mine, shares) = 0, self._share
        while first < n:
            begin = first // block * block
            stop = min(first + size, begin + block, n)
            indices = np.minimum(np.arange(first, first + size), stop - 1)
            if number % shares == mine:
                yield Place(slice(first, stop), indices, begin, block), [array[indices] for array in arrays]
            first, number = stop, number + 1

    def _starts(self, classifier: Classifier, x: tf.Tensor, place: Place) -> Iterator[tuple[tf.Tensor, Block]]:
        """Where each run begins, the input itself and then random points of the ball, and what its steps draw from."""
        ball = classifier.ball(self.neighborhood)
        for restart in range(self.restarts + 1):
            seed = tf.random.fold_in(tf.constant([self.seed, restart], tf.int64), place.begin)  # shared by no other
            block = Block(seed, tf.constant(place.rows.start - place.begin), place.block)
            yield x if restart == 0 else block.drawn(ball.sample, x), block
