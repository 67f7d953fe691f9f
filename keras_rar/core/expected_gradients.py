"""Integrated gradients from many baselines, those of a background."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.core.abstract_saliency import Saliency, chunk_size
from keras_rar.core.accumulation import weighted_gradients
from keras_rar.core.gradients import ScalarFunction, floating
from keras_rar.core.held import columns_of
from keras_rar.core.quadrature import QuadratureRule


@dataclasses.dataclass(frozen=True, eq=False)
class ExpectedGradients(Saliency):
    """`E_b ∫₀¹ (x − b) ⊙ ∇f(b + α(x − b)) dα`, b from a background (Erion et al. 2021): IG without the choice of one b.

    Without a `rule` it is the mean over draws of a baseline and of α, as in the paper: complete in expectation,
    `Σᵢ aᵢ = f(x) − E_b f(b)`, with an error that falls with the root of `samples`. With a `rule` it is the mean of IG
    over all baselines of the background, at the cost of a rule for each; of one baseline, it is IG.

    The draws are the same at every call and for every example: two maps differ only because the inputs differ. Reports
    keep the settings of their maps, the background too: some tens or hundreds of examples are enough.

    Args:
        baseline: The background, an array of shape `(n, ...)` of n inputs; or a float or an array that broadcasts to
            one input, the only baseline. An entry `None` is the input itself, which gets no share. Defaults to `0.`.
        rule: A `QuadratureRule`, or `None` to draw. Defaults to `None`.
        samples: Positive integer, how many pairs of a baseline and an α to draw. Defaults to `50`.
        seed: Integer seed of the draws. Defaults to `0`.
        chunk: How many points to evaluate at once: a positive integer, `None` for all, or `"auto"` for as many as fit
            into a few megabytes. Defaults to `"auto"`.

    Raises:
        TypeError: If `rule` is not a `QuadratureRule`, or another argument has a wrong type.
        ValueError: If `baseline` is not finite or empty, `samples` or `chunk` is not positive, or `seed` no integer.

    Example:

    >>> background = np.float32([[0.0, 0.0], [1.0, 1.0]])
    >>> saliency = keras_rar.ExpectedGradients(background, keras_rar.quadrature.midpoint(1))
    >>> saliency(lambda z: tf.reduce_sum(z**2, axis=1), tf.constant([[1.0, 2.0]])).numpy()
    array([[0.5, 3.5]], dtype=float32)
    """

    baseline: Any = 0.0
    rule: QuadratureRule | None = None
    samples: int = 50
    seed: int = 0
    chunk: int | str | None = "auto"

    def __post_init__(self) -> None:
        if self.rule is not None and not isinstance(self.rule, QuadratureRule):
            checks.fail("rule", "a QuadratureRule or None", self.rule, TypeError)
        values = np.asarray(checks.baseline("baseline", self.baseline), "float64")
        if not values.size:
            raise ValueError(f"`baseline` must hold one input or more. Received: an array of shape {values.shape}")
        checks.positive_int("samples", self.samples)
        object.__setattr__(self, "seed", checks.seed(self.seed))
        checks.chunk(self.chunk)
        baselines = len(values) if values.ndim > 1 else 1
        object.__setattr__(self, "points", self.samples if self.rule is None else baselines * len(self.rule))

    def __call__(self, f: ScalarFunction, x: tf.Tensor) -> tf.Tensor:
        x = floating("x", x)
        values = np.asarray(self.baseline, "float64")  # None becomes NaN
        if values.ndim < x.shape.rank:  # one baseline
            values = values.reshape([1] * (x.shape.rank - values.ndim) + list(values.shape))
        of_point, alphas, weights = self._points(len(values))
        columns = columns_of(f)
        starts = tf.constant(values[:, np.newaxis], x.dtype)  # an axis for the batch

        def differences(ks, x):
            """`x − b`, of what is free of x."""
            start, x = tf.gather(starts, tf.gather(of_point, ks)), columns.free(x)
            return tf.where(tf.math.is_nan(start), tf.zeros_like(x), x - start)

        def points(ks, x):
            """`x − (1 − α)(x − b)`."""
            difference = differences(ks, x)
            left = tf.reshape(1 - tf.gather(tf.constant(alphas, x.dtype), ks), [-1] + [1] * x.shape.rank)
            return columns.joined(columns.free(x) - left * difference, x)

        def factors(ks, x):
            difference = differences(ks, x)
            if not columns.holds:
                return difference
            held = tf.zeros(tf.concat([tf.shape(difference)[:-1], [x.shape[-1] - difference.shape[-1]]], 0), x.dtype)
            return tf.concat([tf.where(columns.is_free(x), difference, tf.zeros_like(difference)), held], axis=-1)

        chunk = chunk_size(self.chunk, x)
        return weighted_gradients(f, points, (x,), weights, chunk=chunk, variables=False, factors=factors)

    def _points(self, n: int) -> tuple[tf.Tensor, np.ndarray, list[float]]:
        """Of each point the baseline, of n, its α and its weight."""
        if self.rule is None:
            rng = np.random.default_rng(self.seed % 2**64)
            of_point, alphas = rng.integers(n, size=self.samples), rng.random(self.samples)
            return tf.constant(of_point), alphas, [1 / self.samples] * self.samples
        of_point, alphas = np.repeat(np.arange(n), len(self.rule)), np.tile(self.rule.nodes, n)
        return tf.constant(of_point), alphas, list(np.tile(self.rule.weights, n) / n)
