"""The methods that say what a map of the clean input should look like: attribution priors."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.core.map_priors import PRIORS
from keras_rar.core.terms import Terms
from keras_rar.methods import schedules
from keras_rar.methods.gradient_regularizers import AtTheInput

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from keras_rar.methods.shared_options import SharedOptions


@keras.saving.register_keras_serializable("keras_rar")
class AttributionPriorRegularizer(AtTheInput):
    """Attribution priors: `ℓ(x) + λ Ω(EG(x))`, with Ω small for maps as they should be (Erion et al. 2021).

    EG are expected gradients of the label's logit, `E (x − b) ∘ ∇z_y(b + α(x − b))` over baselines b of a background
    and α from 0 to 1. Each update draws `samples` pairs of b and α. They are the same for all examples of a batch, as
    the result must not depend on how a batch is divided; the authors draw for each example, by default from the batch
    itself. To have that, give inputs of the training data as `background`. There is no inner maximum: an update costs
    about three of plain training, and two more for each further sample.

    Priors of the paper ("Improving performance of deep learning models with axiomatic attribution priors and expected
    gradients", Nature Machine Intelligence 3, 2021):

    - smooth images, `Ω = Σ |aᵢ − aⱼ|` over neighbouring places, with the signs of the map, in each channel.
    - sparse tables, `Ω = −G(|a|)`, G the Gini coefficient. Here G is that of each example. Theirs is that of the mean
      of |a| over the batch, so that the same features count for all; in their code it counts twice.
    - a graph of features, `Ω = Σ Wᵢⱼ (aᵢ − aⱼ)²`, as a function: `2 aᵀ L a` with the Laplacian L. In the paper `a` is
      the mean over the data here too.

    Args:
        factor: Float >= 0, λ, or a `keras.optimizers.schedules.LearningRateSchedule`; 0 is plain training. The best
            value depends on the prior: total variation has the units of the logit, and grows with the number of places.
            Defaults to `0.01`.
        prior: `"total_variation"`, where the last axis is that of channels; `"gini"`; or a function
            `maps -> (batch,)`, which is to be kept small. To be saved with a model it must be registered with Keras.
            Defaults to `"total_variation"`.
        background: Array of shape `(n, ...)`, n inputs of which each broadcasts to what is explained; some tens are
            enough, as they are kept in the file of the model. Defaults to the `baseline` alone: then the map is IG, in
            the mean over updates.
        samples: Integer > 0, how many pairs of b and α to draw for each update. With few of them the map is noisy, and
            its prior is not that of the mean. Defaults to `1`, as in the authors' code.
        **kwargs: As `AbstractAttributionRegularizer`; `epsilon` and the settings of the inner maximum change nothing,
            and neither do `rule` and `m`.

    Raises:
        TypeError: If `background` is not made of numbers.
        ValueError: If `factor` is negative, `prior` unknown, `background` empty or not finite, or `samples` not a
            positive integer; when a model is wrapped, if `background` does not fit its inputs.

    Example:

    >>> keras_rar.AttributionPriorRegularizer(prior="gini", samples=2).factor
    0.01
    """

    def __init__(
        self,
        factor: float | schedules.Schedule = 0.01,
        prior: str | Callable[[tf.Tensor], tf.Tensor] = "total_variation",
        background: Any = None,
        samples: int = 1,
        **kwargs: "Unpack[SharedOptions]",
    ):
        super().__init__(factor=factor, **kwargs)
        if not callable(prior) and prior not in list(PRIORS):
            checks.fail("prior", f"one of {list(PRIORS)} or a function maps -> (batch,)", prior)
        self.prior = prior
        self.background = background if background is None else checks.finite_array("background", background)
        shape = np.shape(self.background)  # type: ignore[arg-type]
        if background is not None and (len(shape) < 2 or 0 in shape):
            checks.fail("background", "None or an array (n, ...) of one input or more", self.background)
        self.samples = checks.positive_int("samples", samples)

    def objective(self, terms: Terms) -> tf.Tensor:
        maps = terms.expected_map(self.background, self.samples)
        size = self.prior(maps) if callable(self.prior) else PRIORS[self.prior](maps, terms.counted)
        if getattr(size, "shape", None) != maps.shape[:1]:
            checks.fail("prior", "a function maps -> (batch,), one number per example", self.prior)
        return terms.clean_loss + terms.value(self.factor) * terms.report("prior", size)

    def check_shape(self, shape: tuple[int | None, ...]) -> None:
        super().check_shape(shape)
        if self.background is not None:
            checks.broadcasts("background", self.background[0], shape)
