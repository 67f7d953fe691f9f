"""The noise that a map is averaged over, and how far the average can move when the input does."""

import abc
import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
from scipy import special

from keras_rar.core import checks
from keras_rar.core.gradients import floating
from keras_rar.core.neighborhoods import L2Ball


@dataclasses.dataclass(frozen=True)
class Smoothing(abc.ABC):
    """Noise `δ`, and what it says of averages `E h(x + δ)` of functions h with values in [0, 1].

    In the coordinates of `scaled`, a step of length ρ from x moves the average by at most `shift(ρ)`.

    Args:
        sigma: Float > 0, the standard deviation of each entry of the noise, in the units of the input.
        dimension: Positive integer d, number of entries of an input.
    """

    sigma: float
    dimension: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma", checks.positive_float("sigma", self.sigma))
        object.__setattr__(self, "dimension", checks.positive_int("dimension", self.dimension))

    @abc.abstractmethod
    def scaled(self, mean: Any) -> np.ndarray:
        """A mean in [0, 1] in coordinates in which a step moves it by at most `shift`; increasing."""

    @abc.abstractmethod
    def mean_of(self, scaled: Any) -> np.ndarray:
        """The mean with these coordinates; the inverse of `scaled`, and 0 or 1 beyond its values."""

    @abc.abstractmethod
    def shift(self, radii: Any) -> np.ndarray:
        """The most that a step of each length moves a mean, in the coordinates of `scaled`."""

    @abc.abstractmethod
    def distance(self, radii: Any) -> np.ndarray:
        """The total variation distance of `x + δ` and `x′ + δ` for `‖x′ − x‖₂` equal to each radius."""

    @abc.abstractmethod
    def draw(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """`x + δ` with independent noise in each row of `x`; the same for the same two integers `seed`."""

    def lowest(self, mean: Any, radii: Any) -> np.ndarray:
        """The least that a mean can become after a step of that length; shapes broadcast."""
        return self.mean_of(self.scaled(mean) - self.shift(radii))

    def highest(self, mean: Any, radii: Any) -> np.ndarray:
        """The most that a mean can become after a step of that length; shapes broadcast."""
        return self.mean_of(self.scaled(mean) + self.shift(radii))


@dataclasses.dataclass(frozen=True)
class Gaussian(Smoothing):
    """`δ` normal, `N(0, σ² I)`, as in SmoothGrad: `|Φ⁻¹(E h(x′ + δ)) − Φ⁻¹(E h(x + δ))| ≤ ‖x′ − x‖₂ / σ`.

    This is the bound that Levine et al. (2019, arXiv:1905.12105) use. *Proof.* Let `μ = E h(x + δ)` and ρ be the
    length of the step. Of all h with values in [0, 1] and this mean, `E h(x′ + δ)` is largest for the indicator of a
    half-space `{z : ⟨z − x, x′ − x⟩ ≥ c}`, by the lemma of Neyman and Pearson: the ratio of the two densities at z
    increases with `⟨z − x, x′ − x⟩`. The mean of this indicator is `Φ(−c/(ρσ)) = μ` at x and
    `Φ(ρ/σ − c/(ρσ)) = Φ(Φ⁻¹(μ) + ρ/σ)` at x′. The lower bound is the upper one of `1 − h`. ∎

    The distance of the two distributions is `2Φ(ρ/2σ) − 1`. It does not depend on d.

    Example:

    >>> noise = Gaussian(sigma=0.5, dimension=784)
    >>> noise.lowest([0.9, 0.5], 0.25).round(3), noise.distance([0.0, 0.5]).round(3)
    (array([0.783, 0.309]), array([0.   , 0.383]))
    """

    def scaled(self, mean: Any) -> np.ndarray:
        return special.ndtri(np.asarray(mean, "float64"))

    def mean_of(self, scaled: Any) -> np.ndarray:
        return special.ndtr(np.asarray(scaled, "float64"))

    def shift(self, radii: Any) -> np.ndarray:
        return np.asarray(radii, "float64") / self.sigma

    def distance(self, radii: Any) -> np.ndarray:
        return special.erf(np.asarray(radii, "float64") / (2 * np.sqrt(2) * self.sigma))

    def draw(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        x = floating("x", x)
        return x + self.sigma * tf.random.stateless_normal(tf.shape(x), seed, dtype=x.dtype, alg="philox")


@dataclasses.dataclass(frozen=True)
class UniformBall(Smoothing):
    """`δ` uniform in the L2 ball of radius `R = σ√(d + 2)`: `|E h(x′ + δ) − E h(x + δ)| ≤ v(‖x′ − x‖₂)`.

    The noise of Wang and Kong (2024, arXiv:2405.06361). `v(ρ) = 1 − I_{1 − (ρ/2R)²}((d + 1)/2, 1/2)`, with I the
    regularized incomplete beta function, is the share of one ball that lies outside of the other, and 1 from
    `ρ = 2R` on. *Proof.* Two balls of radius R with centres ρ apart have two equal caps in common, each of height
    `R − ρ/2`, whose share of the ball is `½ I_{1 − (ρ/2R)²}((d + 1)/2, 1/2)`. On what they have in common both
    averages count the same; the rest, a share v of either ball, counts at least 0 and at most v. ∎

    R is chosen so that an entry has the standard deviation σ, as with `Gaussian`. For large d, v is nearly
    `2Φ(ρ/2σ) − 1`, the distance of two Gaussians.

    Example:

    >>> noise = UniformBall(sigma=0.5, dimension=784)
    >>> noise.radius, noise.distance([0.0, 0.5]).round(3)
    (14.017845768876187, array([0.   , 0.383]))
    """

    @property
    def radius(self) -> float:
        """R, the radius of the ball."""
        return self.sigma * (self.dimension + 2) ** 0.5

    def scaled(self, mean: Any) -> np.ndarray:
        return np.asarray(mean, "float64")

    def mean_of(self, scaled: Any) -> np.ndarray:
        return np.clip(scaled, 0.0, 1.0)

    def shift(self, radii: Any) -> np.ndarray:
        return self.distance(radii)

    def distance(self, radii: Any) -> np.ndarray:
        half = np.minimum(np.asarray(radii, "float64") / (2 * self.radius), 1.0)
        return special.betainc(0.5, (self.dimension + 1) / 2, half**2)  # 1 − I_{1−x}(a, b) = I_x(b, a), exact near 0

    def draw(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return L2Ball(self.radius, bounds=None).sample(x, seed)


SMOOTHINGS: dict[str, type[Smoothing]] = {"gaussian": Gaussian, "uniform": UniformBall}
