"""Means with bootstrap intervals, and tables of them."""

import math
from typing import Any

import numpy as np
from scipy import special

from keras_rar.evaluation.wording import CORRELATIONS, MEASURES, shared_titles

_RESAMPLES = 9999
_MANY, _DISTINCT = 1000, 16  # many examples with few values, as of an accuracy: how often each is drawn is enough


def markdown_table(reports: dict[str, Any], protocol: dict[str, Any] | None = None) -> str:
    """The summaries of several reports as one table, a row per model: mean [95 % interval] (examples).

    Args:
        reports: Reports, or what their `summary` returned, by the name to show.
        protocol: Settings of which the titles show ε and k. Defaults to those that all reports share.

    Returns:
        A table in Markdown.
    """
    protocols = [getattr(report, "protocol", {}) if protocol is None else protocol for report in reports.values()]
    lines = ["| | " + " | ".join(shared_titles(protocols).values()) + " |", "|" + "---|" * (len(MEASURES) + 1)]
    for name, report in reports.items():
        summary = report if isinstance(report, dict) else report.summary()
        cells = [cell(measure, row) for measure, row in summary.items()]
        lines.append(f"| {in_table(name)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def in_table(text: Any) -> str:
    """A text of the user's as a cell of a table in Markdown: on one line, its bars no borders."""
    return " ".join(str(text).split()).replace("|", "\\|")


def cell(measure: str, row: dict[str, float], signed: bool = False) -> str:
    """A measure as tables show it: mean [95 % interval] (examples).

    Args:
        measure: Name of the measure.
        row: Its `mean`, `low`, `high` and `n`.
        signed: Whether it is a difference, shown with its sign and in points. Defaults to `False`.

    Example:

    >>> cell("natural_accuracy", {"mean": 0.5, "low": 0.25, "high": 0.75, "n": 8})
    '50.0 % [25.0, 75.0] (n = 8)'
    >>> cell("kendall_tau", {"mean": np.nan, "low": np.nan, "high": np.nan, "n": 0})
    '– [–, –] (n = 0)'
    """
    return f"{with_interval(measure, row, signed)} (n = {row['n']})"


def with_interval(measure: str, row: dict[str, float], signed: bool = False) -> str:
    """As `cell`, without the number of examples.

    Args:
        measure: As for `cell`.
        row: As for `cell`.
        signed: As for `cell`.

    Example:

    >>> with_interval("natural_accuracy", {"mean": 0.5, "low": 0.25, "high": 0.75})
    '50.0 % [25.0, 75.0]'
    """
    mean, low, high = (number(measure, row[key], signed) for key in ("mean", "low", "high"))
    unit = "" if measure in CORRELATIONS or mean == "–" else " points" if signed else " %"
    return f"{mean}{unit} [{low}, {high}]"


def number(measure: str, value: float, signed: bool = False) -> str:
    """A value as tables show it, without its unit: shares in per cent; a dash for what is not a number."""
    if math.isnan(value):
        return "–"
    scale, digits = (1, 3) if measure in CORRELATIONS else (100, 1)
    text = f"{scale * value:{'+' if signed else ''}.{digits}f}"
    return text.replace("-", "−") if signed else text


def mean_with_interval(values: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Mean of values, one per example, with its 95 % bootstrap interval.

    Args:
        values: Float array of shape `(n,)`. What is not a number is left out.
        seed: Integer, of the resampling. Defaults to `0`.

    Returns:
        `"mean"`, `"low"`, `"high"` and `"n"`, the number of values in it; not a number where there are too few values.

    Example:

    >>> mean_with_interval(np.ones(10))
    {'mean': 1.0, 'low': 1.0, 'high': 1.0, 'n': 10}
    """
    values = values[~np.isnan(values)]
    row: dict[str, float] = {"mean": float("nan"), "low": float("nan"), "high": float("nan"), "n": len(values)}
    if len(values):
        row["mean"] = float(values.mean())
    if len(values) > 1:
        means = _resampled_means(values, np.random.default_rng(seed))
        row["low"], row["high"] = (float(end) for end in np.quantile(means, [0.025, 0.975]))
    return row


def mean_of_differences(values: np.ndarray) -> dict[str, float]:
    """Mean of paired differences of controls, one per example, with its 95 % interval by Student's t.

    Controls run on few examples. There it holds the true mean more often than the percentile bootstrap: of 16
    differences 95 times in 100 in place of 92 (`benchmarks/intervals.py`).

    Args:
        values: Float array of shape `(n,)`. What is not a number is left out.

    Returns:
        As `mean_with_interval`.

    Example:

    >>> {name: round(value, 2) for name, value in mean_of_differences(np.arange(10.0)).items()}
    {'mean': 4.5, 'low': 2.33, 'high': 6.67, 'n': 10}
    """
    values = values[~np.isnan(values)]
    nan, n = float("nan"), len(values)
    mean = float(values.mean()) if n else nan
    away = float(special.stdtrit(n - 1, 0.975)) * float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else nan
    return {"mean": mean, "low": mean - away, "high": mean + away, "n": n}


def _resampled_means(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n = len(values)
    distinct, counts = np.unique(values, return_counts=True)
    if n > _MANY and len(distinct) <= _DISTINCT:
        return rng.multinomial(n, counts / n, size=_RESAMPLES) @ distinct / n
    at_once = max(1, 2_000_000 // n)
    sizes = [min(at_once, _RESAMPLES - start) for start in range(0, _RESAMPLES, at_once)]
    return np.concatenate([values[rng.integers(n, size=(size, n))].mean(axis=1) for size in sizes])
