"""The methods of the paper: the size of integrated gradients between an input and its perturbation."""

from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from keras_rar.core import checks, sizes
from keras_rar.core.terms import Terms
from keras_rar.methods import schedules
from keras_rar.methods.regularizer import AbstractAttributionRegularizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from keras_rar.methods.shared_options import SharedOptions


@keras.saving.register_keras_serializable("keras_rar")
class IGNormRegularizer(AbstractAttributionRegularizer):
    """IG-NORM: `ℓ(x) + λ ‖IG(x, x*)‖₁`, x* ascending `‖IG(x, x′)‖₁` (Chen et al. 2019, sec. 3).

    At x′ = x the map is 0 and so is its gradient: without a random start the inner maximum would never
    move, so that is refused.

    Args:
        factor: Float >= 0, λ, or a `keras.optimizers.schedules.LearningRateSchedule`. Defaults to `1.0`.
        **kwargs: As `AbstractAttributionRegularizer`.

    Raises:
        ValueError: If `factor` is negative, or `random_start` is `False`.

    Example:

    >>> keras_rar.IGNormRegularizer(factor=0.5, epsilon=0.1, rule="right", m=50, attack_m=10).factor
    0.5
    """

    def __init__(self, factor: float | schedules.Schedule = 1.0, **kwargs: "Unpack[SharedOptions]"):
        super().__init__(**kwargs)
        self.factor = schedules.checked("factor", factor, checks.nonnegative_float)
        if not self.random_start:
            checks.fail("random_start", "True for IG-NORM: from x itself the inner maximum never moves", False)

    def objective(self, terms: Terms) -> tf.Tensor:
        return terms.clean_loss + terms.value(self.factor) * self.ascended(terms)

    def ascended(self, terms: Terms) -> tf.Tensor:
        """`‖IG(x, x′)‖₁`: the rest of the objective does not depend on x′."""
        return terms.report("ig_l1", sizes.l1_norm(terms.attributions))


@keras.saving.register_keras_serializable("keras_rar")
class IGSumNormRegularizer(AbstractAttributionRegularizer):
    """IG-SUM-NORM: `ℓ(x*) + β ‖IG(x, x*)‖₁`, x* ascending the same (Chen et al. 2019, sec. 3).

    By completeness `ℓ(x*) = ℓ(x) + sum(IG(x, x*))`: the size is `s = sum + β ‖·‖₁`, with λ = 1.

    Args:
        beta: Float >= 0, β, or a `keras.optimizers.schedules.LearningRateSchedule`; 0 is adversarial training.
            Defaults to `0.1`.
        **kwargs: As `AbstractAttributionRegularizer`.

    Raises:
        ValueError: If `beta` is negative.

    Example:

    >>> keras_rar.IGSumNormRegularizer(beta=0.1, epsilon=8, bounds=(0, 255), steps=7, step_size=2).beta
    0.1
    """

    def __init__(self, beta: float | schedules.Schedule = 0.1, **kwargs: "Unpack[SharedOptions]"):
        super().__init__(**kwargs)
        self.beta = schedules.checked("beta", beta, checks.nonnegative_float)

    def objective(self, terms: Terms) -> tf.Tensor:
        ig_l1 = terms.report("ig_l1", sizes.l1_norm(terms.attributions))  # first: its last node may be x*
        return terms.perturbed_loss + terms.value(self.beta) * ig_l1
