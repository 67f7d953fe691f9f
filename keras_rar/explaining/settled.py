"""Saliency methods with their settings: made from a name, and fitted to a network."""

import dataclasses
import hashlib
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from keras_rar.core import checks, quadrature
from keras_rar.core import saliency_methods as core
from keras_rar.core.channels import DataFormat
from keras_rar.core.expected_gradients import ExpectedGradients
from keras_rar.core.occlusion import Occlusion
from keras_rar.core.saliency_methods import Saliency


def named(name: str, rule: str, m: Any, **settings: Any) -> Saliency:
    """The saliency method of a name, with those of the settings that it has.

    Args:
        name: A name in `METHODS` of the core.
        rule: Name of the quadrature rule of IG.
        m: Its number of nodes.
        **settings: Such as `baseline`, `chunk`, `samples`.
    """
    if name == "ig":
        return core.IntegratedGradients(quadrature.get(rule, m), settings["baseline"], settings["chunk"])
    kind: Any = core.METHODS[name]
    fields = {field.name for field in dataclasses.fields(kind)}
    return kind(**{key: value for key, value in settings.items() if key in fields})


def fitted(saliency: Any, data_format: Callable[[], DataFormat]) -> Any:
    """The saliency, told where the inputs have their channels if it has to know.

    Args:
        saliency: A `Saliency`.
        data_format: Function that finds it.
    """
    if isinstance(saliency, Occlusion) and saliency.data_format == "auto":
        return dataclasses.replace(saliency, data_format=data_format())
    return saliency


def check_baseline(saliency: Any, shape: tuple[int | None, ...]) -> None:
    """Refuse a baseline that does not broadcast to an input, or a background of such."""
    if not isinstance(saliency, core.WITH_BASELINE):
        return
    baseline = saliency.baseline
    if isinstance(saliency, ExpectedGradients) and np.ndim(baseline) == len(shape) + 1:
        baseline = np.asarray(baseline, object)[0]
    checks.broadcasts("baseline", baseline, shape)


def key_of(saliency: Saliency) -> Hashable:
    """The baseline of a saliency as a part of a key, whatever its size, and where it looks for channels."""
    values = np.asarray(saliency.baseline if isinstance(saliency, core.WITH_BASELINE) else 0.0, "float64")
    return values.shape, hashlib.sha256(values.tobytes()).hexdigest(), getattr(saliency, "data_format", None)
