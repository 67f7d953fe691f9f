"""Measures against the radius of the attack, one line per model."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_rar.evaluation.report import RobustnessReport
from keras_rar.evaluation.wording import shared_titles
from keras_rar.reports import drawing
from keras_rar.reports.pairs import counts_text

MEASURES_SHOWN = ("adversarial_accuracy", "topk_intersection", "kendall_tau")


def draw(figure: Any, reports: Mapping[str, Mapping[float, RobustnessReport]]) -> None:
    """A panel per measure: means as lines, their intervals as bands."""
    panels = figure.subplots(len(MEASURES_SHOWN), 1, sharex=True)
    every = [report for curve in reports.values() for report in curve.values()]
    protocols = [{**report.protocol, "epsilon": None} for report in every]  # the radius is on the axis
    titles = shared_titles(protocols)
    for ax, measure in zip(panels, MEASURES_SHOWN, strict=True):
        scale = 1 if measure == "kendall_tau" else 100
        for (name, curve), (colour, line, marker) in zip(reports.items(), drawing.styles(len(reports)), strict=True):
            epsilons = sorted(curve)
            summaries = [curve[epsilon].summary()[measure] for epsilon in epsilons]
            mean, low, high = (np.array([scale * row[key] for row in summaries]) for key in ("mean", "low", "high"))
            ax.fill_between(epsilons, low, high, color=colour, alpha=0.18, linewidth=0)
            ax.plot(
                epsilons, mean, color=colour, linestyle=line, marker=marker, markersize=3.5, linewidth=1.1,
                clip_on=False, label=drawing.text(name),
            )  # fmt: skip
        counts = [report.summary()[measure]["n"] for report in every]
        title = titles[measure] + ("" if scale == 1 else " (%)")
        ax.set_title(f"{title}, {counts_text(counts)}", fontsize=drawing.SMALL, loc="left", pad=3)
        ax.set_ylim(min(0, ax.get_ylim()[0]) if scale == 1 else 0, scale)
        drawing.set_axes(ax)
    norms = {report.protocol["norm"] for report in every}
    norm = (
        {"linf": ", $L_\\infty$", "l2": ", $L_2$", "l1": ", $L_1$", "l0": ", $L_0$"}.get(norms.pop(), "")
        if len(norms) == 1
        else ""
    )
    panels[-1].set_xlabel(f"radius ε of the attack{norm} (units of the input)", fontsize=drawing.SMALL)
    figure.legend(
        handles=panels[0].get_lines(), loc="outside upper center", ncols=2, fontsize=drawing.SMALL, frameon=False,
        handlelength=3.5, title="mean, 95 % bootstrap interval", title_fontsize=drawing.TINY,
    )  # fmt: skip


def warnings_of(reports: Mapping[str, Mapping[float, RobustnessReport]]) -> list[str]:
    """The warnings of all reports, each once."""
    every = (warning for curve in reports.values() for report in curve.values() for warning in report.warnings)
    return list(dict.fromkeys(every))
