"""`evaluate_robustness`: how far a classifier's predictions and explanations can be moved."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_rar import attacks
from keras_rar.core import checks
from keras_rar.evaluation import protocols
from keras_rar.evaluation.protocols import Protocol
from keras_rar.evaluation.report import RobustnessReport
from keras_rar.evaluation.running import _Evaluation
from keras_rar.networks.classifier import Classifier


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
    checks.boolean("progress", progress)
    evaluation, pgd, attack = prepared(model, x, y, settings, path, gradient_model, batch_size, chunk, jit_compile)
    evaluation.predictions(pgd, progress)
    evaluation.attributions(attack, gradient_model, progress)
    return evaluation.report


def prepared(
    model: keras.Model,
    x: Any,
    y: Any,
    settings: Protocol,
    path: str | Path | None = None,
    gradient_model: keras.Model | None = None,
    batch_size: int | None = None,
    chunk: int | str | None = "auto",
    jit_compile: bool | str = "auto",
) -> tuple[_Evaluation, attacks.PGDAttack, attacks.AttributionAttack]:
    """An evaluation with everything checked and nothing attacked, and its two attacks."""
    classifier = Classifier(model)
    if gradient_model is not None:
        Classifier(gradient_model)  # refuses what is no classifier
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
    return evaluation, settings.pgd_attack(**options), attack
