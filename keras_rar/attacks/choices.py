"""What the settings of an attack may be, as types: editors complete them, and mypy checks them."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, TypedDict

import numpy.typing as npt

from keras_rar.core.channels import DataFormat
from keras_rar.core.saliency_methods import Saliency

Auto: TypeAlias = Literal["auto"]
Norm: TypeAlias = Literal["linf", "l2", "l1", "l0"]
Radius: TypeAlias = float | list[Any] | tuple[Any, ...] | npt.NDArray[Any]
"""One float, or one per feature in an array."""
Bounds: TypeAlias = tuple[npt.ArrayLike, npt.ArrayLike] | None
Target: TypeAlias = Literal["logit", "loss", "probability"]
RuleName: TypeAlias = Literal["left", "right", "midpoint", "trapezoid", "gauss_legendre"]
SaliencyName: TypeAlias = Literal[
    "ig", "gradient", "gradient_x_input", "smoothgrad", "expected_gradients", "occlusion", "grad_cam", "lrp", "deeplift"
]
AnySaliency: TypeAlias = SaliencyName | Saliency | Callable[..., Any]
SimilarityName: TypeAlias = Literal["kendall_tau", "spearman_rho", "topk_intersection", "mass_center"]
ObjectiveName: TypeAlias = Literal["crossentropy", "margin"]
MemberName: TypeAlias = Literal["apgd_crossentropy", "apgd_ratio", "apgd_targeted", "square", "noise"]
Chunk: TypeAlias = int | Auto | None
JitCompile: TypeAlias = bool | Auto
Progress: TypeAlias = Callable[[float], None]
"""Gets the number of examples done, with the share of those that are being attacked."""


class Options(TypedDict, total=False):
    """Settings that all attribution attacks share, as `AttributionAttack` documents them."""

    norm: Norm
    bounds: Bounds
    steps: int
    step_size: float | None
    saliency: AnySaliency
    target: Target
    data_format: DataFormat
    rule: RuleName
    m: int
    baseline: npt.ArrayLike
    chunk: Chunk
    keep: SimilarityName
    k_report: int | None
    restarts: int
    seed: int
    layer: str | None
    softplus_beta: float | Auto | None
    batch_size: int | None
    jit_compile: JitCompile
