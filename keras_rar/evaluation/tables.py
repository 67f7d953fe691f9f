"""The tables of a report beside its summary, as plain cells: Markdown and pages show the same ones."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from keras_rar.evaluation import contrasts, flags
from keras_rar.evaluation.intervals import cell, in_table, number
from keras_rar.evaluation.verdicts import FEWEST
from keras_rar.evaluation.wording import counted, titles


@dataclasses.dataclass(frozen=True)
class Table:
    """A table with a title and a sentence about it.

    Args:
        title: What it shows.
        head: Titles of the columns.
        rows: Cells, as many per row as there are columns.
        about: What a reader has to know of it.
    """

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    about: str = ""


def of_report(report: Any) -> list[Table]:
    """The tables that a report has numbers for.

    Args:
        report: A `RobustnessReport`.
    """
    makers = (_noise, _members, _maps, _faithfulness, _certificate)
    return [table for maker in makers if (table := maker(report)) is not None]


def markdown(tables: list[Table]) -> list[str]:
    """The tables in Markdown, a title, a table and a sentence each.

    Example:

    >>> print(markdown([Table("Counts", ("", "n"), [("a|b", "3")])])[0])
    **Counts**
    <BLANKLINE>
    | | n |
    |---|---|
    | a\\|b | 3 |
    """
    found = []
    for table in tables:
        lines = [" ".join(["|", *(f"{in_table(title)} |".lstrip() for title in table.head)])]
        lines += ["|" + "---|" * len(table.head)]
        lines += ["| " + " | ".join(in_table(text) for text in row) + " |" for row in table.rows]
        found.append("\n\n".join(part for part in (f"**{table.title}**", "\n".join(lines), table.about) if part))
    return found


def notes_of(report: Any) -> list[str]:
    """Sentences about the twin, and about the control where the attack is noise itself."""
    found, twin = [], report.findings.get("twin")
    if twin:
        found.append(
            f"Gradients were taken through a twin with softplus, β = {twin['beta']:g}. It predicts as the network does "
            f"on {100 * twin['predictions']:.0f} % of the {report.noun}s; scores correlate by {twin['scores']:.2f}, "
            f"and the cosine of maps is {twin['maps']:.2f}."
            if twin.get("beta") is not None
            else "Gradients were taken through the network as it is, or a twin of the user's."
        )
    if report.findings.get("noise", {}).get("same"):
        found.append("The attack on maps is noise itself, the control, so there is no other one beside it.")
    return found


def line_of_noise(report: Any) -> str:
    """The noise control in one line; empty without one."""
    names = titles(report.protocol)
    rows = [(names[m], number(m, r["noise"]["mean"]), number(m, r["attack"]["mean"])) for m, r in _of_maps(report)]
    n = report.findings.get("noise", {}).get("n", 0)
    return f"noise (attack), n = {n}: " + ", ".join(f"{name} {a} ({b})" for name, a, b in rows) if rows else ""


def _of_maps(report: Any) -> list[tuple[str, dict[str, dict[str, float]]]]:
    return [(measure, row) for measure, row in contrasts.noise(report).items() if measure in contrasts.OF_MAPS]


def _noise(report: Any) -> Table | None:
    rows, names = [], titles(report.protocol)
    for measure, row in contrasts.noise(report).items():
        said = "" if measure == "adversarial_accuracy" else verdict(row["difference"])
        cells = [cell(measure, row[name], signed=name == "difference") for name in ("attack", "noise", "difference")]
        rows.append((names[measure], *cells, said))
    if not rows:
        return None
    about = report.findings["noise"]
    queries = f"{about['queries']} random points of the ball for each map"
    if about.get("predictions_queries"):
        queries += f", {about['predictions_queries']} for each prediction"
    return Table(
        "Attack and noise",
        ("measure", "attack", "noise", "noise − attack, paired", "the attack is"),
        rows,
        f"Both on the first {counted(about['n'], report.noun)} attacked; noise is the worst of {queries}. "
        "Where noise scores as low as the attack, the score is no more than noise finds.",
    )


def title_of(protocol: dict[str, Any], measure: str) -> str:
    """The title of a measure; its own name where it has none."""
    return titles(protocol).get(measure, measure)


def verdict(difference: dict[str, float]) -> str:
    """What noise minus attack says of the attack, in words."""
    if difference["n"] < FEWEST:
        return "too few to tell"
    return "no stronger than noise" if flags.as_strong(difference) else "stronger than noise"


def _members(report: Any) -> Table | None:
    found = {title_of(report.protocol, m): counts for m, counts in report.findings.get("members", {}).items()}
    totals = dict.fromkeys(found, report.counts["attacked"])
    if broken := report.findings.get("predictions_members"):
        found["prediction, the first that changed it"] = broken
        totals["prediction, the first that changed it"] = int(report.per_example["correct"].sum())
    if not found:
        return None
    rows = [
        (title, member, str(count))
        for title, counts in found.items()
        for member, count in [*counts.items(), ("none found a change", totals[title] - sum(counts.values()))]
        if count
    ]
    return Table(
        "Which attack was the worst",
        ("measure", "attack", f"{report.noun}s"),
        rows,
        f"For how many {report.noun}s each attack of the ensemble found the lowest score. One that is not here never "
        "did.",
    )


def _maps(report: Any) -> Table | None:
    rows, names, n = [], titles(report.protocol), 0
    for kind, measures in contrasts.maps(report).items():
        noise = contrasts.noise(report, kind)
        for measure, row in measures.items():
            of_noise = cell(measure, noise[measure]["noise"]) if measure in noise else "–"
            difference = cell(measure, row["difference"], signed=True)
            rows.append((kind, names[measure], cell(measure, row["other"]), of_noise, difference))
            n = max(n, int(row["difference"]["n"]))
    if not rows:
        return None
    kind = report.protocol.get("saliency", "ig")
    return Table(
        "Other kinds of map",
        ("map", "measure", "attack", "noise", f"minus that of {_kind(kind)}, paired"),
        rows,
        f"The same attack on other maps of the first {counted(n, report.noun)} attacked. Robust maps of one kind are "
        "not robust explanations: a method trained for one kind may leave the others as they were.",
    )


def _kind(saliency: Any) -> str:
    """A saliency of a protocol as it is recorded."""
    return str(saliency.get("class", "map")) if isinstance(saliency, dict) else str(saliency)


def _faithfulness(report: Any) -> Table | None:
    found = contrasts.faithfulness(report)
    if not found:
        return None
    better = {1: "high", -1: "low"}
    rows = [
        (
            f"{measure} ({better[contrasts.FAITHFULNESS[measure]]} is faithful)",
            *(_plain(row[name]) for name in ("map", "random", "input")),
            *(_plain(row[f"over {name}"], signed=True) for name in contrasts.KNOW_NOTHING),
        )
        for measure, row in found.items()
    ]
    n = max(int(row["map"]["n"]) for row in found.values())
    return Table(
        "Faithfulness of the maps before the attack",
        ("measure", "map", "random map", "plain input", "better than random by", "better than the input by"),
        rows,
        f"On the first {counted(n, report.noun)} attacked, paired. A map that never moves may say nothing: the input "
        "itself is the most stable map. A map is faithful where it is better than both.",
    )


def _plain(row: dict[str, float], signed: bool = False) -> str:
    return cell("kendall_tau", row, signed)


def _certificate(report: Any) -> Table | None:
    found = report.findings.get("certificate") or {}
    radii = found.get("radii")
    if not radii:
        return None
    rows = [
        (f"{radius:.4g}", f">= {math.floor(1000 * topk) / 10:.1f} %", f">= {math.floor(1000 * cosine) / 1000:.3f}")
        for radius, topk, cosine in zip(radii, found["topk"], found["cosine"], strict=True)
    ]  # rounded down: up, it would be no bound
    about = (
        f"Means of proved lower bounds, over the first {counted(found['n'], report.noun)} attacked, for maps smoothed "
        f"with {found['smoothing']} noise of standard deviation {found['sigma']:g}, not for the maps above; they hold "
        f"with confidence {found['confidence_of_means']:g}."
    )
    return Table("Certificate of smoothed maps", ("L2 radius", f"top-{found['k']} intersection", "cosine"), rows, about)
