"""`compare`: several models measured on the same examples."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_rar.attacks.choices import Chunk, JitCompile
from keras_rar.core import checks, keywords
from keras_rar.evaluation import ball, protocols
from keras_rar.evaluation.comparison import Comparison
from keras_rar.evaluation.controls import Controls
from keras_rar.evaluation.preparing import prepared
from keras_rar.evaluation.protocols import Protocol
from keras_rar.evaluation.report import RobustnessReport
from keras_rar.evaluation.report_files import file_names
from keras_rar.evaluation.settings import DatasetName, ProtocolName, Settings

if TYPE_CHECKING:
    from typing_extensions import Unpack  # of `typing` from Python 3.11 on


def compare(
    models: Mapping[str, keras.Model | RobustnessReport],
    x: Any = None,
    y: Any = None,
    *,
    protocol: ProtocolName | Protocol = "quick",
    dataset: DatasetName | None = None,
    path: str | Path | None = None,
    batch_size: int | None = None,
    chunk: Chunk = "auto",
    jit_compile: JitCompile = "auto",
    progress: bool = True,
    **changes: "Unpack[Settings]",
) -> Comparison:
    """Measure several models on the same examples, with paired differences.

    The predictions of every model are attacked on all examples, and the maps on the first examples that all models
    classify correctly. So each difference between two models is a mean of differences per example, whose interval is
    narrower than those of the two means. Where it holds 0 the models are not ranked. The controls are those of
    `evaluate_robustness`, on the first of the same examples.

    Reports of `evaluate_robustness` can stand in place of the models; then nothing is computed, and the maps are
    compared on the examples that were attacked for both.

    Args:
        models: A model, or a `RobustnessReport`, by the name to show; two or more, all of one kind.
        x: As for `evaluate_robustness`; not with reports.
        y: As for `evaluate_robustness`; not with reports.
        protocol: As for `evaluate_robustness`.
        dataset: As for `evaluate_robustness`.
        path: Folder in which a file per model is kept while results come, and gone on from. Defaults to none.
        batch_size: As for `evaluate_robustness`.
        chunk: As for `evaluate_robustness`.
        jit_compile: As for `evaluate_robustness`.
        progress: Whether to show progress bars. Defaults to `True`.
        **changes: Settings, as for `evaluate_robustness`. What is missing of the ball is that of the training, if it is
            the same for all that are a `RARModel`.

    Returns:
        A `Comparison`.

    Raises:
        TypeError: If `models` is not a dictionary, or holds something else than models or reports.
        ValueError: If there are fewer than two, they do not fit the data, reports differ in data or settings, or
            `path` holds another comparison.

    Example:

    >>> models = {name: keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]) for name in ("a", "b")}
    >>> x, y = np.random.default_rng(0).uniform(size=(9, 4)), np.arange(9) % 2
    >>> comparison = compare(models, x, y, epsilon=0.1, steps=2, m=2, pgd_steps=2, progress=False)
    >>> comparison.difference("b", "a")["natural_accuracy"]["n"]
    9
    """
    if not isinstance(models, Mapping):
        checks.fail("models", "a dictionary from name to model", type(models), TypeError)
    if len(models) < 2 or not all(isinstance(name, str) and name.strip() for name in models):
        checks.fail("models", "two or more, by names that are not empty", list(models))
    files = file_names(models)
    kinds = {isinstance(model, RobustnessReport) for model in models.values()}
    if len(kinds) == 2:
        checks.fail("models", "all models or all reports", {k: type(v).__name__ for k, v in models.items()}, TypeError)
    if kinds == {True}:
        if x is not None or y is not None or path is not None or changes:
            raise ValueError("`models` must be models where data, a path or settings are given. Received: reports")
        return Comparison(dict(models))
    checks.boolean("progress", progress)
    known = list(Settings.__annotations__)
    keywords.refuse(changes, known, "compare")
    base = protocols.get(protocol, dataset)
    settings = base.changed(**(ball.shared(models.values(), changes) if protocols.of_any_data(protocol) else changes))
    if path is not None:
        Path(path).mkdir(parents=True, exist_ok=True)
    begun = {}
    for (name, model), file in zip(models.items(), files, strict=True):
        kept = None if path is None else Path(path) / file
        try:
            parts = prepared(model, x, y, settings, kept, None, batch_size, chunk, jit_compile)
            options: dict[str, Any] = {"batch_size": batch_size, "chunk": chunk, "jit_compile": jit_compile}
            begun[name] = *parts, Controls(parts[0], parts[1], None, **options)
        except (TypeError, ValueError) as error:
            raise type(error)(f"model {name!r}: {error}") from error
    found = {name: evaluation.settings.data_format for name, (evaluation, *_) in begun.items()}
    if len(set(found.values())) > 1:
        checks.fail("data_format", "given for models that take other channels of the same inputs", found)
    for name, (evaluation, pgd, *_) in begun.items():
        _say(name, progress)
        evaluation.predictions(pgd, progress)
    every = np.logical_and.reduce([evaluation.report.per_example["correct"] for evaluation, *_ in begun.values()])
    for name, (evaluation, _, attack, controls) in begun.items():
        _say(name, progress)
        evaluation.attributions(attack, None, progress, among=every)
        controls.run(progress)
    reports = {name: evaluation.report for name, (evaluation, *_) in begun.items()}
    return Comparison({name: dataclasses.replace(report, model_name=name) for name, report in reports.items()})


def _say(name: str, progress: bool) -> None:
    if progress:
        print(f"{name}:")
