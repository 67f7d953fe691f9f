"""What the command `keras-rar` does once its options are checked: measure, compare or explain saved classifiers.

Options and their help are in `keras_rar_cli`, which loads without TensorFlow.
"""

import argparse
import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar.core import channels
from keras_rar.evaluation.compare import compare
from keras_rar.evaluation.evaluate import evaluate_robustness
from keras_rar.explaining.saliency_maps import saliency_map
from keras_rar.networks.classifier import TARGETS, Classifier
from keras_rar.reports import plotting
from keras_rar_cli.checks import ARRAYS
from keras_rar_cli.errors import UserError
from keras_rar_cli.options import SETTINGS


def run(arguments: argparse.Namespace) -> None:
    """Run a command whose arguments `keras_rar_cli.checks.check` has passed.

    Args:
        arguments: Its arguments.

    Raises:
        UserError: If a file holds something else than the command needs.
        ValueError: If a setting does not fit the model or the data.
    """
    {"evaluate": _evaluate, "compare": _compare, "explain": _explain}[arguments.command](arguments)


def _evaluate(arguments: argparse.Namespace) -> None:
    ((name, path),) = arguments.models.items()
    x, y = _read_data(arguments)
    model = _read_model(path)
    file = arguments.out / "report.npz"
    with contextlib.redirect_stdout(sys.stderr):  # the progress; the table alone is the output
        report = evaluate_robustness(model, x, y, path=file, **_settings(arguments))
    report = dataclasses.replace(report, model_name=name)
    report.save(file)
    _write(arguments.out / "report.json", report.to_json())
    _write(arguments.out / "report.csv", report.to_csv())
    _write(arguments.out / "report.html", report.to_html(**_names(arguments)))
    print(report.to_markdown())


def _compare(arguments: argparse.Namespace) -> None:
    x, y = _read_data(arguments)
    models = {name: _read_model(path) for name, path in arguments.models.items()}
    with contextlib.redirect_stdout(sys.stderr):
        comparison = compare(models, x, y, path=arguments.out, **_settings(arguments))
    comparison.save(arguments.out)
    _write(arguments.out / "comparison.html", comparison.to_html(**_names(arguments)))
    try:
        comparison.plot().savefig(arguments.out / "comparison.png")
    except ImportError as error:
        print(f"no comparison.png: {error}", file=sys.stderr)
    print(comparison.to_markdown())


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `evaluate_robustness` that were given."""
    given = {name: getattr(arguments, name) for name in [*SETTINGS, "dataset", "batch_size"]}
    given["bounds"] = None if arguments.bounds is None else tuple(arguments.bounds)
    given = {name: value for name, value in given.items() if value is not None}
    return {"protocol": arguments.protocol, "progress": not arguments.no_progress, **given}


def _names(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"class_names": arguments.class_names, "feature_names": arguments.feature_names}


def _explain(arguments: argparse.Namespace) -> None:
    lower, upper = arguments.bounds
    classifier = Classifier(model := _read_model(arguments.model))
    x = _read_image(arguments.image, classifier.input_shape, lower, upper)
    classes = max(classifier.classes, 2)
    predicted = int(classifier.explained(x, classifier.predicted(tf.constant(x)).numpy())[0])
    label = predicted if arguments.label is None else arguments.label
    if label >= classes:
        raise UserError(f"--label must be from 0 to {classes - 1}. Received: {label}")
    baseline = "auto" if arguments.baseline is None else arguments.baseline
    options = {"target": arguments.target, "m": arguments.m, "baseline": baseline}
    ig = arguments.method == "ig"
    found = saliency_map(model, x, [label], arguments.method, return_completeness=ig, **options)
    maps, completeness = found if ig else (found, None)
    lines = [f"predicted class {predicted}, probability {_probability(classifier, x, predicted):.3f}"]
    if label != predicted:
        lines.append(f"explained class {label}, probability {_probability(classifier, x, label):.3f}")
    if arguments.out.suffix.lower() == ".npy":
        np.save(arguments.out, maps[0])
    else:
        figure = plotting.plot_saliency(x, {arguments.method: maps}, titles=["\n".join(lines)], bounds=(lower, upper))
        figure.savefig(arguments.out)
    print("\n".join(lines))
    if completeness is not None:
        gap, share = float(completeness.gap[0]), float(completeness.relative_gap[0])
        print(f"completeness gap {gap:.3g}, {100 * share:.2g} % of the change of the score, with m = {completeness.m}")
    print(f"wrote {arguments.out}")


def _probability(classifier: Classifier, x: np.ndarray, label: int) -> float:
    score = classifier.score(tf.constant([label], "int64"), TARGETS["probability"])
    return float(score(tf.constant(x))[0] / classifier.head.gradient_scale)


# Files


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _read_model(path: Path) -> keras.Model:
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # of zipfile, h5py, json or Keras: there is no common class
        raise UserError(f"{path} is not a Keras model that can be loaded: {_first_line(error)}") from error


def _read_data(arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """The first examples and their labels; the folder of the results is made as soon as they are read."""
    try:
        with np.load(arguments.data, allow_pickle=False) as file:
            x, y = next(pair for pair in ARRAYS if set(pair) <= set(file.files))
            arrays = np.atleast_1d(file[x])[: arguments.examples], np.atleast_1d(file[y])[: arguments.examples]
    except Exception as error:  # of zipfile or NumPy
        raise UserError(f"{arguments.data} is not an .npz file of numbers: {_first_line(error)}") from error
    arguments.out.mkdir(parents=True, exist_ok=True)
    return arrays


def _read_image(path: Path, shape: tuple[int | None, ...], lower: float, upper: float) -> np.ndarray:
    """The image as the model's input, `(1, height, width, channels)` or `(1, channels, height, width)`."""
    if len(shape) == 3 and channels.of_sizes(shape) == "channels_first":
        return np.moveaxis(_read_image(path, (*shape[1:], shape[0]), lower, upper), -1, 1)
    if len(shape) != 3 or shape[2] not in (1, 3):
        raise UserError(f"explain needs a model of images with one or three channels. The model takes {shape}")
    try:
        image = tf.io.decode_image(path.read_bytes(), channels=shape[2], expand_animations=False)
    except tf.errors.OpError as error:
        raise UserError(f"{path} is not an image that can be read: {_first_line(error)}") from error
    image = tf.cast(image, tf.float32) / 255
    size = [wanted or given for wanted, given in zip(shape[:2], image.shape[:2], strict=True)]
    if size != list(image.shape[:2]):
        print(
            f"{path.name}: resized from {image.shape[0]} × {image.shape[1]} to {size[0]} × {size[1]}", file=sys.stderr
        )
        image = tf.clip_by_value(tf.image.resize(image, size, antialias=True), 0.0, 1.0)
    return (lower + (upper - lower) * image).numpy()[None]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
