"""The methods that compare the maps people see, before and after the attack."""

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar.core import checks, sizes
from keras_rar.core.segment_starts import is_itself
from keras_rar.core.terms import Terms
from keras_rar.methods import schedules
from keras_rar.methods.regularizer import AbstractAttributionRegularizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from keras_rar.methods.shared_options import SharedOptions


MAPS = {
    "ig": ("clean_map", "perturbed_map"),
    "gradient": ("clean_logit_gradient", "perturbed_logit_gradient"),
}
"""The kinds of maps that can be compared, and the terms that they are at x and at x*."""


class ComparesMaps(AbstractAttributionRegularizer):
    """`ℓ(x*) + λ (1 − similarity(IG₀(x), IG₀(x*)))`, IG₀ the map of the label's logit from the baseline."""

    def __init__(
        self, factor: float | schedules.Schedule, ascend: str, maps: Sequence[str] = ("ig",), m: int = 2, **kwargs: Any
    ):
        super().__init__(m=m, **kwargs)
        self.factor = schedules.checked("factor", factor, checks.nonnegative_float)
        self.ascend = checks.one_of("ascend", ascend, ["loss", "objective"])
        if not isinstance(maps, (tuple, list)) or not maps:
            checks.fail("maps", f"one or more of {', '.join(map(repr, MAPS))}", maps)
        self.maps = tuple(checks.one_of("maps", kind, MAPS) for kind in maps)

    @abc.abstractmethod
    def similarity(self, clean_map: tf.Tensor, perturbed_map: tf.Tensor) -> tf.Tensor:
        """The similarity of the two maps of each example, at most 1, of shape `(batch,)`."""

    def objective(self, terms: Terms) -> tf.Tensor:
        distances = []
        for kind in self.maps:
            maps = [getattr(terms, name) for name in MAPS[kind]]
            if kind == "gradient" and terms.by_rows:  # one entry per row, as IG has
                maps = [tf.reduce_sum(a, axis=-1) for a in maps]
            counted = (self._counted(a, terms) for a in maps)
            distances.append(1 - self.similarity(*counted, **self._beside(terms)))
        distance = terms.report("map_distance", tf.add_n(distances) / len(distances))
        return terms.perturbed_loss + terms.value(self.factor) * distance

    def _beside(self, terms: Terms) -> dict[str, Any]:
        """Further arguments of `similarity`: of some methods, what of the maps is padding."""
        return {}

    def _padding(self, terms: Terms) -> dict[str, Any]:
        counted = terms.counted
        return {} if counted is None or self._holds() else {"counted": counted}

    def _counted(self, a: tf.Tensor, terms: Terms) -> tf.Tensor:
        """The entries of a map whose baseline is not the input itself: the others are always 0, and no largest ones."""
        if not self._holds() or a.shape[1:] != terms.x.shape[1:]:
            return a
        held = is_itself(self.baseline)
        return tf.boolean_mask(a, np.broadcast_to(~held, a.shape[1:]), axis=1)

    def _holds(self) -> bool:
        """Whether the baseline of an entry is the input itself."""
        return bool(is_itself(self.baseline).any())

    def ascended(self, terms: Terms) -> tf.Tensor:
        """`ℓ(x′)`, or the objective."""
        return terms.perturbed_loss if self.ascend == "loss" else self.objective(terms)


@keras.saving.register_keras_serializable("keras_rar")
class IGRRegularizer(ComparesMaps):
    """IGR: `ℓ(x*) + λ (1 − cos(|IG₀(x)|, |IG₀(x*)|))` (Wang & Kong, NeurIPS 2022).

    IG₀ is the map of the label's logit from the baseline: what an attack on attributions moves. Its direction is
    regularised, so that its size costs nothing. With several `powers` the cosine is the mean over p of that of
    `|IG₀|` for p = 1, of `(|IG₀|/mean|IG₀| + 10⁻³)ᵖ` otherwise: p = 1 weighs the few largest entries, p = ½ the many
    small ones too, which decide Kendall's tau.

    Args:
        factor: Float >= 0, λ, or a `keras.optimizers.schedules.LearningRateSchedule`; 0 is adversarial training.
            Defaults to `12.0`.
        powers: Floats > 0, the powers p; one named twice weighs twice. Defaults to `(1.0,)`.
        ascend: What x* ascends: `"loss"`, `ℓ(x′)`, as published; or `"objective"`, the whole objective with maps of
            `attack_m` nodes, which costs more and finds the inputs whose maps change. Defaults to `"loss"`.
        maps: Which maps are compared, their distances averaged: `"ig"`, and `"gradient"`, the gradient of the label's
            logit. Defaults to `("ig",)`.
        m: Integer > 0, nodes of IG. Defaults to `2`.
        **kwargs: As `AbstractAttributionRegularizer`.

    Raises:
        ValueError: If `factor` is negative, a power not positive, or `ascend` or one of the `maps`
            unknown.

    Example:

    >>> keras_rar.IGRRegularizer(factor=2.0, powers=(1.0, 0.5), epsilon=0.1).powers
    (1.0, 0.5)
    """

    def __init__(
        self,
        factor: float | schedules.Schedule = 12.0,
        powers: Sequence[float] = (1.0,),
        ascend: str = "loss",
        maps: Sequence[str] = ("ig",),
        **kwargs: "Unpack[SharedOptions]",
    ):
        super().__init__(factor=factor, ascend=ascend, maps=maps, **kwargs)
        if not isinstance(powers, (tuple, list)) or not powers:
            checks.fail("powers", "one or more positive floats", powers)
        self.powers = tuple(checks.positive_float("powers", power) for power in powers)

    def similarity(self, clean_map: tf.Tensor, perturbed_map: tf.Tensor) -> tf.Tensor:
        """The mean over the powers of the cosine of the tempered maps."""
        maps = clean_map, perturbed_map
        similarities = [sizes.cosine(*(sizes.tempered(a, power) for a in maps)) for power in self.powers]
        return tf.add_n(similarities) / len(self.powers)


@keras.saving.register_keras_serializable("keras_rar")
class IGTopKRegularizer(ComparesMaps):
    """IG-TOP-K: `ℓ(x*) + λ (1 − cos(h(IG₀(x)), h(IG₀(x*))))`, which keeps the same k entries the largest.

    `hᵢ(a) = rᵢᵖ / (1 + rᵢᵖ)` with `rᵢ = |aᵢ|` over the k-th largest of them is near 1 for what is among the k largest
    and near 0 for the rest, so that the cosine is a smooth top-k intersection: what is asked of an explanation, that it
    points at the same places, and nothing about the order within them. IG₀ is the map of the label's logit from the
    baseline, as in IGR (Wang & Kong 2022), whose cosine of the maps themselves is decided by the few largest entries.

    Its parts are known, their combination is ours. That the k highest attributions stay in place is the aim of R2ET too
    (Chen et al., NeurIPS 2024), which widens margins at the clean input, without an attack. Maps are compared under
    attack in FAR (Ivankay et al. 2020) and IGR. A soft top-k in place of the hard one is in Levine et al. (2019).

    Args:
        factor: Float >= 0, λ, or a `keras.optimizers.schedules.LearningRateSchedule`; 0 is adversarial training.
            Defaults to `4.0`.
        k: Integer > 0, below the number of entries of an input, channels apart, whose baseline is not `None`. Defaults
            to an eighth of these. Of a padded text of n words it is at most n − 1, and by default an eighth of n, at
            least 1: the k highest of all words are no choice. A text of one word has no map to compare.
        sharpness: Float > 0, p: the larger, the less an entry counts that is far from the k-th. Defaults to `4.0`.
        ascend: What x* ascends: `"objective"`, with maps of `attack_m` nodes, which finds the inputs whose maps change;
            or `"loss"`, `ℓ(x′)`, which costs less. Defaults to `"objective"`.
        maps: Which maps are compared, their distances averaged: `"ig"`, and `"gradient"`, the gradient of the label's
            logit. Defaults to `("ig",)`.
        m: Integer > 0, nodes of IG. Defaults to `2`.
        **kwargs: As `AbstractAttributionRegularizer`.

    Raises:
        ValueError: If an argument is out of range; when a model is wrapped, if its inputs have no more than k entries.

    Example:

    >>> keras_rar.IGTopKRegularizer(k=100, epsilon=0.1).sharpness
    4.0
    """

    def __init__(
        self,
        factor: float | schedules.Schedule = 4.0,
        k: int | None = None,
        sharpness: float = 4.0,
        ascend: str = "objective",
        maps: Sequence[str] = ("ig",),
        **kwargs: "Unpack[SharedOptions]",
    ):
        super().__init__(factor=factor, ascend=ascend, maps=maps, **kwargs)
        self.k = k if k is None else checks.positive_int("k", k)
        self.sharpness = checks.positive_float("sharpness", sharpness)

    def similarity(self, clean_map: tf.Tensor, perturbed_map: tf.Tensor, counted: tf.Tensor | None = None) -> tf.Tensor:
        """The cosine of the soft indicators of the k largest entries, of those that are `counted`."""
        maps = clean_map, perturbed_map
        return sizes.cosine(*(sizes.soft_top_k(a, self.k, self.sharpness, counted) for a in maps))

    def _beside(self, terms: Terms) -> dict[str, Any]:
        return self._padding(terms)
