"""The methods that look at the gradient at the input alone: no inner maximum, so they cost little."""

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from keras_rar.core import checks, rank_margins, sizes
from keras_rar.core.terms import Terms
from keras_rar.methods import schedules
from keras_rar.methods.regularizer import AbstractAttributionRegularizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from keras_rar.methods.shared_options import SharedOptions


class AtTheInput(AbstractAttributionRegularizer):
    """`ℓ(x) + λ penalty(x)`: x* is x."""

    def __init__(self, factor: float | schedules.Schedule, **kwargs: Any):
        super().__init__(**kwargs)
        self.factor = schedules.checked("factor", factor, checks.nonnegative_float)

    def ascended(self, terms: Terms) -> tf.Tensor:
        """`ℓ(x)`: nothing depends on x′, and in a sum of methods the others say where x* is."""
        return terms.clean_loss


@keras.saving.register_keras_serializable("keras_rar")
class InputGradientRegularizer(AtTheInput):
    """Input-gradient regularisation: `ℓ(x) + λ ‖∇ₓℓ(x)‖_q^q` (Drucker & LeCun 1992; Ross & Doshi-Velez, AAAI 2018).

    It is Robust Attribution Regularization with `s = ‖·‖_q^q`, one node at x and `λ / ε^q` for λ, where the ball is
    not cut by `bounds` (Chen et al. 2019, sec. 3): there every x′ at a corner of the L∞ ball is a maximum, so none is
    searched. An update costs about three of plain training: a forward pass, a gradient, and the derivatives of both.

    Args:
        factor: Float >= 0, λ, or a `keras.optimizers.schedules.LearningRateSchedule`; 0 is plain training. The best
            value depends on the units of the input. Defaults to `1.0`.
        q: Float >= 1, the exponent: `2.0` as in both sources, `1.0` for the dual of the L∞ ball. Defaults to `2.0`.
        **kwargs: As `AbstractAttributionRegularizer`; `epsilon` and the settings of the inner maximum change nothing.

    Raises:
        ValueError: If `factor` is negative, or `q` below 1.

    Example:

    >>> keras_rar.InputGradientRegularizer(factor=0.1, q=1.0).q
    1.0
    """

    def __init__(self, factor: float | schedules.Schedule = 1.0, q: float = 2.0, **kwargs: "Unpack[SharedOptions]"):
        super().__init__(factor=factor, **kwargs)
        self.q = checks.positive_float("q", q)
        if self.q < 1:
            checks.fail("q", "a float >= 1", q)

    def objective(self, terms: Terms) -> tf.Tensor:
        size = terms.report("gradient_size", sizes.power(terms.clean_gradient, self.q))
        return terms.clean_loss + terms.value(self.factor) * size


@keras.saving.register_keras_serializable("keras_rar")
class R2ETRegularizer(AtTheInput):
    """R2ET: `ℓ(x) − λ margin(|∇ₓ z_y(x)|)`, a gap between the k largest gradients and the rest (Chen et al. 2024).

    An attack must close the gap before two entries change places ("Training for Stable Explanation for Free",
    NeurIPS 2024). z_y is the logit of the label. The margin is the mean of the k largest entries minus the mean of the
    others, in units of the mean of all; with `pairs`, of the entries next to rank k alone, as in their R2ET-mm. An
    update costs about three of plain training.

    The paper adds a bound on curvature: here `keras_rar.R2ETRegularizer() + keras_rar.CURERegularizer()`. Its code
    differs from this in three ways. It differentiates the loss; ours is the logit of the label, as in the maps that are
    shown. Its margins have the units of the gradient, and the term is divided by its own size at each step; ours do not
    grow with the gradient, so that the term has an upper bound. And in its mode `tx_mm` the slice that should take
    entries next to rank k takes examples of the batch; ours takes entries.

    Args:
        factor: Float >= 0, λ, or a `keras.optimizers.schedules.LearningRateSchedule`; 0 is plain training. The authors
            try 0.001 to 100, for a term of another scale. Defaults to `0.1`.
        k: Integer > 0, below the number of entries of an input. Defaults to an eighth of them; of padded text as for
            `keras_rar.IGTopKRegularizer`.
        pairs: Integer > 0, k′: how many entries on each side of rank k count. Defaults to all.
        **kwargs: As `AbstractAttributionRegularizer`; `epsilon` and the settings of the inner maximum change nothing.

    Raises:
        ValueError: If an argument is out of range; when a model is wrapped, if its inputs have no more than k entries.

    Example:

    >>> keras_rar.R2ETRegularizer(k=100, pairs=20).pairs
    20
    """

    def __init__(
        self,
        factor: float | schedules.Schedule = 0.1,
        k: int | None = None,
        pairs: int | None = None,
        **kwargs: "Unpack[SharedOptions]",
    ):
        super().__init__(factor=factor, **kwargs)
        self.k = k if k is None else checks.positive_int("k", k)
        self.pairs = pairs if pairs is None else checks.positive_int("pairs", pairs)

    def objective(self, terms: Terms) -> tf.Tensor:
        gradient = tf.abs(terms.clean_logit_gradient)
        gradient = tf.reduce_sum(gradient, axis=-1) if terms.by_rows else gradient
        margin = terms.report("margin", rank_margins.rank_margin(gradient, self.k, self.pairs, terms.counted))
        return terms.clean_loss - terms.value(self.factor) * margin


@keras.saving.register_keras_serializable("keras_rar")
class CURERegularizer(AtTheInput):
    """CURE: `ℓ(x) + λ ‖∇ₓℓ(x + hz) − ∇ₓℓ(x)‖₂²`, a bound on curvature (Moosavi-Dezfooli et al., CVPR 2019).

    z is the sign of the gradient, divided by its L2 length: the direction in which the loss curves most, they find. The
    difference is h times the Hessian along z, measured over a step that sees the kinks of a ReLU network too. x + hz is
    not cut to `bounds`, as in their code. An update costs about five of plain training.

    The paper squares the norm, and its code does not. In their code λ is 4 and h goes up to 3, on inputs with unit
    variance; we could not confirm the values of the paper.

    Args:
        factor: Float >= 0, λ, or a `keras.optimizers.schedules.LearningRateSchedule`; 0 is plain training. Defaults to
            `4.0`.
        h: Float > 0, the L2 length of the step, in the units of the input. Defaults to `1.5`, for images from 0 to 1.
        **kwargs: As `AbstractAttributionRegularizer`; `epsilon` and the settings of the inner maximum change nothing.

    Raises:
        ValueError: If `factor` is negative, or `h` not positive.

    Example:

    >>> keras_rar.CURERegularizer(h=0.5).factor
    4.0
    """

    def __init__(self, factor: float | schedules.Schedule = 4.0, h: float = 1.5, **kwargs: "Unpack[SharedOptions]"):
        super().__init__(factor=factor, **kwargs)
        self.h = checks.positive_float("h", h)

    def objective(self, terms: Terms) -> tf.Tensor:
        signs = tf.sign(tf.stop_gradient(terms.clean_gradient))
        length = tf.sqrt(tf.reduce_sum(signs**2, axis=list(range(1, signs.shape.rank)), keepdims=True))
        ahead = terms.gradient_at(terms.x + self.h * tf.math.divide_no_nan(signs, length))
        curvature = terms.report("curvature", sizes.power(ahead - terms.clean_gradient, 2))
        return terms.clean_loss + terms.value(self.factor) * curvature


@keras.saving.register_keras_serializable("keras_rar")
class HessianRegularizer(AtTheInput):
    """Hessian: `ℓ(x) + λ ‖H‖_F²`, H the second derivative of the label's logit, by random directions.

    `‖H‖_F² = E ‖Hv‖₂²` for random signs v (Hutchinson 1990), with `Hv ≈ (∇z_y(x + hv) − ∇z_y(x − hv)) / 2h`; one v per
    update, the same for all examples. A small Hessian keeps gradient maps in place (Dombrowski et al. 2022). An update
    costs about five of plain training.

    Others take Hv exactly, by a third derivative in training, and v from a normal distribution (Joo et al. 2023, in
    whose code λ is 1 and in the script for a LeNet 0.001). A ReLU network has no such Hessian, only kinks: there they
    train with softplus. The differences here see the kinks within h.

    Args:
        factor: Float >= 0, λ, or a `keras.optimizers.schedules.LearningRateSchedule`; 0 is plain training. Defaults to
            `0.016`, chosen on images of clothes from 0 to 1.
        h: Float > 0, the step of each entry, in the units of the input. Defaults to `0.01`, for images from 0 to 1.
        **kwargs: As `AbstractAttributionRegularizer`; `epsilon` and the settings of the inner maximum change nothing.

    Raises:
        ValueError: If `factor` is negative, or `h` not positive.

    Example:

    >>> keras_rar.HessianRegularizer(factor=0.01).h
    0.01
    """

    def __init__(self, factor: float | schedules.Schedule = 0.016, h: float = 0.01, **kwargs: "Unpack[SharedOptions]"):
        super().__init__(factor=factor, **kwargs)
        self.h = checks.positive_float("h", h)

    def objective(self, terms: Terms) -> tf.Tensor:
        step = self.h * terms.random_signs()
        ahead, behind = (terms.gradient_at(terms.x + shift, "logit") for shift in (step, -step))
        hessian = terms.report("hessian", sizes.power((ahead - behind) / (2 * self.h), 2))
        return terms.clean_loss + terms.value(self.factor) * hessian
