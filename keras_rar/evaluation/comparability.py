"""Whether reports can be compared: the same data, the same settings."""

from typing import Any

import numpy as np

from keras_rar.evaluation.plain_values import brief
from keras_rar.evaluation.report import RobustnessReport
from keras_rar.evaluation.settings import CONTROLS, as_of_0_1_0

_FREE = ("name", "attacked", *CONTROLS)
"""Settings of which the numbers of one example do not depend."""


def check(reports: dict[str, RobustnessReport]) -> None:
    """Refuse reports of other data or settings than those of the first.

    Labels and row numbers are compared, the inputs as far as reports keep them, which at a layer they do not, and
    every setting but the name of the protocol and how many examples were attacked.

    Raises:
        ValueError: If a report differs from the first one.
    """
    (first_name, first), *others = reports.items()
    for name, report in others:
        if not _same_data(first, report):
            raise ValueError(
                f"`models` must be reports of the same examples. Received: reports of {first_name!r} and {name!r}, "
                "whose labels, row numbers or inputs differ"
            )
        if differing := _differing(as_of_0_1_0(first.protocol), as_of_0_1_0(report.protocol)):
            settings = ", ".join(
                f"{key} ({brief(first.protocol.get(key))} and {brief(report.protocol.get(key))})" for key in differing
            )
            raise ValueError(
                f"`models` must be measured with the same settings. Received: {first_name!r} and {name!r}, which "
                f"differ in {settings}"
            )


def _same_data(first: RobustnessReport, second: RobustnessReport) -> bool:
    tables = first.per_example, second.per_example
    if not all(np.array_equal(tables[0][name], tables[1][name]) for name in ("index", "label")):
        return False
    if first.protocol.get("layer") is not None:  # what reports keep is the output of a layer, of each network its own
        return True
    kept = [
        dict(zip(report.examples["index"].tolist(), report.examples["x"], strict=True)) if report.examples else {}
        for report in (first, second)
    ]
    return all(np.array_equal(kept[0][row], kept[1][row]) for row in set(kept[0]) & set(kept[1]))


def _differing(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Settings whose values differ; one that an older report does not know counts as None, or as it was then."""
    names = [name for name in {**first, **second} if name not in _FREE]
    data_formats = [protocol["data_format"] for protocol in (first, second) if "data_format" in protocol]
    if len(data_formats) == 1 and data_formats != ["channels_first"]:  # which 0.1.0 did not have
        names.remove("data_format")
    return [name for name in names if first.get(name) != second.get(name)]
