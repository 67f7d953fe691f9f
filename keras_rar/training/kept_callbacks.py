"""What callbacks remember, such as the best value and the epochs since, kept between two runs."""

import json
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

_NOT_KEPT = ("_model", "model", "params", "history")


class CallbackStates:
    """The attributes of callbacks that change while they are used, as plain values and arrays.

    Kept are numbers, texts, lists and dictionaries of them, arrays, and lists of arrays. Anything else, such as an open
    file, is not kept: a callback begins anew with it.

    Args:
        callbacks: The callbacks, in their order.
    """

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback]):
        self.callbacks = list(callbacks)
        self._began: list[dict[str, Any]] = [{} for _ in self.callbacks]

    def begin(self) -> None:
        """Remember the attributes as they are when a training begins."""
        self._began = [_attributes(callback) for callback in self.callbacks]

    def changed(self) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
        """What changed since then: a description that JSON can hold, and arrays by name."""
        about: list[dict[str, Any]] = []
        arrays: dict[str, np.ndarray] = {}
        for number, (callback, before) in enumerate(zip(self.callbacks, self._began, strict=True)):
            now = _attributes(callback)
            changed = {name: value for name, value in now.items() if name not in before or before[name] != value}
            about.append({"class": type(callback).__name__, "attributes": changed})
            for name, (kind, _) in changed.items():
                value = getattr(callback, name)
                parts = {"array": [value], "arrays": value}.get(kind, [])
                arrays |= {f"callback{number}/{name}/{part}": np.asarray(item) for part, item in enumerate(parts)}
        return about, arrays

    def restore(self, about: list[dict[str, Any]], arrays: dict[str, np.ndarray]) -> None:
        """Put back what was kept; a callback that was not there before begins anew."""
        used: set[int] = set()
        for callback in self.callbacks:
            matching = (
                number
                for number, kept in enumerate(about)
                if number not in used and kept["class"] == type(callback).__name__
            )
            if (number := next(matching, None)) is None:
                continue
            used.add(number)
            for name, (kind, value) in about[number]["attributes"].items():
                if kind in ("array", "arrays"):
                    parts = [arrays[f"callback{number}/{name}/{part}"] for part in range(value["parts"])]
                    setattr(callback, name, parts[0] if kind == "array" else parts)
                else:
                    setattr(callback, name, getattr(keras.ops, value) if kind == "keras.ops" else json.loads(value))


def _attributes(callback: keras.callbacks.Callback) -> dict[str, list[Any]]:
    """The attributes that can be kept, each as its kind and a content that can be compared."""
    described = {name: _described(value) for name, value in vars(callback).items() if name not in _NOT_KEPT}
    return {name: content for name, content in described.items() if content is not None}


def _described(value: Any) -> list[Any] | None:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        return None if value.dtype == object else ["array", _of([value])]
    if isinstance(value, (list, tuple)) and value and all(isinstance(part, np.ndarray) for part in value):
        return ["arrays", _of(value)]
    if callable(value):  # how a monitor compares
        name = getattr(value, "__name__", "")
        return ["keras.ops", name] if getattr(keras.ops, name, None) is value else None
    try:
        text = json.dumps(value, sort_keys=True)
    except (TypeError, ValueError):
        return None
    return ["json", text]


def _of(parts: Sequence[np.ndarray]) -> dict[str, Any]:
    return {"parts": len(parts), "content": [hash(part.tobytes()) for part in parts]}
