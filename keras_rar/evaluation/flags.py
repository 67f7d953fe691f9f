"""What a report finds wrong with itself, in words: one sentence each, the gravest first."""

import math
from typing import Any

import numpy as np

from keras_rar.attacks import agreement
from keras_rar.evaluation import contrasts
from keras_rar.evaluation.verdicts import FEWEST
from keras_rar.evaluation.wording import FEW, counted, titles

APART = 0.1
"""The difference of two models that a report should be able to show: ten points, as between methods of training."""

UNDECIDED = 0.1
"""Share of maps without k entries above the lowest that is said."""

WITHOUT_GRADIENTS = ("square", "evolution", "search", "gradient-free", "gradient_free")
"""Parts of the names of members of an ensemble that follow no gradient."""

NOISE = "noise"
"""The name of the member of an ensemble that is the control."""

SQUARE_GAIN = 0.002
"""Share of predictions that only the search without gradients changes from which AutoAttack doubts the gradients."""

_NAMED = 8


def faults_of(report: Any) -> list[str]:
    """The warnings that do not depend on how many examples there are.

    Args:
        report: A `RobustnessReport`.
    """
    found = [] if report.complete else ["Incomplete: the evaluation was interrupted."]
    if not report.counts["attacked"]:
        return [*found, "No map was attacked, so nothing is known of the explanations."]
    parts = (_unmoved, _constant, _undefined, _noise, _random_points, _masked, _twin, _undecided, _unfaithful, _skipped)
    found += [report.findings[name] for name in ("discrete", "short") if name in report.findings]
    return [*found, *(sentence for part in parts if (sentence := part(report)))]


def cautions(rows: dict[str, dict[str, float]], noun: str) -> list[str]:
    """The warnings about few examples and wide intervals; of none, nothing is shown.

    Args:
        rows: What `RobustnessReport.summary` returned, by the titles of the measures.
        noun: What one input is called.
    """
    found = few([row["n"] for row in rows.values()], noun)
    limit = math.sqrt(2) * APART
    wide = {title: row["high"] - row["low"] for title, row in rows.items() if row["n"] >= FEW}
    wide = {title: width for title, width in wide.items() if width > limit}
    if wide:
        named = listed([f"{title} ({width:.2f} wide)" for title, width in wide.items()])
        found.append(
            f"Intervals are too wide to rank two models that are {APART:g} apart: {named}. "
            f"Take more {noun}s, or compare the models on the same ones."
        )
    return found


def few(numbers: list[float], noun: str) -> list[str]:
    """The warning about intervals of few examples."""
    some = any(0 < n < FEW for n in numbers)
    return [f"Intervals of fewer than {FEW} {noun}s are too narrow."] if some else []


def listed(names: list[str]) -> str:
    """Names in a sentence.

    Example:

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _unmoved(report: Any) -> str:
    counts = report.counts
    unchanged, attacked = counts["unchanged"], counts["attacked"]
    if not unchanged:
        return ""
    if unchanged == attacked:
        return "The attack changed no map: the scores of 1 say that it failed, not that the maps are robust."
    return (
        f"The attack did not change the map of {unchanged} of {counted(attacked, report.noun)} "
        f"({100 * unchanged / attacked:.0f} %): scores of 1 say that it failed there, not that these maps are robust."
    )


def _constant(report: Any) -> str:
    counts = report.counts
    constant, attacked = counts["constant_maps"], counts["attacked"]
    if not constant:
        return ""
    if constant == attacked:
        return "Every map attacked has one value everywhere: its score says nothing."
    return (
        f"{constant} of {attacked} maps attacked {'has' if constant == 1 else 'have'} one value everywhere, as of "
        "saturated outputs: the scores of these say nothing."
    )


def _undefined(report: Any) -> str:
    rows, noun = undefined_rows(report), report.noun
    if not len(rows):
        return ""
    if len(rows) == report.counts["attacked"] > 1:
        return f"The scores of all {counted(len(rows), noun)} attacked are undefined, so their means are too."
    if len(rows) == report.counts["attacked"]:
        return f"The score of {noun} {rows[0]}, the only one attacked, is undefined, so the means are too."
    if len(rows) == 1:
        return f"The score of {noun} {rows[0]} is undefined: it is in no mean, and not robust."
    named = [str(row) for row in rows[:_NAMED]]
    if len(rows) > _NAMED:
        named.append(f"{len(rows) - _NAMED} more")
    return f"The scores of {noun}s {listed(named)} are undefined: they are in no mean, and not robust."


def undefined_rows(report: Any) -> np.ndarray:
    """The numbers of the attacked examples with a score that is not a number."""
    table = report.per_example
    undefined = np.isnan([table[name] for name in contrasts.OF_MAPS]).any(axis=0)
    return table["index"][table["attacked"] & undefined]


def _noise(report: Any) -> str:
    names, found = titles(report.protocol), {}
    for kind in ("", *contrasts.kinds(report)):
        rows = contrasts.noise(report, kind)
        rows.pop("adversarial_accuracy", None)  # where both change nothing, neither is shown to be weak
        members = {} if kind else report.findings.get("members", {})
        weak = [
            names[measure]
            for measure, row in rows.items()
            if as_strong(row["difference"]) or 2 * members.get(measure, {}).get(NOISE, 0) > report.counts["attacked"]
        ]
        if weak:
            n = max(row["difference"]["n"] for row in rows.values())
            found[f"{listed(weak)}{f' of {kind} maps' if kind else ''}"] = n
    if not found:
        return ""
    where = "; ".join(f"{what} (n = {n})" for what, n in found.items())
    return f"Noise is as strong as the attack in {where}: there the attack has shown nothing that noise does not."


def as_strong(difference: dict[str, float]) -> bool:
    """Whether noise is as strong as the attack, by the paired interval of noise minus attack; of few, nothing is said.

    Example:

    >>> as_strong({"mean": 0.1, "low": -0.02, "high": 0.22, "n": 16})
    True
    """
    return difference["n"] >= FEWEST and not difference["low"] > 0


def _random_points(report: Any) -> str:
    table = report.per_example
    if "robust.noise" not in table:
        return ""
    missed = table["index"][(table["robust.noise"] == 0) & table["robust"]]
    if not len(missed):
        return ""
    some = f"{report.noun} {missed[0]}" if len(missed) == 1 else counted(len(missed), report.noun)
    return f"Random points change the prediction of {some}, where the attack on predictions found nothing: it is weak."


def _masked(report: Any) -> str:
    """Where members of an ensemble that follow no gradient are worst for more examples than those that do."""
    where, names = [], titles(report.protocol)
    for measure, counts in report.findings.get("members", {}).items():
        without = sum(n for member, n in counts.items() if follows_none(member))
        if 2 * without > sum(counts.values()):
            where.append(f"{names.get(measure, measure)} ({without} of {counted(sum(counts.values()), report.noun)})")
    counts = report.findings.get("predictions_members", {})
    without = sum(n for member, n in counts.items() if follows_none(member) or member == NOISE)
    examples = report.counts["examples"]
    if examples and without > SQUARE_GAIN * examples:
        where.append(f"predictions ({counted(without, report.noun)} that no other member changed)")
    if not where:
        return ""
    return f"The search without gradients finds most in {listed(where)}: gradients are masked, so more can be found."


def follows_none(member: str) -> bool:
    """Whether a member of an ensemble follows no gradient, by its name."""
    return any(part in member.lower() for part in WITHOUT_GRADIENTS)


def _twin(report: Any) -> str:
    twin = report.findings.get("twin")
    if not twin or all(_number(twin.get(name)) >= least for name, least in agreement.WARNED.items()):
        return ""
    which = "" if twin.get("beta") is None else f" (softplus, β = {twin['beta']:g})"
    return (
        f"The twin that gradients are taken through{which} is not the network: it predicts the same for "
        f"{100 * _number(twin.get('predictions')):.0f} % of the {report.noun}s, and the cosine of its maps with the "
        f"network's is {_number(twin.get('maps')):.2f}. The attack may find little more than noise does."
    )


def _number(value: Any) -> float:
    """A value that is missing or not a number agrees with nothing."""
    return 0.0 if value is None or math.isnan(value) else float(value)


def _undecided(report: Any) -> str:
    undecided, attacked = report.findings.get("undecided", 0), report.counts["attacked"]
    if undecided <= UNDECIDED * attacked:
        return ""
    return (
        f"{undecided} of {attacked} maps attacked have fewer than k entries above their lowest value: ties decide "
        "which are the k highest, and the intersection says less."
    )


def _unfaithful(report: Any) -> str:
    where: dict[str, list[str]] = {name: [] for name in contrasts.KNOW_NOTHING}
    for measure, rows in contrasts.faithfulness(report).items():
        for name, measures in where.items():
            row = rows[f"over {name}"]
            if row["n"] >= FEWEST and not row["low"] > 0:
                measures.append(measure)
    words = {"random": "a random map", "input": "the plain input"}
    parts = [f"than {words[name]} in {listed(measures)}" for name, measures in where.items() if measures]
    if not parts:
        return ""
    return f"The maps are no better {', and no better '.join(parts)}: there they say nothing of what the network uses."


def _skipped(report: Any) -> str:
    found = {name: about["skipped"] for name, about in report.findings.get("maps", {}).items() if "skipped" in about}
    for name in ("faithfulness", "certificate"):
        if "skipped" in report.findings.get(name, {}):
            found[name] = report.findings[name]["skipped"]
    sentences = [f"Not measured: {name}, as {' '.join(str(why).split())}" for name, why in found.items()]
    return " ".join([*sentences, *report.findings.get("certificate", {}).get("warnings", [])])
