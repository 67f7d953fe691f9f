"""A `Comparison` as one HTML page that needs nothing else: no script, no other file, no network."""

import html
from collections.abc import Sequence
from typing import Any

from keras_rar.evaluation import comparison_controls
from keras_rar.evaluation.comparison import Comparison
from keras_rar.evaluation.comparison_text import about_differences, about_means
from keras_rar.evaluation.intervals import number
from keras_rar.evaluation.wording import CORRELATIONS, counted, settings_line, titles
from keras_rar.reports import page_parts as parts
from keras_rar.reports import pairs, plotting
from keras_rar.reports.comparison_figure import plot_comparison
from keras_rar.reports.page import maps_caption

_ROWS = 12  # of inputs and maps, a row per example and model


def comparison_to_html(
    comparison: Comparison,
    *,
    class_names: Sequence[str] | None = None,
    feature_names: Sequence[str] | None = None,
) -> str:
    """The comparison as one self-contained HTML page: figures inside, readable on a phone, light or dark.

    Args:
        comparison: A `Comparison`.
        class_names: Names of the classes. Defaults to their numbers.
        feature_names: Names of the entries of an input that is no image. Defaults to their numbers.

    Returns:
        The page, a string.

    Example:

    >>> models = {name: keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]) for name in ("a", "b")}
    >>> x, options = np.full([4, 4], 0.5), {"epsilon": 0.1, "steps": 2, "m": 2, "pgd_steps": 2, "progress": False}
    >>> "<h1>a and b compared</h1>" in comparison_to_html(keras_rar.compare(models, x, [0, 1, 0, 1], **options))
    True
    """
    *first, last = comparison.reports
    heading, settings = f"{', '.join(first)} and {last} compared", settings_line(comparison.protocol)
    header = f"""<h1>{html.escape(heading)}</h1>
<p>{html.escape(settings)}</p>
<p>How far small perturbations move the predictions and the explanations of these classifiers, measured on the same
{comparison.noun}s with the same settings.</p>"""
    body = f"""{parts.warnings(comparison.warnings)}
<h2>Means</h2>
{parts.region("Means", means_table(comparison))}
<p>{html.escape(about_means(comparison))}</p>
<h2>Paired differences</h2>
{parts.lines(differences_tables(comparison))}
<p>{html.escape(about_differences(comparison))}</p>
{_controls(comparison)}
<h2>Figures</h2>
{_figures(comparison, {"class_names": class_names, "feature_names": feature_names})}
<h2>Settings</h2>
{parts.region("Settings", parts.pairs({k: v for k, v in comparison.protocol.items() if k not in ("name", "attacked")}))}
<h2>Models</h2>
{parts.region("Models", _models(comparison))}"""
    prints = parts.lines(
        f"<p>Fingerprint of {html.escape(name)}: <code>{html.escape(report.fingerprint)}</code></p>"
        for name, report in comparison.reports.items()
    )
    return parts.document(f"{heading}, {settings}", header, body, prints)


def _controls(comparison: Comparison) -> str:
    table = comparison_controls.table(comparison)
    return "" if table is None else f"<h2>{html.escape(table.title)}</h2>\n{parts.plain_table(table)}"


def means_table(comparison: Comparison) -> str:
    """The means of each model, a row per model and a column per measure."""
    summary = comparison.summary()
    rows = [parts.row(name, [_cell(measure, row) for measure, row in rows.items()]) for name, rows in summary.items()]
    numbers = [str(row["n"]) for row in next(iter(summary.values())).values()]
    head = ("model", *titles(comparison.protocol).values())
    return parts.numbers(head, [*rows, parts.row(f"n, {comparison.noun}s", numbers)])


def _cell(measure: str, row: dict[str, float]) -> str:
    percent = measure not in CORRELATIONS
    return f"{parts.number(row['mean'], percent)}<br><small>{parts.interval(row, percent)}</small>"


def differences_tables(comparison: Comparison) -> list[str]:
    """A table per pair of models, a row per measure."""
    names, found = titles(comparison.protocol), []
    for (first, second), measures in comparison.differences.items():
        rows = [
            parts.row(names[measure], [_difference(measure, row), str(row["n"]), html.escape(row["verdict"])])
            for measure, row in measures.items()
        ]
        caption = f"{first} − {second}"
        table = parts.numbers(("measure", "difference", "n", "in words"), rows, caption)
        found.append(parts.region(html.escape(caption), table))
    return found


def _difference(measure: str, row: dict[str, float]) -> str:
    low, high = (number(measure, row[key], signed=True) for key in ("low", "high"))
    interval = "–" if low == high == "–" else f"{low} to {high}"
    mean = number(measure, row["mean"], signed=True)
    unit = "" if measure in CORRELATIONS or mean == "–" else " points"
    return f"{mean}{unit}<br><small>{interval}</small>"


def _figures(comparison: Comparison, names: dict[str, Any]) -> str:
    try:
        figures = [parts.picture(plot_comparison(comparison), "Means and paired differences, as in the tables.")]
        common = pairs.common_examples({name: pairs.pairs_of(r) for name, r in comparison.reports.items()})
        shown = common[: max(1, _ROWS // len(comparison.reports))]
        if shown:
            maps = plotting.plot_maps(comparison.reports, shown, **names)
            figures.append(parts.picture(maps, maps_caption(comparison.noun)))
    except ImportError as error:
        return f"<p>{html.escape(str(error))}</p>"
    return f'<div class="figures">\n{parts.lines(figures)}\n</div>'


def _models(comparison: Comparison) -> str:
    rows = []
    for name, report in comparison.reports.items():
        counts = report.counts
        versions = ", ".join(f"{library} {version}" for library, version in report.versions.items())
        numbers = [str(counts[key]) for key in ("misclassified", "attacked", "unchanged", "constant_maps")]
        rows.append(parts.row(name, [*numbers, html.escape(versions)]))
    n = counted(next(iter(comparison.reports.values())).counts["examples"], comparison.noun)
    return parts.numbers(("model", "misclassified", "attacked", "no change found", "constant map", "versions"), rows, n)
