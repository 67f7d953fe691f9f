"""The methods of input-gradient geometry: alignment with the input (ART), and the largest curvature (SSR)."""

from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from keras_rar.core import checks, class_probabilities, sizes
from keras_rar.core.terms import Terms
from keras_rar.methods import schedules
from keras_rar.methods.gradient_regularizers import AtTheInput
from keras_rar.methods.regularizer import AbstractAttributionRegularizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from keras_rar.methods.shared_options import SharedOptions


@keras.saving.register_keras_serializable("keras_rar")
class ARTRegularizer(AbstractAttributionRegularizer):
    """ART: `ℓ(x*) + λ log(1 + exp(d_y − d_other))`, gradients aligned with the input (Singh et al., ECCV 2020).

    d is 1 minus the cosine of an input and a gradient: d_y of the label's logit, d_other of the largest of the other
    logits. Of the pairs that x and x* make, the worst counts: the largest d_y and the smallest d_other. x* ascends the
    term at x′ alone. Of one output unit the other logit is the negative of the label's. An update costs about what one
    of `keras_rar.IGTopKRegularizer` costs.

    In the authors' code λ is 0.5, gradients go through softplus for ReLU, inputs are standardised before the cosine,
    and the inner maximum takes 3 steps on the 1,000 entries of 3,072 whose gradient is the largest; here all count.

    Args:
        factor: Float >= 0, λ, or a `keras.optimizers.schedules.LearningRateSchedule`; 0 is adversarial training whose
            x* ascends another term. Defaults to `0.5`.
        **kwargs: As `AbstractAttributionRegularizer`.

    Raises:
        ValueError: If `factor` is negative; by `compile`, for several sigmoids.

    Example:

    >>> keras_rar.ARTRegularizer(epsilon=0.1, steps=3).factor
    0.5
    """

    exclusive = True

    def __init__(self, factor: float | schedules.Schedule = 0.5, **kwargs: "Unpack[SharedOptions]"):
        super().__init__(**kwargs)
        self.factor = schedules.checked("factor", factor, checks.nonnegative_float)

    def objective(self, terms: Terms) -> tf.Tensor:
        inputs = terms.x, terms.x_prime
        of_label = terms.clean_logit_gradient, terms.perturbed_logit_gradient
        of_other = [terms.gradient_at(z, class_probabilities.runner_up_logit) for z in inputs]
        d_y, d_other = (
            tf.stack([1 - sizes.cosine(terms.free(z), gradient) for z in inputs for gradient in gradients])
            for gradients in (of_label, of_other)
        )
        worst = tf.reduce_max(d_y, axis=0) - tf.reduce_min(d_other, axis=0)
        return terms.perturbed_loss + terms.value(self.factor) * terms.report("misalignment", tf.nn.softplus(worst))

    def ascended(self, terms: Terms) -> tf.Tensor:
        """The term at x′ alone."""
        of_other = terms.gradient_at(terms.x_prime, class_probabilities.runner_up_logit)
        cosines = (sizes.cosine(terms.free(terms.x_prime), g) for g in (of_other, terms.perturbed_logit_gradient))
        return tf.nn.softplus(next(cosines) - next(cosines))


@keras.saving.register_keras_serializable("keras_rar")
class SSRRegularizer(AtTheInput):
    """SSR: `ℓ(x) + λ max eigenvalue(∇²ₓℓ(x))`, a smooth surface (Wang et al., NeurIPS 2020).

    The eigenvalue is found by power iteration: `v ← Hv / ‖Hv‖`, and at its end `vᵀHv`, with
    `Hv ≈ (∇ℓ(x + hv) − ∇ℓ(x − hv)) / 2h`. That is the eigenvalue of the largest size, negative ones too. The directions
    count as constants, as at the eigenvector the derivative in them is 0. An update costs about five of plain training
    and one and a third for each iteration.

    The paper has the eigenvalue exactly, for piecewise linear networks, from the gradients of all logits, without the
    kinks; an update then costs as many gradients as there are classes. In the code the sum is `α s eigenvalue +
    (1 − α) ℓ`, with α = 0.3 and s = 0.3 in the script but 10⁶ in the function. λ has the unit of the input squared.

    Args:
        factor: Float >= 0, λ, or a `keras.optimizers.schedules.LearningRateSchedule`; 0 is plain training. Defaults to
            `0.1`.
        iterations: Integer > 0, of the power iteration. Defaults to `3`.
        h: Float > 0, the L2 length of a step, in the units of the input. Defaults to `0.1`, for images from 0 to 1.
        **kwargs: As `AbstractAttributionRegularizer`; `epsilon` and the settings of the inner maximum change nothing.

    Raises:
        ValueError: If `factor` is negative, or `iterations` or `h` not positive.

    Example:

    >>> keras_rar.SSRRegularizer(iterations=5).h
    0.1
    """

    def __init__(
        self,
        factor: float | schedules.Schedule = 0.1,
        iterations: int = 3,
        h: float = 0.1,
        **kwargs: "Unpack[SharedOptions]",
    ):
        super().__init__(factor=factor, **kwargs)
        self.iterations, self.h = checks.positive_int("iterations", iterations), checks.positive_float("h", h)

    def objective(self, terms: Terms) -> tf.Tensor:
        v = _normalized(terms.random_signs())
        for _ in range(self.iterations):
            v = _normalized(tf.stop_gradient(self._times_hessian(terms, v)))
        eigenvalue = sizes.total(v * self._times_hessian(terms, v))
        return terms.clean_loss + terms.value(self.factor) * terms.report("eigenvalue", eigenvalue)

    def _times_hessian(self, terms: Terms, v: tf.Tensor) -> tf.Tensor:
        return (terms.gradient_at(terms.x + self.h * v) - terms.gradient_at(terms.x - self.h * v)) / (2 * self.h)


def _normalized(v: tf.Tensor) -> tf.Tensor:
    """Each example divided by its L2 length; zeros stay."""
    length = tf.sqrt(tf.reduce_sum(v**2, axis=list(range(1, v.shape.rank)), keepdims=True))
    return tf.math.divide_no_nan(v, length)
