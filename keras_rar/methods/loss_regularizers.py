"""The methods without attributions: natural and adversarial training, and the change of the loss."""

from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.core.terms import Terms
from keras_rar.methods import schedules
from keras_rar.methods.regularizer import AbstractAttributionRegularizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from keras_rar.methods.shared_options import SharedOptions


@keras.saving.register_keras_serializable("keras_rar")
class NaturalRegularizer(AbstractAttributionRegularizer):
    """NATURAL: plain training, `ℓ(x)`, for comparison. No inner maximum is computed.

    Args:
        **kwargs: As `AbstractAttributionRegularizer`; they change nothing here.

    Example:

    >>> keras_rar.NaturalRegularizer().epsilon
    0.1
    """

    def objective(self, terms: Terms) -> tf.Tensor:
        return terms.clean_loss


@keras.saving.register_keras_serializable("keras_rar")
class MadryRegularizer(AbstractAttributionRegularizer):
    """Adversarial training: `ℓ(x*)`, x* ascending `ℓ(x′)` (Madry et al. 2018).

    It is Robust Attribution Regularization with `s = sum` and `λ = 1` (Chen et al. 2019, sec. 3).

    Args:
        **kwargs: As `AbstractAttributionRegularizer`.

    Example:

    >>> keras_rar.MadryRegularizer(epsilon=0.3, steps=40, step_size=0.01).step_size
    0.01
    """

    def objective(self, terms: Terms) -> tf.Tensor:
        return terms.perturbed_loss


@keras.saving.register_keras_serializable("keras_rar")
class LossChangeRegularizer(AbstractAttributionRegularizer):
    """The change of the loss: `ℓ(x) + λ |ℓ(x*) − ℓ(x)|`, x* ascending `|ℓ(x′) − ℓ(x)|`.

    It is Robust Attribution Regularization with `s = |sum|` (Chen et al. 2019, sec. 3): attributions sum to the change
    of the loss. It needs no second derivative and costs half as much again as adversarial training, since both
    losses of the change are of the network in inference mode. It keeps the loss from falling as well
    as from rising. At x′ = x the gradient is 0, so the inner maximum needs a random start.

    Args:
        factor: Float >= 0, λ, or a `keras.optimizers.schedules.LearningRateSchedule`; 0 is plain training, and 1, where
            the loss rises, adversarial training. Defaults to `1.0`.
        **kwargs: As `AbstractAttributionRegularizer`.

    Raises:
        ValueError: If `factor` is negative, or `random_start` is `False`.

    Example:

    >>> keras_rar.LossChangeRegularizer(factor=2.0, epsilon=0.1).factor
    2.0
    """

    def __init__(self, factor: float | schedules.Schedule = 1.0, **kwargs: "Unpack[SharedOptions]"):
        super().__init__(**kwargs)
        self.factor = schedules.checked("factor", factor, checks.nonnegative_float)
        if not self.random_start:
            checks.fail("random_start", "True for the change of the loss: from x itself it never moves", False)

    def objective(self, terms: Terms) -> tf.Tensor:
        return terms.clean_loss + terms.value(self.factor) * self.ascended(terms)

    def ascended(self, terms: Terms) -> tf.Tensor:
        """`|ℓ(x′) − ℓ(x)|`: the rest of the objective does not depend on x′."""
        return terms.report("loss_change", tf.abs(terms.loss_change))


def adversarial(regularizer: AbstractAttributionRegularizer) -> MadryRegularizer:
    """Adversarial training in the neighborhood of a method, and with its settings.

    Example:

    >>> adversarial(keras_rar.IGTopKRegularizer(epsilon=0.3, steps=7)).steps
    7
    """
    return MadryRegularizer(**{**regularizer.shared_config(), "begin": 0})
