"""The methods that compare predicted probabilities under attack: TRADES and MART."""

from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from keras_rar.core import checks, class_probabilities
from keras_rar.core.terms import Terms
from keras_rar.methods import schedules
from keras_rar.methods.regularizer import AbstractAttributionRegularizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from keras_rar.methods.shared_options import SharedOptions


@keras.saving.register_keras_serializable("keras_rar")
class TRADESRegularizer(AbstractAttributionRegularizer):
    """TRADES: `ℓ(x) + β KL(p(x) ‖ p(x*))`, x* ascending the divergence (Zhang et al., ICML 2019).

    p are the probabilities of classes that exclude each other: the softmax of the logits, or a sigmoid. Both are of the
    network in inference mode, where the authors' code runs it in training mode twice. No second derivative is taken. An
    update costs half as much again as adversarial training. At x′ = x the divergence has no gradient, so the inner
    maximum needs a random start: here anywhere in the ball, in their code normal noise of 0.001.

    Args:
        beta: Float >= 0, β (1/λ in the paper), or a `keras.optimizers.schedules.LearningRateSchedule`; 0 is plain
            training. The authors' code has 6 for CIFAR-10 and 1 for MNIST. Defaults to `6.0`.
        **kwargs: As `AbstractAttributionRegularizer`.

    Raises:
        ValueError: If `beta` is negative, or `random_start` is `False`; by `compile`, for several sigmoids.

    Example:

    >>> keras_rar.TRADESRegularizer(beta=1.0, epsilon=0.3).beta
    1.0
    """

    exclusive = True

    def __init__(self, beta: float | schedules.Schedule = 6.0, **kwargs: "Unpack[SharedOptions]"):
        super().__init__(**kwargs)
        self.beta = schedules.checked("beta", beta, checks.nonnegative_float)
        if not self.random_start:
            checks.fail("random_start", "True for TRADES: from x itself the inner maximum never moves", False)

    def objective(self, terms: Terms) -> tf.Tensor:
        return terms.clean_loss + terms.value(self.beta) * self.ascended(terms)

    def ascended(self, terms: Terms) -> tf.Tensor:
        """The divergence: the loss at x does not depend on x′."""
        logits = terms.deployed_clean_logits, terms.deployed_perturbed_logits
        return terms.report("divergence", class_probabilities.kl_divergence(*logits))


@keras.saving.register_keras_serializable("keras_rar")
class MARTRegularizer(AbstractAttributionRegularizer):
    """MART: `ℓ(x*) − log(1 − max_{c≠y} p_c(x*)) + λ KL(p(x) ‖ p(x*)) (1 − p_y(x))` (Wang et al., ICLR 2020).

    x* ascends ℓ. What is wrong at x already gets the most of the last term. p are the probabilities of classes that
    exclude each other, those of the last term in inference mode. No second derivative is taken. An update costs half as
    much again as adversarial training.

    Args:
        factor: Float >= 0, λ, or a `keras.optimizers.schedules.LearningRateSchedule`. The authors' loss defaults to 6,
            their script to 5. Defaults to `5.0`.
        **kwargs: As `AbstractAttributionRegularizer`.

    Raises:
        ValueError: If `factor` is negative; by `compile`, for several sigmoids.

    Example:

    >>> keras_rar.MARTRegularizer(epsilon=0.1).factor
    5.0
    """

    exclusive = True

    def __init__(self, factor: float | schedules.Schedule = 5.0, **kwargs: "Unpack[SharedOptions]"):
        super().__init__(**kwargs)
        self.factor = schedules.checked("factor", factor, checks.nonnegative_float)

    def objective(self, terms: Terms) -> tf.Tensor:
        loss = terms.perturbed_loss + class_probabilities.runner_up_loss(terms.y, terms.perturbed_logits)
        clean = terms.deployed_clean_logits
        divergence = class_probabilities.kl_divergence(clean, terms.deployed_perturbed_logits)
        weighted = divergence * (1 - class_probabilities.label_probability(terms.y, clean))
        return loss + terms.value(self.factor) * terms.report("weighted_divergence", weighted)

    def ascended(self, terms: Terms) -> tf.Tensor:
        """`ℓ(x′)`."""
        return terms.perturbed_loss
