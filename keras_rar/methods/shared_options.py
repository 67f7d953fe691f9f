"""The settings that all methods share, as types: editors complete them, and type checkers find a misspelt one."""

from typing import Any, Literal, TypedDict

import numpy.typing as npt

from keras_rar.methods.schedules import Schedule
from keras_rar.methods.wasserstein import WassersteinPrice


class SharedOptions(TypedDict, total=False):
    """Arguments of `AbstractAttributionRegularizer`, which documents them."""

    epsilon: float | list[Any] | tuple[Any, ...] | npt.NDArray[Any] | Schedule
    norm: Literal["linf", "l2", "l1"]
    bounds: Any
    steps: int
    step_size: float | None
    random_start: bool
    rule: Literal["left", "right", "midpoint", "trapezoid", "gauss_legendre"]
    m: int
    attack_m: int
    baseline: Any
    chunk: int | Literal["auto"] | None
    memory_budget: float
    price: WassersteinPrice | None
    begin: int | float
