"""`RobustnessReport`: what an evaluation found, per example and in summary."""

import csv
import dataclasses
import functools
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_rar.core import checks, files
from keras_rar.evaluation.intervals import MEASURES, markdown_table, mean_with_interval
from keras_rar.evaluation.protocols import brief

DRAWN_BY: dict[str, Callable] = {}
"""How a report is drawn: the room `reports`, which knows reports, says so here."""


@dataclasses.dataclass(frozen=True, eq=False)
class RobustnessReport:
    """What `evaluate_robustness` found.

    Accuracies are over all images, the other measures over those attacked: the correctly classified ones, as in
    the paper. A model that is never found to change scores 1; `counts` says how often. Of an evaluation that was
    interrupted it holds what was done until then, and says so.

    Args:
        model_name: Name of the model.
        protocol: Every setting of the evaluation, by name.
        per_example: Columns of the table of images by name, each `(n,)`: `index`, `label`, `predicted`, `correct`,
            `robust`, `attacked`, `topk_intersection`, `kendall_tau`, `spearman_rho`, `iteration`, `restart`,
            `constant_map`. Where an image was not attacked the scores are NaN and the integers -1.
        examples: The first few attacked images, for pictures: `x`, `x_adv`, `map_before`, `map_after`, `index`.
        versions: Versions of the libraries by name, and the `device` that it was begun on: the names of
            its GPUs, or `"CPU"`.
        fingerprint: Hash of the model's weights, the data and the protocol.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])
    >>> x, y = np.random.default_rng(0).uniform(size=(9, 4)), np.arange(9) % 3
    >>> report = keras_rar.evaluate_robustness(model, x, y, steps=2, m=4, progress=False)
    >>> report.counts["images"], sorted(report.summary()["kendall_tau"])
    (9, ['high', 'low', 'mean', 'n'])
    """

    model_name: str
    protocol: dict[str, Any]
    per_example: dict[str, np.ndarray]
    examples: dict[str, np.ndarray]
    versions: dict[str, str]
    fingerprint: str

    def values(self, measure: str) -> np.ndarray:
        """The numbers that a measure is the mean of, one an image.

        Args:
            measure: `"natural_accuracy"`, `"adversarial_accuracy"`, `"topk_intersection"`, `"kendall_tau"` or
                `"spearman_rho"`.

        Returns:
            NumPy array of floats: of all images for the accuracies, of those attacked for the others.
        """
        column = MEASURES[checks.one_of("measure", measure, MEASURES)][0]
        rows = self._predicted if column in ("correct", "robust") else self.per_example["attacked"]
        return self.per_example[column][rows].astype("float64")

    @property
    def _predicted(self) -> np.ndarray:
        return self.per_example["predicted"] >= 0

    @property
    def complete(self) -> bool:
        """Whether the evaluation came to its end, or the report is of a part of it."""
        counts = self.counts
        to_attack = counts["images"] - counts["misclassified"]
        most = self.protocol.get("attacked") or to_attack
        return bool(self._predicted.all()) and counts["attacked"] == min(to_attack, most)

    def summary(self) -> dict[str, dict[str, float]]:
        """The mean of each measure with its 95 % interval, by the percentile bootstrap over images.

        Too narrow for few images: of 5 it holds the true mean some 80 times in 100, of 20 some 93 times, and where all
        values are equal, as at an accuracy of 100 %, it is a point.

        Returns:
            Dictionary from measure to `mean`, `low`, `high` and `n`, the number of images; NaN where there are none.
        """
        return self._summary

    @functools.cached_property
    def _summary(self) -> dict[str, dict[str, float]]:
        return {measure: mean_with_interval(self.values(measure), self.protocol["seed"]) for measure in MEASURES}

    @property
    def counts(self) -> dict[str, int]:
        """How many images there are: `images`, `misclassified`, `attacked`, `unchanged`, `constant_maps`.

        `unchanged` are attacked images for which no change was found: they score 1. `constant_maps` are those
        whose map before the attack has one value everywhere: nothing is explained, and the score says nothing.
        """
        table = self.per_example
        return {
            "images": len(table["index"]),
            "misclassified": int(np.sum(self._predicted & ~table["correct"])),
            "attacked": int(np.sum(table["attacked"])),
            "unchanged": int(np.sum(table["attacked"] & (table["iteration"] == 0))),
            "constant_maps": int(np.sum(table["attacked"] & table["constant_map"])),
        }

    def to_markdown(self) -> str:
        """The summary as a table, with the counts and the protocol below it."""
        counts = self.counts
        settings = [f"{name} {brief(value)}" for name, value in self.protocol.items() if name != "name"]
        warning = "" if self.complete else "**Incomplete: the evaluation was interrupted.**\n\n"
        return (
            f"{warning}{markdown_table({self.model_name: self})}\n\n"
            f"{counts['images']} images, {counts['misclassified']} misclassified and left out of the attribution "
            f"attack, {counts['attacked']} attacked; {counts['unchanged']} of these without a change found (score 1), "
            f"{counts['constant_maps']} with a constant map.{self._caution()}\n\n"
            f"Protocol: {self.protocol['name']}. {', '.join(settings)}."
        )

    def _caution(self) -> str:
        few = min(row["n"] for row in self.summary().values()) < 20
        return " Intervals of fewer than 20 images are too narrow." if few else ""

    def to_json(self) -> str:
        """Everything but the example images, as JSON; NaN becomes null."""
        table = {name: [_plain(value) for value in column.tolist()] for name, column in self.per_example.items()}
        summary = {m: {key: _plain(value) for key, value in row.items()} for m, row in self.summary().items()}
        content = {
            "model": self.model_name,
            "protocol": self.protocol,
            "summary": summary,
            "counts": self.counts,
            "complete": self.complete,
            "versions": self.versions,
            "fingerprint": self.fingerprint,
            "per_example": table,
        }
        return json.dumps(content, indent=2, allow_nan=False)

    def to_csv(self) -> str:
        """The per-example table as comma-separated values, one row an image."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.per_example)
        writer.writerows(zip(*(column.tolist() for column in self.per_example.values()), strict=True))
        return text.getvalue()

    def save(self, path: str | Path) -> None:
        """Write everything to an `.npz` file, which `load` reads; the file appears whole or not at all.

        Args:
            path: The file.
        """
        path = Path(path)
        arrays: dict[str, Any] = {f"per_example/{name}": column for name, column in self.per_example.items()}
        arrays |= {f"examples/{name}": array for name, array in self.examples.items()}
        about = {name: getattr(self, name) for name in ("model_name", "protocol", "versions", "fingerprint")}
        arrays["about"] = np.array(json.dumps(about))
        with files.whole(path) as part, part.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "RobustnessReport":
        """Read what `save` wrote.

        Args:
            path: The file.

        Returns:
            A `RobustnessReport`.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is no report.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                columns: dict[str, Any] = {"per_example": {}, "examples": {}}
                for name in file.files:
                    group, _, column = name.partition("/")
                    if group in columns:
                        columns[group][column] = file[name]
                return cls(**about, **columns)
        except FileNotFoundError:
            raise
        except Exception as error:  # of zipfile, NumPy, json or a missing entry: each says only what it was doing
            raise ValueError(f"`path` must be a file that RobustnessReport.save wrote. Received: {path}") from error

    def plot(self) -> Any:
        """A figure of the examples and of the per-example Kendall; needs matplotlib.

        Returns:
            A `matplotlib.figure.Figure`.
        """
        return DRAWN_BY["figure"](self)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value
