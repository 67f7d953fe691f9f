"""What people look at: figures and the HTML page of a report.

May import evaluation and the rooms below it.
"""

from keras_rar.evaluation import report
from keras_rar.reports.plotting import plot_report

report.DRAWN_BY["figure"] = plot_report  # `RobustnessReport.plot`, which lives below this room
