"""The paper's experiments from data to table: what `examples/reproduce.py` runs."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_rar.core import checks, files
from keras_rar.evaluation.evaluate import evaluate_robustness
from keras_rar.evaluation.report import RobustnessReport
from keras_rar.paper import architectures, archives, augmentation, datasets
from keras_rar.paper.plans import DATASETS, PER_CLASS, fast
from keras_rar.paper.precision import fastest_policy
from keras_rar.paper.published import METHODS
from keras_rar.paper.published_fit import train_as_published
from keras_rar.paper.published_training import training
from keras_rar.training import recipes
from keras_rar.training.batches import Batches, shuffled
from keras_rar.training.folders import as_json, claim, settings_in
from keras_rar.training.phased_training import train
from keras_rar.training.phases import Plan

_WHOLE, _SET_ASIDE = 60_000, 5_000
"""Training images of MNIST and Fashion-MNIST, and how many of them the authors' code sets aside for validation."""

_OF_MAPS = ("topk_intersection", "kendall_tau")

_MEASURES = ("natural_accuracy", "adversarial_accuracy", *_OF_MAPS)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A network of the paper, trained with one method on one data set, and measured with the paper's protocol.

    If it is run again, it goes on where it was stopped: after the last epoch of the training, or the last image of the
    evaluation.

    Args:
        dataset: A name in `DATASETS`.
        method: A name in `METHODS`.
        recipe: `"fast"`, with the plan of the function `fast`; or `"paper"`, exactly as in the paper, which takes days
            to weeks on a processor.
        plan: A `Plan` in place of that of the fast recipe.
        threshold: `width` of a `keras_rar.firm_threshold`, the first layer of a CNN. Defaults to none, as in the paper.
        dtype: Policy of the fast recipe's training, such as `"mixed_bfloat16"`; `"fastest"` for the fastest on this
            machine, or for the policy that the run was begun with. Defaults to `"float32"`.
        name: Name of the files. Defaults to `dataset-method`, with the recipe and the seed if they are not the
            defaults. A run on noise has `-smoke` at the end.
        out: Folder of the results. A folder in it, of the same name as the result, holds what the run needs to go on.
        data_dir: Folder of the official files, as for `keras_rar.paper.datasets.load`.
        seed: Integer. Defaults to `0`.
        attacked: Number of test images whose maps are attacked. Defaults to `150`.
        restarted: Number of these images that are attacked again, also from three random starts. Defaults to `30`.
        smoke: Whether to run on noise, only to show that everything works. Defaults to `False`.

    Raises:
        ValueError: If there is no data set, method or recipe of that name, or an argument does not belong to the recipe
            or the network; when it trains, if the folder is that of a run with other settings.

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
        """The data set of the paper whose network and settings are used."""
        return "mnist" if self.dataset == "mnist_10k" else self.dataset

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the trained network depends on."""
        names = ("dataset", "method", "recipe", "threshold", "seed", "smoke")
        plan = dataclasses.asdict(self._plan) if self.recipe == "fast" else None
        return {**{name: getattr(self, name) for name in names}, "dtype": self.policy, "plan": plan}

    @functools.cached_property
    def policy(self) -> str:
        """The dtype policy of the training."""
        if self.dtype != "fastest":
            return self.dtype
        if self.recipe == "paper":
            return "float32"
        begun = self.folder / "experiment.json"
        return settings_in(begun)["dtype"] if begun.exists() else fastest_policy()

    @property
    def stem(self) -> str:
        """The name of the files."""
        unusual = [self.recipe] * (self.recipe != "fast") + [f"seed{self.seed}"] * (self.seed != 0)
        return (self.name or "-".join([self.dataset, self.method, *unusual])) + "-smoke" * self.smoke

    @property
    def folder(self) -> Path:
        """The folder with what the run needs to go on."""
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
        """The paper's network, untrained."""
        keras.utils.set_random_seed(self.seed)
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(dtype)
        try:
            if self.dataset not in PER_CLASS:
                initializer = self._plan.initializer if self.recipe == "fast" else None
                return architectures.cnn(initializer=initializer, threshold=self.threshold)
            decay = training(self.method, self.dataset).weight_decay if self.recipe == "paper" else 0.0
            side, units = archives.SIZES[self.dataset], 2 if self.dataset == "gtsrb" else 1
            return architectures.resnet(
                (side, side, 3), archives.CLASSES[self.dataset], units=units, weight_decay=decay
            )
        finally:
            keras.config.set_dtype_policy(before)

    def batches(self, batch_size: int) -> Batches:
        """Training data, in another order in every epoch, and augmented where the paper augments them."""
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
        """The trained network, in float32, and the seconds of its training, over all runs."""
        claim(self.folder, "experiment", self.settings)
        options: dict[str, Any] = {"seed": self.seed, "folder": self.folder, "verbose": 2}
        if self.recipe == "paper":
            trained, settings = self.network(), training(self.method, self.settings_of)
            data = self.batches(8 if self.smoke else settings.batch_size)
            updates = 2 if self.smoke else settings.updates
            result = train_as_published(trained, data, self.method, self.settings_of, updates=updates, **options)
        else:
            trained, plan = self.network(self.policy), self._plan
            data = self.batches(plan.batch_size)
            result = train(trained, data, None, plan, dataset=self.settings_of, **options)
        network = self.network()
        network.set_weights(trained.get_weights())
        with files.whole(self.folder / "model.keras") as part:
            network.save(part)
        return network, result.seconds

    def measure(self, network: keras.Model, name: str = "report", **changes: Any) -> RobustnessReport:
        """A report by the paper's protocol, with `changes`, on the test images."""
        if self.smoke:
            changes |= {"attacked": 2, "steps": 2, "m": 4, "pgd_steps": 2, "noise": 0, "other_maps": (), "faithful": 0}
        x, y = datasets.scaled(self.dataset, *self.images("test"))
        path = self.folder / f"{name}.npz"
        dataset: Any = self.settings_of
        return evaluate_robustness(network, x, y, protocol="paper", dataset=dataset, path=path, **changes)

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
