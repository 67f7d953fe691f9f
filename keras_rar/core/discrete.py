"""Columns of a table that a small change makes invalid: few whole numbers, and groups of which one is 1."""

from collections.abc import Sequence
from typing import Any

import numpy as np

_NAMED, _ROWS, _LEVELS = 8, 10_000, 10


def whole(x: np.ndarray) -> np.ndarray:
    """Which columns hold two to ten different whole numbers, and at most half as many as rows: `(columns,)` booleans.

    Such are categories, flags, ranks and small counts. A column of more, such as an age in years, is taken for a
    measurement that was rounded.

    Args:
        x: Array of shape `(n, columns)`.

    Example:

    >>> whole(np.array([[0.5, 1, 7, 31], [2, 3, 7, 48], [2, 3, 7, 55], [2, 1, 7, 60]])).tolist()
    [False, True, False, False]
    """
    x = np.sort(np.asarray(x), axis=0)
    different = 1 + np.sum(x[1:] != x[:-1], axis=0)
    return np.all(x == np.round(x), axis=0) & (different > 1) & (different <= min(_LEVELS, len(x) // 2))


def one_hot(x: np.ndarray) -> list[range]:
    """Groups of two or more columns beside each other of which in each row one is 1 and the others are 0.

    Args:
        x: Array of shape `(n, columns)`.

    Example:

    >>> one_hot(np.array([[0.5, 1, 0, 0], [2, 0, 0, 1], [1, 0, 1, 0], [3, 0, 0, 1]]))
    [range(1, 4)]
    """
    x = np.asarray(x)
    binary = whole(x) & np.all((x == 0) | (x == 1), axis=0)
    groups, start, stop, total = [], 0, 0, np.zeros(len(x))
    while stop < x.shape[1]:
        if binary[stop] and np.all(total + x[:, stop] <= 1):
            total, stop = total + x[:, stop], stop + 1
            if np.all(total == 1):
                groups.append(range(start, stop))
                start, total = stop, np.zeros(len(x))
        elif start < stop:
            total, start = total - x[:, start], start + 1
        else:
            start = stop = stop + 1
    return groups


def said(x: Any, free: np.ndarray, names: Sequence[str] | None = None) -> str:
    """A sentence about columns that hold few whole numbers or are one-hot, and may change; empty if there are none.

    Args:
        x: Array of shape `(n, columns)`; of another rank, nothing is said.
        free: Which columns may change, `(columns,)` booleans.
        names: Names of the columns. Defaults to their numbers.

    Returns:
        Text.

    Example:

    >>> said(np.array([[0.5, 1], [2, 3], [5, 3], [4, 1]]), np.array([True, True]), ["weight", "sex"])
    'Columns with few whole numbers may change (sex): an attack gives them values that no example has. Fix a column by
    an `epsilon` of 0.'
    """
    x = np.asarray(x)[:_ROWS]
    if x.ndim != 2 or not len(x) or x.dtype.kind not in "fiub":
        return ""
    groups = [group for group in one_hot(x) if free[list(group)].any()]
    grouped = {column for group in groups for column in group}
    whole_ones = [column for column in np.flatnonzero(whole(x) & free) if column not in grouped]
    name = (lambda column: str(column)) if names is None else (lambda column: str(names[column]))
    kinds = {
        "with few whole numbers": [name(column) for column in whole_ones],
        "that are one-hot": [f"{name(group[0])} to {name(group[-1])}" for group in groups],
    }
    parts = [f"{kind} may change ({_some(columns)})" for kind, columns in kinds.items() if columns]
    if not parts:
        return ""
    return (
        f"Columns {' and columns '.join(parts)}: an attack gives them values that no example has. "
        "Fix a column by an `epsilon` of 0."
    )


def _some(names: list[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
