"""What pages are made of: one HTML document that needs nothing else, its tables, numbers and pictures."""

import base64
import html
import io
import math
from collections.abc import Iterable
from typing import Any

from keras_rar.evaluation.tables import Table

STYLE = """
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
.numbers td, .numbers th + th { text-align: right; }
.numbers data, .numbers small { white-space: nowrap; }
@media (max-width: 30rem) { .numbers { font-size: .875rem; } .numbers small { white-space: normal; } }
.numbers td { overflow-wrap: normal; }
.numbers thead th { position: sticky; top: 0; background: Canvas; }
tbody th, dt { font-weight: 600; }
dd { margin: 0 0 .4rem 1rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1.5rem; }
figure { margin: 0; flex: 1 1 20rem; max-width: 27rem; }
img { width: 100%; height: auto; background: #fff; border-radius: .3rem; }
figcaption, footer, caption { font-size: .875rem; }
caption { text-align: left; font-weight: 600; padding: 1rem min(.7rem, 1.2vw) .3rem; }
.warnings { border-left: .3rem solid #d55e00; background: var(--faint); padding: .5rem .8rem; margin: 1rem 0; }
.warnings p { margin: .2rem 0; }
summary { cursor: pointer; padding: .4rem; background: var(--faint); }
code { overflow-wrap: anywhere; }
"""


def document(title: str, header: str, body: str, footer: str) -> str:
    """A page: readable on a phone, light or dark, without script or network.

    Args:
        title: Title of the window, plain text.
        header: HTML of the heading.
        body: HTML of the content.
        footer: HTML of the end.
    """
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
{header}
</header>
<main>
{body}
</main>
<footer>
{footer}
</footer>
</body>
</html>
"""


def warnings(sentences: Iterable[str]) -> str:
    """A box of warnings; nothing if there are none."""
    found = lines(f"<p>{html.escape(sentence)}</p>" for sentence in sentences)
    return f'<div class="warnings" role="note">\n{found}\n</div>' if found else ""


def region(label: str, content: str) -> str:
    """Content that scrolls where it is too wide, with keys as well."""
    return f'<div class="scroll" role="region" aria-label="{label}" tabindex="0">\n{content}\n</div>'


def numbers(head: Iterable[str], rows: Iterable[str], caption: str = "") -> str:
    """A table of numbers.

    Args:
        head: Titles of the columns, plain text.
        rows: HTML of the rows.
        caption: Title of the table, plain text. Defaults to none.
    """
    top = f"<caption>{html.escape(caption)}</caption>\n" if caption else ""
    titles = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in head)
    body = f"<tbody>\n{lines(rows)}\n</tbody>"
    return f'<table class="numbers">\n{top}<thead><tr>{titles}</tr></thead>\n{body}\n</table>'


def row(title: str, cells: Iterable[str]) -> str:
    """A row of a table: its title as plain text, its cells as HTML."""
    return f'<tr><th scope="row">{html.escape(title)}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def plain_table(table: Table) -> str:
    """A table of plain cells, and the sentence about it; a unit or an interval begins a line of its own."""
    rows = [row(first, map(_broken, cells)) for first, *cells in table.rows]
    about = f"\n<p>{html.escape(table.about)}</p>" if table.about else ""
    return region(html.escape(table.title), numbers(table.head, rows)) + about


def _broken(text: str) -> str:
    """A cell as tables in Markdown have it, with the interval in small letters below the mean."""
    mean, bracket, rest = html.escape(text).partition(" [")
    interval, _, n = rest.partition("] ")
    return f"{mean}<br><small>{interval.replace(', ', ' to ')}<br>{n}</small>" if bracket else mean


def interval(row: dict[str, float], percent: bool) -> str:
    """The 95 % interval of a row of a summary; a dash where there is none."""
    low, high = (number(row[key], percent) for key in ("low", "high"))
    return "–" if low == high == "–" else f"{low} to {high}"


def number(value: float, percent: bool = False) -> str:
    """A number rounded for people, with all its digits for machines."""
    if math.isnan(value):
        return "–"
    return f'<data value="{value!r}">{f"{100 * value:.1f} %" if percent else f"{value:.3f}"}</data>'


def picture(figure: Any, caption: str, numbers: str = "") -> str:
    """A picture inside the page; its numbers are for those who do not see it."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<figure><img alt="{html.escape(f"{caption} {numbers}".strip())}" src="data:image/png;base64,{data}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def pairs(table: dict[str, Any]) -> str:
    """A table of names and values."""
    rows = (
        f'<tr><th scope="row">{html.escape(str(name))}</th><td>{html.escape(str(value))}</td></tr>'
        for name, value in table.items()
    )
    return f"<table>\n<tbody>\n{lines(rows)}\n</tbody>\n</table>"


def cell(value: Any) -> str:
    """A value of the table of examples; -1 is none."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    return "–" if value == -1 else str(value)


def lines(parts: Iterable[str]) -> str:
    """These parts of a page, one per line."""
    return "\n".join(parts)
