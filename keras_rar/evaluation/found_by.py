"""What an attack tells besides its scores, as plain values: which member found most, the twin, undecided maps."""

import dataclasses
from typing import Any

import keras
import numpy as np


def maps(findings: dict[str, Any], found: Any, k: int | None) -> None:
    """Add what a batch of an attribution attack found.

    Args:
        findings: Those of a report; changed in place.
        found: An `AttackResult`. One of several members has `members`, `worst` and `queries` too.
        k: Number of highest entries compared.
    """
    entries = found.map_before.reshape(len(found.x), -1)
    if k is not None:
        above = np.sum(entries > entries.min(axis=1, keepdims=True), axis=1)
        findings["undecided"] = findings.get("undecided", 0) + int(np.sum((above > 0) & (above < k)))
    if getattr(found, "queries", None) is not None:
        findings["queries"] = max(findings.get("queries", 0), int(np.max(found.queries)))
    if getattr(found, "worst", None) is None:
        return
    for measure, worst in found.worst.items():
        _count(findings.setdefault("members", {}).setdefault(measure, {}), found.members, worst)


def noise(report: Any, found: Any, rows: np.ndarray) -> None:
    """Take the control from an ensemble of which noise is a member.

    Args:
        report: A `RobustnessReport`; its columns and findings are changed in place.
        found: An `AttackResult`. One of several members has `member_scores` too.
        rows: The rows of its examples.
    """
    scores = scores_of_noise(found)
    if not scores:
        return
    for measure, values in scores.items():
        empty = np.full(len(report.per_example["index"]), np.nan, "float32")
        report.per_example.setdefault(f"{measure}.noise", empty)[rows] = values
    about = report.findings.setdefault("noise", {"n": 0, "queries": 0})
    about["n"] += len(rows)
    about["queries"] = max(about["queries"], int(np.max(getattr(found, "queries", 0))))


def scores_of_noise(found: Any) -> dict[str, np.ndarray]:
    """What the control of an ensemble found, measure -> `(n,)`; nothing of other attacks."""
    return (getattr(found, "member_scores", None) or {}).get("noise", {})


def predictions(findings: dict[str, Any], found: Any) -> None:
    """Add what a batch of an attack on predictions found.

    Args:
        findings: Those of a report; changed in place.
        found: A `PGDResult`. One of several members has `members` and `broken_by` too.
    """
    if getattr(found, "broken_by", None) is not None:
        broken = np.where(found.correct, found.broken_by, -1)
        _count(findings.setdefault("predictions_members", {}), found.members, broken)


def _count(counts: dict[str, int], members: Any, which: np.ndarray) -> None:
    for number, member in enumerate(members):
        counts[member] = counts.get(member, 0) + int(np.sum(np.asarray(which) == number))


def twin(findings: dict[str, Any], attack: Any, model: keras.Model, x: np.ndarray, y: np.ndarray) -> None:
    """Add how far the twin that gradients are taken through agrees with the network.

    Args:
        findings: Those of a report; changed in place.
        attack: The attack on maps.
        model: The network.
        x: Examples that are attacked; the first few count.
        y: Their labels.
    """
    if "twin" not in findings and attack.follows_gradients and attack.softplus_beta is not None:
        findings["twin"] = dataclasses.asdict(attack.twin_agreement(model, x, y))
