"""Weighted sums of methods."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.core.terms import Terms
from keras_rar.methods import schedules
from keras_rar.methods.regularizer import AbstractAttributionRegularizer, check_numbers


@keras.saving.register_keras_serializable("keras_rar")
class SumOfRegularizers(AbstractAttributionRegularizer):
    """A weighted sum of methods, `Σ wᵢ objectiveᵢ`, with one x* and one engine. Written `a + 0.5 * b`.

    What several of them read is computed once. x* ascends the weighted sum of what each of them ascends. All must have
    the same settings of those that all methods have, such as `epsilon`; of `m` and `attack_m` the largest counts. Each
    brings its own loss: with weights 1 and ½ the loss counts 1½ times. A term that two of them report under one name
    has the number of the second behind it in the history, as in `map_distance_2`.

    Args:
        regularizers: List of regularizers, at least one.
        weights: The weight of each, a float >= 0 or a `keras.optimizers.schedules.LearningRateSchedule`. Defaults to
            `1.0` for each.

    Raises:
        TypeError: If one is no regularizer, or a weight no number.
        ValueError: If their shared settings differ, or a weight is negative.

    Example:

    >>> both = keras_rar.IGTopKRegularizer(epsilon=0.2) + 0.5 * keras_rar.MadryRegularizer(epsilon=0.2)
    >>> both.weights, both.epsilon
    ((1.0, 0.5), 0.2)
    """

    def __init__(
        self,
        regularizers: Sequence[AbstractAttributionRegularizer],
        weights: Sequence[float | schedules.Schedule] | None = None,
    ):
        is_list = isinstance(regularizers, (list, tuple)) and len(regularizers) > 0
        if not is_list or not all(isinstance(one, AbstractAttributionRegularizer) for one in regularizers):
            checks.fail("regularizers", "a list of AbstractAttributionRegularizers", regularizers, TypeError)
        weights = [1.0] * len(regularizers) if weights is None else weights
        if not isinstance(weights, (list, tuple)) or len(weights) != len(regularizers):
            checks.fail("weights", f"None, or a list of {len(regularizers)} floats >= 0", weights)
        weights = [schedules.checked("weights", weight, checks.nonnegative_float) for weight in weights]
        flat = [pair for one, weight in zip(regularizers, weights, strict=True) for pair in _summands(one, weight)]
        self.regularizers, self.weights = (tuple(part) for part in zip(*flat, strict=True))
        shared, *others = (one.shared_config() for one in regularizers)
        for name, value in shared.items():
            given = [value, *(other[name] for other in others)]
            if name in ("m", "attack_m"):
                shared[name] = max(given)
                continue
            for other in given:
                if schedules.serialized(other) != schedules.serialized(value):
                    checks.fail(name, f"the same in all methods of a sum, here {checks.shown(value)}", other)
        super().__init__(**shared)

    def objective(self, terms: Terms) -> tf.Tensor:
        before, found, sums = terms.reported, {}, []
        for number, (one, weight) in enumerate(zip(self.regularizers, self.weights, strict=True), 1):
            terms.reported = {}
            sums.append(terms.value(weight) * one.objective(terms))
            for name, value in terms.reported.items():
                found[f"{name}_{number}" if name in found else name] = value
        terms.reported = {**before, **found}
        return tf.add_n(sums)

    def ascended(self, terms: Terms) -> tf.Tensor:
        """The weighted sum of what each method ascends."""
        pairs = zip(self.regularizers, self.weights, strict=True)
        return tf.add_n([terms.value(weight) * one.ascended(terms) for one, weight in pairs])

    def check_labels(self, independent: bool) -> None:
        for one in self.regularizers:
            one.check_labels(independent)

    def check_precision(self, dtype: str) -> None:
        for one in self.regularizers:
            one.check_precision(dtype)
        check_numbers("weights", [weight for weight in self.weights if isinstance(weight, float)], dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            "regularizers": [keras.saving.serialize_keras_object(one) for one in self.regularizers],
            "weights": [schedules.serialized(weight) for weight in self.weights],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SumOfRegularizers":
        regularizers = [keras.saving.deserialize_keras_object(one) for one in config["regularizers"]]
        return cls(regularizers, [schedules.deserialized(weight) for weight in config["weights"]])


def _summands(one: AbstractAttributionRegularizer, weight: Any) -> list[tuple[AbstractAttributionRegularizer, Any]]:
    """A method and its weight; of a sum its summands, unless a weight follows a schedule."""
    if not isinstance(one, SumOfRegularizers) or any(schedules.is_schedule(w) for w in (weight, *one.weights)):
        return [(one, weight)]
    return [(inner, weight * own) for inner, own in zip(one.regularizers, one.weights, strict=True)]
