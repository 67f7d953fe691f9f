"""`evaluate_robustness`: how far a classifier's predictions and explanations can be moved."""

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar import protocols
from keras_rar.classifier import Classifier
from keras_rar.core import checks
from keras_rar.protocols import Protocol, plain
from keras_rar.report import RobustnessReport

_EXAMPLES = 8
_SCORES = ("topk_intersection", "kendall_tau", "spearman_rho")


def evaluate_robustness(
    model: keras.Model,
    x: Any,
    y: Any,
    *,
    protocol: str | Protocol = "quick",
    dataset: str | None = None,
    path: str | Path | None = None,
    gradient_model: keras.Model | None = None,
    batch_size: int | None = None,
    chunk: int | str | None = "auto",
    jit_compile: bool | str = "auto",
    progress: bool = True,
    **changes: Any,
) -> RobustnessReport:
    """How far the predictions and the explanations of a classifier can be moved.

    Two attacks within N(x, ε): PGD on the predictions of all images, which gives the adversarial accuracy, and an
    attribution attack on the saliency maps of the correctly classified ones, which gives the top-k intersection,
    Kendall's tau and Spearman's rho of each map with itself after the attack (Chen et al. 2019, sec. 5).

    The scores are what these attacks found, so upper bounds of what there is to find. `attack="random"` is the
    control: where noise scores as low, as it may in Kendall's tau and Spearman's rho, the attack has added nothing.

    The attribution attack costs `6 m steps` passes over the network for each image and start: with
    `protocol="paper"` many seconds an image on a processor. `attacked=…` bounds the number of images, and with
    `path` an interrupted evaluation goes on where it was; one with a larger `attacked` goes on with more images.

    Args:
        model: Any Keras classifier with one input and one output, or a `RARModel`.
        x: Array of images (or other inputs) of shape `(n, ...)`, in the units of `bounds`.
        y: Labels, class indices or one-hot.
        protocol: `"quick"`, a first look; `"paper"`, the exact settings for a `dataset`; or a `Protocol`.
        dataset: `"mnist"`, `"fashion_mnist"`, `"gtsrb"` or `"oxford_flower17"`, for `protocol="paper"`.
        path: File (`.npz`) that results are kept in while they come, and gone on from. Defaults to none.
        gradient_model: A smooth twin of your own for a model whose activations cannot be found.
        batch_size: Positive integer, images attacked at once. Defaults to `None`, what is fastest and fits in memory.
        chunk: Number of nodes of IG evaluated at once: an integer, `None` for all, or `"auto"`.
        jit_compile: Whether to compile with XLA: `True`, `False`, or `"auto"` for "on a GPU". Defaults to `"auto"`.
        progress: Whether to show a progress bar. Defaults to `True`.
        **changes: Settings of the protocol to change, such as `epsilon=0.05`; see `Protocol`. The report says so.

    Returns:
        A `RobustnessReport`.

    Raises:
        TypeError: If `model` is not a Keras 3 model, or a setting does not exist.
        ValueError: If inputs, labels or settings are wrong, or `path` holds another evaluation.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])
    >>> x, y = np.random.default_rng(0).uniform(size=(9, 4)), np.arange(9) % 3
    >>> report = evaluate_robustness(model, x, y, epsilon=0.05, steps=2, m=4, progress=False)
    >>> report.protocol["name"]
    'quick, changed: epsilon=0.05, steps=2, m=4'
    """
    settings = protocols.get(protocol, dataset).changed(**changes)
    classifier = Classifier(model)
    if gradient_model is not None:
        Classifier(gradient_model)  # refuses what is no classifier
    checks.boolean("progress", progress)
    checks.broadcasts("baseline", settings.baseline, classifier.input_shape)
    x = classifier.check_inputs(x, settings.bounds)
    y = classifier.check_labels(y, len(x))
    shape = x.shape[1:-1] if x.ndim == 4 else x.shape[1:]
    options = {"batch_size": batch_size, "jit_compile": jit_compile}
    attack = settings.attribution_attack(int(np.prod(shape)), chunk=chunk, **options)
    attack.check_map(tuple(shape))
    settings = dataclasses.replace(settings, step_size=attack.step_size, k_report=attack.k_report)
    settings = dataclasses.replace(
        settings, k=getattr(attack, "k", None), pgd_step_size=settings.pgd_attack().step_size
    )
    evaluation = _Evaluation(classifier, settings, x, y, path, batch_size, gradient_model)
    evaluation.predictions(settings.pgd_attack(**options), progress)
    evaluation.attributions(attack, gradient_model, progress)
    return evaluation.report


class _Evaluation:
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
        self.settings, self.path = settings, None if path is None else Path(path)
        n = len(x)
        columns: dict[str, np.ndarray] = {"index": np.arange(n), "label": y, "predicted": np.full(n, -1)}
        columns |= {name: np.zeros(n, bool) for name in ("correct", "robust", "attacked")}
        columns |= {name: np.full(n, np.nan, "float32") for name in _SCORES}
        columns |= {name: np.full(n, -1) for name in ("iteration", "restart")}
        columns["constant_map"] = np.zeros(n, bool)
        about = {field.name: plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)}
        about["batch_size"] = batch_size  # of which random starts and steps depend
        of_an_image = {name: value for name, value in about.items() if name not in ("name", "attacked")}
        fingerprint = _fingerprint([self.model, gradient_model], x, y, of_an_image)
        self.report = RobustnessReport(self.model.name, about, columns, {}, _versions(), fingerprint)
        if self.path is not None and not self.path.parent.is_dir():
            raise ValueError(f"`path` must be in a folder that exists. Received: {self.path}")
        if self.path is not None and self.path.exists():
            before = RobustnessReport.load(self.path)
            if before.fingerprint != fingerprint:
                raise ValueError(
                    "`path` must be a new file, or one that this very evaluation wrote: of the same model, images, "
                    f"labels, settings and batch size. Received: {self.path}, of another one"
                )
            if settings.attacked is not None and before.counts["attacked"] > settings.attacked:
                raise ValueError(
                    f"`attacked` must be at least the number of images in `path`, {before.counts['attacked']}. "
                    f"Received: attacked={settings.attacked}"
                )
            self.report = dataclasses.replace(before, protocol=about)

    def predictions(self, attack: Any, progress: bool) -> None:
        """Fill in `predicted`, `correct` and `robust`."""
        table = self.report.per_example
        done = int(np.sum(table["predicted"] >= 0))
        bar = _Bar("predictions", len(self.x), done, progress)
        for found in attack.iterate(self.model, self.x, self.y, first=done):
            rows = slice(done, done + len(found.x))
            for name in ("predicted", "correct", "robust"):
                table[name][rows] = getattr(found, name)
            done = self._keep(bar, rows.stop)

    def attributions(self, attack: Any, gradient_model: keras.Model | None, progress: bool) -> None:
        """Fill in the scores of the images that are correctly classified."""
        table = self.report.per_example
        rows = np.flatnonzero(table["correct"])[: self.settings.attacked]
        if not len(rows):
            return
        done = int(np.sum(table["attacked"]))
        bar = _Bar("attributions", len(rows), done, progress)
        inputs = self.x[rows], self.y[rows]
        for found in attack.iterate(self.model, *inputs, gradient_model=gradient_model, first=done):
            here = rows[done : done + len(found.x)]
            table["attacked"][here] = True
            for name in _SCORES:
                table[name][here] = found.scores[name]
            table["iteration"][here], table["restart"][here] = found.iteration, found.restart
            maps = found.map_before.reshape(len(here), -1)
            table["constant_map"][here] = maps.max(axis=1) == maps.min(axis=1)
            self._show(found, here)
            done = self._keep(bar, done + len(here))

    def _show(self, found: Any, index: np.ndarray) -> None:
        """Keep the first few examples for pictures."""
        examples = self.report.examples
        new = {name: getattr(found, name) for name in ("x", "x_adv", "map_before", "map_after")} | {"index": index}
        for name, array in new.items():
            examples[name] = np.concatenate([examples[name], array] if name in examples else [array])[:_EXAMPLES]

    def _keep(self, bar: "_Bar", done: int) -> int:
        bar.show(done)
        if self.path is not None:
            self.report.save(self.path)
        return done


class _Bar:
    """Keras's progress bar, or none."""

    def __init__(self, title: str, total: int, done: int, progress: bool):
        self._update: Callable[[int], None] = lambda done: None
        if progress and done < total:
            print(f"{title}: {total} images" + (f", {done} done before" if done else ""))
            self._update = keras.utils.Progbar(total, unit_name="image").update

    def show(self, done: int) -> None:
        self._update(done)


def _fingerprint(models: list[Any], x: np.ndarray, y: np.ndarray, settings: dict[str, Any]) -> str:
    """A hash of all that the numbers depend on."""
    architectures = [_architecture(model) for model in models]
    digest = hashlib.sha256(json.dumps([settings, architectures], sort_keys=True, default=str).encode())
    for array in (*(weight for model in models if model is not None for weight in model.get_weights()), x, y):
        digest.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _architecture(layer: Any) -> Any:
    """Layers by class and plain settings; their names differ from one building of a model to the next."""
    if layer is None or isinstance(layer, keras.Model):
        return [_architecture(inner) for inner in getattr(layer, "layers", [])]
    try:
        settings = layer.get_config()
    except Exception:  # a layer of the user's, or with a function of the user's
        settings = {}
    simple = {name: value for name, value in settings.items() if isinstance(value, (str, int, float, tuple, list))}
    return [type(layer).__name__, {**simple, "name": None}]


def _versions() -> dict[str, str]:
    try:
        version = importlib.metadata.version("keras_rar")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    gpus = tf.config.get_visible_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus]
    versions = {"keras_rar": version, "keras": keras.__version__, "tensorflow": tf.__version__, "numpy": np.__version__}
    return {**versions, "device": ", ".join(names) or "CPU"}
