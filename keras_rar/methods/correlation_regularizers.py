"""The methods that compare maps under attack by their correlation, and gradients by their alignment."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from keras_rar.core import checks, sizes, soft_correlations
from keras_rar.core.terms import Terms
from keras_rar.methods import schedules
from keras_rar.methods.map_regularizers import ComparesMaps
from keras_rar.methods.regularizer import AbstractAttributionRegularizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from keras_rar.methods.shared_options import SharedOptions


@keras.saving.register_keras_serializable("keras_rar")
class PearsonRegularizer(ComparesMaps):
    """Pearson: `ℓ(x*) + λ (1 − r(|IG₀(x)|, |IG₀(x*)|))`, after AdvAAT (Ivankay et al. 2020, "FAR").

    r is the correlation of the entries of the two maps: their cosine after the mean is taken away, so that a map of
    equal entries everywhere is like no other. IG₀ is the map of the label's logit from the baseline. An update costs
    what one of `keras_rar.IGRRegularizer` costs, and more with `ascend="objective"`.

    FAR is a framework, min max dissimilarity; AdvAAT is its case with ℓ(x*) and Pearson's correlation. What x* ascends
    there is the dissimilarity, here it is the whole objective, as for the other methods. We could not confirm λ, and
    take maps without their signs, as they are shown and measured here.

    Args:
        factor: Float >= 0, λ, or a `keras.optimizers.schedules.LearningRateSchedule`; 0 is adversarial training.
            Defaults to `4.0`.
        ascend: What x* ascends: `"objective"`, with maps of `attack_m` nodes, or `"loss"`, `ℓ(x′)`, which costs less.
            Defaults to `"objective"`.
        maps: Which maps are compared, their distances averaged: `"ig"`, and `"gradient"`, the gradient of the label's
            logit. Defaults to `("ig",)`.
        m: Integer > 0, nodes of IG. Defaults to `2`.
        **kwargs: As `AbstractAttributionRegularizer`.

    Raises:
        ValueError: If `factor` is negative, or `ascend` or one of the `maps` unknown.

    Example:

    >>> keras_rar.PearsonRegularizer(factor=2.0, epsilon=0.1).ascend
    'objective'
    """

    def __init__(
        self,
        factor: float | schedules.Schedule = 4.0,
        ascend: str = "objective",
        maps: Sequence[str] = ("ig",),
        **kwargs: "Unpack[SharedOptions]",
    ):
        super().__init__(factor=factor, ascend=ascend, maps=maps, **kwargs)

    def similarity(self, clean_map: tf.Tensor, perturbed_map: tf.Tensor, counted: tf.Tensor | None = None) -> tf.Tensor:
        """Pearson's correlation of the absolute maps."""
        return soft_correlations.correlation(tf.abs(clean_map), tf.abs(perturbed_map), counted)

    def _beside(self, terms: Terms) -> dict[str, Any]:
        return self._padding(terms)


@keras.saving.register_keras_serializable("keras_rar")
class KendallRegularizer(ComparesMaps):
    """Kendall: `ℓ(x*) + λ (1 − τ(|IG₀(x)|, |IG₀(x*)|))`, with a smooth rank correlation τ.

    τ is the cosine of soft signs, `tanh((aᵢ − aⱼ) / (T mean|a|))`, over pairs of entries: a smooth Kendall's tau-b,
    which is what reports measure. All ranks count, the small ones too. Of the pairs, `shifts · n` are drawn anew in
    each update, so that memory is that of `shifts` maps. IG₀ is the map of the label's logit from the baseline.

    Args:
        factor: Float >= 0, λ, or a `keras.optimizers.schedules.LearningRateSchedule`; 0 is adversarial training.
            Defaults to `4.0`.
        temperature: Float > 0, T: differences far below T times the mean entry do not count. Defaults to `0.1`.
        shifts: Integer > 0: each entry is compared with so many others. Defaults to `16`.
        ascend: What x* ascends: `"objective"`, with maps of `attack_m` nodes, or `"loss"`, `ℓ(x′)`, which costs less.
            Defaults to `"objective"`.
        maps: Which maps are compared, their distances averaged: `"ig"`, and `"gradient"`, the gradient of the label's
            logit. Defaults to `("ig",)`.
        m: Integer > 0, nodes of IG. Defaults to `2`.
        **kwargs: As `AbstractAttributionRegularizer`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> keras_rar.KendallRegularizer(temperature=0.2, epsilon=0.1).shifts
    16
    """

    def __init__(
        self,
        factor: float | schedules.Schedule = 4.0,
        temperature: float = 0.1,
        shifts: int = 16,
        ascend: str = "objective",
        maps: Sequence[str] = ("ig",),
        **kwargs: "Unpack[SharedOptions]",
    ):
        super().__init__(factor=factor, ascend=ascend, maps=maps, **kwargs)
        self.temperature = checks.positive_float("temperature", temperature)
        self.shifts = checks.positive_int("shifts", shifts)

    def similarity(self, clean_map: tf.Tensor, perturbed_map: tf.Tensor, **beside: Any) -> tf.Tensor:
        """The smooth rank correlation of the absolute maps."""
        maps = tf.abs(clean_map), tf.abs(perturbed_map)
        return soft_correlations.soft_kendall(*maps, self.temperature, self.shifts, **beside)

    def _beside(self, terms: Terms) -> dict[str, Any]:
        return {**self._padding(terms), "seed": terms.step}


@keras.saving.register_keras_serializable("keras_rar")
class LGARegularizer(AbstractAttributionRegularizer):
    """Local gradient alignment: `ℓ(x) + λ₂ ‖g − g*‖₂² + λ (1 − cos(g, g*)) / 2` (Joo et al., AAAI 2023).

    g and g* are the gradients of the label's logit at x and at x*. The cosine alone does not see the size of gradients,
    and ‖g − g*‖ alone is small for small gradients whatever their direction. An update costs about what one of
    `keras_rar.IGRRegularizer` costs.

    The authors draw x* at random, within 4/255 of x, and take g for a constant in their code. Here x* ascends the two
    terms, as for the other methods, and the gradient is that of the whole formula. In their scripts for a LeNet λ₂ is
    0.01 and λ is 1; in their code both default to 1. λ₂ has the unit of the input squared.

    Args:
        factor: Float >= 0, λ, or a `keras.optimizers.schedules.LearningRateSchedule`. Defaults to `1.0`.
        l2: Float >= 0, λ₂, or a schedule. Defaults to `0.01`.
        **kwargs: As `AbstractAttributionRegularizer`.

    Raises:
        ValueError: If `factor` or `l2` is negative, or `random_start` is `False`: at x nothing is to be ascended.

    Example:

    >>> keras_rar.LGARegularizer(l2=0.1, epsilon=0.1).l2
    0.1
    """

    def __init__(
        self,
        factor: float | schedules.Schedule = 1.0,
        l2: float | schedules.Schedule = 0.01,
        **kwargs: "Unpack[SharedOptions]",
    ):
        super().__init__(**kwargs)
        self.factor = schedules.checked("factor", factor, checks.nonnegative_float)
        self.l2 = schedules.checked("l2", l2, checks.nonnegative_float)
        if not self.random_start:
            checks.fail("random_start", "True for gradient alignment: from x itself it never moves", False)

    def objective(self, terms: Terms) -> tf.Tensor:
        return terms.clean_loss + self.ascended(terms)

    def ascended(self, terms: Terms) -> tf.Tensor:
        """The two terms: the loss at x does not depend on x′."""
        g, g_star = terms.clean_logit_gradient, terms.perturbed_logit_gradient
        distance = terms.report("gradient_distance", sizes.power(g - g_star, 2))
        angle = terms.report("gradient_angle", (1 - sizes.cosine(g, g_star)) / 2)
        return terms.value(self.l2) * distance + terms.value(self.factor) * angle
