"""Attribution methods for a score, and the saliency map that people see."""

import dataclasses
from typing import Any

import tensorflow as tf

from keras_rar.core import checks, quadrature
from keras_rar.core.abstract_saliency import Saliency, chunk_size
from keras_rar.core.accumulation import weighted_gradients
from keras_rar.core.channels import DATA_FORMATS
from keras_rar.core.expected_gradients import ExpectedGradients
from keras_rar.core.gradients import ScalarFunction, floating, input_gradient
from keras_rar.core.held import columns_of
from keras_rar.core.integration import integrated_gradients
from keras_rar.core.network_maps import LRP, DeepLIFT, GradCAM
from keras_rar.core.occlusion import Occlusion
from keras_rar.core.quadrature import QuadratureRule


@dataclasses.dataclass(frozen=True)
class IntegratedGradients(Saliency):
    """`(x − b) ∫₀¹ ∇f(b + α(x − b)) dα` (Sundararajan et al. 2017): the method that the paper attacks and reports.

    Args:
        rule: A `QuadratureRule`. Defaults to `right(100)`, the paper's.
        baseline: Float or array b that broadcasts to one input; an entry `None` is the input itself, which gets no
            share. Defaults to `0.`.
        chunk: How many nodes to evaluate at once: a positive integer, `None` for all, or `"auto"` for as many as fit
            into a few megabytes. Defaults to `"auto"`.

    Raises:
        TypeError: If `rule` is not a `QuadratureRule`, or another argument has a wrong type.
        ValueError: If `baseline` is not finite, or `chunk` not positive.

    Example:

    >>> f = lambda z: tf.reduce_sum(z**2, axis=1)
    >>> IntegratedGradients(quadrature.midpoint(1))(f, tf.constant([[1.0, 2.0]])).numpy()
    array([[1., 4.]], dtype=float32)
    """

    rule: QuadratureRule = dataclasses.field(default_factory=lambda: quadrature.right(100))
    baseline: Any = 0.0
    chunk: int | str | None = "auto"

    def __post_init__(self) -> None:
        if not isinstance(self.rule, QuadratureRule):
            checks.fail("rule", "a QuadratureRule", self.rule, TypeError)
        checks.baseline("baseline", self.baseline)
        checks.chunk(self.chunk)
        object.__setattr__(self, "points", len(self.rule))

    def __call__(self, f: ScalarFunction, x: tf.Tensor) -> tf.Tensor:
        x = floating("x", x)
        return self.between(f, columns_of(f).start(self.baseline, x), x)

    def between(self, f: ScalarFunction, start: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """The attributions with another start than the baseline: a tensor of the shape of `x`."""
        x = floating("x", x)
        return integrated_gradients(f, start, x, self.rule, chunk=chunk_size(self.chunk, x), variables=False)


@dataclasses.dataclass(frozen=True)
class Gradient(Saliency):
    """`∇f(x)` (Simonyan et al. 2014).

    Example:

    >>> Gradient()(lambda z: tf.reduce_sum(z**2, axis=1), tf.constant([[1.0, 2.0]])).numpy()
    array([[2., 4.]], dtype=float32)
    """

    def __call__(self, f: ScalarFunction, x: tf.Tensor) -> tf.Tensor:
        return input_gradient(f, floating("x", x))


@dataclasses.dataclass(frozen=True)
class GradientTimesInput(Saliency):
    """`x ⊙ ∇f(x)` (Shrikumar et al. 2017).

    Example:

    >>> GradientTimesInput()(lambda z: tf.reduce_sum(z**2, axis=1), tf.constant([[1.0, 2.0]])).numpy()
    array([[2., 8.]], dtype=float32)
    """

    def __call__(self, f: ScalarFunction, x: tf.Tensor) -> tf.Tensor:
        x = floating("x", x)
        return x * input_gradient(f, x)


@dataclasses.dataclass(frozen=True)
class SmoothGrad(Saliency):
    """`1/n Σₖ ∇f(x + σ gₖ)`, g normal (Smilkov et al. 2017).

    The draws are the same at every call and for every example: two maps differ only because the inputs differ.

    Args:
        samples: Positive integer n. Defaults to `50`.
        noise: Float > 0, σ, in the units of the input. Defaults to `0.1`.
        seed: Integer seed of the draws. Defaults to `0`.
        chunk: How many samples to evaluate at once, as for `IntegratedGradients`. Defaults to `"auto"`.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If `samples`, `noise` or `chunk` is not positive, or `seed` not an integer.

    Example:

    >>> linear = lambda z: z[:, 0] - z[:, 1]
    >>> SmoothGrad(samples=4)(linear, tf.constant([[1.0, 2.0]])).numpy()
    array([[ 1., -1.]], dtype=float32)
    """

    samples: int = 50
    noise: float = 0.1
    seed: int = 0
    chunk: int | str | None = "auto"

    def __post_init__(self) -> None:
        checks.positive_int("samples", self.samples)
        checks.positive_float("noise", self.noise)
        object.__setattr__(self, "seed", checks.seed(self.seed))
        checks.chunk(self.chunk)
        object.__setattr__(self, "points", self.samples)

    def __call__(self, f: ScalarFunction, x: tf.Tensor) -> tf.Tensor:
        x = floating("x", x)
        shape = tf.concat([[self.samples, 1], tf.shape(x)[1:]], 0)
        noise = self.noise * tf.random.stateless_normal(
            shape, [self.seed, 0], dtype=x.dtype, alg="philox"
        )  # the same with XLA
        weights = [1 / self.samples] * self.samples
        chunk = chunk_size(self.chunk, x)
        columns = columns_of(f)
        point = lambda ks, x: columns.joined(columns.free(x + tf.gather(noise, ks)), x)  # noqa: E731
        return weighted_gradients(f, point, (x,), weights, chunk=chunk, variables=False)


METHODS = {
    "ig": IntegratedGradients,
    "gradient": Gradient,
    "gradient_x_input": GradientTimesInput,
    "smoothgrad": SmoothGrad,
    "expected_gradients": ExpectedGradients,
    "occlusion": Occlusion,
    "grad_cam": GradCAM,
    "lrp": LRP,
    "deeplift": DeepLIFT,
}

WITH_BASELINE = (IntegratedGradients, ExpectedGradients, Occlusion, DeepLIFT)
"""Methods that compare the input with a baseline, their attribute `baseline`."""


def normalize_map(attributions: tf.Tensor, data_format: str = "channels_last") -> tf.Tensor:
    """The map of attributions that the paper shows and compares.

    `Mⱼ = d · Σ_c |a_jc| / Σ_jc |a_jc|`: absolute values, summed over channels, scaled to sum to the
    number `d` of entries of the map (Ghorbani et al. 2019). All zeros stay zeros.

    Args:
        attributions: Tensor of shape `(batch, height, width, channels)`, or of a higher rank for volumes; or of rank 2
            or 3, without channels.
        data_format: `"channels_last"`, `"channels_first"` for `(batch, channels, height, width)`, `"none"` for
            attributions of any rank without channels, or `"rows"` for `|Σ_c a_jc|`, the size of the sum over the last
            axis: of words, whose coordinates mean nothing alone. Defaults to `"channels_last"`.

    Returns:
        Tensor of shape `(batch, height, width)`, or of the shape of `attributions` without channels.

    Raises:
        TypeError: If `attributions` is not floating point.
        ValueError: If `data_format` is unknown.

    Example:

    >>> normalize_map(tf.constant([[1.0, -3.0]])).numpy()
    array([[0.5, 1.5]], dtype=float32)
    """
    attributions = floating("attributions", attributions)
    saliency = tf.abs(attributions)
    checks.one_of("data_format", data_format, DATA_FORMATS)
    if data_format == "rows":
        saliency = tf.abs(tf.reduce_sum(attributions, axis=-1))
    elif attributions.shape.rank >= 4 and data_format != "none":
        saliency = tf.reduce_sum(saliency, axis=1 if data_format == "channels_first" else -1)
    axes = list(range(1, saliency.shape.rank))
    entries = tf.cast(tf.reduce_prod(tf.shape(saliency)[1:]), saliency.dtype)
    return entries * tf.math.divide_no_nan(saliency, tf.reduce_sum(saliency, axes, keepdims=True))
