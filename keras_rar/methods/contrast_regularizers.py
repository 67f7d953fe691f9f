"""The method that contrasts the maps of two classes under attack (Sarkar et al.)."""

from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from keras_rar.core import checks, class_contrasts, class_probabilities, sizes
from keras_rar.core.terms import Terms
from keras_rar.methods import schedules
from keras_rar.methods.regularizer import AbstractAttributionRegularizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from keras_rar.methods.shared_options import SharedOptions


@keras.saving.register_keras_serializable("keras_rar")
class AttributionalContrastRegularizer(AbstractAttributionRegularizer):
    """Contrast: `ℓ(x*) + λ (contrast + weighted change)`, the two regularizers of Sarkar et al. (AAAI 2021).

    `contrast = KL(U ‖ softmax(A_c(x*))) − KL(U ‖ softmax(A_y(x*)))` asks for a map of the label's probability that is
    far from uniform, and for one of the most probable other class c that is near it. `weighted change = Σᵢ wᵢ |Δᵢ|`,
    with Δ = −IG(x, x*) of the loss, is the change of the map: w is |A_y(x)| where the change has the sign of the map,
    and 1 elsewhere. A is IG of a probability from the baseline; of images, KL is taken after channels are added up.
    x* ascends `ℓ(x′) + λ ‖IG(x, x′)‖₁`, as that of `keras_rar.IGSumNormRegularizer`.

    An update has four IGs, where one of `keras_rar.IGSumNormRegularizer` has one. The contrast has no lower bound but
    that of a softmax, so the objective may be negative.

    The formulas are those of the authors' code for Flower, whose comments name equations 7 to 9 of the paper, and c is
    chosen at each node there as it is here. We could not compare them with the text of the paper beyond its abstract.
    In their settings λ is 0.1 for inputs from 0 to 255, with 20 nodes of the right rule, and sums over the batch.

    Args:
        factor: Float >= 0, λ, or a `keras.optimizers.schedules.LearningRateSchedule`; 0 is adversarial training.
            Defaults to `0.1`.
        **kwargs: As `AbstractAttributionRegularizer`.

    Raises:
        ValueError: If `factor` is negative.

    Example:

    >>> keras_rar.AttributionalContrastRegularizer(epsilon=0.1, steps=3).factor
    0.1
    """

    def __init__(self, factor: float | schedules.Schedule = 0.1, **kwargs: "Unpack[SharedOptions]"):
        super().__init__(**kwargs)
        self.factor = schedules.checked("factor", factor, checks.nonnegative_float)

    def objective(self, terms: Terms) -> tf.Tensor:
        scores = class_probabilities.runner_up_probability, class_probabilities.label_probability
        of_other, of_label = (
            class_contrasts.divergence_from_uniform(terms.map_of(terms.x_prime, score), terms.counted)
            for score in scores
        )
        contrast = terms.report("contrast", of_other - of_label)
        before = terms.map_of(terms.x, class_probabilities.label_probability)
        change = -terms.map_of(terms.x_prime, "loss", start=terms.x)
        weighted = terms.report("weighted_change", class_contrasts.weighted_change(before, change))
        return terms.perturbed_loss + terms.value(self.factor) * (contrast + weighted)

    def ascended(self, terms: Terms) -> tf.Tensor:
        """`ℓ(x′) + λ ‖IG(x, x′)‖₁`."""
        size = sizes.l1_norm(terms.attributions)  # first: its last node may be x′
        return terms.perturbed_loss + terms.value(self.factor) * size
