"""How reports speak: the names of measures with their k and ε, the word for an example, and counts."""

from typing import Any

import numpy as np

MEASURES = {
    "natural_accuracy": ("correct", "natural accuracy"),
    "adversarial_accuracy": ("robust", "adversarial accuracy"),
    "topk_intersection": ("topk_intersection", "top-k intersection"),
    "kendall_tau": ("kendall_tau", "Kendall's tau"),
    "spearman_rho": ("spearman_rho", "Spearman's rho"),
}
"""Measure -> its column of the per-example table, and its name for people."""

ACCURACIES = ("natural_accuracy", "adversarial_accuracy")
"""Measures of predictions, over all examples; the others are of maps, over those attacked."""

CORRELATIONS = ("kendall_tau", "spearman_rho")
"""Measures that are no shares: they are not shown in per cent."""

FEW = 20
"""Bootstrap intervals of fewer examples are too narrow."""

_NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0"}


def radius(protocol: dict[str, Any], units: bool = False) -> str:
    """The radius of the attacks with its norm and, if asked for, its units.

    Args:
        protocol: Settings of an evaluation by name.
        units: Whether to add the range of the inputs. Defaults to `False`.

    Returns:
        A few words; empty for settings without a radius.

    Example:

    >>> radius({"epsilon": 8.0, "norm": "linf", "bounds": [0.0, 255.0]}, units=True)
    'ε = 8 (L∞, inputs from 0 to 255)'
    >>> radius({"epsilon": [0.5, 3.0, 0.0], "norm": "linf"})
    'ε = 0.5 to 3 by feature, 0 for 1 of 3 (L∞)'
    """
    if protocol.get("epsilon") is None:
        return ""
    words = [_NORMS[protocol["norm"]]] if protocol.get("norm") in _NORMS else []
    if units:
        words.append(_units(protocol.get("bounds"), protocol.get("layer")))
    return f"ε = {_of_features(protocol['epsilon'])}" + (f" ({', '.join(words)})" if words else "")


def _of_features(epsilon: Any) -> str:
    """One radius, or the least and the greatest of several, and how many are 0."""
    values = np.ravel(epsilon)
    if np.ndim(epsilon) == 0:
        return f"{epsilon:g}"
    ends = [f"{end:g}" for end in (values[values > 0].min(), values.max())]
    fixed = f", 0 for {np.sum(values == 0)} of {len(values)}" if np.any(values == 0) else ""
    return f"{ends[0] if ends[0] == ends[1] else ' to '.join(ends)} by feature{fixed}"


def _units(bounds: Any, layer: str | None) -> str:
    ends = [np.unique(np.asarray(bound, "float64")) for bound in bounds or ()]
    if [len(end) for end in ends] != [1, 1]:  # none, or bounds per entry
        return "in units of the inputs" if layer is None else f"in units of the output of {layer!r}"
    return f"{'inputs' if layer is None else f'output of {layer!r}'} from {ends[0][0]:g} to {ends[1][0]:g}"


def settings_line(protocol: dict[str, Any]) -> str:
    """The radius and the k of an evaluation, for headings."""
    k = protocol.get("k_report")
    return ", ".join(part for part in (radius(protocol, units=True), f"k = {k}" if k else "") if part)


def titles(protocol: dict[str, Any]) -> dict[str, str]:
    """Measures by their names for people, with the ε and the k that they were measured at.

    Args:
        protocol: Settings of an evaluation by name.

    Example:

    >>> titles({"epsilon": 0.1, "norm": "linf", "k_report": 100})["adversarial_accuracy"]
    'adversarial accuracy, ε = 0.1 (L∞)'
    """
    found = {measure: title for measure, (_, title) in MEASURES.items()}
    if radius(protocol):
        found["adversarial_accuracy"] += f", {radius(protocol)}"
    if protocol.get("k_report") is not None:
        found["topk_intersection"] = f"top-{protocol['k_report']} intersection"
    return found


def shared_titles(protocols: list[dict[str, Any]]) -> dict[str, str]:
    """The titles of several evaluations, each without ε or k where they differ."""
    first = protocols[0] if protocols else {}
    names = ("epsilon", "norm", "k_report")
    shared = {name: first.get(name) for name in names if all(p.get(name) == first.get(name) for p in protocols)}
    return titles(shared if "norm" in shared else {**shared, "epsilon": None})


def noun(examples: dict[str, np.ndarray]) -> str:
    """What one input is called: `"image"` if it has height, width and channels, else `"example"`.

    Args:
        examples: The examples that a report keeps; without any, the word that is always right.
    """
    return "image" if np.ndim(examples.get("x", ())) == 4 else "example"


def counted(n: int, noun: str) -> str:
    """A number of things, as text: "1 image", "2 images"."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def counts_of(report: Any) -> str:
    """How many examples a `RobustnessReport` is of, in words."""
    counts = report.counts
    text = (
        f"{counted(counts['examples'], report.noun)}, {counts['misclassified']} misclassified and left out of the "
        f"attribution attack, {counts['attacked']} attacked"
    )
    if not counts["attacked"]:
        return f"{text}."
    return (
        f"{text}; {counts['unchanged']} of these without a change found (score 1), "
        f"{counts['constant_maps']} with a constant map, whose score says nothing."
    )
