"""Argument validation: one error shape for the whole package."""

import math
import numbers
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np


def fail(name: str, must_be: str, value: Any, error: type[Exception] = ValueError) -> NoReturn:
    """Raise ``"`name` must be …. Received: name=value"``."""
    raise error(f"`{name}` must be {must_be}. Received: {name}={shown(value)}")


def shown(value: Any) -> str:
    """A value for a message; an array, which may have thousands of entries, in at most 200 characters."""
    if not isinstance(value, (list, tuple, np.ndarray)):
        return repr(value)
    text = " ".join(repr(value).split())
    return text if len(text) <= 200 else text[:199] + "…"


_LARGEST = float(np.finfo(np.float32).max)
_SMALLEST = float(np.finfo(np.float32).tiny)


def _real(name: str, must_be: str, value: Any) -> float:
    """`value` as a float, if float32, in which networks compute, holds it too.

    In float32 a number above 3.4e38 is infinite, and TensorFlow takes one below 1.2e-38 for 0.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        fail(name, must_be, value, TypeError)
    try:
        number = float(value)
    except OverflowError:  # an integer or a fraction above 1.8e308
        fail(name, f"{must_be}, also in float32", value)
    if not math.isfinite(number):
        fail(name, must_be, value)
    if abs(number) > _LARGEST or (value != 0 and abs(number) < _SMALLEST):
        fail(name, f"{must_be}, also in float32", value)
    return number


def positive_float(name: str, value: Any) -> float:
    """`value` as a float, if it is finite and > 0, also in float32."""
    number = _real(name, "a positive float", value)
    return number if number > 0 else fail(name, "a positive float", value)


def radius(name: str, value: Any) -> Any:
    """`value` as a float > 0, or of an array as nested lists of floats >= 0, if not all are 0; in float32 too."""
    try:
        is_number = np.ndim(value) == 0
    except ValueError:  # lists of different lengths
        is_number = False
    if is_number:
        return positive_float(name, value)
    must_be = "a positive float, or an array of floats >= 0 of which not all are 0"
    values = np.asarray(finite_array(name, value), "float64")
    if not values.size or values.min() < 0 or values.max() == 0:
        fail(name, must_be, value)
    smallest = values[values > 0].min()
    if smallest < _SMALLEST or smallest / values.max() < _SMALLEST:  # shares of the largest are computed with
        fail(name, f"{must_be}, also in float32", value)
    return values.tolist()


def real(name: str, value: Any) -> float:
    """`value` as a float, if it is finite, also in float32."""
    return _real(name, "a finite float", value)


def nonnegative_float(name: str, value: Any) -> float:
    """`value` as a float, if it is finite and >= 0; in float32 it must be finite too, and 0 only if it is 0."""
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
    """`value`, if it is a positive int, `None` or `"auto"`: how many points to evaluate at once."""
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


def seed(value: Any, *, unsigned: bool = False, name: str = "seed") -> int:
    """`value` as an int, if it is a seed: of 64 bits with a sign, or if `unsigned` of the 32 bits that Keras takes."""
    number = integer(name, value)
    lowest, highest = (0, 2**32 - 1) if unsigned else (-(2**63), 2**63 - 1)
    return number if lowest <= number <= highest else fail(name, f"an integer from {lowest} to {highest}", value)


def boolean(name: str, value: Any) -> bool:
    """`value`, if it is True or False."""
    return value if isinstance(value, bool) else fail(name, "True or False", value, TypeError)


def layer(value: Any, name: str = "layer") -> str | None:
    """`value`, if it may name a layer, or is `None`."""
    return value if value is None or isinstance(value, str) else fail(name, "the name of a layer", value, TypeError)


def one_of(name: str, value: Any, known: Iterable[Any]) -> Any:
    """`value`, if it is among the known values; the error lists them."""
    known = list(known)
    return value if value in known else fail(name, f"one of {known}", value)


def _floats(value: Any) -> np.ndarray:
    """`value` as a float64 array; a TypeError or ValueError if it is not made of real numbers."""
    values = np.asarray(value)
    if values.dtype.kind in "bcSUmM":  # booleans, complex numbers, text, dates: NumPy would convert some of them
        raise TypeError
    return values.astype("float64")


def finite_array(name: str, value: Any) -> Any:
    """`value` as a float or nested lists of floats, if all are finite, also in float32."""
    try:
        values = _floats(value)
    except (TypeError, ValueError):
        fail(name, "a float or an array of floats", value, TypeError)
    if not np.all(np.isfinite(values)):
        fail(name, "finite", value)
    return values.tolist() if np.all(np.abs(values) <= _LARGEST) else fail(name, "finite, also in float32", value)


def baseline(name: str, value: Any) -> Any:
    """`value` as `finite_array`, but entries of an array may be `None`, for the input itself; not all of them."""
    is_list = isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.dtype.kind == "O")
    entries = np.array(value if is_list else [], object)
    itself = np.array([entry is None for entry in entries.flat], bool).reshape(entries.shape)
    if not itself.any():
        return finite_array(name, value)
    if itself.all():
        fail(name, "an array of floats where not all entries are None, for the input itself", value)
    entries = np.array(finite_array(name, np.where(itself, 0.0, entries).tolist()), object)
    entries[itself] = None
    return entries.tolist()


def increasing_bounds(name: str, value: Any) -> tuple[Any, Any] | None:
    """`value` as a pair of floats or nested lists of floats, if lower < upper, also in float32; or `None`."""
    must_be = "None, or a pair (lower, upper) of finite floats or arrays with lower < upper"
    if value is None:
        return None
    try:
        lower, upper = (_floats(bound) for bound in value)
    except (TypeError, ValueError):
        fail(name, must_be, value, TypeError)
    try:
        is_increasing = bool(np.all(np.isfinite(lower) & np.isfinite(upper) & (lower < upper)))
    except ValueError:  # shapes that do not broadcast
        fail(name, must_be, value, TypeError)
    if not is_increasing:
        fail(name, must_be, value)
    with np.errstate(over="ignore"):
        in_float32 = [bound.astype("float32") for bound in (lower, upper)]
    if not (np.all(np.isfinite(in_float32[0]) & np.isfinite(in_float32[1])) and np.all(in_float32[0] < in_float32[1])):
        fail(name, f"{must_be}, also in float32", value)
    return lower.tolist(), upper.tolist()


def broadcasts(name: str, value: Any, shape: tuple[int | None, ...]) -> None:
    """Refuse a `value` that does not broadcast to an input of that shape; a size may be unknown, `None`."""
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
