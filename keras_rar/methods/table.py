"""The methods by name, and their options."""

import difflib
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal

from keras_rar.core import checks
from keras_rar.methods.contrast_regularizers import AttributionalContrastRegularizer
from keras_rar.methods.correlation_regularizers import KendallRegularizer, LGARegularizer, PearsonRegularizer
from keras_rar.methods.geometry_regularizers import ARTRegularizer, SSRRegularizer
from keras_rar.methods.gradient_regularizers import (
    CURERegularizer,
    HessianRegularizer,
    InputGradientRegularizer,
    R2ETRegularizer,
)
from keras_rar.methods.loss_regularizers import LossChangeRegularizer, MadryRegularizer, NaturalRegularizer
from keras_rar.methods.map_regularizers import IGRRegularizer, IGTopKRegularizer
from keras_rar.methods.norm_regularizers import IGNormRegularizer, IGSumNormRegularizer
from keras_rar.methods.prior_regularizers import AttributionPriorRegularizer
from keras_rar.methods.probability_regularizers import MARTRegularizer, TRADESRegularizer
from keras_rar.methods.regularizer import AbstractAttributionRegularizer
from keras_rar.methods.schedules import Schedule
from keras_rar.methods.shared_options import SharedOptions

Method = Literal[
    "natural",
    "madry",
    "ig_norm",
    "ig_sum_norm",
    "igr",
    "ig_topk",
    "loss_change",
    "input_gradient",
    "r2et",
    "pearson",
    "kendall",
    "lga",
    "trades",
    "mart",
    "cure",
    "hessian",
    "art",
    "ssr",
    "contrast",
    "prior",
]

METHODS: dict[str, type[AbstractAttributionRegularizer]] = {
    "natural": NaturalRegularizer,
    "madry": MadryRegularizer,
    "ig_norm": IGNormRegularizer,
    "ig_sum_norm": IGSumNormRegularizer,
    "igr": IGRRegularizer,
    "ig_topk": IGTopKRegularizer,
    "loss_change": LossChangeRegularizer,
    "input_gradient": InputGradientRegularizer,
    "r2et": R2ETRegularizer,
    "pearson": PearsonRegularizer,
    "kendall": KendallRegularizer,
    "lga": LGARegularizer,
    "trades": TRADESRegularizer,
    "mart": MARTRegularizer,
    "cure": CURERegularizer,
    "hessian": HessianRegularizer,
    "art": ARTRegularizer,
    "ssr": SSRRegularizer,
    "contrast": AttributionalContrastRegularizer,
    "prior": AttributionPriorRegularizer,
}


class Options(SharedOptions, total=False):
    """The options of all methods, for editors and type checkers: see the class of each method."""

    factor: float | Schedule
    beta: float | Schedule
    powers: Sequence[float]
    ascend: Literal["loss", "objective"]
    maps: Sequence[Literal["ig", "gradient"]]
    k: int | None
    sharpness: float
    q: float
    pairs: int | None
    temperature: float
    shifts: int
    l2: float | Schedule
    h: float
    iterations: int
    prior: Literal["total_variation", "gini"] | Callable[[Any], Any]
    background: Any
    samples: int


def make(method: str, options: dict[str, Any]) -> AbstractAttributionRegularizer:
    """The regularizer of a name, with these options.

    Raises:
        TypeError: If the method has no option of a name; the error lists those that it has.
        ValueError: If there is no method of that name, or an option is out of range.

    Example:

    >>> make("madry", {"epsilom": 0.1})
    Traceback (most recent call last):
    TypeError: wrap() got an unexpected keyword argument 'epsilom' for the method 'madry': did you mean 'epsilon'?
    Its options are attack_m, baseline, begin, bounds, chunk, epsilon, m, memory_budget, norm, price, random_start,
    rule, step_size, steps.
    """
    cls = METHODS[checks.one_of("method", method, METHODS)]
    known, is_open = _options_of(cls)
    unknown = [] if is_open else [name for name in options if name not in known]
    if unknown:
        similar = difflib.get_close_matches(unknown[0], known, 1)
        hint = f": did you mean {similar[0]!r}?" if similar else "."
        raise TypeError(
            f"wrap() got an unexpected keyword argument {unknown[0]!r} for the method {method!r}{hint} "
            f"Its options are {', '.join(sorted(set(known)))}."
        )
    return cls(**options)


def _options_of(cls: type) -> tuple[list[str], bool]:
    """The arguments of a class and of those that it passes keyword arguments on to, and whether there may be more."""
    names: list[str] = []
    for ancestor in cls.__mro__:
        if "__init__" in vars(ancestor):
            parameters = list(inspect.signature(vars(ancestor)["__init__"]).parameters.values())[1:]
            names += [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                return names, False
    return names, True
