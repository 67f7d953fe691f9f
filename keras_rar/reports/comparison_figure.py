"""The figure of a `Comparison`: means of each model beside the paired differences, with their intervals."""

import itertools
from typing import Any

import numpy as np

from keras_rar.evaluation.comparison import Comparison
from keras_rar.evaluation.wording import CORRELATIONS, counted, settings_line, titles
from keras_rar.reports import drawing

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def plot_comparison(comparison: Comparison, *, width: float = 3.5) -> Any:
    """The means of each model, and their paired differences, one row of panels per measure.

    Models have letters, which the legend explains. A difference is filled where its interval leaves out 0 and hollow
    where the comparison does not rank the two models.

    Args:
        comparison: A `Comparison`.
        width: Float > 0, width of the figure in inches. Defaults to `3.5`, one column in print.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.

    Example:

    >>> models = {name: keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]) for name in ("a", "b")}
    >>> x, options = np.full([4, 4], 0.5), {"epsilon": 0.1, "steps": 2, "m": 2, "pgd_steps": 2, "progress": False}
    >>> len(plot_comparison(keras_rar.compare(models, x, [0, 1, 0, 1], **options)).axes)
    10
    """
    names, differences, warnings = list(comparison.reports), comparison.differences, comparison.warnings
    letters = dict(zip(names, _letters(len(names)), strict=True))
    rows = max(len(names), len(differences))
    lines = drawing.lines_of_warnings(warnings, width)
    size = 5 * (0.5 + 0.15 * rows) + 0.6 + 0.13 * len(names) + 0.12 * lines
    figure = drawing.new_figure(width, size)
    panels = figure.subplots(5, 2)
    for (measure, title), (left, right) in zip(titles(comparison.protocol).items(), panels, strict=True):
        _draw_means(left, {letters[name]: comparison.summary()[name][measure] for name in names}, measure)
        found = {f"{letters[a]} − {letters[b]}": row[measure] for (a, b), row in differences.items()}
        _draw_differences(right, found, measure)
        n = comparison.summary()[names[0]][measure]["n"]
        shown = title if measure in CORRELATIONS else f"{title} (%)"
        left.set_title(f"{shown}\nn = {n}", fontsize=drawing.SMALL, loc="left", pad=3)
    panels[-1, 0].set_xlabel("mean", fontsize=drawing.SMALL)
    panels[-1, 1].set_xlabel("paired difference", fontsize=drawing.SMALL)
    handles = [
        figure.axes[0].plot([], [], linestyle="none", marker=marker, markersize=3.5, color=colour)[0]
        for colour, _, marker in drawing.styles(len(names))
    ]
    figure.legend(
        handles, [f"{letters[name]}  {drawing.text(name, 60)}" for name in names], loc="outside upper left",
        fontsize=drawing.SMALL, frameon=False, title=_heading(comparison), title_fontsize=drawing.TINY,
        alignment="left",
    )  # fmt: skip
    drawing.warn(figure, warnings, width)
    return figure


def _heading(comparison: Comparison) -> str:
    n = len(next(iter(comparison.reports.values())).per_example["index"])
    same = f"the same {counted(n, comparison.noun)}, 95 % bootstrap intervals; hollow: not ranked"
    return f"{settings_line(comparison.protocol)}\n{same}".strip()


def _letters(n: int) -> list[str]:
    """A, B, …, Z, A1, B1, …"""
    return [_LETTERS[i % 26] + (str(i // 26) if i >= 26 else "") for i in range(n)]


def _draw_means(ax: Any, rows: dict[str, dict[str, float]], measure: str) -> None:
    scale = 1 if measure in CORRELATIONS else 100
    for place, (row, (colour, _, marker)) in enumerate(zip(rows.values(), drawing.styles(len(rows)), strict=True)):
        _draw_interval(ax, place, row, scale, colour, marker, filled=True)
    lows = [row["low"] for row in rows.values() if not np.isnan(row["low"])]
    ax.set_xlim(scale * min([0.0, *lows]), 1.04 * scale)
    _finish(ax, list(rows))


def _draw_differences(ax: Any, rows: dict[str, dict[str, Any]], measure: str) -> None:
    scale = 1 if measure in CORRELATIONS else 100
    ax.axvline(0, color="black", linewidth=0.7, linestyle=":")
    for place, row in enumerate(rows.values()):
        ranked = row["verdict"] in ("higher", "lower")
        _draw_interval(ax, place, row, scale, drawing.INK, "o", filled=ranked)
    ends = [abs(scale * row[key]) for row, key in itertools.product(rows.values(), ("mean", "low", "high"))]
    most = 1.1 * max([end for end in ends if not np.isnan(end)], default=0) or 0.1 * scale
    ax.set_xlim(-most, most)
    _finish(ax, list(rows))


def _draw_interval(
    ax: Any, place: int, row: dict[str, float], scale: float, colour: str, marker: str, filled: bool
) -> None:
    if np.isnan(row["mean"]):
        ax.text(0.5, place, "–", transform=ax.get_yaxis_transform(), fontsize=drawing.TINY, va="center")
        return
    if not np.isnan(row["low"]):
        ax.plot([scale * row["low"], scale * row["high"]], [place, place], color=colour, linewidth=1.1)
    face = colour if filled else "white"
    ax.plot(
        scale * row["mean"], place, marker=marker, markersize=3.5, color=colour, markerfacecolor=face, clip_on=False
    )


def _finish(ax: Any, labels: list[str]) -> None:
    ax.set_yticks(np.arange(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.locator_params(axis="x", nbins=4)
    drawing.set_axes(ax)
