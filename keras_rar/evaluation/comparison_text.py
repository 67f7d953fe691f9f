"""A `Comparison` as text: Markdown, lines for a terminal, and the content of its JSON."""

from typing import Any

from keras_rar.evaluation import comparison_controls
from keras_rar.evaluation.intervals import cell, in_table, markdown_table
from keras_rar.evaluation.plain_values import brief
from keras_rar.evaluation.report_files import file_names, without_nan
from keras_rar.evaluation.wording import counted, titles


def markdown(comparison: Any) -> str:
    """Warnings, means, differences and settings."""
    lines = ["| paired difference | measure | mean [95 % interval] | in words |", "|---|---|---|---|"]
    names = titles(comparison.protocol)
    for (first, second), measures in comparison.differences.items():
        for measure, row in measures.items():
            pair, words = f"{in_table(first)} − {in_table(second)}", row["verdict"]
            lines.append(f"| {pair} | {names[measure]} | {cell(measure, row, signed=True)} | {words} |")
    settings = [
        f"{name} {brief(value)}" for name, value in comparison.protocol.items() if name not in ("name", "attacked")
    ]
    return "\n\n".join(
        [
            *(f"**{warning}**" for warning in comparison.warnings),
            markdown_table(comparison.summary(), comparison.protocol),
            about_means(comparison),
            "\n".join(lines),
            about_differences(comparison),
            *comparison_controls.markdown(comparison),
            f"Settings: {', '.join(settings)}.",
        ]
    )


def about_means(comparison: Any) -> str:
    """Which examples the means are of."""
    summary = next(iter(comparison.summary().values()))
    n, of_maps = summary["natural_accuracy"]["n"], summary["kendall_tau"]["n"]
    maps = f"the {of_maps} that were attacked for every model, as all classify them correctly" if of_maps else "none"
    return (
        f"Means with 95 % bootstrap intervals, over the same {comparison.noun}s for every model: "
        f"{counted(n, comparison.noun)} for the accuracies, and for the maps {maps}."
    )


def about_differences(comparison: Any) -> str:
    """How the differences are made, and how far they can be trusted."""
    several = len(comparison.differences) > 1
    return (
        f"Differences are means over the n {comparison.noun}s measured for both models, paired, with 95 % bootstrap "
        "intervals; “higher” and “lower” are said of the first. Where an interval holds 0, the two are not ranked."
        + (" Each interval is for one difference alone: of 20, one may miss the truth." if several else "")
    )


def plain(comparison: Any) -> str:
    """A few lines: each paired difference with its interval, in numbers and words."""
    names = titles(comparison.protocol)
    width = max(map(len, names.values()))
    lines = [f"Comparison of {', '.join(comparison.reports)}; paired differences [95 % interval]"]
    for (first, second), measures in comparison.differences.items():
        lines.append(f"  {first} − {second}")
        lines += [
            f"    {names[measure]:{width}}  {cell(measure, row, signed=True)}: {row['verdict']}"
            for measure, row in measures.items()
        ]
    return "\n".join([*lines, *(f"  {warning}" for warning in comparison.warnings)])


def content(comparison: Any) -> dict[str, Any]:
    """What the JSON holds, of plain values."""
    models = {
        name: {
            "report": file,
            "fingerprint": report.fingerprint,
            "counts": report.counts,
            "complete": report.complete,
            "versions": report.versions,
        }
        for (name, report), file in zip(comparison.reports.items(), file_names(comparison.reports), strict=True)
    }
    differences = [
        {"first": first, "second": second, "measures": measures}
        for (first, second), measures in comparison.differences.items()
    ]
    controls = [
        {"first": first, "second": second, "measures": measures}
        for (first, second), measures in comparison.control_differences.items()
    ]
    return without_nan(
        {
            "models": models,
            "protocol": comparison.protocol,
            "summary": comparison.summary(),
            "differences": differences,
            "control_differences": controls,
            "warnings": comparison.warnings,
        }
    )
