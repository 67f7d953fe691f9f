"""The paper's experiments from data to table: what `examples/reproduce.py` runs."""

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_rar import files
from keras_rar.core import checks
from keras_rar.evaluation import evaluate_robustness
from keras_rar.paper import archives, augmentation, datasets, networks, recipes
from keras_rar.paper.batches import Batches, shuffled
from keras_rar.paper.precision import fastest_policy
from keras_rar.paper.published import METHODS, PUBLISHED
from keras_rar.paper.runs import as_json, claim
from keras_rar.paper.training import Phase, Plan, train, train_as_published
from keras_rar.report import RobustnessReport, cell

DATASETS = (*PUBLISHED, "mnist_10k")
PER_CLASS = {"gtsrb": 10_000, "oxford_flower17": 1_000}
"""To how many training examples a class is augmented, where it is."""
_WHOLE, _SET_ASIDE = 60_000, 5_000
"""Training images of MNIST and Fashion-MNIST, and how many of them the authors' reader keeps for a validation."""
_OF_MAPS = ("topk_intersection", "kendall_tau")
_MEASURES = ("natural_accuracy", "adversarial_accuracy", *_OF_MAPS)


def fast(method: str, dataset: str = "fashion_mnist") -> Plan:
    """How the fast recipe trains.

    The paper's CNN with the paper's methods: at its rate, from its initial weights, in its batches of 50, for 21 epochs
    of natural training, which are the paper's updates, and 30 of each other method, a third of them; of IG-NORM and
    IG-SUM-NORM the last 10, after adversarial training. `"mnist_10k"`, a seventh of the images, has three times as many
    epochs. Otherwise in cycles of a higher rate.

    Args:
        method: A name in `METHODS`.
        dataset: A name in `DATASETS`.

    Returns:
        A `Plan`.

    Example:

    >>> [phase.method for phase in fast("ig_norm").phases]
    ['madry', 'ig_norm']
    """
    checks.one_of("method", method, METHODS)
    checks.one_of("dataset", dataset, DATASETS)
    if method in ("igr", "ig_topk"):
        return Plan([Phase("madry", 4), Phase(method, 1, {"ascend": "objective"})])
    if dataset in PER_CLASS:
        return Plan([Phase(method, 8)] if method in ("natural", "madry") else [Phase("madry", 4), Phase(method, 4)])
    times = 3 if dataset == "mnist_10k" else 1
    alone = {"natural": [Phase("natural", 21 * times)], "madry": [Phase("madry", 30 * times)]}
    phases = alone.get(method, [Phase("madry", 20 * times), Phase(method, 10 * times)])
    return Plan(phases, learning_rate=1e-4, batch_size=50, schedule="constant", average=False, initializer=None)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A network of the paper, trained with one method on one data set, and measured with the paper's protocol.

    Run again it goes on where it was stopped: by the epoch while it trains, by the image while it measures.

    Args:
        dataset: A name in `DATASETS`.
        method: A name in `METHODS`.
        recipe: `"fast"`, of the function `fast`; or `"paper"`, `recipes.training`: days to weeks on a processor.
        plan: A `Plan` in place of that of the fast recipe.
        threshold: `width` of a `keras_rar.firm_threshold` that a CNN begins with. Defaults to none, as in the paper.
        dtype: Policy of the fast recipe's training, such as `"mixed_bfloat16"`; `"fastest"` for the fastest on this
            machine, or that which the run was begun with. Defaults to `"float32"`.
        name: Of the files. Defaults to `dataset-method`, with recipe and seed where these are not the defaults; of
            a run on noise with `-smoke`.
        out: Folder of the results; what a run needs to go on is in a folder of that name below it.
        data_dir: Folder of the official files, as for `keras_rar.paper.datasets.load`.
        seed: Integer. Defaults to `0`.
        attacked: Number of test images whose maps are attacked. Defaults to `150`.
        restarted: Number of these that are attacked again, from three random starts too. Defaults to `30`.
        smoke: Whether only to show that it works, on noise. Defaults to `False`.

    Raises:
        ValueError: If there is none of that name, or an argument that the recipe or the network does not have; when it
            trains, if the folder is that of a run with other settings.

    Example:

    >>> Experiment("mnist_10k", "igr", seed=1).stem
    'mnist_10k-igr-seed1'
    """

    dataset: str
    method: str
    recipe: str = "fast"
    plan: Plan | None = None
    threshold: float | None = None
    dtype: str = "float32"
    name: str | None = None
    out: str | Path = "results"
    data_dir: str | Path | None = None
    seed: int = 0
    attacked: int = 150
    restarted: int = 30
    smoke: bool = False

    def __post_init__(self) -> None:
        checks.one_of("dataset", self.dataset, DATASETS)
        checks.one_of("recipe", self.recipe, recipes.RECIPES)
        checks.one_of("method", self.method, METHODS if self.recipe == "fast" else recipes.PAPER["mnist"])
        if not isinstance(self.plan, Plan | None):
            checks.fail("plan", "a Plan", self.plan, TypeError)
        if self.recipe == "paper" and (self.plan is not None or self.dtype not in ("float32", "fastest")):
            raise ValueError(
                '`plan` and `dtype` must be left out with the recipe "paper", which has its own. '
                f"Received: plan={self.plan}, dtype={self.dtype}"
            )
        if self.threshold is not None and self.dataset in PER_CLASS:
            raise ValueError(f"`threshold` must be None for {self.dataset}. Received: threshold={self.threshold}")

    @property
    def settings_of(self) -> str:
        """The data set of the paper whose network and settings it has."""
        return "mnist" if self.dataset == "mnist_10k" else self.dataset

    @property
    def settings(self) -> dict[str, Any]:
        """What its network depends on."""
        names = ("dataset", "method", "recipe", "threshold", "seed", "smoke")
        plan = dataclasses.asdict(self._plan) if self.recipe == "fast" else None
        return {**{name: getattr(self, name) for name in names}, "dtype": self.policy, "plan": plan}

    @functools.cached_property
    def policy(self) -> str:
        """The dtype policy that it trains in."""
        if self.dtype != "fastest":
            return self.dtype
        if self.recipe == "paper":
            return "float32"
        begun = self.folder / "experiment.json"
        return json.loads(begun.read_text())["dtype"] if begun.exists() else fastest_policy()

    @property
    def stem(self) -> str:
        """The name of its files."""
        unusual = [self.recipe] * (self.recipe != "fast") + [f"seed{self.seed}"] * (self.seed != 0)
        return (self.name or "-".join([self.dataset, self.method, *unusual])) + "-smoke" * self.smoke

    @property
    def folder(self) -> Path:
        """Where it keeps what it needs to go on."""
        return Path(self.out) / self.stem

    @property
    def _plan(self) -> Plan:
        plan = self.plan or fast(self.method, self.dataset)
        if not self.smoke:
            return plan
        phases = [dataclasses.replace(phase, epochs=1) for phase in plan.phases]
        return dataclasses.replace(plan, phases=phases, batch_size=8)

    def images(self, split: str) -> datasets.Split:
        """Images and labels, as bytes."""
        if not self.smoke:
            return datasets.raw(self.dataset, split, data_dir=self.data_dir)
        side = archives.SIZES.get(self.dataset)
        shape, n = (28, 28, 1) if side is None else (side, side, 3), 16 if split == "train" else 8
        return np.random.default_rng(0).integers(0, 256, (n, *shape), np.uint8), (np.arange(n) % 10).astype(np.uint8)

    def network(self, dtype: str = "float32") -> keras.Model:
        """The paper's, untrained."""
        keras.utils.set_random_seed(self.seed)
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(dtype)
        try:
            if self.dataset not in PER_CLASS:
                initializer = self._plan.initializer if self.recipe == "fast" else None
                return networks.cnn(initializer=initializer, threshold=self.threshold)
            decay = recipes.training(self.method, self.dataset).weight_decay if self.recipe == "paper" else 0.0
            side, units = archives.SIZES[self.dataset], 2 if self.dataset == "gtsrb" else 1
            return networks.resnet((side, side, 3), archives.CLASSES[self.dataset], units=units, weight_decay=decay)
        finally:
            keras.config.set_dtype_policy(before)

    def batches(self, batch_size: int) -> Batches:
        """Training data, in another order every epoch; augmented where the paper does that."""
        images, labels = self.images("train")
        if self.dataset not in PER_CLASS:
            set_aside = _SET_ASIDE if self.recipe == "paper" and len(images) == _WHOLE else 0
            images, labels = images[set_aside:], labels[set_aside:]
            return shuffled(*datasets.scaled(self.dataset, images, labels), batch_size, self.seed)
        per_class = 2 if self.smoke else PER_CLASS[self.dataset]
        is_whole = self.recipe == "paper"  # whose rates may be those of a sum over the batch
        options: dict[str, Any] = {"equalize": self.dataset == "gtsrb", "whole": is_whole, "seed": self.seed}
        return augmentation.pipeline(images, labels, per_class, batch_size=batch_size, **options)

    def train(self) -> tuple[keras.Model, float]:
        """The trained network, in float32, and the seconds it took, over all runs."""
        claim(self.folder, "experiment", self.settings)
        options: dict[str, Any] = {"seed": self.seed, "folder": self.folder}
        if self.recipe == "paper":
            trained, settings = self.network(), recipes.training(self.method, self.settings_of)
            data = self.batches(8 if self.smoke else settings.batch_size)
            updates = 2 if self.smoke else settings.updates
            seconds = train_as_published(trained, data, self.method, self.settings_of, updates=updates, **options)
        else:
            trained, plan = self.network(self.policy), self._plan
            data = self.batches(plan.batch_size)
            options |= {"learning_rate": plan.learning_rate, "schedule": plan.schedule, "average": plan.average}
            seconds = train(trained, data, None, plan.phases, dataset=self.settings_of, **options)
        network = self.network()
        network.set_weights(trained.get_weights())
        network.save(self.folder / "model.keras")
        return network, seconds

    def measure(self, network: keras.Model, name: str = "report", **changes: Any) -> RobustnessReport:
        """The paper's protocol on the test images, with `changes`."""
        if self.smoke:
            changes |= {"attacked": 2, "steps": 2, "m": 4, "pgd_steps": 2}
        x, y = datasets.scaled(self.dataset, *self.images("test"))
        path = self.folder / f"{name}.npz"
        return evaluate_robustness(network, x, y, protocol="paper", dataset=self.settings_of, path=path, **changes)

    def run(self) -> dict[str, Any]:
        """Train, measure, and write the result, `dataset-method.json`, and a picture, `dataset-method.png`.

        Returns:
            What the file holds.
        """
        network, seconds = self.train()
        report = self.measure(network, attacked=self.attacked)
        restarted: dict[str, Any] = {}
        if self.restarted:
            again = self.measure(
                network, "restarted", attacked=min(self.restarted, self.attacked), restarts=3, pgd_steps=1
            )
            restarted = {measure: again.summary()[measure] for measure in _OF_MAPS}
            n = again.counts["attacked"]
            first = {measure: float(report.values(measure)[:n].mean()) for measure in _OF_MAPS} if n else {}
            restarted |= {"without": first, "device": again.versions.get("device")}
        result = {
            **self.settings,
            "training_seconds": round(seconds, 1),
            "protocol": report.protocol,
            "summary": report.summary(),
            "restarted": restarted,
            "versions": report.versions,
        }
        with files.whole(Path(self.out) / f"{self.stem}.json") as part:
            part.write_text(as_json(result))
        report.plot().savefig(Path(self.out) / f"{self.stem}.png", dpi=150)
        return result


def table(out: str | Path, datasets: Sequence[str] = DATASETS, methods: Sequence[str] = tuple(METHODS)) -> str:
    """All result files of a folder beside the paper's numbers, as Markdown.

    Args:
        out: The folder.
        datasets: Names of data sets. Defaults to all.
        methods: Names of methods. Defaults to all.

    Returns:
        A table with a row for each method of the paper, run here or not, for each result, and for its restarts.
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
    """What is to be known of a row."""
    notes = [result["name"], result["recipe"], f"{result['training_seconds'] / 60:.0f} minutes"]
    notes += [f"threshold {result['threshold']}"] if result["threshold"] is not None else []
    return ", ".join([*notes, *(["on noise"] if result["smoke"] else [])])
