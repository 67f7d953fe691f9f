"""An evaluation in the making: what is measured, kept in a file, and gone on with."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_rar.core import channels
from keras_rar.evaluation import found_by, wording
from keras_rar.evaluation.fingerprint import fingerprint_of, versions
from keras_rar.evaluation.plain_values import brief, plain
from keras_rar.evaluation.progress import Progress
from keras_rar.evaluation.protocols import Protocol
from keras_rar.evaluation.report import RobustnessReport
from keras_rar.evaluation.settings import CONTROLS, as_of_0_1_0
from keras_rar.evaluation.sharing import Sharing
from keras_rar.networks.classifier import Classifier

_EXAMPLES = 8

_FREE = ("name", "attacked", *CONTROLS)
"""Settings that the numbers of one example do not depend on."""

SCORES = ("topk_intersection", "kendall_tau", "spearman_rho")


class Evaluation:
    """The report in the making."""

    def __init__(
        self,
        classifier: Classifier,
        settings: Protocol,
        x: np.ndarray,
        y: np.ndarray,
        path: str | Path | None,
        batch_size: int | None,
        gradient_model: keras.Model | None,
    ):
        self.model, self.x, self.y = classifier.model, x, y
        self.free = classifier.columns.free
        self.settings, self.path = settings, None if path is None else Path(path)
        n = len(x)
        columns: dict[str, np.ndarray] = {"index": np.arange(n), "label": y, "predicted": np.full(n, -1)}
        columns |= {name: np.zeros(n, bool) for name in ("correct", "robust", "attacked")}
        columns |= {name: np.full(n, np.nan, "float32") for name in SCORES}
        columns |= {name: np.full(n, -1) for name in ("iteration", "restart")}
        columns["constant_map"] = np.zeros(n, bool)
        about = {field.name: plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)}
        about["batch_size"] = batch_size  # of which random starts and steps depend
        of_an_example = {name: value for name, value in as_of_0_1_0(about).items() if name not in _FREE}
        self.entries = int(np.prod(channels.map_shape(x.shape[1:], settings.data_format)))
        fingerprint = fingerprint_of([self.model, gradient_model], x, y, of_an_example)
        self.report = RobustnessReport(self.model.name, about, columns, {}, versions(), fingerprint)
        self.unit = wording.noun({"x": x})
        if self.path is not None:
            _check_folder(self.path)
            if self.path.exists():
                self.report = dataclasses.replace(self._before(self.path), protocol=about)
        self.sharing = Sharing(self.model)
        done = self.report.per_example["predicted"] >= 0, self.report.per_example["attacked"]
        self.sharing.check_alike(f"{fingerprint} {[int(np.sum(rows)) for rows in done]} {self.report.findings}")

    def _before(self, path: Path) -> RobustnessReport:
        """What a file holds of this evaluation."""
        before, attacked = RobustnessReport.load(path), self.settings.attacked
        if before.fingerprint != self.report.fingerprint:
            settings = self.report.protocol
            kept, now = as_of_0_1_0(before.protocol), as_of_0_1_0(settings)
            other = [name for name in {**now, **kept} if name not in _FREE and kept.get(name) != now.get(name)]
            what = f"of other settings: {', '.join(f'{name}={brief(before.protocol.get(name))}' for name in other)}"
            raise ValueError(
                "`path` must be a new file, or one that this very evaluation wrote: of the same model, examples, "
                f"labels, settings and batch size. Received: {path}, {what if other else 'of another one'}"
            )
        if attacked is not None and before.counts["attacked"] > attacked:
            raise ValueError(
                f"`attacked` must be at least the number of examples in `path`, {before.counts['attacked']}. "
                f"Received: attacked={attacked}"
            )
        return before

    def predictions(self, attack: Any, progress: bool) -> None:
        """Fill in `predicted`, `correct` and `robust`."""
        table = self.report.per_example
        done = int(np.sum(table["predicted"] >= 0))
        with Progress("predictions", len(self.x), self.unit, done, progress) as bar:
            show = bar.show if progress else None
            for found in self.sharing.iterate(attack, self.model, self.x, self.y, first=done, progress=show):
                rows = slice(done, done + len(found.x))
                for name in ("predicted", "correct", "robust"):
                    table[name][rows] = getattr(found, name)
                found_by.predictions(self.report.findings, found)
                bar.show(done := rows.stop)
                self.keep()

    def attributions(
        self, attack: Any, gradient_model: keras.Model | None, progress: bool, among: np.ndarray | None = None
    ) -> None:
        """Fill in the scores of the examples that are correctly classified and, if given, marked in `among`."""
        table = self.report.per_example
        allowed = table["correct"] if among is None else table["correct"] & among
        rows = np.flatnonzero(allowed)[: self.settings.attacked]
        done = int(np.sum(table["attacked"]))
        if among is not None:
            self.report.protocol["attacked"] = len(rows)
            if not np.array_equal(np.flatnonzero(table["attacked"]), rows[:done]):
                raise ValueError(
                    "`path` must hold a comparison of the same models. "
                    f"Received: {self.path}, in which other examples were attacked"
                )
        if not len(rows):
            return
        # On all examples, so that an evaluation that goes on with more of them attacks through the same twin.
        attack = attack.settled(self.model, self.x, gradient_model=gradient_model)
        if gradient_model is None:
            found_by.twin(self.report.findings, attack, self.model, self.x[rows], self.y[rows])
        options = {"gradient_model": gradient_model, "first": done}
        with Progress("attributions", len(rows), self.unit, done, progress) as bar:
            options["progress"] = bar.show if progress else None
            for found in self.sharing.iterate(attack, self.model, self.x[rows], self.y[rows], **options):
                here = rows[done : done + len(found.x)]
                table["attacked"][here] = True
                for name in SCORES:
                    table[name][here] = found.scores[name]
                table["iteration"][here], table["restart"][here] = found.iteration, found.restart
                maps = found.map_before.reshape(len(here), -1)
                table["constant_map"][here] = maps.max(axis=1) == maps.min(axis=1)
                found_by.maps(self.report.findings, found, self.settings.k_report)
                found_by.noise(self.report, found, here)
                self._show(found, here)
                bar.show(done := done + len(here))
                self.keep()

    def _show(self, found: Any, index: np.ndarray) -> None:
        """Keep the first few examples for pictures."""
        examples = self.report.examples
        new = {name: getattr(found, name) for name in ("x", "x_adv", "map_before", "map_after")} | {"index": index}
        for name, array in new.items():
            examples[name] = np.concatenate([examples[name], array] if name in examples else [array])[:_EXAMPLES]

    def column(self, name: str) -> np.ndarray:
        """A column of numbers of the table of examples, made where it is not there yet."""
        return self.report.per_example.setdefault(name, np.full(len(self.x), np.nan, "float32"))

    def keep(self) -> None:
        """Write the file, if there is to be one."""
        if self.path is not None and self.sharing.writes:
            self.report.save(self.path)


def _check_folder(path: Path) -> None:
    """Refuse a file that cannot be written, before anything is computed."""
    if not path.parent.is_dir():
        raise ValueError(f"`path` must be in a folder that exists. Received: {path}")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ValueError(f"`path` must be in a folder that can be written to. Received: {path}") from error
