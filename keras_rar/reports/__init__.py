"""What people look at: figures and HTML pages of reports and comparisons.

May import evaluation and the rooms below it.
"""

from keras_rar.evaluation import report
from keras_rar.reports import notebook
from keras_rar.reports.certificate_figure import plot_certificate
from keras_rar.reports.comparison_figure import plot_comparison
from keras_rar.reports.comparison_page import comparison_to_html
from keras_rar.reports.page import to_html
from keras_rar.reports.plotting import plot_report

report.DRAWN_BY |= {  # what reports and comparisons ask for, which live below this room
    "figure": plot_report,
    "page": to_html,
    "notebook": notebook.of_report,
    "certificate figure": plot_certificate,
    "comparison figure": plot_comparison,
    "comparison page": comparison_to_html,
    "comparison notebook": notebook.of_comparison,
}
