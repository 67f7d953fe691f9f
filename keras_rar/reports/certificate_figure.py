"""The figure of a `Certificate`: lower bounds over the radius."""

from typing import Any

import numpy as np

from keras_rar.evaluation.certificate import NOISES, Certificate
from keras_rar.evaluation.wording import counted
from keras_rar.reports import drawing

_MOST_LINES = 200


def plot_certificate(certificate: Certificate, *, width: float = 3.5) -> Any:
    """Both lower bounds over the radius: a pale line per example, a dark one for the mean.

    Args:
        certificate: A `Certificate`.
        width: Float > 0, width of the figure in inches. Defaults to `3.5`, one column in print.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> found = keras_rar.certify(model, np.full([2, 4], 0.5), k=1, samples=100, progress=False)
    >>> len(plot_certificate(found).axes)
    2
    """
    curve = certificate.curve()
    each = (certificate.topk_lower, certificate.cosine_lower)
    means = (curve["topk"], curve["cosine"])
    return _figure(curve["radii"], certificate.k, each, means, _heading(certificate), certificate.warnings, width)


def plot_certificate_of_report(found: dict[str, Any], *, width: float = 3.5) -> Any:
    """The same of what a report holds of a certificate, `findings["certificate"]`: the means alone.

    Args:
        found: What `Certificate.as_findings` returned.
        width: Float > 0, width of the figure in inches. Defaults to `3.5`, one column in print.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    noise = NOISES.get(found["smoothing"], found["smoothing"])
    heading = (
        f"Smoothed by {noise} noise, σ = {found['sigma']:g}, {counted(found['n'], 'example')};\n"
        f"confidence {found['confidence_of_means']:.4g} for the mean"
    )
    means = (np.asarray(found["topk"]), np.asarray(found["cosine"]))
    return _figure(np.asarray(found["radii"]), found["k"], None, means, heading, found.get("warnings", []), width)


def _figure(radii: Any, k: int, each: Any, means: Any, heading: str, warnings: list[str], width: float) -> Any:
    """Two panels, the top-k intersection over the cosine: lower bounds per example, if given, and their means."""
    lines = drawing.lines_of_warnings(warnings, width)
    figure = drawing.new_figure(width, 1.05 * width + 0.12 * lines)
    panels = figure.subplots(2, 1, sharex=True)
    titles = ((f"top-{k} intersection, at least (%)", 100), ("cosine, at least", 1))
    for row, (ax, (title, scale), style) in enumerate(zip(panels, titles, drawing.styles(2), strict=True)):
        colour, line, marker = style
        # What is proved at a radius holds down to the one before it: steps, because a slope would claim more.
        if each is not None:
            ax.step(radii, scale * each[row][:_MOST_LINES].T, where="pre", color=colour, alpha=0.2, linewidth=0.7)
        ax.step(radii, scale * means[row], where="pre", color=colour, linestyle=line, linewidth=1.3)
        ax.plot(radii, scale * means[row], color=colour, linestyle="none", marker=marker, markersize=3.5)
        ax.set_title(title, fontsize=drawing.SMALL, loc="left", pad=3)
        ax.set_ylim(0, 1.02 * scale)
        drawing.set_axes(ax)
    panels[-1].set_xlabel("$L_2$ radius (units of the input)", fontsize=drawing.SMALL)
    figure.suptitle(heading, fontsize=drawing.TINY, x=0.01, ha="left")
    drawing.warn(figure, warnings, width)
    return figure


def _heading(certificate: Certificate) -> str:
    n, noise = len(certificate.indices), NOISES[certificate.smoothing]
    return (
        f"{drawing.text(certificate.method)} smoothed by {noise} noise, σ = {certificate.sigma:g}\n"
        f"{counted(n, 'example')}, {certificate.samples} draws; confidence {certificate.confidence:.10g} each, "
        f"{certificate.curve()['confidence']:.4g} for the mean"
    )
