"""Figures: maps before and after an attack, robustness against ε, the spread of Kendall's tau.

`from keras_rar import plotting` imports them. Each function returns a `matplotlib.figure.Figure` of its own, sized for
one column in print, and leaves pyplot, its backend and its settings alone. Save it with `figure.savefig("maps.pdf")`; a
notebook shows it once `matplotlib.pyplot` is imported. Needs matplotlib: `pip install ".[plot]"` in a checkout.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_rar.core import checks
from keras_rar.evaluation.report import RobustnessReport
from keras_rar.reports import bars, curves, drawing, histograms
from keras_rar.reports.pairs import (
    ROWS,
    by_name,
    channels_last,
    check_indices,
    common_examples,
    pairs_of,
    range_of,
    taus_of,
    warnings_of,
)

CURVES = curves.MEASURES_SHOWN


def plot_maps(
    results: Any,
    indices: Sequence[int] | None = None,
    *,
    class_names: Sequence[str] | None = None,
    feature_names: Sequence[str] | None = None,
    bounds: Any = None,
    width: float = 3.5,
) -> Any:
    """What an attack did to the maps: each example, its map, the perturbed example, and the map of that.

    There is a row per example and model, and those of one example stand together. The two maps of a row have one
    colour scale, which ends at their 99.5th percentile. Inputs that are no pictures are drawn as bars: all entries
    by number, or with `feature_names` the ten that are highest in either map, from the top down as in the first.

    Args:
        results: An `AttackResult` or `RobustnessReport`, or a dictionary of them by the name of the model.
        indices: Which examples, by their rows in the `x` that was attacked; a report keeps the first few only.
            Defaults to the first four that all results have, misclassified ones left out.
        class_names: Names of the classes, shown for the label. Defaults to its number.
        feature_names: Names of the entries of an input that is drawn as bars. Defaults to their numbers.
        bounds: Pair `(lower, upper)`, the range of inputs shown from black to white. Defaults to that of the report,
            else to `(0, 1)`, `(0, 255)` or the range of the data, the first that holds them.
        width: Float > 0, width of the figure in inches. Defaults to `3.5`, one column in print.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If a result does not have the examples asked for, or names do not fit.

    Example:

    >>> model = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> attack = keras_rar.attacks.TopKAttack(k=4, epsilon=0.1, steps=2, m=2)
    >>> figure = plot_maps({"linear": attack(model, np.full([2, 6, 6, 1], 0.5))}, indices=[0])
    >>> len(figure.axes)
    4
    """
    pairs = {name: pairs_of(result, bounds) for name, result in by_name(results).items()}
    indices = common_examples(pairs) if indices is None else list(indices)
    check_indices(indices, pairs)
    rows = [(name, index, found[index]) for index in indices for name, found in pairs.items()]
    figure = drawing.new_figure(width, drawing.height(width, [pair for *_, pair in rows], feature_names))
    drawing.draw_maps(figure, rows, class_names, feature_names)
    return figure


def plot_saliency(
    x: Any,
    maps: Any,
    *,
    titles: Sequence[str] | None = None,
    feature_names: Sequence[str] | None = None,
    bounds: Any = None,
    width: float = 3.5,
) -> Any:
    """Examples beside their saliency maps, one row per example.

    Args:
        x: Array of examples, `(n, ...)`.
        maps: Their maps, `(n, height, width)`, or a dictionary of such arrays by the name of the method.
        titles: A title for each example. Defaults to none.
        feature_names: Names of the entries of an input that is drawn as bars. Defaults to their numbers.
        bounds: As for `plot_maps`.
        width: Float > 0, width of the figure in inches. Defaults to `3.5`, one column in print.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there is not one map or title per example, or names do not fit.

    Example:

    >>> figure = plot_saliency(np.zeros([1, 6, 6, 1]), np.ones([1, 6, 6]), titles=["class 3"])
    >>> [axes.get_title() for axes in figure.axes]
    ['class 3', 'map']
    """
    x = np.asarray(x)
    columns = {
        name: np.asarray(column) for name, column in (maps if isinstance(maps, Mapping) else {"map": maps}).items()
    }
    for column in columns.values():
        if len(column) != len(x):
            raise ValueError(f"`maps` must hold one map per example, {len(x)}. Received: {len(column)} maps")
    titles = [""] * len(x) if titles is None else list(titles)
    if len(titles) != len(x):
        raise ValueError(f"`titles` must hold one title per example, {len(x)}. Received: {len(titles)} titles")
    bounds, x = channels_last(range_of(x) if bounds is None else bounds, next(iter(columns.values()), x), x)
    panel = (width - 0.2) / (1 + len(columns))
    body = panel * drawing.aspect(x[0]) if feature_names is None else bars.height(x[0].size)
    figure = drawing.new_figure(width, len(x) * (body + 0.3))
    panels = figure.subplots(len(x), 1 + len(columns), squeeze=False)
    for row, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        groups = [([x[row]], "input"), *(([column[row]], "map") for column in columns.values())]
        drawing.draw_row(axes, groups, bounds, feature_names)
        axes[0].set_title(drawing.text(title), fontsize=drawing.SMALL)
        for ax, name in zip(axes[1:], columns, strict=True):
            if row == 0 or len(columns) == 1:
                ax.set_title(drawing.text(name), fontsize=drawing.SMALL)
    return figure


def plot_curves(reports: Mapping[str, Mapping[float, RobustnessReport]], *, width: float = 3.5) -> Any:
    """Adversarial accuracy, top-k intersection and Kendall's tau against the radius ε of the attack.

    Means with their 95 % bootstrap intervals, as the reports give them.

    Args:
        reports: Reports by ε, by the name of the model: `{"natural": {0.05: report, 0.1: report}}`.
        width: Float > 0, width of the figure in inches. Defaults to `3.5`, one column in print.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there is nothing to draw.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> x, options = np.full([2, 4], 0.5), {"steps": 2, "m": 2, "progress": False}
    >>> curve = {e: keras_rar.evaluate_robustness(model, x, [0, 1], epsilon=e, **options) for e in (0.1, 0.2)}
    >>> len(plot_curves({"linear": curve}).axes)
    3
    """
    if not reports or not all(reports.values()):
        checks.fail("reports", "a dictionary from name to a dictionary from epsilon to report, not empty", reports)
    warnings = curves.warnings_of(reports)
    figure = drawing.new_figure(width, 1.5 * width + 0.12 * drawing.lines_of_warnings(warnings, width))
    curves.draw(figure, reports)
    drawing.warn(figure, warnings, width)
    return figure


def plot_histogram(results: Any, *, bins: int = 20, width: float = 3.5) -> Any:
    """Kendall's tau of each attacked example, one panel per model, all with the same bins.

    Examples for which no change was found score 1; they are counted, hatched and named.

    Args:
        results: A `RobustnessReport`, an `AttackResult` or an array of taus, or a dictionary of them by the name of
            the model. Of arrays, values of exactly 1 are taken for "no change found".
        bins: Positive integer, number of bins between the least and the greatest value. Defaults to `20`.
        width: Float > 0, width of the figure in inches. Defaults to `3.5`, one column in print.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If a value lies outside [-1, 1].

    Example:

    >>> figure = plot_histogram({"natural": [0.2, 0.3, 0.4], "robust": [0.6, 0.8, 1.0]}, bins=4)
    >>> figure.axes[1].get_title(loc="left")
    'robust\\nn = 3, mean 0.80 (dashed), no change found: 1 (hatched)'
    """
    results = by_name(results)
    named, warnings = {name: taus_of(name, result) for name, result in results.items()}, warnings_of(results)
    height = 0.45 + 1.05 * len(named) + (0.4 if len(named) == 1 else 0)
    figure = drawing.new_figure(width, height + 0.12 * drawing.lines_of_warnings(warnings, width))
    histograms.draw(figure, named, checks.positive_int("bins", bins))
    drawing.warn(figure, warnings, width)
    return figure


def plot_report(
    report: RobustnessReport,
    *,
    class_names: Sequence[str] | None = None,
    feature_names: Sequence[str] | None = None,
    width: float = 3.5,
) -> Any:
    """The first examples of a report over the histogram of Kendall's tau, and the report's warnings below.

    Args:
        report: A `RobustnessReport`.
        class_names: Names of the classes. Defaults to their numbers.
        feature_names: Names of the entries of an input that is drawn as bars. Defaults to their numbers.
        width: Float > 0, width of the figure in inches. Defaults to `3.5`, one column in print.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> options = {"epsilon": 0.1, "steps": 2, "m": 2, "progress": False}
    >>> report = keras_rar.evaluate_robustness(model, np.full([4, 4], 0.5), [0, 1, 0, 1], **options)
    >>> len(plot_report(report).axes)  # two examples, four pictures each, and the histogram
    9
    """
    pairs = dict(list(pairs_of(report).items())[:ROWS])
    heights = [drawing.height(width, list(pairs.values()), feature_names), 1.8] if pairs else [1.8]
    figure = drawing.new_figure(width, sum(heights) + 0.12 * drawing.lines_of_warnings(report.warnings, width))
    *upper, lower = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    if pairs:
        rows = [("", index, pair) for index, pair in pairs.items()]
        drawing.draw_maps(upper[0], rows, class_names, feature_names)
    histograms.draw(lower, {report.model_name: taus_of(report.model_name, report)}, 20)
    drawing.warn(figure, report.warnings, width)
    return figure
