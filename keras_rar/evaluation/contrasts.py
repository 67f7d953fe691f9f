"""A report's controls in numbers: attack and noise, kinds of map, maps and what knows no network; always paired."""

from typing import Any

import numpy as np

from keras_rar.evaluation.intervals import mean_of_differences, mean_with_interval
from keras_rar.evaluation.wording import CORRELATIONS, MEASURES

OF_MAPS = ("topk_intersection", *CORRELATIONS)
"""Measures of maps."""

FAITHFULNESS = {"deletion": -1, "insertion": 1, "infidelity": -1}
"""Measure of faithfulness -> whether a faithful map has a high or a low one."""

KNOW_NOTHING = ("random", "input")
"""What a faithful map has to be better than."""


def paired(report: Any, first: str, second: str) -> dict[str, dict[str, float]]:
    """Two columns of a report where both are numbers: their means, and the mean of first minus second, with intervals.

    Args:
        report: A `RobustnessReport`.
        first: Name of a column; one that is missing has no numbers.
        second: Name of another one.

    Returns:
        A row with `mean`, `low`, `high` and `n` each for `"first"`, `"second"` and `"difference"`.
    """
    none = np.full(len(report.per_example["index"]), np.nan)
    a, b = (np.asarray(report.per_example.get(name, none), "float64") for name in (first, second))
    both = np.isfinite(a) & np.isfinite(b)
    seed = report.protocol.get("seed", 0)
    found = {name: mean_with_interval(values[both], seed) for name, values in (("first", a), ("second", b))}
    return {**found, "difference": mean_of_differences(a[both] - b[both])}


def noise(report: Any, kind: str = "") -> dict[str, dict[str, dict[str, float]]]:
    """Measure -> rows of `attack`, `noise` and `difference`, noise minus attack: above 0 the attack is the stronger.

    Args:
        report: A `RobustnessReport`.
        kind: Name of another kind of map; that of the attack if empty.

    Returns:
        Nothing for measures without the control.
    """
    found = {}
    for measure in ("adversarial_accuracy", *OF_MAPS):
        column = MEASURES[measure][0]
        base = f"{column}.{kind}" if kind else column
        rows = paired(report, f"{base}.noise", base)
        if rows["difference"]["n"]:
            found[measure] = {"attack": rows["second"], "noise": rows["first"], "difference": rows["difference"]}
    return found


def kinds(report: Any) -> list[str]:
    """The other kinds of map that were attacked."""
    begin = "kendall_tau."
    names = [name.removeprefix(begin) for name in report.per_example if name.startswith(begin)]
    return [name for name in names if name != "noise" and not name.endswith(".noise")]


def maps(report: Any) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Kind -> measure -> rows of `main`, the kind of the attack, `other` and `difference`, other minus main."""
    found: dict[str, Any] = {}
    for kind in kinds(report):
        for measure in OF_MAPS:
            rows = paired(report, f"{measure}.{kind}", measure)
            if rows["difference"]["n"]:
                found.setdefault(kind, {})[measure] = {
                    "main": rows["second"], "other": rows["first"], "difference": rows["difference"]
                }  # fmt: skip
    return found


def faithfulness(report: Any) -> dict[str, dict[str, dict[str, float]]]:
    """Measure -> rows of `map`, `random` and `input`, and `over random` and `over input`: how far the map is better."""
    found = {}
    for measure, sign in FAITHFULNESS.items():
        rows = {name: paired(report, f"{measure}.map", f"{measure}.{name}") for name in KNOW_NOTHING}
        if not rows["random"]["difference"]["n"]:
            continue
        found[measure] = {"map": rows["random"]["first"], **{name: row["second"] for name, row in rows.items()}}
        found[measure] |= {f"over {name}": _turned(row["difference"], sign) for name, row in rows.items()}
    return found


def _turned(row: dict[str, float], sign: int) -> dict[str, float]:
    """A row of a difference, or of what is left after it is subtracted the other way round."""
    if sign > 0:
        return row
    return {"mean": -row["mean"], "low": -row["high"], "high": -row["low"], "n": row["n"]}


def content(report: Any) -> dict[str, Any]:
    """All of these, as JSON has them."""
    found = {"noise": noise(report), "maps": maps(report), "faithfulness": faithfulness(report)}
    return {name: rows for name, rows in found.items() if rows}
