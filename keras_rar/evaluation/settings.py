"""The settings of an evaluation as types, and those that a call was given."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict, cast

import numpy.typing as npt

from keras_rar.attacks.choices import (
    AnySaliency,
    Auto,
    Bounds,
    DataFormat,
    Norm,
    ObjectiveName,
    Radius,
    RuleName,
    SimilarityName,
    Target,
)

AttackName: TypeAlias = Literal["topk", "mass_center", "random", "ensemble"]
PredictionAttackName: TypeAlias = Literal["pgd", "ensemble"]
ProtocolName: TypeAlias = Literal["quick", "paper", "strong"]
DatasetName: TypeAlias = Literal["mnist", "fashion_mnist", "gtsrb", "oxford_flower17"]


class Settings(TypedDict, total=False):
    """Settings of a `keras_rar.Protocol` by name, all but its name."""

    epsilon: Radius
    norm: Norm
    bounds: Bounds
    prediction_attack: PredictionAttackName
    pgd_steps: int
    pgd_step_size: float | None
    pgd_objectives: ObjectiveName | Sequence[ObjectiveName]
    pgd_restarts: int
    attack: AttackName
    k: int | None
    k_report: int | None
    steps: int
    step_size: float | None
    restarts: int
    keep: SimilarityName
    saliency: AnySaliency
    target: Target
    data_format: DataFormat
    layer: str | None
    rule: RuleName
    m: int
    baseline: npt.ArrayLike
    softplus_beta: float | Auto | None
    attacked: int | None
    seed: int
    noise: int
    other_maps: Sequence[AnySaliency]
    faithful: int
    certified: int


CONTROLS = ("noise", "other_maps", "faithful", "certified")
"""Settings of what runs beside the attacks: the numbers of the attacks do not depend on them."""

_SINCE_0_1_0 = {"prediction_attack": ("pgd",), "data_format": ("auto", "channels_last", "none"), "layer": (None,)}

OPTIONAL = ("bounds", "layer", "pgd_step_size", "k", "k_report", "step_size", "softplus_beta", "attacked")
"""Settings of which `None` is a value: what leaves them to the protocol is `"auto"`. The others are left by `None`."""


def as_of_0_1_0(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those that version 0.1.0 did not have, where they say what it did: so its files go on.

    Args:
        settings: By name, as plain values.

    Example:

    >>> as_of_0_1_0({"epsilon": 0.1, "prediction_attack": "pgd"})
    {'epsilon': 0.1}
    """
    return {name: value for name, value in settings.items() if value not in _SINCE_0_1_0.get(name, ())}


def given(arguments: Mapping[str, Any]) -> Settings:
    """The settings among the arguments of a call, without those that are left to the protocol.

    Args:
        arguments: All arguments by name.

    Example:

    >>> given({"epsilon": 0.1, "norm": None, "k": None, "bounds": "auto", "progress": True})
    {'epsilon': 0.1, 'k': None}
    """
    names = [name for name in Settings.__annotations__ if name in arguments]
    return cast(Settings, {name: arguments[name] for name in names if not _left(name, arguments[name])})


def _left(name: str, value: Any) -> bool:
    return is_auto(value) if name in OPTIONAL else value is None


def is_auto(value: Any) -> bool:
    """Whether a value is the word `"auto"`; an array is not compared with it."""
    return isinstance(value, str) and value == "auto"
