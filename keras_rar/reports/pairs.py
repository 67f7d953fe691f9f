"""Results of attacks in the form that figures draw: one pair of inputs and maps per example."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_rar.attacks import AttackResult
from keras_rar.core import checks
from keras_rar.evaluation import wording
from keras_rar.evaluation.report import RobustnessReport
from keras_rar.reports import drawing
from keras_rar.reports.histograms import Taus

ROWS = 4  # examples shown unless said otherwise


def by_name(results: Any) -> dict[str, Any]:
    named = dict(results) if isinstance(results, Mapping) else {"": results}
    return named or checks.fail("results", "not empty", results)


def pairs_of(result: Any, bounds: Any = None) -> dict[int, drawing.Pair]:
    """The examples that there are pictures of, by their rows in the data."""
    if isinstance(result, RobustnessReport):
        examples, table = result.examples, result.per_example
        rows = examples.get("index", np.zeros(0, int))
        top = f"top-{result.protocol.get('k_report') or 'k'}"
        radius = wording.radius(result.protocol)
        bounds = result.protocol["bounds"] if bounds is None else bounds
    elif isinstance(result, AttackResult):
        examples = {key: getattr(result, key) for key in ("x", "x_adv", "map_before", "map_after")}
        table = {"label": result.y, "iteration": result.iteration, **result.scores}
        table["correct"] = result.correct
        rows, top, radius = np.arange(len(result.x)), "top-k", ""
    else:
        checks.fail("results", "AttackResult or RobustnessReport objects", result, TypeError)
    if bounds is None and len(rows):
        bounds = range_of(examples["x"], examples["x_adv"])
    if len(rows):
        data_format = result.protocol.get("data_format") if isinstance(result, RobustnessReport) else None
        before = examples["x"], examples["x_adv"]
        bounds, x, x_adv = channels_last(bounds, examples["map_before"], *before, data_format=data_format)
        examples = {**examples, "x": x, "x_adv": x_adv}
    names = ("label", "kendall_tau", "topk_intersection", "iteration", "correct")
    shown = {key: array for key, array in examples.items() if key != "index"}
    return {
        int(row): drawing.Pair(
            top=top,
            radius=radius,
            bounds=bounds,
            **{key: array[i] for key, array in shown.items()},
            **{key: table[key][row].item() for key in names},
        )
        for i, row in enumerate(rows)
    }


def common_examples(pairs: dict[str, dict[int, drawing.Pair]]) -> list[int]:
    """The first examples that all results have."""
    kept = ({index for index, pair in found.items() if pair.correct} for found in pairs.values())
    return sorted(set.intersection(*kept))[:ROWS]


def check_indices(indices: list[int], pairs: dict[str, dict[int, drawing.Pair]]) -> None:
    for name, found in pairs.items():
        if not indices or not set(indices) <= set(found):
            raise ValueError(
                f"`indices` must be among the examples kept by every result; {name or 'it'} has {sorted(found)}. "
                f"Received: indices={indices}"
            )


def taus_of(name: str, result: Any) -> Taus:
    """Kendall's tau of each attacked example, and how many of them were not found to change."""
    if isinstance(result, RobustnessReport):
        unchanged = result.counts["unchanged"]
        return Taus(result.values("kendall_tau"), unchanged, result.noun, wording.radius(result.protocol, units=True))
    if isinstance(result, AttackResult):
        taus = result.scores["kendall_tau"][result.correct].astype("float64")
        unchanged = int(np.sum(result.correct & (result.iteration == 0)))
        return Taus(taus, unchanged, wording.noun({"x": result.x}))
    values = np.asarray(result, "float64").ravel()
    if np.any(np.abs(values) > 1):
        raise ValueError(f"`results` must hold values from -1 to 1. Received: {name or 'an array'} with others")
    return Taus(values, int(np.sum(values == 1)))


def warnings_of(results: dict[str, Any]) -> list[str]:
    """The warnings of these reports, each once, with the names of the models where there are several."""
    found: dict[str, list[str]] = {}
    for name, result in results.items():
        for warning in result.warnings if isinstance(result, RobustnessReport) else []:
            found.setdefault(warning, []).append(name)
    return [
        warning if len(names) == len(results) else f"{', '.join(names)}: {warning}" for warning, names in found.items()
    ]


def range_of(*inputs: np.ndarray) -> tuple[float, float]:
    """The range that these inputs seem to come from."""
    lower, upper = min(float(x.min()) for x in inputs), max(float(x.max()) for x in inputs)
    for known in ((0.0, 1.0), (0.0, 255.0)):
        if known[0] <= lower and upper <= known[1]:
            return known
    return lower, upper if upper > lower else lower + 1


def channels_last(
    bounds: Any, maps: np.ndarray, *inputs: np.ndarray, data_format: str | None = None
) -> tuple[Any, ...]:
    """Bounds and inputs as they are drawn, with their channels last.

    Args:
        bounds: Pair `(lower, upper)` of floats, or arrays that broadcast to an input.
        maps: The maps of the inputs.
        *inputs: Arrays of one shape, `(n, ...)`.
        data_format: Where they have their channels. Defaults to `None`, to be told from the shape of the maps.
    """
    shape = inputs[0].shape[1:]
    if data_format is None and maps.shape[1:] == shape[1:] != shape[:-1]:
        data_format = "channels_first"
    if data_format != "channels_first" or len(shape) != 3:
        return bounds, *inputs
    bounds = tuple(np.moveaxis(np.broadcast_to(bound, shape), 0, -1) for bound in bounds)
    return bounds, *(np.moveaxis(x, 1, -1) for x in inputs)


def counts_text(counts: list[float]) -> str:
    fewest, most = min(counts), max(counts)
    return f"n = {fewest}" if fewest == most else f"n = {fewest} to {most}"
