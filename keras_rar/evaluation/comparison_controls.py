"""What the controls of several reports say of their models: paired differences of other maps and of faithfulness."""

from typing import Any

import numpy as np

from keras_rar.evaluation import contrasts, tables
from keras_rar.evaluation.intervals import cell, mean_of_differences
from keras_rar.evaluation.verdicts import verdict


def columns(reports: dict[str, Any]) -> list[str]:
    """The columns of controls that are compared: of other kinds of map and of faithfulness, where all have them."""
    first, *others = reports.values()
    names = [f"{measure}.{kind}" for kind in contrasts.kinds(first) for measure in contrasts.OF_MAPS]
    names += [f"{measure}.map" for measure in contrasts.FAITHFULNESS]
    return [name for name in names if all(name in report.per_example for report in (first, *others))]


def paired(comparison: Any, first: str, second: str) -> dict[str, dict[str, Any]]:
    """First minus second by column, over the examples that have a number for both, with a verdict.

    Args:
        comparison: A `Comparison`.
        first: Name of a model.
        second: Name of another one, subtracted.
    """
    found = {}
    for name in columns(comparison.reports):
        one, other = (np.asarray(comparison.reports[model].per_example[name], "float64") for model in (first, second))
        row = mean_of_differences(one - other)
        if row["n"]:
            found[name] = {**row, "verdict": verdict(row)}
    return found


def table(comparison: Any) -> tables.Table | None:
    """The paired differences of all pairs; none without controls."""
    rows = []
    for (first, second), measures in comparison.control_differences.items():
        for name, row in measures.items():
            measure, _, what = name.partition(".")
            title = measure if what == "map" else tables.title_of(comparison.protocol, measure)
            of = "faithfulness" if what == "map" else f"{what} maps"
            shown = "kendall_tau" if what == "map" else measure
            rows.append((f"{first} − {second}", of, title, cell(shown, row, signed=True), row["verdict"]))
    if not rows:
        return None
    return tables.Table(
        "Other maps and faithfulness",
        ("paired difference", "of", "measure", "mean [95 % interval]", "in words"),
        rows,
        f"Over the {comparison.noun}s that have the control for both models. A model that is ahead in the maps that it "
        "was trained for, and not in others, is not robust in its explanations. Low deletion and infidelity, and high "
        "insertion, are faithful: a model that buys stability with emptiness loses here.",
    )


def markdown(comparison: Any) -> list[str]:
    """The table in Markdown."""
    found = table(comparison)
    return [] if found is None else tables.markdown([found])
