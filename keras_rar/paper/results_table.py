"""The results of experiments beside the numbers of the paper."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_rar.evaluation.intervals import cell
from keras_rar.paper.experiment import _MEASURES, _OF_MAPS
from keras_rar.paper.plans import DATASETS
from keras_rar.paper.published import METHODS, PUBLISHED


def table(out: str | Path, datasets: Sequence[str] = DATASETS, methods: Sequence[str] = tuple(METHODS)) -> str:
    """All result files of a folder beside the paper's numbers, as Markdown.

    Args:
        out: The folder.
        datasets: Names of data sets. Defaults to all.
        methods: Names of methods. Defaults to all.

    Returns:
        A table with one row per method of the paper, whether it was run here or not, one per result, and one per
        restarted result.
    """
    results: dict[tuple[str, str], list[dict]] = {}
    for path in sorted(Path(out).glob("*.json")):
        try:
            result = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path} must hold JSON. Received: {error}") from error
        if not isinstance(result, dict) or not {"dataset", "method", "summary"} <= set(result):  # something else's
            continue
        results.setdefault((result["dataset"], result["method"]), []).append({**result, "name": path.stem})
    titles = "natural accuracy | adversarial accuracy | top-k intersection | Kendall's tau"
    lines = [f"| data set, method | | {titles} |", "|---|---|---|---|---|---|"]
    for dataset in datasets:
        for method in methods:
            title = METHODS[method]
            published = PUBLISHED.get(dataset, {}).get(method)
            if published:
                cells = [f"{value:.1f} %" for value in published[:3]] + [f"{published[3]:.3f}"]
                lines.append(f"| {dataset}, {title} | paper | {' | '.join(cells)} |")
            for result in results.get((dataset, method), []):
                cells = [cell(measure, result["summary"][measure]) for measure in _MEASURES]
                lines.append(f"| {dataset}, {title} | {_note(result)} | {' | '.join(cells)} |")
                if restarted := result.get("restarted"):
                    note = "first maps, three random starts more"
                    if without := restarted.get("without"):
                        topk, tau = (without[measure] for measure in _OF_MAPS)
                        note += f" (without: {100 * topk:.1f} %, {tau:.3f})"
                    cells = ["", "", *(cell(measure, restarted[measure]) for measure in _OF_MAPS)]
                    lines.append(f"| {dataset}, {title} | {note} | {' | '.join(cells)} |")
            if published and all(result["smoke"] for result in results.get((dataset, method), [])):
                lines.append(f"| {dataset}, {title} | here | not run here | | | |")
    return "\n".join(lines)


def _note(result: dict[str, Any]) -> str:
    """What a reader has to know about a row."""
    notes = [result["name"], result["recipe"], f"{result['training_seconds'] / 60:.0f} minutes"]
    notes += [f"threshold {result['threshold']}"] if result["threshold"] is not None else []
    return ", ".join([*notes, *(["on noise"] if result["smoke"] else [])])
