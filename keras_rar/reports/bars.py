"""Inputs that are no images and their maps, as bars: all entries by number, or the highest by name."""

from collections.abc import Sequence
from typing import Any

import numpy as np

TINY = 6.5  # points
MOST = 10  # entries shown by name
_LONGEST = 16  # letters of a name


def draw(ax: Any, values: np.ndarray, together: list[np.ndarray], colour: str) -> None:
    """A bar per entry, on the scale of all that are to be compared; one patch, however many there are."""
    heights = np.zeros(2 * values.size - 1)
    heights[::2] = values.ravel()
    edges = np.arange(values.size)[:, np.newaxis] + [-0.4, 0.4]
    ax.stairs(heights, edges.ravel(), fill=True, color=colour)
    ax.set_ylim(*_limits(together))
    ax.set_xticks(sorted({0, values.size - 1}))
    ax.set_xlabel("entry", fontsize=TINY, labelpad=-6)  # between the two numbers


def draw_named(
    ax: Any,
    values: np.ndarray,
    together: list[np.ndarray],
    colour: str,
    chosen: np.ndarray,
    names: Sequence[str] | None,
) -> None:
    """Bars that lie, from the top down in the order of `chosen`, with their names if given."""
    ax.barh(np.arange(len(chosen)), np.ravel(values)[chosen], height=0.7, color=colour)
    ax.set_xlim(*_limits(together))
    ax.set_ylim(len(chosen) - 0.4, -0.6)
    ax.locator_params(axis="x", nbins=2)
    labels = [] if names is None else [_short(names[i]) for i in chosen]
    ax.set_yticks(np.arange(len(labels)), labels)
    if names is not None and len(chosen) < values.size:
        ax.set_xlabel(f"highest {len(chosen)} of {values.size}", fontsize=TINY)


def highest(maps: list[np.ndarray]) -> np.ndarray:
    """The entries that count most in any of these maps, in the order of the first map."""
    finite = np.nan_to_num(np.stack([np.ravel(values) for values in maps]))
    most = np.sort(np.argsort(-finite.max(axis=0), kind="stable")[:MOST])
    return most[np.argsort(-finite[0, most], kind="stable")]


def height(entries: int) -> float:
    """Height in inches of a panel of bars with names."""
    return 0.4 + 0.12 * min(entries, MOST)


def check_names(names: Sequence[str], x: np.ndarray) -> None:
    """Refuse names that do not fit the entries of an input."""
    if x.ndim in (2, 3):
        raise ValueError(f"`feature_names` must be None for inputs drawn as pictures. Received: {len(names)} names")
    if isinstance(names, str) or len(names) != x.size:
        raise ValueError(f"`feature_names` must hold one name per entry, {x.size}. Received: {len(names)} names")


def _short(name: Any) -> str:
    text = " ".join(str(name).split())
    return (text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…").replace("$", r"\$")


def _limits(together: list[np.ndarray]) -> tuple[float, float]:
    finite = np.nan_to_num(np.stack(together))
    lowest, highest = min(0.0, float(finite.min())), max(0.0, float(finite.max()))
    margin = 0.05 * (highest - lowest) or 0.05
    return lowest - margin * (lowest < 0), highest + margin
