"""`Comparison`: several models measured on the same examples, with paired differences."""

import dataclasses
import functools
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from keras_rar.core import checks, files
from keras_rar.evaluation import comparability, comparison_controls, comparison_text, flags, wording
from keras_rar.evaluation.intervals import mean_with_interval
from keras_rar.evaluation.report import DRAWN_BY, RobustnessReport
from keras_rar.evaluation.report_files import file_names
from keras_rar.evaluation.verdicts import verdict
from keras_rar.evaluation.wording import MEASURES


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Several models measured on the same examples with the same settings.

    Every number is over the examples that were measured for all models it is about: for the accuracies those whose
    predictions were attacked, for the other measures those whose maps were attacked. So a difference is a mean of
    differences per example, and its interval is the bootstrap of these. Where the interval holds 0 the comparison
    does not rank the two models.

    Args:
        reports: A `RobustnessReport` per model, by the name to show, two or more.

    Raises:
        TypeError: If `reports` is not a dictionary of reports.
        ValueError: If there are fewer than two, or they differ in data or settings.

    Example:

    >>> models = {name: keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]) for name in ("a", "b")}
    >>> x, y = np.random.default_rng(0).uniform(size=(9, 4)), np.arange(9) % 2
    >>> comparison = keras_rar.compare(models, x, y, epsilon=0.1, steps=2, m=2, pgd_steps=2, progress=False)
    >>> sorted(comparison.difference("b", "a")["natural_accuracy"])
    ['high', 'low', 'mean', 'n', 'verdict']
    """

    reports: dict[str, RobustnessReport]

    def __post_init__(self) -> None:
        reports = self.reports.values() if isinstance(self.reports, dict) else [self.reports]
        if not all(isinstance(report, RobustnessReport) for report in reports):
            checks.fail("reports", "a dictionary from name to RobustnessReport", type(self.reports), TypeError)
        if len(self.reports) < 2:
            checks.fail("reports", "two or more, by name", list(self.reports))
        comparability.check(self.reports)

    @property
    def protocol(self) -> dict[str, Any]:
        """The settings that all share."""
        return next(iter(self.reports.values())).protocol

    @property
    def noun(self) -> str:
        """What one input is called: `"image"` if it has height, width and channels, else `"example"`."""
        return "image" if "image" in [report.noun for report in self.reports.values()] else "example"

    def values(self, measure: str, names: list[str] | None = None) -> dict[str, np.ndarray]:
        """The numbers of a measure per example, of the examples that were measured for all these models.

        Args:
            measure: As for `RobustnessReport.values`.
            names: Names of models. Defaults to all.

        Returns:
            Dictionary from name to a NumPy array; all have the same length and order.
        """
        column = MEASURES[checks.one_of("measure", measure, MEASURES)][0]
        tables = {name: self.reports[name].per_example for name in names or self.reports}
        of_maps = measure not in wording.ACCURACIES
        measured = [table["attacked"] if of_maps else table["predicted"] >= 0 for table in tables.values()]
        rows = np.logical_and.reduce(measured)
        return {name: table[column][rows].astype("float64") for name, table in tables.items()}

    def summary(self) -> dict[str, dict[str, dict[str, float]]]:
        """The mean of each measure with its 95 % interval, by model, over the examples that all share.

        Returns:
            Dictionary from name to what `RobustnessReport.summary` returns.
        """
        return self._summary

    @functools.cached_property
    def _summary(self) -> dict[str, dict[str, dict[str, float]]]:
        shared = {measure: self.values(measure) for measure in MEASURES}
        return {
            name: {measure: mean_with_interval(shared[measure][name], self.protocol["seed"]) for measure in MEASURES}
            for name in self.reports
        }

    def difference(self, first: str, second: str) -> dict[str, dict[str, Any]]:
        """How much higher the first model's measures are than the second's, paired per example.

        Args:
            first: Name of a model.
            second: Name of another one, subtracted.

        Returns:
            Dictionary from measure to `mean`, `low`, `high`, `n` and `verdict`: `"higher"`, `"lower"`, or why the
            two are not ranked, such as `"no difference beyond the interval"`.

        Raises:
            ValueError: If there is no model of that name.
        """
        for name, value in (("first", first), ("second", second)):
            checks.one_of(name, value, self.reports)
        return self._paired(first, second)

    @functools.cached_property
    def differences(self) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
        """`difference` of each pair of names once, the later model minus the earlier one."""
        return {(b, a): self._paired(b, a) for a, b in itertools.combinations(self.reports, 2)}

    def _paired(self, first: str, second: str) -> dict[str, dict[str, Any]]:
        found, idle = {}, self._idle(first, second)
        for measure in MEASURES:
            values = self.values(measure, [first, second])
            pairs = values[first] - values[second]
            why = "" if measure in wording.ACCURACIES else "undefined" if np.isnan(pairs).all() else idle
            row = mean_with_interval(pairs, self.protocol["seed"])
            found[measure] = {**row, "verdict": verdict(row, why if len(pairs) else "")}
        return found

    @functools.cached_property
    def control_differences(self) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
        """As `differences`, of other kinds of map and of faithfulness: by columns such as `kendall_tau.gradient`.

        `verdict` says `"higher"` or `"lower"` as numbers are; a low deletion and a low infidelity are faithful.
        """
        return {(b, a): comparison_controls.paired(self, b, a) for a, b in itertools.combinations(self.reports, 2)}

    def _idle(self, *names: str) -> str:
        """Why the maps of these models cannot be ranked: a score where nothing was found or explained is no merit."""
        tables = [self.reports[name].per_example for name in names]
        rows = np.logical_and.reduce([table["attacked"] for table in tables])
        if any(np.all(table["iteration"][rows] == 0) for table in tables):
            return "not ranked: the attack changed no map of one"
        return "not ranked: all maps of one are constant" if any(t["constant_map"][rows].all() for t in tables) else ""

    @property
    def warnings(self) -> list[str]:
        """What a reader has to know before the numbers, a sentence each; on every form of the comparison."""
        found = [f"{name}: {fault}" for name, report in self.reports.items() for fault in flags.faults_of(report)]
        numbers = [row["n"] for row in self._rows()]
        if not self.values("kendall_tau")[next(iter(self.reports))].size:
            found.append(f"No {self.noun} was attacked for all models, so their maps cannot all be compared.")
        return found + flags.few(numbers, self.noun)

    def _rows(self) -> list[dict[str, Any]]:
        summary = [row for measures in self.summary().values() for row in measures.values()]
        return summary + [row for measures in self.differences.values() for row in measures.values()]

    def to_markdown(self) -> str:
        """Two tables under the warnings: the means of each model, and the paired differences in numbers and words."""
        return comparison_text.markdown(self)

    def to_html(self, **options: Any) -> str:
        """The comparison as one HTML page that needs no other file, no script and no network.

        Args:
            **options: `class_names` and `feature_names`, as for `RobustnessReport.plot`.

        Returns:
            The page, a string.
        """
        return DRAWN_BY["comparison page"](self, **options)

    def plot(self, *, width: float = 3.5) -> Any:
        """A figure of the means and of the paired differences with their intervals; needs matplotlib.

        Args:
            width: Float > 0, width of the figure in inches. Defaults to `3.5`, one column in print.

        Returns:
            A `matplotlib.figure.Figure`.
        """
        return DRAWN_BY["comparison figure"](self, width=width)

    def to_json(self) -> str:
        """The means, the differences, the settings and what was measured of each model; NaN becomes null."""
        return json.dumps(comparison_text.content(self), indent=2, allow_nan=False)

    def __repr__(self) -> str:
        return comparison_text.plain(self)

    def _repr_html_(self) -> str:
        return DRAWN_BY["comparison notebook"](self)

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def save(self, folder: str | Path) -> None:
        """Write `comparison.json` and a report per model (`.npz`) into a folder, which `load` reads.

        Args:
            folder: The folder; it is made if it is not there.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for report, file in zip(self.reports.values(), file_names(self.reports), strict=True):
            report.save(folder / file)
        with files.whole(folder / "comparison.json") as part:
            part.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> "Comparison":
        """Read what `save` wrote.

        Args:
            folder: The folder.

        Returns:
            A `Comparison`.

        Raises:
            FileNotFoundError: If there is no comparison in it.
            ValueError: If a file of it is damaged.
        """
        folder = Path(folder)
        try:
            models = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))["models"]
            names = list(models)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"`folder` must be one that Comparison.save wrote. Received: {folder}") from error
        return cls(
            {name: RobustnessReport.load(folder / file) for name, file in zip(names, file_names(names), strict=True)}
        )
