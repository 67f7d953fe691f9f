"""Settings as JSON has them, and as people read them."""

import dataclasses
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """A setting as JSON has it: arrays as lists, objects by class and fields, functions by name."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if hasattr(value, "__array__"):
        return np.asarray(value).tolist()
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"class": type(value).__name__, **fields}
    return getattr(value, "__name__", type(value).__name__)


def brief(value: Any) -> str:
    """A setting for people, in at most 60 characters."""
    text = str(plain(value))
    return text if len(text) <= 60 else text[:59] + "…"
