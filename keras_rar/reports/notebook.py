"""Reports and comparisons as notebooks show them: a table under its warnings."""

import html

from keras_rar.evaluation import tables
from keras_rar.evaluation.comparison import Comparison
from keras_rar.evaluation.report import RobustnessReport
from keras_rar.evaluation.wording import counts_of, settings_line
from keras_rar.reports import page_parts as parts
from keras_rar.reports.comparison_page import differences_tables, means_table
from keras_rar.reports.page import summary_table


def of_report(report: RobustnessReport) -> str:
    """The summary of a report as a fragment of HTML."""
    sentences = [counts_of(report), tables.line_of_noise(report)]
    return _fragment(
        f"Robustness of {report.model_name}, {settings_line(report.protocol)}",
        report.warnings,
        [summary_table(report), *(f"<p>{html.escape(text)}</p>" for text in sentences if text)],
    )


def of_comparison(comparison: Comparison) -> str:
    """The means and differences of a comparison as a fragment of HTML."""
    title = f"{', '.join(comparison.reports)}, {settings_line(comparison.protocol)}"
    return _fragment(title, comparison.warnings, [means_table(comparison), *differences_tables(comparison)])


def _fragment(title: str, warnings: list[str], content: list[str]) -> str:
    said = [f"<p><strong>{html.escape(warning)}</strong></p>" for warning in warnings]
    return "<div>\n" + parts.lines([f"<p><b>{html.escape(title)}</b></p>", *said, *content]) + "\n</div>"
