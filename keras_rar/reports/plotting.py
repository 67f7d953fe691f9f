"""Figures: maps before and after an attack, robustness against ε, the spread of Kendall's tau.

`from keras_rar import plotting` imports them. Each function returns a `matplotlib.figure.Figure` of its own, sized for
one column in print, and leaves pyplot, its backend and its settings alone. Save it with `figure.savefig("maps.pdf")`; a
notebook shows it once `matplotlib.pyplot` is imported. Needs matplotlib: `pip install ".[plot]"` in a checkout.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_rar.core import checks
from keras_rar.evaluation.intervals import MEASURES
from keras_rar.evaluation.report import RobustnessReport
from keras_rar.reports import drawing
from keras_rar.reports.pairs import (
    ROWS,
    by_name,
    check_indices,
    common_examples,
    counts_text,
    pairs_of,
    range_of,
    taus_of,
)

CURVES = ("adversarial_accuracy", "topk_intersection", "kendall_tau")


def plot_maps(
    results: Any,
    indices: Sequence[int] | None = None,
    *,
    class_names: Sequence[str] | None = None,
    bounds: Any = None,
    width: float = 3.5,
) -> Any:
    """What an attack did to the maps: each example, its map, the perturbed example, and the map of that.

    A row for each example and model, those of one example together. The two maps of a row have one colour scale,
    which ends at their 99.5th percentile. Inputs that are no images are drawn as bars.

    Args:
        results: An `AttackResult` or `RobustnessReport`, or a dictionary of them by the name of the model.
        indices: Which examples, by their rows in the `x` that was attacked; a report keeps the first few only.
            Defaults to the first four that all results have, misclassified ones left out.
        class_names: Names of the classes, shown for the label. Defaults to its number.
        bounds: Pair `(lower, upper)`, the range of inputs shown from black to white. Defaults to that of the report,
            else to `(0, 1)`, `(0, 255)` or the range of the data, the first that holds them.
        width: Float > 0, width of the figure in inches. Defaults to `3.5`, one column in print.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If a result has not the examples asked for.

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
    figure = drawing.new_figure(width, drawing.height(width, [pair for *_, pair in rows]))
    drawing.draw_maps(figure, rows, class_names)
    return figure


def plot_saliency(
    x: Any, maps: Any, *, titles: Sequence[str] | None = None, bounds: Any = None, width: float = 3.5
) -> Any:
    """Examples beside their saliency maps, a row each.

    Args:
        x: Array of examples, `(n, ...)`.
        maps: Their maps, `(n, height, width)`, or a dictionary of such arrays by the name of the method.
        titles: A title for each example. Defaults to none.
        bounds: As for `plot_maps`.
        width: Float > 0, width of the figure in inches. Defaults to `3.5`, one column in print.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there is not one map an example.

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
            raise ValueError(f"`maps` must hold one map an example, {len(x)}. Received: {len(column)} maps")
    titles = [""] * len(x) if titles is None else list(titles)
    if len(titles) != len(x):
        raise ValueError(f"`titles` must hold one title an example, {len(x)}. Received: {len(titles)} titles")
    cell = (width - 0.2) / (1 + len(columns))
    figure = drawing.new_figure(width, len(x) * (cell * drawing.aspect(x[0]) + 0.3))
    panels = figure.subplots(len(x), 1 + len(columns), squeeze=False)
    for row, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        drawing.draw_input(axes[0], x[row], range_of(x) if bounds is None else bounds, [x[row]])
        axes[0].set_title(drawing.text(title), fontsize=drawing.SMALL)
        for ax, (name, column) in zip(axes[1:], columns.items(), strict=True):
            drawing.draw_map(ax, column[row], [column[row]])
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
    figure = drawing.new_figure(width, 1.5 * width)
    panels = figure.subplots(len(CURVES), 1, sharex=True)
    every = [report for curve in reports.values() for report in curve.values()]
    for ax, measure in zip(panels, CURVES, strict=True):
        scale = 1 if measure == "kendall_tau" else 100
        for (name, curve), (colour, line, marker) in zip(reports.items(), drawing.styles(len(reports)), strict=True):
            epsilons = sorted(curve)
            summaries = [curve[epsilon].summary()[measure] for epsilon in epsilons]
            mean, low, high = (np.array([scale * row[key] for row in summaries]) for key in ("mean", "low", "high"))
            ax.fill_between(epsilons, low, high, color=colour, alpha=0.18, linewidth=0)
            ax.plot(
                epsilons, mean, color=colour, linestyle=line, marker=marker, markersize=3.5, linewidth=1.1,
                clip_on=False, label=drawing.text(name),
            )  # fmt: skip
        counts = [report.summary()[measure]["n"] for report in every]
        title = MEASURES[measure][1] + ("" if scale == 1 else " (%)")
        ax.set_title(f"{title}, {counts_text(counts)}", fontsize=drawing.SMALL, loc="left", pad=3)
        ax.set_ylim(min(0, ax.get_ylim()[0]) if scale == 1 else 0, scale)
        drawing.set_axes(ax)
    norms = {report.protocol["norm"] for report in every}
    norm = {"linf": ", $L_\\infty$", "l2": ", $L_2$"}.get(norms.pop(), "") if len(norms) == 1 else ""
    panels[-1].set_xlabel(f"radius ε of the attack{norm} (units of the input)", fontsize=drawing.SMALL)
    figure.legend(
        handles=panels[0].get_lines(), loc="outside upper center", ncols=2, fontsize=drawing.SMALL, frameon=False,
        handlelength=3.5, title="mean, 95 % bootstrap interval", title_fontsize=drawing.TINY,
    )  # fmt: skip
    return figure


def plot_histogram(results: Any, *, bins: int = 20, width: float = 3.5) -> Any:
    """Kendall's tau of each attacked example, a panel a model, all with the same bins.

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
    named = {name: taus_of(name, result) for name, result in by_name(results).items()}
    figure = drawing.new_figure(width, 0.45 + 1.05 * len(named) + (0.4 if len(named) == 1 else 0))
    drawing.draw_histogram(figure, named, checks.positive_int("bins", bins))
    return figure


def plot_report(report: RobustnessReport, *, class_names: Sequence[str] | None = None, width: float = 3.5) -> Any:
    """The first examples of a report over the histogram of Kendall's tau.

    Args:
        report: A `RobustnessReport`.
        class_names: Names of the classes. Defaults to their numbers.
        width: Float > 0, width of the figure in inches. Defaults to `3.5`, one column in print.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> options = {"steps": 2, "m": 2, "progress": False}
    >>> report = keras_rar.evaluate_robustness(model, np.full([4, 4], 0.5), [0, 1, 0, 1], **options)
    >>> len(plot_report(report).axes)  # two examples, four pictures each, and the histogram
    9
    """
    pairs = dict(list(pairs_of(report).items())[:ROWS])
    heights = [drawing.height(width, list(pairs.values())), 1.8] if pairs else [1.8]
    figure = drawing.new_figure(width, sum(heights))
    *upper, lower = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    if pairs:
        drawing.draw_maps(upper[0], [("", index, pair) for index, pair in pairs.items()], class_names)
    drawing.draw_histogram(lower, {report.model_name: taus_of(report.model_name, report)}, 20)
    return figure
