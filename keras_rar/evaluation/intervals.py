"""Means with bootstrap intervals, and tables of them."""

from typing import Any

import numpy as np

MEASURES = {
    "natural_accuracy": ("correct", "natural accuracy"),
    "adversarial_accuracy": ("robust", "adversarial accuracy"),
    "topk_intersection": ("topk_intersection", "top-k intersection"),
    "kendall_tau": ("kendall_tau", "Kendall's tau"),
    "spearman_rho": ("spearman_rho", "Spearman's rho"),
}
"""Measure -> its column of the per-example table, and its name for people."""

_RESAMPLES = 9999


def markdown_table(reports: dict[str, Any]) -> str:
    """The summaries of several reports as one table, a row a model: mean [95 % interval] (images).

    Args:
        reports: Reports, or what their `summary` returned, by the name to show.

    Returns:
        A table in Markdown.
    """
    titles = [title for _, title in MEASURES.values()]
    lines = ["| | " + " | ".join(titles) + " |", "|" + "---|" * (len(titles) + 1)]
    for name, report in reports.items():
        summary = report if isinstance(report, dict) else report.summary()
        cells = [cell(measure, row) for measure, row in summary.items()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(measure: str, row: dict[str, float]) -> str:
    """A measure as tables show it: mean [95 % interval] (images)."""
    scale, digits, unit = (1, 3, "") if measure in ("kendall_tau", "spearman_rho") else (100, 1, " %")
    mean, low, high = (f"{scale * row[key]:.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean}{unit} [{low}, {high}] (n = {row['n']})"


def mean_with_interval(values: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Mean of values, one an image, with its 95 % bootstrap interval.

    Args:
        values: Float array of shape `(n,)`.
        seed: Integer, of the resampling. Defaults to `0`.

    Returns:
        `"mean"`, `"low"`, `"high"` and `"n"`; not a number where there are too few values.

    Example:

    >>> mean_with_interval(np.ones(10))
    {'mean': 1.0, 'low': 1.0, 'high': 1.0, 'n': 10}
    """
    row: dict[str, float] = {"mean": float("nan"), "low": float("nan"), "high": float("nan"), "n": len(values)}
    if len(values):
        row["mean"] = float(values.mean())
    if len(values) > 1:
        rng, n = np.random.default_rng(seed), len(values)
        at_once = max(1, 2_000_000 // n)
        sizes = [min(at_once, _RESAMPLES - start) for start in range(0, _RESAMPLES, at_once)]
        means = np.concatenate([values[rng.integers(n, size=(size, n))].mean(axis=1) for size in sizes])
        row["low"], row["high"] = (float(end) for end in np.quantile(means, [0.025, 0.975]))
    return row
