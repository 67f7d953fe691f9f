"""What figures are made of: pictures, maps, bars and histograms on the axes of matplotlib."""

import dataclasses
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_rar.core import checks

MAP_COLOURS = "magma_r"
"""Pale to black in even steps: reads the same in grey and to the colour-blind, and unlike the images."""
_STYLES = [  # colours of Okabe & Ito (2008); each differs from the others in line and marker as well
    ("#0072B2", "-", "o"),
    ("#D55E00", "--", "s"),
    ("#009E73", "-.", "^"),
    ("#CC79A7", ":", "D"),
    ("#E69F00", (0, (5, 1, 1, 1, 1, 1)), "v"),
    ("#56B4E9", (0, (1, 3)), "P"),
    ("#000000", (0, (7, 2)), "X"),
]
_FULL = 99.5  # percentile of a pair of maps shown as the darkest colour: a few pixels hold much of a map
SMALL, TINY = 7, 6.5  # points
_FRAME = "#808080"


@dataclasses.dataclass(frozen=True)
class Pair:
    """One example before and after."""

    x: np.ndarray
    x_adv: np.ndarray
    map_before: np.ndarray
    map_after: np.ndarray
    label: int
    kendall_tau: float
    topk_intersection: float
    iteration: int
    correct: bool
    top: str  # "top-100"
    bounds: Any

    @property
    def title(self) -> str:
        scores = f"τ = {self.kendall_tau:.2f}\n{self.top}: {100 * self.topk_intersection:.0f} %"
        return scores if self.iteration else f"no change\n{scores}"


def new_figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Figures need matplotlib: pip install ".[plot]" in a checkout of keras_rar') from error
    return Figure(figsize=(checks.positive_float("width", width), height), dpi=200, layout="constrained")


def text(value: Any, width: int = 24) -> str:
    """A string of the user's as text: no formula, wrapped, and not hidden from legends by an underscore."""
    lines = "\n".join(textwrap.wrap(str(value), width)).replace("$", r"\$")
    return "\u2009" + lines if lines.startswith("_") else lines


def aspect(x: np.ndarray) -> float:
    """Height of a picture of this input as a share of its width."""
    return float(np.clip(x.shape[0] / x.shape[1], 1 / 3, 3)) if x.ndim in (2, 3) else 0.8


def height(width: float, pairs: list[Pair]) -> float:
    lines = [2 + (pair.iteration == 0) for pair in pairs]
    return sum((width - 0.3) / 4 * aspect(pair.x) + 0.12 * n + 0.06 for pair, n in zip(pairs, lines, strict=True))


def styles(n: int) -> list[tuple]:
    return [_STYLES[i % len(_STYLES)] for i in range(n)]


def set_axes(ax: Any) -> None:
    ax.tick_params(labelsize=TINY, width=0.5, length=2, color=_FRAME)
    for side, spine in ax.spines.items():
        spine.set(linewidth=0.5, color=_FRAME, visible=side in ("left", "bottom"))


def draw_maps(figure: Any, rows: list[tuple[str, int, Pair]], class_names: Sequence[str] | None) -> None:
    panels = figure.subplots(len(rows), 4, squeeze=False)
    for axes, (name, index, pair) in zip(panels, rows, strict=True):
        inputs, maps = [pair.x, pair.x_adv], [pair.map_before, pair.map_after]
        for ax, image in zip(axes[::2], inputs, strict=True):
            draw_input(ax, image, pair.bounds, inputs)
        for ax, values in zip(axes[1::2], maps, strict=True):
            draw_map(ax, values, maps)
        shown = f"label {pair.label}" if class_names is None else _class_name(class_names, pair.label)
        kind = "image" if pair.x.ndim in (2, 3) else "example"
        titles = [f"{kind} {index}\n{text(shown, 14)}", "its map", "attacked", pair.title]
        for ax, title in zip(axes, titles, strict=True):
            ax.set_title(title, fontsize=SMALL, pad=2)
        axes[0].set_ylabel(text(name, 16), fontsize=SMALL)


def draw_histogram(figure: Any, named: dict[str, tuple[np.ndarray, int]], bins: int) -> None:
    panels = figure.subplots(len(named), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    values = np.concatenate([taus for taus, _ in named.values()])
    edges = np.linspace(*_span_of(values[~np.isnan(values)]), bins + 1)
    for ax, (name, (taus, unchanged)), (colour, *_) in zip(panels, named.items(), styles(len(named)), strict=True):
        counts, _ = np.histogram(taus, edges)
        without = np.zeros_like(counts)
        without[-1] = unchanged  # they score 1, the end of the last bin
        ax.stairs(counts, edges, fill=True, color=colour, alpha=0.85)
        if unchanged:
            ax.stairs(without, edges, fill=True, facecolor="white", edgecolor=colour, hatch="////", linewidth=0.8)
        ax.set_title(_histogram_title(name, taus, unchanged), fontsize=SMALL, loc="left", pad=3)
        if not np.all(np.isnan(taus)):
            ax.axvline(np.nanmean(taus), color="black", linewidth=0.9, linestyle="--")
        ax.locator_params(axis="y", integer=True, nbins=5)
        ax.set_ylabel("images", fontsize=SMALL)
        set_axes(ax)
    panels[-1].set_xlabel("Kendall's τ of the maps before and after the attack", fontsize=SMALL)


def draw_input(ax: Any, x: np.ndarray, bounds: Any, inputs: list[np.ndarray]) -> None:
    if x.ndim not in (2, 3):
        _draw_bars(ax, x, inputs, "#404040")
        return
    lower, upper = (np.asarray(bound, "float64") for bound in bounds)
    image = np.clip((x - lower) / (upper - lower), 0, 1)
    if x.ndim == 3 and x.shape[-1] != 3:  # one channel, or more than eyes have: as grey
        image = image.mean(axis=-1)
    _draw_picture(ax, image, cmap="gray", vmin=0, vmax=1)


def draw_map(ax: Any, values: np.ndarray, maps: list[np.ndarray]) -> None:
    if values.ndim != 2:
        _draw_bars(ax, values, maps, _STYLES[0][0])
        return
    finite = np.nan_to_num(np.stack(maps))
    highest = float(np.percentile(finite, _FULL)) or float(finite.max()) or 1.0
    _draw_picture(ax, values, cmap=MAP_COLOURS, vmin=min(0.0, float(finite.min())), vmax=highest)


def _draw_picture(ax: Any, image: np.ndarray, **options: Any) -> None:
    stretched = image.shape[0] / image.shape[1] != aspect(image)  # of an input that is nearly a line
    ax.imshow(image, interpolation="nearest", aspect="auto" if stretched else "equal", **options)
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(linewidth=0.4, color=_FRAME)


def _draw_bars(ax: Any, values: np.ndarray, together: list[np.ndarray], colour: str) -> None:
    """A bar an entry, on the scale of all that are to be compared; one patch, however many there are."""
    heights = np.zeros(2 * values.size - 1)
    heights[::2] = values.ravel()
    edges = np.arange(values.size)[:, np.newaxis] + [-0.4, 0.4]
    ax.stairs(heights, edges.ravel(), fill=True, color=colour)
    lowest, highest = min(0.0, float(np.min(together))), max(0.0, float(np.max(together)))
    margin = 0.05 * (highest - lowest) or 0.05
    ax.set_ylim(lowest - margin * (lowest < 0), highest + margin)
    ax.set_xticks(sorted({0, values.size - 1}))
    ax.set_xlabel("entry", fontsize=TINY, labelpad=-6)  # between the two numbers
    set_axes(ax)


def _class_name(class_names: Sequence[str], label: int) -> str:
    if label >= len(class_names):
        raise ValueError(f"`class_names` must have a name for label {label}. Received: {len(class_names)} names")
    return class_names[label]


def _histogram_title(name: str, taus: np.ndarray, unchanged: int) -> str:
    missing = int(np.sum(np.isnan(taus)))
    mean = f"mean {np.nanmean(taus):.2f} (dashed), " if len(taus) > missing else ""
    hatched = " (hatched)" if unchanged else ""
    undefined = f", undefined: {missing}" if missing else ""
    return f"{text(name, 48)}\nn = {len(taus)}, {mean}no change found: {unchanged}{hatched}{undefined}".strip()


def _span_of(taus: np.ndarray) -> tuple[float, float]:
    """Where the bins begin and end, in tenths."""
    if not len(taus):
        return -1.0, 1.0
    lowest, highest = np.floor(10 * taus.min()) / 10, np.ceil(10 * taus.max()) / 10
    lowest, highest = min(lowest, highest - 0.1, taus.min()), max(highest, lowest + 0.1, taus.max())  # min: rounding
    return max(-1.0, lowest), min(1.0, highest)
