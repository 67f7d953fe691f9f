"""A `RobustnessReport` as one HTML page that needs nothing else: no script, no other file, no network."""

import base64
import html
import io
import math
from collections.abc import Iterable
from typing import Any

from keras_rar.evaluation.intervals import MEASURES
from keras_rar.evaluation.report import RobustnessReport
from keras_rar.reports import plotting

_MEANINGS = {
    "natural_accuracy": "images classified correctly",
    "adversarial_accuracy": "images classified correctly that no attack on the prediction was found to change",
    "topk_intersection": "entries of a map that stay among its k = {k} highest after the attack",
    "kendall_tau": "agreement of the order of entries before and after the attack; 1 is the same order, 0 unrelated",
    "spearman_rho": "correlation of the ranks of entries before and after the attack; 1 is the same order, 0 unrelated",
}
_CORRELATIONS = ("kendall_tau", "spearman_rho")
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --faint: #8881; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
details .scroll { overflow-y: auto; max-height: 32rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem min(.7rem, 1.2vw); border-bottom: 1px solid var(--line); }
th, td { text-align: left; vertical-align: top; }
td { overflow-wrap: anywhere; }
.numbers td, .numbers th + th { text-align: right; white-space: nowrap; }
.numbers thead th { position: sticky; top: 0; background: Canvas; }
tbody th, dt { font-weight: 600; }
dd { margin: 0 0 .4rem 1rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1.5rem; }
figure { margin: 0; flex: 1 1 20rem; max-width: 27rem; }
img { width: 100%; height: auto; background: #fff; border-radius: .3rem; }
figcaption, footer { font-size: .875rem; }
summary { cursor: pointer; padding: .4rem; background: var(--faint); }
code { overflow-wrap: anywhere; }
"""


def to_html(report: RobustnessReport) -> str:
    """The report as one self-contained HTML page: figures inside, readable on a phone, light or dark.

    Without matplotlib the figures are left out, and the page says so.

    Args:
        report: A `RobustnessReport`.

    Returns:
        The page, a string.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)], name="linear")
    >>> x, options = np.full([2, 4], 0.5), {"steps": 2, "m": 2, "progress": False}
    >>> report = keras_rar.evaluate_robustness(model, x, [0, 1], **options)
    >>> "<h1>Robustness of linear</h1>" in to_html(report)
    True
    """
    name, counts = html.escape(report.model_name), report.counts
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Robustness of {name}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>Robustness of {name}</h1>
<p>How far small perturbations move the predictions and the explanations of this classifier.
Protocol: {html.escape(report.protocol["name"])}.</p>
</header>
<main>
<h2>Summary</h2>
{_summary(report)}
<p>{counts["images"]} images. {counts["misclassified"]} are misclassified and left out of the attribution attack,
{counts["attacked"]} were attacked. For {counts["unchanged"]} of these no change was found, and they score 1;
{counts["constant_maps"]} have a constant map, whose score says nothing.</p>
<h2>Figures</h2>
{_figures(report)}
<h2>Protocol</h2>
{_region("Protocol", _pairs(report.protocol))}
<h2>Versions</h2>
{_pairs(report.versions)}
<h2>Images</h2>
<details>
<summary>{counts["images"]} images, one row each</summary>
{_region("Images", _per_example(report))}
</details>
</main>
<footer>
<p>Fingerprint of weights, data and settings: <code>{html.escape(report.fingerprint)}</code></p>
</footer>
</body>
</html>
"""


def _summary(report: RobustnessReport) -> str:
    rows, meanings = [], []
    for measure, row in report.summary().items():
        mean, low, high = (_number(row[key], measure not in _CORRELATIONS) for key in ("mean", "low", "high"))
        title = html.escape(MEASURES[measure][1])
        rows.append(f'<tr><th scope="row">{title}</th><td>{mean}</td><td>{low} to {high}</td><td>{row["n"]}</td></tr>')
        meanings.append(f"<dt>{title}</dt><dd>{_MEANINGS[measure].format(k=report.protocol['k_report'])}</dd>")
    head = "".join(f'<th scope="col">{title}</th>' for title in ("measure", "mean", "95 % interval", "n"))
    return f"""{_region("Summary", _numbers(head, rows))}
<p>Means over n images, with the interval of the percentile bootstrap.</p>
<dl>
{_lines(meanings)}
</dl>"""


def _region(label: str, content: str) -> str:
    """Content that scrolls where it is too wide, with keys as well."""
    return f'<div class="scroll" role="region" aria-label="{label}" tabindex="0">\n{content}\n</div>'


def _numbers(head: str, rows: Iterable[str]) -> str:
    body = f"<tbody>\n{_lines(rows)}\n</tbody>"
    return f'<table class="numbers">\n<thead><tr>{head}</tr></thead>\n{body}\n</table>'


def _number(value: float, percent: bool = False) -> str:
    """A number rounded for people, with all its digits for machines."""
    if math.isnan(value):
        return "–"
    return f'<data value="{value!r}">{f"{100 * value:.1f} %" if percent else f"{value:.3f}"}</data>'


def _figures(report: RobustnessReport) -> str:
    try:
        figures = [_figure(plotting.plot_histogram(report), *_histogram_texts(report))]
        index = [int(i) for i in report.examples.get("index", [])]
        if index:
            figures.insert(0, _figure(plotting.plot_maps(report, index), *_maps_texts(report, index)))
    except ImportError as error:
        return f"<p>{html.escape(str(error))}</p>"
    return f'<div class="figures">\n{_lines(figures)}\n</div>'


def _figure(figure: Any, caption: str, numbers: str) -> str:
    """A picture inside the page; its numbers are for those who do not see it."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<figure><img alt="{html.escape(f"{caption} {numbers}")}" src="data:image/png;base64,{data}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _histogram_texts(report: RobustnessReport) -> tuple[str, str]:
    row = report.summary()["kendall_tau"]
    return (
        "Kendall's tau of each attacked image, and the number for which no change was found.",
        f"Mean {row['mean']:.2f} of {row['n']} images; no change found for {report.counts['unchanged']}.",
    )


def _maps_texts(report: RobustnessReport, index: list[int]) -> tuple[str, str]:
    taus = ", ".join(f"{report.per_example['kendall_tau'][i]:.2f}" for i in index)
    return (
        "The first attacked images, their saliency maps, the perturbed images and the maps of those. The maps of a "
        "row have one colour scale, from pale to dark.",
        f"Kendall's tau of images {', '.join(map(str, index))}: {taus}.",
    )


def _pairs(table: dict[str, Any]) -> str:
    rows = (
        f'<tr><th scope="row">{html.escape(str(name))}</th><td>{html.escape(str(value))}</td></tr>'
        for name, value in table.items()
    )
    return f"<table>\n<tbody>\n{_lines(rows)}\n</tbody>\n</table>"


def _per_example(report: RobustnessReport) -> str:
    table = report.per_example
    head = "".join(f'<th scope="col">{html.escape(name.replace("_", " "))}</th>' for name in table)
    rows = (
        "<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>"
        for row in zip(*(column.tolist() for column in table.values()), strict=True)
    )
    return _numbers(head, rows)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _number(value)
    return "–" if value == -1 else str(value)


def _lines(parts: Iterable[str]) -> str:
    return "\n".join(parts)
