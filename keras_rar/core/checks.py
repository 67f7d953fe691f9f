"""Argument validation: one error shape for the whole package."""

import math
import numbers
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np


def fail(name: str, must_be: str, value: Any, error: type[Exception] = ValueError) -> NoReturn:
    """Raise ``"`name` must be …. Received: name=value"``."""
    raise error(f"`{name}` must be {must_be}. Received: {name}={value!r}")


def _real(name: str, must_be: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        fail(name, must_be, value, TypeError)
    if not math.isfinite(value):
        fail(name, must_be, value)
    return float(value)


def positive_float(name: str, value: Any) -> float:
    """`value` as a float, if it is finite and > 0."""
    number = _real(name, "a positive float", value)
    return number if number > 0 else fail(name, "a positive float", value)


def real(name: str, value: Any) -> float:
    """`value` as a float, if it is finite."""
    return _real(name, "a finite float", value)


def nonnegative_float(name: str, value: Any) -> float:
    """`value` as a float, if it is finite and >= 0."""
    number = _real(name, "a float >= 0", value)
    return number if number >= 0 else fail(name, "a float >= 0", value)


def positive_int(name: str, value: Any) -> int:
    """`value` as an int, if it is a whole number > 0."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        fail(name, "a positive integer", value, TypeError)
    if not isinstance(value, numbers.Integral) or value < 1:
        fail(name, "a positive integer", value)
    return int(value)


def chunk(value: Any) -> int | str | None:
    """How many points to evaluate at once: a positive int, `None` for all of them, or `"auto"`."""
    return value if value is None or value == "auto" else positive_int("chunk", value)


def nonnegative_int(name: str, value: Any) -> int:
    """`value` as an int, if it is a whole number >= 0."""
    number = integer(name, value, "an integer >= 0")
    return number if number >= 0 else fail(name, "an integer >= 0", value)


def integer(name: str, value: Any, must_be: str = "an integer") -> int:
    """`value` as an int, if it is a whole number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        fail(name, must_be, value, ValueError if isinstance(value, float) else TypeError)
    return int(value)


def boolean(name: str, value: Any) -> bool:
    """`value`, if it is True or False."""
    return value if isinstance(value, bool) else fail(name, "True or False", value, TypeError)


def one_of(name: str, value: Any, known: Iterable[Any]) -> Any:
    """`value`, if it is among the known ones; the error lists them."""
    known = list(known)
    return value if value in known else fail(name, f"one of {known}", value)


def finite_array(name: str, value: Any) -> Any:
    """`value` as a float or nested lists of floats, if all are finite."""
    try:
        values = np.asarray(value, dtype="float64")
    except (TypeError, ValueError):
        fail(name, "a float or an array of floats", value, TypeError)
    return values.tolist() if np.all(np.isfinite(values)) else fail(name, "finite", value)


def broadcasts(name: str, value: Any, shape: tuple[int | None, ...]) -> None:
    """Refuse a `value` that does not broadcast to an input of that shape, of which some sizes may be unknown."""
    known = tuple(size or 1 for size in shape)
    try:
        fits = np.broadcast_shapes(np.shape(value), known) == known
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"`{name}` must be a float or an array that broadcasts to an input, of shape {shape}. "
            f"Received: an array of shape {np.shape(value)}"
        )
