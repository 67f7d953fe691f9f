"""A `RobustnessReport` as one HTML page that needs nothing else: no script, no other file, no network."""

import html
import math
import re
from collections.abc import Sequence
from typing import Any

from keras_rar.evaluation import tables
from keras_rar.evaluation.report import RobustnessReport
from keras_rar.evaluation.wording import CORRELATIONS, counted, settings_line, titles
from keras_rar.reports import page_parts as parts
from keras_rar.reports import plotting
from keras_rar.reports.certificate_figure import plot_certificate_of_report

_MEANINGS = {
    "natural_accuracy": "{noun}s classified correctly",
    "adversarial_accuracy": "{noun}s classified correctly that no attack on the prediction was found to change",
    "topk_intersection": "entries of a map that stay among its k = {k} highest after the attack",
    "kendall_tau": "agreement of the order of entries before and after the attack; 1 is the same order, 0 unrelated",
    "spearman_rho": "correlation of the ranks of entries before and after the attack; 1 is the same order, 0 unrelated",
}


def to_html(
    report: RobustnessReport,
    *,
    class_names: Sequence[str] | None = None,
    feature_names: Sequence[str] | None = None,
) -> str:
    """The report as one self-contained HTML page: figures inside, readable on a phone, light or dark.

    Without matplotlib the figures are left out, and the page says so.

    Args:
        report: A `RobustnessReport`.
        class_names: Names of the classes. Defaults to their numbers.
        feature_names: Names of the entries of an input that is no image. Defaults to their numbers.

    Returns:
        The page, a string.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)], name="linear")
    >>> x, options = np.full([2, 4], 0.5), {"epsilon": 0.1, "steps": 2, "m": 2, "progress": False}
    >>> report = keras_rar.evaluate_robustness(model, x, [0, 1], **options)
    >>> "<h1>Robustness of linear</h1>" in to_html(report)
    True
    """
    noun = report.noun
    settings = settings_line(report.protocol)
    header = f"""<h1>Robustness of {html.escape(report.model_name)}</h1>
<p>{html.escape(settings)}</p>
<p>How far small perturbations move the predictions and the explanations of this classifier.
Protocol: {html.escape(report.protocol["name"])}.</p>"""
    body = f"""{parts.warnings(report.warnings)}
<h2>Summary</h2>
{_summary(report)}
<p>{_counts(report)}</p>
{_tables(report)}
<h2>Figures</h2>
{_figures(report, {"class_names": class_names, "feature_names": feature_names})}
<h2>Protocol</h2>
{parts.region("Protocol", parts.pairs(report.protocol))}
<h2>Versions</h2>
{parts.pairs(report.versions)}
<h2>{noun.capitalize()}s</h2>
<details>
<summary>{counted(report.counts["examples"], noun)}, one row each</summary>
{parts.region(f"{noun.capitalize()}s", _per_example(report))}
</details>"""
    footer = f"<p>Fingerprint of weights, data and settings: <code>{html.escape(report.fingerprint)}</code></p>"
    return parts.document(f"Robustness of {report.model_name}, {settings}", header, body, footer)


def summary_table(report: RobustnessReport) -> str:
    """The means with their intervals, a row per measure."""
    names, rows = titles(report.protocol), []
    for measure, row in report.summary().items():
        percent = measure not in CORRELATIONS
        cells = [parts.number(row["mean"], percent), parts.interval(row, percent), str(row["n"])]
        rows.append(parts.row(names[measure], cells))
    return parts.numbers(("measure", "mean", "95 % interval", "n"), rows)


def _summary(report: RobustnessReport) -> str:
    names = titles(report.protocol)
    words = {"noun": report.noun, "k": report.protocol.get("k_report")}
    meanings = [f"<dt>{names[m]}</dt><dd>{text.format(**words)}</dd>" for m, text in _MEANINGS.items()]
    return f"""{parts.region("Summary", summary_table(report))}
<p>Means over n {report.noun}s, with the interval of the percentile bootstrap.</p>
<dl>
{parts.lines(meanings)}
</dl>"""


def _tables(report: RobustnessReport) -> str:
    """The controls, and what was found besides."""
    found = [f"<h2>{html.escape(table.title)}</h2>\n{parts.plain_table(table)}" for table in tables.of_report(report)]
    return parts.lines([*found, *(f"<p>{html.escape(note)}</p>" for note in tables.notes_of(report))])


def _counts(report: RobustnessReport) -> str:
    counts = report.counts
    wrong, attacked = counts["misclassified"], counts["attacked"]
    text = f"""{counted(counts["examples"], report.noun)}. {wrong} {"is" if wrong == 1 else "are"} misclassified and \
left out of the attribution attack,"""
    if not attacked:
        return f"{text} and none was attacked."
    return f"""{text}
{attacked} {"was" if attacked == 1 else "were"} attacked. For {counts["unchanged"]} of these no change was found, and \
they score 1;
{counts["constant_maps"]} have a constant map, whose score says nothing."""


def _figures(report: RobustnessReport, names: dict[str, Any]) -> str:
    try:
        figures = [parts.picture(plotting.plot_histogram(report), *_histogram_texts(report))]
        index = [int(i) for i in report.examples.get("index", [])]
        if index:
            maps = plotting.plot_maps(report, index, **names)
            figures.insert(0, parts.picture(maps, *_maps_texts(report, index)))
        if (report.findings.get("certificate") or {}).get("radii"):
            curve = plot_certificate_of_report(report.findings["certificate"])
            figures.append(
                parts.picture(curve, "Proved lower bounds of smoothed maps over the L2 radius; see the table.")
            )
    except ImportError as error:
        return f"<p>{html.escape(str(error))}</p>"
    return f'<div class="figures">\n{parts.lines(figures)}\n</div>'


def _histogram_texts(report: RobustnessReport) -> tuple[str, str]:
    row = report.summary()["kendall_tau"]
    caption = f"Kendall's tau of each attacked {report.noun}, and the number for which no change was found."
    if not report.counts["attacked"]:
        return caption, "No map was attacked."
    mean = "Mean undefined" if math.isnan(row["mean"]) else f"Mean {row['mean']:.2f}"
    unchanged = report.counts["unchanged"]
    return caption, f"{mean}, of {counted(int(row['n']), report.noun)}; no change found for {unchanged}."


def _maps_texts(report: RobustnessReport, index: list[int]) -> tuple[str, str]:
    taus = ", ".join(f"{report.per_example['kendall_tau'][i]:.2f}" for i in index).replace("nan", "undefined")
    return maps_caption(report.noun), f"Kendall's tau of {report.noun}s {', '.join(map(str, index))}: {taus}."


def maps_caption(noun: str) -> str:
    """What rows of maps show."""
    return (
        f"The first attacked {noun}s, their saliency maps, the perturbed {noun}s and the maps of those. The maps of a "
        "row have one scale."
    )


def _per_example(report: RobustnessReport) -> str:
    table = report.per_example
    rows = (
        "<tr>" + "".join(f"<td>{parts.cell(value)}</td>" for value in row) + "</tr>"
        for row in zip(*(column.tolist() for column in table.values()), strict=True)
    )
    return parts.numbers([re.sub("[._]", " ", name) for name in table], rows)
