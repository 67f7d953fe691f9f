"""The figure of a `Certificate`: lower bounds over the radius."""

from typing import Any

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
    lines = drawing.lines_of_warnings(certificate.warnings, width)
    figure = drawing.new_figure(width, 1.05 * width + 0.12 * lines)
    panels = figure.subplots(2, 1, sharex=True)
    curve = certificate.curve()
    rows = [
        (f"top-{certificate.k} intersection, at least (%)", certificate.topk_lower, curve["topk"], 100),
        ("cosine, at least", certificate.cosine_lower, curve["cosine"], 1),
    ]
    for ax, (title, each, mean, scale), style in zip(panels, rows, drawing.styles(2), strict=True):
        colour, line, marker = style
        # What is proved at a radius holds down to the one before it: steps, because a slope would claim more.
        ax.step(curve["radii"], scale * each[:_MOST_LINES].T, where="pre", color=colour, alpha=0.2, linewidth=0.7)
        ax.step(curve["radii"], scale * mean, where="pre", color=colour, linestyle=line, linewidth=1.3)
        ax.plot(curve["radii"], scale * mean, color=colour, linestyle="none", marker=marker, markersize=3.5)
        ax.set_title(title, fontsize=drawing.SMALL, loc="left", pad=3)
        ax.set_ylim(0, 1.02 * scale)
        drawing.set_axes(ax)
    panels[-1].set_xlabel("$L_2$ radius (units of the input)", fontsize=drawing.SMALL)
    figure.suptitle(_heading(certificate), fontsize=drawing.TINY, x=0.01, ha="left")
    drawing.warn(figure, certificate.warnings, width)
    return figure


def _heading(certificate: Certificate) -> str:
    n, noise = len(certificate.indices), NOISES[certificate.smoothing]
    return (
        f"{drawing.text(certificate.method)} smoothed by {noise} noise, σ = {certificate.sigma:g}\n"
        f"{counted(n, 'example')}, {certificate.samples} draws; confidence {certificate.confidence:.10g} each, "
        f"{certificate.curve()['confidence']:.4g} for the mean"
    )
