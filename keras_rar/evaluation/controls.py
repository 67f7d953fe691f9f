"""What runs beside the two attacks, so that a report judges itself: noise, other maps, faithfulness, certificates."""

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_rar import attacks
from keras_rar.core.segment_starts import starts_of
from keras_rar.evaluation import found_by
from keras_rar.evaluation.certify import certify
from keras_rar.evaluation.faithfulness import faithfulness
from keras_rar.evaluation.kinds_of_maps import other_saliencies
from keras_rar.evaluation.progress import Progress
from keras_rar.evaluation.running import SCORES, Evaluation
from keras_rar.evaluation.settings import AttackName
from keras_rar.explaining.saliency_maps import saliency_map

PART = 16
"""Examples whose other maps are attacked where the noise control is off."""

_NOISE, _NODES = 0.25, 20  # of the certificate: the deviation in units of the range of inputs, and the most nodes of IG


class Controls:
    """The controls of one evaluation; each goes on where a file has it, and is skipped where it is done.

    All are run on the first examples whose maps were attacked, so every comparison with the attack is paired.

    Args:
        evaluation: The evaluation that they belong to.
        pgd: Its attack on predictions.
        gradient_model: A smooth twin of the user's, or `None`.
        **options: `batch_size`, `chunk` and `jit_compile` of the attacks.

    Raises:
        ValueError: If a method of `other_maps` that was asked for cannot be attacked on this model.
    """

    def __init__(
        self, evaluation: Evaluation, pgd: attacks.PGDAttack, gradient_model: keras.Model | None, **options: Any
    ):
        self._evaluation, self._pgd, self._gradient_model = evaluation, pgd, gradient_model
        self._options, settings = options, evaluation.settings
        self._kinds: dict[str, attacks.AttributionAttack] = {}
        findings = evaluation.report.findings
        others = other_saliencies(settings.other_maps, settings.saliency)
        if settings.noise or settings.faithful or settings.certified or others:
            findings["unfinished"] = True
        for name, saliency in others.items():
            attack = self._attack(settings.attack, saliency)
            try:
                attack.check(evaluation.model, evaluation.x, evaluation.y, gradient_model=gradient_model)
            except (TypeError, ValueError) as error:
                if settings.other_maps is not None:
                    raise
                findings.setdefault("maps", {})[name] = {"n": 0, "skipped": str(error)}
            else:
                self._kinds[name] = attack

    def run(self, progress: bool) -> None:
        """Everything that the settings ask for and the file does not have."""
        evaluation, settings = self._evaluation, self._evaluation.settings
        findings, rows = evaluation.report.findings, np.flatnonzero(evaluation.report.per_example["attacked"])
        if len(rows):
            if settings.attack == "random":
                findings["noise"] = {"n": 0, "queries": 0, "same": True}
            elif settings.noise:
                self._noise(rows[: settings.noise], progress)
            for name in self._kinds:
                self._kind(name, rows[: settings.noise or PART], progress)
            self._faithfulness(rows[: settings.faithful], progress)
            self._certificate(rows[: settings.certified], progress)
        if findings.pop("unfinished", False):
            evaluation.keep()

    def _noise(self, rows: np.ndarray, progress: bool) -> None:
        about = self._evaluation.report.findings.setdefault("noise", {"n": 0, "queries": self._queries()})
        self._fill("noise", about, self._noise_of(self._evaluation.settings.saliency), rows, "noise", progress)
        self._noise_of_predictions(about, rows, progress)

    def _kind(self, name: str, rows: np.ndarray, progress: bool) -> None:
        about = self._evaluation.report.findings.setdefault("maps", {}).setdefault(name, {"n": 0})
        self._fill(name, about, [self._kinds[name]], rows, f"attributions, {name}", progress)
        if self._evaluation.settings.noise and self._evaluation.settings.attack != "random":
            noise = about.setdefault("noise", {"n": 0})
            self._fill(f"{name}.noise", noise, self._noise_of(self._kinds[name].saliency), rows, "noise", progress)

    def _fill(
        self, what: str, about: dict[str, Any], by: list[Any], rows: np.ndarray, title: str, progress: bool
    ) -> None:
        """Columns of what these attacks find on these rows, the worst of them for each measure."""
        evaluation, done = self._evaluation, about["n"]
        if done >= len(rows):
            return
        columns = {measure: evaluation.column(f"{measure}.{what}") for measure in SCORES}
        x, y = evaluation.x[rows], evaluation.y[rows]
        options = {"gradient_model": self._gradient_model, "first": done}
        by = [attack.settled(evaluation.model, evaluation.x, gradient_model=self._gradient_model) for attack in by]
        with Progress(title, len(rows), evaluation.unit, done, progress) as bar:
            options["progress"] = bar.show if progress and len(by) == 1 else None
            results = [evaluation.sharing.iterate(attack, evaluation.model, x, y, **options) for attack in by]
            for several in zip(*results, strict=True):
                here = rows[done : done + len(several[0].x)]
                for measure, column in columns.items():
                    column[here] = np.min([found.scores[measure] for found in several], axis=0)
                done += len(here)
                about["n"] = done
                if control := found_by.scores_of_noise(several[0]):
                    for measure, values in control.items():
                        evaluation.column(f"{measure}.{what}.noise")[here] = values
                    about["noise"] = {"n": done}
                bar.show(done)
                evaluation.keep()

    def _noise_of_predictions(self, about: dict[str, Any], rows: np.ndarray, progress: bool) -> None:
        """Whether as many random vertices of the ball as the attack has iterates leave the prediction."""
        if about.get("predictions", 0) >= len(rows):
            return
        evaluation, settings = self._evaluation, self._evaluation.settings
        queries = self._pgd.iterates(evaluation.model)
        noise = attacks.PredictionEnsembleAttack(
            settings.epsilon,
            norm=settings.norm,
            bounds=settings.bounds,
            members="noise",
            queries=queries,
            seed=settings.seed,
            batch_size=self._options["batch_size"],
            jit_compile=self._options["jit_compile"],
        )
        column, done = evaluation.column("robust.noise"), 0
        with Progress("noise, predictions", len(rows), evaluation.unit, done, progress) as bar:
            show = bar.show if progress else None
            x, y = evaluation.x[rows], evaluation.y[rows]
            for found in evaluation.sharing.iterate(noise, evaluation.model, x, y, progress=show):
                column[rows[done : done + len(found.x)]] = found.robust
                done += len(found.x)
                bar.show(done)
        about["predictions"], about["predictions_queries"] = len(rows), queries
        evaluation.keep()

    def _faithfulness(self, rows: np.ndarray, progress: bool) -> None:
        """Deletion, insertion and infidelity of the maps before the attack, and of maps that know no network."""
        evaluation, settings = self._evaluation, self._evaluation.settings
        about = evaluation.report.findings.get("faithfulness", {"n": 0})
        todo = rows[about["n"] :]
        if not len(todo):
            return
        evaluation.report.findings["faithfulness"] = about
        try:
            with Progress("faithfulness", len(rows), evaluation.unit, about["n"], progress) as bar:
                maps, signed = self._maps(todo, True), self._maps(todo, False)
                axes = tuple(range(1, maps.ndim))
                sound = np.isfinite(maps).all(axis=axes)
                sound &= np.isfinite(signed).all(axis=tuple(range(1, signed.ndim)))
                given = evaluation.free(evaluation.x[todo])
                away = starts_of(settings.baseline, given) != given
                sound &= away.reshape(len(todo), -1).any(axis=1)
                found: dict[str, dict[str, np.ndarray]] = {}
                if sound.any():
                    here = todo[sound]
                    found = faithfulness(
                        evaluation.model,
                        evaluation.x[here],
                        maps[sound],
                        evaluation.y[here],
                        attributions=signed[sound],
                        baseline=settings.baseline,
                        seed=settings.seed,
                    )
                for name, scores in found.items():
                    for measure, values in scores.items():
                        evaluation.column(f"{measure}.{name}")[here] = values
                bar.show(len(rows))
        except (TypeError, ValueError) as error:  # a map of a shape of its own, or a function of other tensors
            about["skipped"] = str(error)
        else:
            about["n"] = len(rows)
        evaluation.keep()

    def _certificate(self, rows: np.ndarray, progress: bool) -> None:
        """Lower bounds for the smoothed map, in an L2 ball whatever the norm of the attacks."""
        evaluation, settings = self._evaluation, self._evaluation.settings
        findings = evaluation.report.findings
        if not len(rows) or findings.get("certificate", {}).get("n", 0) >= len(rows):
            return
        try:
            found = certify(
                evaluation.model,
                evaluation.x[rows],
                evaluation.y[rows],
                sigma=_NOISE * _range_of(settings.bounds),
                k=settings.k_report,
                method=settings.saliency,
                target=settings.target,
                rule=settings.rule,
                m=min(settings.m, _NODES),
                baseline=settings.baseline,
                seed=settings.seed,
                progress=progress,
            )
        except (TypeError, ValueError) as error:
            findings["certificate"] = {"n": 0, "skipped": str(error)}
        else:
            findings["certificate"] = found.as_findings()
        evaluation.keep()

    def _maps(self, rows: np.ndarray, normalize: bool) -> np.ndarray:
        """The maps before the attack, or the signed attributions that they are made of."""
        evaluation, settings = self._evaluation, self._evaluation.settings
        found = saliency_map(
            evaluation.model,
            evaluation.x[rows],
            evaluation.y[rows],
            settings.saliency,
            target=settings.target,
            rule=settings.rule,
            m=settings.m,
            baseline=settings.baseline,
            chunk=self._options["chunk"],
            data_format=settings.data_format,
            normalize=normalize,
        )
        return found.sum(axis=-1) if settings.data_format == "rows" and not normalize else found

    def _queries(self) -> int:
        """How many iterates the attack on maps looks at."""
        settings = self._evaluation.settings
        found = int(self._evaluation.report.findings.get("queries", 0))
        return max(found, int(settings.steps) * (int(settings.restarts) + 1))

    def _noise_of(self, saliency: Any) -> list[attacks.AttributionAttack]:
        """Noise of the same budget; against the worst case per measure it may choose the worst per measure too."""
        keeps = SCORES if self._evaluation.settings.attack == "ensemble" else (self._evaluation.settings.keep,)
        changes: dict[str, Any] = {"step_size": None, "steps": self._queries(), "restarts": 0}
        return [self._attack("random", saliency, keep=keep, **changes) for keep in keeps]

    def _attack(self, kind: AttackName, saliency: Any, **changes: Any) -> attacks.AttributionAttack:
        changed = dataclasses.replace(self._evaluation.settings, attack=kind, saliency=saliency, **changes)
        return changed.attribution_attack(self._evaluation.entries, **self._options)


def _range_of(bounds: Any) -> float:
    """The width of the range of inputs, the widest of bounds per entry; 1 without bounds."""
    return 1.0 if bounds is None else float(np.max(np.subtract(*(np.asarray(bound) for bound in reversed(bounds)))))
