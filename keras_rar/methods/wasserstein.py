"""A price of perturbations in place of a ball: distributional robustness."""

from typing import Any

import keras

from keras_rar.core import checks
from keras_rar.core.prices import COSTS, Cost


def checked(price: Any, step_size: Any) -> "WassersteinPrice | None":
    """The price, or `None`.

    Raises:
        TypeError: If it is neither.
        ValueError: If the size of a step is given with a price.
    """
    if price is not None and not isinstance(price, WassersteinPrice):
        checks.fail("price", "a keras_rar.WassersteinPrice or None", price, TypeError)
    if price is not None and step_size is not None:
        checks.fail("step_size", "None with a price, whose steps have a length of their own", step_size)
    return price


@keras.saving.register_keras_serializable("keras_rar")
class WassersteinPrice:
    """A price of perturbations, in place of a ball: `x* = argmax_x′ s(IG(x, x′)) − γ c(x, x′)` within the bounds.

    With it a method is distributionally robust (Chen et al. 2019, sec. 3; Sinha et al. 2018): γ is the multiplier of
    the constraint that the perturbed data are within a Wasserstein distance, of transport cost c, of the data. For
    any ε a ball is no worse than its price, `max_{c ≤ ε²} s ≤ γ ε² + max (s − γ c)`, and for a linear loss the best
    γ makes both equal. The price is no part of the loss that is shown: it does not depend on the weights.

    A feature with ε = 0 in an array of radii, as of any method, stays as it is. What is measured must be told its
    radius: `keras_rar.evaluate_robustness` and the callback ask for `epsilon`.

    Args:
        gamma: Float > 0, γ, in units of what is ascended (the loss) over those of the cost. As it goes to infinity,
            x* goes to x, and training is natural. Below half the curvature of the loss only the bounds hold x*.
        cost: `"l2"`, `‖x′ − x‖₂²`; `"linf"`, `‖x′ − x‖∞²`; or a function `(x, x′) -> (batch,)` with a derivative,
            0 at `x′ = x`. To be saved with a model it must be registered with Keras. Defaults to `"l2"`.

    Raises:
        TypeError: If `gamma` is no number.
        ValueError: If `gamma` is not positive, or `cost` unknown.

    Example:

    >>> base_model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> price = keras_rar.WassersteinPrice(gamma=2.0)
    >>> model = keras_rar.wrap(base_model, "madry", price=price, steps=15)
    >>> model.regularizer.price.gamma
    2.0
    """

    def __init__(self, gamma: float, cost: Cost = "l2"):
        self.gamma = checks.positive_float("gamma", gamma)
        if not callable(cost):
            must_be = f"one of {list(COSTS)} or a function (x, x′) -> (batch,)"
            cost = cost if isinstance(cost, str) and cost in COSTS else checks.fail("cost", must_be, cost)
        self.cost = cost

    def __repr__(self) -> str:
        return f"WassersteinPrice(gamma={self.gamma:g}, cost={self.cost!r})"

    def get_config(self) -> dict[str, Any]:
        return {"gamma": self.gamma, "cost": self.cost}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WassersteinPrice":
        cost = config["cost"]
        return cls(config["gamma"], keras.saving.deserialize_keras_object(cost) if isinstance(cost, dict) else cost)
