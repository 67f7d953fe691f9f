"""`RobustnessReport`: what an evaluation found, per example and in summary."""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_rar.core import checks
from keras_rar.evaluation import contrasts, flags, report_files, tables, wording
from keras_rar.evaluation.intervals import cell, markdown_table, mean_with_interval
from keras_rar.evaluation.plain_values import brief
from keras_rar.evaluation.wording import MEASURES

DRAWN_BY: dict[str, Callable] = {}
"""How reports are drawn and made to pages: the room `reports`, which knows reports, says so here."""


_GROUPS = ("per_example", "examples")
_ABOUT = ("model_name", "protocol", "versions", "fingerprint", "findings")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class RobustnessReport:
    """What `evaluate_robustness` found.

    Accuracies are over all examples, the other measures over those attacked: the correctly classified ones, as in
    the paper. A model that is never found to change scores 1; `counts` says how often. The report of an evaluation
    that was interrupted holds what was done until then, and says so. A notebook shows it as a table.

    Args:
        model_name: Name of the model.
        protocol: Every setting of the evaluation, by name.
        per_example: Columns of the table of examples by name, each `(n,)`: `index`, `label`, `predicted`, `correct`,
            `robust`, `attacked`, `topk_intersection`, `kendall_tau`, `spearman_rho`, `iteration`, `restart`,
            `constant_map`, and of the controls `kendall_tau.noise`, `kendall_tau.gradient`, `deletion.map` and so
            on. Where an example was not attacked or measured the scores are NaN and the integers -1.
        examples: The first few attacked examples, for pictures: `x`, `x_adv`, `map_before`, `map_after`, `index`.
        versions: Versions of the libraries by name, and the `device` that it was begun on: the names of
            its GPUs, or `"CPU"`.
        fingerprint: Hash of the model's weights, the data and the protocol.
        findings: What else was found, plain values: `"noise"`, `"twin"`, `"members"`, `"predictions_members"`,
            `"maps"`, `"faithfulness"`, `"certificate"`, `"discrete"`, `"short"`. Empty in files of version 0.1.0.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])
    >>> x, y = np.random.default_rng(0).uniform(size=(9, 4)), np.arange(9) % 3
    >>> report = keras_rar.evaluate_robustness(model, x, y, epsilon=0.1, steps=2, m=4, progress=False)
    >>> report.counts["examples"], sorted(report.summary()["kendall_tau"])
    (9, ['high', 'low', 'mean', 'n'])
    """

    model_name: str
    protocol: dict[str, Any]
    per_example: dict[str, np.ndarray]
    examples: dict[str, np.ndarray]
    versions: dict[str, str]
    fingerprint: str
    findings: dict[str, Any] = dataclasses.field(default_factory=dict)

    def values(self, measure: str) -> np.ndarray:
        """The numbers that a measure is the mean of, one per example.

        Args:
            measure: `"natural_accuracy"`, `"adversarial_accuracy"`, `"topk_intersection"`, `"kendall_tau"` or
                `"spearman_rho"`.

        Returns:
            NumPy array of floats: of all examples for the accuracies, of those attacked for the others; a score that
            is undefined is NaN.
        """
        column = MEASURES[checks.one_of("measure", measure, MEASURES)][0]
        rows = self._predicted if measure in wording.ACCURACIES else self.per_example["attacked"]
        return self.per_example[column][rows].astype("float64")

    @property
    def _predicted(self) -> np.ndarray:
        return self.per_example["predicted"] >= 0

    @property
    def complete(self) -> bool:
        """Whether the evaluation came to its end, or the report is of a part of it."""
        counts = self.counts
        to_attack = counts["examples"] - counts["misclassified"]
        most = self.protocol.get("attacked")
        attacked = counts["attacked"] == (to_attack if most is None else min(to_attack, most))
        return bool(self._predicted.all()) and attacked and not self.findings.get("unfinished")

    @property
    def noun(self) -> str:
        """What one input is called: `"image"` if it has height, width and channels, else `"example"`."""
        return wording.noun(self.examples)

    @property
    def warnings(self) -> list[str]:
        """What a reader has to know before the numbers, a sentence each; on every form of the report with means."""
        names = wording.titles(self.protocol)
        rows = {names[measure]: row for measure, row in self.summary().items()}
        return flags.faults_of(self) + flags.cautions(rows, self.noun)

    def summary(self) -> dict[str, dict[str, float]]:
        """The mean of each measure with its 95 % interval, by the percentile bootstrap over examples.

        Scores that are undefined are left out, so they do not read as good; `warnings` names the examples. The
        interval is too narrow for few examples: of 5 it holds the true mean some 80 times in 100, of 20 some 93
        times. Where all values are equal, as at an accuracy of 100 %, it is a point.

        Returns:
            Dictionary from measure to `mean`, `low`, `high` and `n`, the number of examples; NaN where there are none.
        """
        return self._summary

    @functools.cached_property
    def _summary(self) -> dict[str, dict[str, float]]:
        return {measure: mean_with_interval(self.values(measure), self.protocol["seed"]) for measure in MEASURES}

    @property
    def counts(self) -> dict[str, int]:
        """How many there are: `examples`, `misclassified`, `attacked`, `unchanged`, `constant_maps`, `undefined`.

        `unchanged` are attacked examples for which no change was found: they score 1. `constant_maps` are those
        whose map before the attack has one value everywhere: nothing is explained, and the score says nothing; it is
        NaN where that map stays so.
        `undefined` are attacked examples with a score that is not a number.
        """
        table = self.per_example
        attacked = table["attacked"]
        undefined = np.isnan([table[name] for name in ("topk_intersection", *wording.CORRELATIONS)]).any(axis=0)
        unchanged = attacked & (table["iteration"] == 0) & ~undefined
        return {
            "examples": len(table["index"]),
            "misclassified": int(np.sum(self._predicted & ~table["correct"])),
            "attacked": int(np.sum(attacked)),
            "unchanged": int(np.sum(unchanged)),
            "constant_maps": int(np.sum(attacked & table["constant_map"])),
            "undefined": int(np.sum(attacked & undefined)),
        }

    def to_markdown(self) -> str:
        """The summary as a table, under its warnings, with the controls, the counts and the protocol below it."""
        settings = [f"{name} {brief(value)}" for name, value in self.protocol.items() if name != "name"]
        parts = [f"**{warning}**" for warning in self.warnings]
        parts += [markdown_table({self.model_name: self}), wording.counts_of(self)]
        parts += [*tables.markdown(tables.of_report(self)), *tables.notes_of(self)]
        return "\n\n".join([*parts, f"Protocol: {self.protocol['name']}. {', '.join(settings)}."])

    def to_html(self, **options: Any) -> str:
        """The report as one HTML page that needs no other file, no script and no network.

        Args:
            **options: `class_names` and `feature_names`, as for `plot`.

        Returns:
            The page, a string.
        """
        return DRAWN_BY["page"](self, **options)

    def __repr__(self) -> str:
        summary, titles = self.summary(), wording.titles(self.protocol)
        width = max(map(len, titles.values()))
        head = f"RobustnessReport of {self.model_name}, protocol {self.protocol['name']}"
        rows = [f"  {titles[measure]:{width}}  {cell(measure, row)}" for measure, row in summary.items()]
        noise = tables.line_of_noise(self)
        return "\n".join([head, *rows, *([f"  {noise}"] if noise else []), *(f"  {text}" for text in self.warnings)])

    def _repr_html_(self) -> str:
        return DRAWN_BY["notebook"](self)

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def to_json(self) -> str:
        """Everything but the kept examples, as JSON; NaN becomes null."""
        content = {
            "model": self.model_name,
            "protocol": self.protocol,
            "summary": self.summary(),
            "controls": contrasts.content(self),
            "findings": self.findings,
            "counts": self.counts,
            "complete": self.complete,
            "warnings": self.warnings,
            "versions": self.versions,
            "fingerprint": self.fingerprint,
            "per_example": {name: column.tolist() for name, column in self.per_example.items()},
        }
        return json.dumps(report_files.without_nan(content), indent=2, allow_nan=False)

    def to_csv(self) -> str:
        """The per-example table as comma-separated values, one row per example.

        It holds neither means nor intervals, so no warning about them either: comments would break its readers.
        """
        return report_files.csv_of(self.per_example)

    def save(self, path: str | Path) -> None:
        """Write everything to an `.npz` file, which `load` reads; the file appears whole or not at all.

        Args:
            path: The file.
        """
        about = {name: getattr(self, name) for name in _ABOUT}
        report_files.write(path, about, {group: getattr(self, group) for group in _GROUPS})

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
            return cls(**report_files.read(path, _GROUPS))
        except FileNotFoundError:
            raise
        except Exception as error:  # of zipfile, NumPy, json or a missing entry: each says only what it was doing
            raise ValueError(f"`path` must be a file that RobustnessReport.save wrote. Received: {path}") from error

    def plot(
        self,
        *,
        class_names: Sequence[str] | None = None,
        feature_names: Sequence[str] | None = None,
        width: float = 3.5,
    ) -> Any:
        """A figure of the examples over the histogram of Kendall's tau; needs matplotlib.

        Args:
            class_names: Names of the classes. Defaults to their numbers.
            feature_names: Names of the entries of an input that is no image. Defaults to their numbers.
            width: Float > 0, width of the figure in inches. Defaults to `3.5`, one column in print.

        Returns:
            A `matplotlib.figure.Figure`.
        """
        return DRAWN_BY["figure"](self, class_names=class_names, feature_names=feature_names, width=width)
