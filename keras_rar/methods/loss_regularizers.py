"""The methods without attributions: natural and adversarial training."""

import inspect

import keras
import tensorflow as tf

from keras_rar.core.terms import Terms
from keras_rar.methods import schedules
from keras_rar.methods.regularizer import AbstractAttributionRegularizer


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


def adversarial(regularizer: AbstractAttributionRegularizer) -> MadryRegularizer:
    """Adversarial training in the neighborhood of a method, and with its settings.

    Example:

    >>> adversarial(keras_rar.IGTopKRegularizer(epsilon=0.3, steps=7)).steps
    7
    """
    shared = inspect.signature(AbstractAttributionRegularizer.__init__).parameters
    config = {name: value for name, value in regularizer.get_config().items() if name in shared}
    return MadryRegularizer(**{name: schedules.deserialized(value) for name, value in config.items()} | {"begin": 0})
