"""The paper's experiments from data to table: what `examples/reproduce.py` runs."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_rar.core import checks
from keras_rar.evaluation import evaluate_robustness
from keras_rar.paper import archives, augmentation, datasets, networks, recipes
from keras_rar.paper.batches import Batches, shuffled
from keras_rar.paper.published import METHODS, PUBLISHED
from keras_rar.paper.runs import claim
from keras_rar.paper.training import Phase, train, train_as_published
from keras_rar.report import RobustnessReport, cell

PER_CLASS = {"gtsrb": 10_000, "oxford_flower17": 1_000}
"""To how many training examples a class is augmented, where it is."""
_WHOLE, _SET_ASIDE = 60_000, 5_000
"""Training images of MNIST and Fashion-MNIST, and how many of them the authors' reader keeps for a validation."""
_OF_MAPS = ("topk_intersection", "kendall_tau")
_MEASURES = ("natural_accuracy", "adversarial_accuracy", *_OF_MAPS)


def phases(method: str) -> list[Phase]:
    """How the fast recipe trains: some epochs of adversarial training, then the method.

    Args:
        method: A name in `METHODS`.

    Example:

    >>> [phase.method for phase in phases("ig_norm")]
    ['madry', 'ig_norm']
    """
    checks.one_of("method", method, METHODS)
    if method in ("natural", "madry"):
        return [Phase(method, 8)]
    if method in ("igr", "ig_topk"):
        return [Phase("madry", 4), Phase(method, 1, {"ascend": "objective"})]
    return [Phase("madry", 4), Phase(method, 4)]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A network of the paper, trained with one method on one data set, and measured with the paper's protocol.

    Run again it goes on where it was stopped: by the epoch while it trains, by the image while it measures.

    Args:
        dataset: A name in `PUBLISHED`, or `"mnist_10k"`.
        method: A name in `METHODS`.
        recipe: `"fast"`, `phases`; or `"paper"`, `recipes.training`: days to weeks on a processor.
        plan: Phases in place of those of the fast recipe.
        threshold: `width` of a `keras_rar.firm_threshold` that a CNN begins with. Defaults to none, as in the paper.
        dtype: Policy of the fast recipe's training, such as `"mixed_bfloat16"`. Defaults to `"float32"`.
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
    plan: Sequence[Phase] | None = None
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
        checks.one_of("dataset", self.dataset, [*PUBLISHED, "mnist_10k"])
        checks.one_of("recipe", self.recipe, recipes.RECIPES)
        checks.one_of("method", self.method, METHODS if self.recipe == "fast" else recipes.PAPER["mnist"])
        if self.recipe == "paper" and (self.plan is not None or self.dtype != "float32"):
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
        """What its network depends on, beside the plan."""
        names = ("dataset", "method", "recipe", "threshold", "dtype", "seed", "smoke")
        return {name: getattr(self, name) for name in names}

    @property
    def stem(self) -> str:
        """The name of its files."""
        unusual = [self.recipe] * (self.recipe != "fast") + [f"seed{self.seed}"] * (self.seed != 0)
        return (self.name or "-".join([self.dataset, self.method, *unusual])) + "-smoke" * self.smoke

    @property
    def folder(self) -> Path:
        """Where it keeps what it needs to go on."""
        return Path(self.out) / self.stem

    def images(self, split: str) -> datasets.Split:
        """Images and labels, as bytes."""
        if not self.smoke:
            return datasets.raw(self.dataset, split, data_dir=self.data_dir)
        side = archives.SIZES.get(self.dataset)
        shape, n = (28, 28, 1) if side is None else (side, side, 3), 16 if split == "train" else 8
        return np.random.default_rng(0).integers(0, 256, (n, *shape), np.uint8), (np.arange(n) % 10).astype(np.uint8)

    def network(self, dtype: str = "float32") -> keras.Model:
        """The paper's, untrained; the fast recipe begins with smaller weights, which learn faster."""
        keras.utils.set_random_seed(self.seed)
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(dtype)
        try:
            if self.dataset not in PER_CLASS:
                initializer = "glorot_uniform" if self.recipe == "fast" else None
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
        equalize = self.dataset == "gtsrb"
        return augmentation.pipeline(
            images, labels, per_class, batch_size=batch_size, equalize=equalize, seed=self.seed
        )

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
            trained, plan = self.network(self.dtype), self.plan or phases(self.method)
            if self.smoke:
                plan = [dataclasses.replace(phase, epochs=1) for phase in plan]
            data = self.batches(8 if self.smoke else 100)
            seconds = train(trained, data, None, plan, dataset=self.settings_of, **options)
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
        restarted = {}
        if self.restarted:
            summary = self.measure(network, "restarted", attacked=self.restarted, restarts=3, pgd_steps=1).summary()
            restarted = {measure: summary[measure] for measure in _OF_MAPS}
        result = {
            **self.settings,
            "training_seconds": round(seconds, 1),
            "protocol": report.protocol,
            "summary": report.summary(),
            "restarted": restarted,
            "versions": report.versions,
        }
        (Path(self.out) / f"{self.stem}.json").write_text(json.dumps(result, indent=2) + "\n")
        report.plot().savefig(Path(self.out) / f"{self.stem}.png", dpi=150)
        return result


def table(
    out: str | Path, datasets: Sequence[str] = (*PUBLISHED, "mnist_10k"), methods: Sequence[str] = tuple(METHODS)
) -> str:
    """All result files of a folder beside the paper's numbers, as Markdown.

    Args:
        out: The folder.
        datasets: Names of data sets. Defaults to all.
        methods: Names of methods. Defaults to all.

    Returns:
        A table with a row for each method of the paper, run here or not, and for each result.
    """
    results: dict[tuple[str, str], list[dict]] = {}
    for path in sorted(Path(out).glob("*.json")):
        result = json.loads(path.read_text())
        if not {"dataset", "method", "summary"} <= set(result):  # something else's
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
            if published and (dataset, method) not in results:
                lines.append(f"| {dataset}, {title} | here | not run here | | | |")
    return "\n".join(lines)


def _note(result: dict[str, Any]) -> str:
    """What is to be known of a row."""
    notes = [result["name"], result["recipe"], f"{result['training_seconds'] / 60:.0f} minutes"]
    notes += [f"threshold {result['threshold']}"] if result["threshold"] is not None else []
    return ", ".join([*notes, *(["on noise"] if result["smoke"] else [])])
