"""How Kendall's tau is spread over the attacked examples of each model."""

import dataclasses
from typing import Any

import numpy as np

from keras_rar.reports.drawing import SMALL, set_axes, styles, text


@dataclasses.dataclass(frozen=True)
class Taus:
    """Kendall's tau of each attacked example of a model."""

    values: np.ndarray
    unchanged: int  # how many of them were not found to change
    noun: str = "example"
    radius: str = ""  # "ε = 0.1 (L∞, inputs from 0 to 1)"


def draw(figure: Any, named: dict[str, Taus], bins: int) -> None:
    """A panel per model; those for which no change was found are hatched."""
    panels = figure.subplots(len(named), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    values = np.concatenate([taus.values for taus in named.values()])
    edges = np.linspace(*_span_of(values[~np.isnan(values)]), bins + 1)
    nouns = {taus.noun for taus in named.values()}
    for ax, (name, taus), (colour, *_) in zip(panels, named.items(), styles(len(named)), strict=True):
        counts, _ = np.histogram(taus.values, edges)
        without = np.zeros_like(counts)
        without[-1] = taus.unchanged  # they score 1, the end of the last bin
        ax.stairs(counts, edges, fill=True, color=colour, alpha=0.85)
        if taus.unchanged:
            ax.stairs(without, edges, fill=True, facecolor="white", edgecolor=colour, hatch="////", linewidth=0.8)
        ax.set_title(_title(name, taus), fontsize=SMALL, loc="left", pad=3)
        if not np.all(np.isnan(taus.values)):
            ax.axvline(np.nanmean(taus.values), color="black", linewidth=0.9, linestyle="--")
        ax.locator_params(axis="y", integer=True, nbins=5)
        ax.set_ylim(bottom=0)
        ax.set_ylabel(f"{nouns.copy().pop() if len(nouns) == 1 else 'example'}s", fontsize=SMALL)
        set_axes(ax)
    if not len(values):
        panels[0].set_ylim(0, 1)
    panels[-1].set_xlabel("Kendall's τ of the maps before and after the attack", fontsize=SMALL)


def _title(name: str, taus: Taus) -> str:
    head = text(", ".join(part for part in (name, taus.radius) if part), 54)
    n, missing = len(taus.values), int(np.sum(np.isnan(taus.values)))
    if not n:
        return f"{head}\nno map was attacked".strip()
    mean = f"mean {np.nanmean(taus.values):.2f} (dashed), " if n > missing else ""
    hatched = " (hatched)" if taus.unchanged else ""
    undefined = f", undefined: {missing}" if missing else ""
    return f"{head}\nn = {n}, {mean}no change found: {taus.unchanged}{hatched}{undefined}".strip()


def _span_of(taus: np.ndarray) -> tuple[float, float]:
    """Where the bins begin and end, in tenths."""
    if not len(taus):
        return -1.0, 1.0
    lowest, highest = np.floor(10 * taus.min()) / 10, np.ceil(10 * taus.max()) / 10
    lowest, highest = min(lowest, highest - 0.1, taus.min()), max(highest, lowest + 0.1, taus.max())  # min: rounding
    return max(-1.0, lowest), min(1.0, highest)
