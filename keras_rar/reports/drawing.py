"""What figures are made of: rows of inputs and maps, as pictures or as bars."""

import dataclasses
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_rar.core import checks, label_sets
from keras_rar.reports import bars

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
SMALL, TINY = 7, bars.TINY  # points
_FRAME = "#808080"
INK = "#404040"


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
    radius: str  # "ε = 0.1 (L∞)"
    bounds: Any

    @property
    def picture(self) -> bool:
        """Whether it is drawn as a picture, not as bars."""
        return self.x.ndim in (2, 3)

    @property
    def noun(self) -> str:
        return "image" if self.x.ndim == 3 else "example"

    @property
    def title(self) -> str:
        tau = "–" if np.isnan(self.kendall_tau) else f"{self.kendall_tau:.2f}"
        share = "–" if np.isnan(self.topk_intersection) else f"{100 * self.topk_intersection:.0f} %"
        scores = f"τ = {tau}\n{self.top}: {share}"
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


def height(width: float, pairs: list[Pair], feature_names: Sequence[str] | None = None) -> float:
    """Height in inches of the rows of these pairs in a figure of that width."""
    total = 0.0
    for pair in pairs:
        body = (width - 0.3) / 4 * aspect(pair.x) if feature_names is None else bars.height(pair.x.size)
        total += body + 0.12 * (2 + (pair.iteration == 0) + (feature_names is not None)) + 0.06
    return total


def warn(figure: Any, warnings: Sequence[str], width: float) -> None:
    """Write warnings under everything else, small."""
    lines = _wrapped(warnings, width)
    if lines:
        figure.supxlabel("\n".join(lines).replace("$", r"\$"), fontsize=TINY, x=0.02, ha="left")


def lines_of_warnings(warnings: Sequence[str], width: float) -> int:
    return len(_wrapped(warnings, width))


def _wrapped(warnings: Sequence[str], width: float) -> list[str]:
    """Lines of 20 letters per inch, which fit if they are wide ones too."""
    return [line for warning in warnings for line in textwrap.wrap(warning, int(20 * width))]


def styles(n: int) -> list[tuple]:
    return [_STYLES[i % len(_STYLES)] for i in range(n)]


def set_axes(ax: Any) -> None:
    ax.tick_params(labelsize=TINY, width=0.5, length=2, color=_FRAME)
    for side, spine in ax.spines.items():
        spine.set(linewidth=0.5, color=_FRAME, visible=side in ("left", "bottom"))


def draw_maps(
    figure: Any,
    rows: list[tuple[str, int, Pair]],
    class_names: Sequence[str] | None,
    feature_names: Sequence[str] | None = None,
) -> None:
    """A row per pair: the example, its map, the perturbed example and the map of that."""
    panels = figure.subplots(len(rows), 4, squeeze=False)
    for axes, (name, index, pair) in zip(panels, rows, strict=True):
        inputs, maps = [pair.x, pair.x_adv], [pair.map_before, pair.map_after]
        draw_row(axes[[0, 2, 1, 3]], [(inputs, "input"), (maps, "map")], pair.bounds, feature_names)
        shown = _label(class_names, pair.label)
        attacked = f"attacked\n{pair.radius}".strip()
        titles = [f"{pair.noun} {index}\n{text(shown, 14)}", "its map", attacked, pair.title]
        if feature_names is not None:  # whose panels are narrow
            titles = [title.replace(" (", "\n(").replace(": ", "\n") for title in titles]
        for ax, title in zip(axes, titles, strict=True):
            ax.set_title(title, fontsize=SMALL, pad=2)
        axes[0].set_ylabel(text(name, 16), fontsize=SMALL)


def draw_row(
    axes: Sequence[Any],
    groups: list[tuple[list[np.ndarray], str]],
    bounds: Any,
    feature_names: Sequence[str] | None,
) -> None:
    """Inputs and maps, those of one group on one scale; as bars with names if there are names."""
    flat = [(values, group, kind) for group, kind in groups for values in group]
    if feature_names is not None:
        bars.check_names(feature_names, flat[0][0])
        maps = [values for values, _, kind in flat if kind == "map"]
        chosen = bars.highest(maps)
        for i, (ax, (values, group, kind)) in enumerate(zip(axes, flat, strict=True)):
            colour = _STYLES[0][0] if kind == "map" else INK
            bars.draw_named(ax, values, group, colour, chosen, feature_names if i == 0 else None)
            set_axes(ax)
        return
    for ax, (values, group, kind) in zip(axes, flat, strict=True):
        if kind == "map":
            draw_map(ax, values, group)
        else:
            draw_input(ax, values, bounds, group)


def draw_input(ax: Any, x: np.ndarray, bounds: Any, inputs: list[np.ndarray]) -> None:
    if x.ndim not in (2, 3):
        bars.draw(ax, x, inputs, INK)
        set_axes(ax)
        return
    lower, upper = (np.asarray(bound, "float64") for bound in bounds)
    image = np.clip((x - lower) / (upper - lower), 0, 1)
    if x.ndim == 3 and x.shape[-1] != 3:  # one channel, or more than eyes have: as grey
        image = image.mean(axis=-1)
    _draw_picture(ax, image, cmap="gray", vmin=0, vmax=1)


def draw_map(ax: Any, values: np.ndarray, maps: list[np.ndarray]) -> None:
    if values.ndim != 2:
        bars.draw(ax, values, maps, _STYLES[0][0])
        set_axes(ax)
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


def _label(class_names: Sequence[str] | None, label: int) -> str:
    """The name of a label, or the names of a set of labels."""
    present = label_sets.indices(label)
    if class_names is None:
        return f"label {present[0]}" if len(present) == 1 else f"labels {', '.join(map(str, present)) or 'none'}"
    if any(index >= len(class_names) for index in present):
        missing = next(index for index in present if index >= len(class_names))
        raise ValueError(f"`class_names` must have a name for label {missing}. Received: {len(class_names)} names")
    return ", ".join(class_names[index] for index in present) or "no label"
