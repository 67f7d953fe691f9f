"""What all attacks share."""

import abc
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar.attacks.choices import Bounds, JitCompile, Norm
from keras_rar.core import checks, neighborhoods
from keras_rar.networks.classifier import Classifier
from keras_rar.networks.kept import kept_with


class Attack(abc.ABC):
    """What all attacks share: the ball, the loop's length, the softplus of the twin, batches, compilation."""

    def __init__(
        self,
        epsilon: float,
        *,
        norm: Norm,
        bounds: Bounds,
        steps: int,
        step_size: float,
        softplus_beta: float | None,
        restarts: int,
        seed: int,
        batch_size: int | None,
        jit_compile: JitCompile,
    ):
        self.neighborhood = neighborhoods.get(norm, epsilon, bounds)
        self.epsilon, self.norm, self.bounds = self.neighborhood.epsilon, norm, bounds
        self.steps = checks.positive_int("steps", steps)
        self.step_size = checks.positive_float("step_size", step_size)
        self.softplus_beta = None if softplus_beta is None else checks.positive_float("softplus_beta", softplus_beta)
        self.restarts = checks.nonnegative_int("restarts", restarts)
        self.seed = checks.seed(seed)
        self.batch_size = None if batch_size is None else checks.positive_int("batch_size", batch_size)
        self.jit_compile = checks.one_of("jit_compile", jit_compile, [True, False, "auto"])
        self._loop: dict[str, Any] = {
            "neighborhood": self.neighborhood, "steps": self.steps, "step_size": self.step_size,
        }  # fmt: skip
        self._compiled: tuple[Any, ...] = ()

    def _function(self, model: keras.Model, gradient_model: keras.Model | None) -> tuple[Classifier, Callable]:
        """The attack on a model as a compiled function, made once for the last model as it was."""
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
            run = self._run(classifier, gradient_classifier)
            function = self._compile(run)
            compiled = self._compiled = (seen, classifier, function)
        return compiled[1:]

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
    def _run(self, classifier: Classifier, gradient_classifier: Classifier | None) -> Callable:
        """A function of tensors to compile."""

    def _batches(self, size: int, *arrays: np.ndarray, first: int = 0) -> Iterator[tuple[slice, list[np.ndarray]]]:
        """Batches of one size, so that one compilation serves: the last one is filled up with its last example."""
        n = len(arrays[0])
        size = min(n, size)
        for start in range(first, n, size):
            rows = np.minimum(np.arange(start, start + size), n - 1)
            yield slice(start, min(start + size, n)), [array[rows] for array in arrays]

    def _seed(self, restart: int, offset: int) -> tf.Tensor:
        """The seed of a start of a batch: another seed of the attack shares none of them."""
        return tf.random.fold_in(tf.constant([self.seed, restart], tf.int64), offset)

    def _starts(self, x: tf.Tensor, offset: int) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        """Where each run begins, and the seed of its steps."""
        for restart in range(self.restarts + 1):
            yield self._start(x, restart, offset), self._seed(restart, offset)

    def _start(self, x: tf.Tensor, restart: int, offset: int) -> tf.Tensor:
        """The input itself, then random points of the ball."""
        return x if restart == 0 else self.neighborhood.sample(x, self._seed(restart, offset))
