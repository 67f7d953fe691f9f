"""The command `keras-rar`: measure or explain a saved classifier."""

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

SETTINGS: dict[str, tuple[Any, str]] = {
    "epsilon": (float, "radius of the attacks, in the units of the input"),
    "norm": (["linf", "l2"], "norm of the ball"),
    "attack": (["topk", "mass_center", "random"], "attribution attack; random is the negative control"),
    "steps": (int, "iterations of the attribution attack"),
    "step_size": (float, "length of its step"),
    "restarts": (int, "its random starts, after the one at the input"),
    "k": (int, "entries of the map that topk drains"),
    "k_report": (int, "k of the reported top-k intersection"),
    "saliency": (["ig", "gradient", "gradient_x_input", "smoothgrad"], "attribution method"),
    "target": (["logit", "loss", "probability"], "score of the label that is explained"),
    "rule": (str, "quadrature rule of integrated gradients, such as right or midpoint"),
    "m": (int, "number of its nodes"),
    "baseline": (float, "where its segments begin"),
    "pgd_steps": (int, "iterations of the attack on predictions"),
    "pgd_step_size": (float, "length of its step"),
    "pgd_restarts": (int, "its random starts, after the one at the input"),
    "attacked": (int, "attack the maps of the first N correctly classified images only"),
    "seed": (int, "seed of random starts and steps, and of the bootstrap"),
}
"""Settings of a `Protocol` that the command line knows: type or choices, and help."""

_EVALUATE = """\
Two attacks within the radius: on the predictions of all images (adversarial accuracy) and on the saliency maps of the
correctly classified ones (top-k intersection, Kendall's tau, Spearman's rho). Writes report.json, report.csv,
report.npz (for keras_rar.RobustnessReport.load) and report.html, and prints a table. Results are kept while they
come: run an interrupted command again and it goes on where it was."""
_EVALUATE_EXAMPLE = """\
example:
  keras-rar evaluate model.keras data.npz --bounds 0 1 --epsilon 0.1 --images 100 --out report/
  keras-rar evaluate model.keras data.npz --protocol paper --dataset fashion_mnist --attacked 50"""
_EXPLAIN = """\
The saliency map of one image: how much each pixel counts for the score of a class. The image is stretched to the
size of the model's input, made grey if that has one channel, and scaled from black..white to the bounds."""
_EXPLAIN_EXAMPLE = """\
example:
  keras-rar explain model.keras image.png --bounds 0 1 --m auto --out map.png"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments. Defaults to those of the process.

    Returns:
        The exit code: 0; 2 after an error of the user's, told in one line; 130 after an interruption.

    Example:

    >>> main(["explain", "no_such_model.keras", "image.png"])
    2
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # where TensorFlow is not loaded yet
    try:
        arguments = _parser().parse_args(argv)
        arguments.run(arguments)
    except (_UserError, ValueError, TypeError, OSError, ImportError) as error:
        print(f"keras-rar: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nkeras-rar: interrupted; the same command goes on where an evaluation was", file=sys.stderr)
        return 130
    return 0


class _UserError(Exception):
    """What the user did wrong, in one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UserError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    from keras_rar import __version__

    parser = _Parser(
        "keras-rar", description="Measure how robust a Keras classifier's explanations are.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"keras-rar {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="evaluate | explain", required=True)

    def command(name, run, help, description, epilog):
        added = commands.add_parser(
            name,
            help=help,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run)
        added.add_argument("model", type=Path, help="a .keras file; a RARModel is fine")
        return added

    evaluate = command(
        "evaluate", _evaluate, "write a report of how robust a classifier is", _EVALUATE, _EVALUATE_EXAMPLE
    )
    evaluate.add_argument("data", type=Path, help="an .npz file with arrays x and y, or x_test and y_test")
    evaluate.add_argument("--out", type=Path, default=Path("report"), help="folder of the report (default: report)")
    evaluate.add_argument("--images", type=int, metavar="N", help="use the first N images only")
    evaluate.add_argument("--protocol", choices=["quick", "paper"], default="quick", help="(default: quick)")
    evaluate.add_argument(
        "--dataset",
        choices=["mnist", "fashion_mnist", "gtsrb", "oxford_flower17"],
        help="data set whose settings --protocol paper takes",
    )
    evaluate.add_argument(
        "--batch-size", type=int, metavar="N", help="images attacked at once (default: as many as fit)"
    )
    evaluate.add_argument("--no-progress", action="store_true", help="show no progress bar")
    settings = evaluate.add_argument_group("settings that replace those of the protocol")
    settings.add_argument(
        "--bounds", type=float, nargs=2, metavar=("LOW", "HIGH"), help="valid range of inputs; asks for --epsilon"
    )
    for name, (kind, text) in SETTINGS.items():
        kinds: dict[str, Any] = {"choices": kind} if isinstance(kind, list) else {"type": kind}
        metavar = None if "choices" in kinds else {int: "N", float: "X", str: "NAME"}[kind]
        settings.add_argument("--" + name.replace("_", "-"), **kinds, metavar=metavar, help=text)

    explain = command("explain", _explain, "write the saliency map of an image", _EXPLAIN, _EXPLAIN_EXAMPLE)
    explain.add_argument("image", type=Path, help="a PNG, JPEG, GIF or BMP file")
    explain.add_argument("--label", type=int, metavar="N", help="class to explain (default: the predicted one)")
    explain.add_argument(
        "--method",
        default="ig",
        choices=["ig", "gradient", "gradient_x_input", "smoothgrad", "guided_backprop", "deconvolution"],
        help="attribution method (default: ig, integrated gradients)",
    )
    explain.add_argument(
        "--target", choices=["logit", "loss", "probability"], default="logit", help="score (default: logit)"
    )
    explain.add_argument(
        "--m",
        type=_nodes,
        default=100,
        metavar="N|auto",
        help="nodes of ig; auto for as many as it takes (default: 100)",
    )
    explain.add_argument("--baseline", type=float, default=0.0, metavar="X", help="where ig begins (default: 0)")
    explain.add_argument(
        "--bounds", type=float, nargs=2, default=(0.0, 1.0), metavar=("LOW", "HIGH"),
        help="what black and white are to the model (default: 0 1)",
    )  # fmt: skip
    explain.add_argument(
        "--out", type=Path, default=Path("map.png"),
        help="picture (.png, .pdf, .svg) of the image beside its map, or .npy for the numbers (default: map.png)",
    )  # fmt: skip
    return parser


def _nodes(text: str) -> int | str:
    return text if text == "auto" else int(text)


def _evaluate(arguments: argparse.Namespace) -> None:
    _check_file(arguments.model)
    _check_file(arguments.data)
    changes = {name: getattr(arguments, name) for name in SETTINGS if getattr(arguments, name) is not None}
    if arguments.bounds is not None:
        changes["bounds"] = tuple(arguments.bounds)
    if arguments.images is not None and arguments.images < 1:
        raise _UserError(f"--images must be a positive integer, not {arguments.images}")

    import contextlib

    from keras_rar import evaluate_robustness
    from keras_rar.evaluation import protocols
    from keras_rar.reports import page

    settings = protocols.get(arguments.protocol, arguments.dataset)
    if "epsilon" not in changes and changes.get("bounds", settings.bounds) != settings.bounds:
        raise _UserError("--bounds needs --epsilon too, a radius in the same units")
    x, y = _read_data(arguments.data)
    model = _read_model(arguments.model)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with contextlib.redirect_stdout(sys.stderr):  # the progress bar; the table alone is the output
        report = evaluate_robustness(
            model,
            x[: arguments.images],
            y[: arguments.images],
            protocol=arguments.protocol,
            dataset=arguments.dataset,
            path=arguments.out / "report.npz",
            batch_size=arguments.batch_size,
            progress=not arguments.no_progress,
            **changes,
        )
    report = dataclasses.replace(report, model_name=arguments.model.stem)
    report.save(arguments.out / "report.npz")
    for ending, write in {"json": report.to_json, "csv": report.to_csv, "html": lambda: page.to_html(report)}.items():
        (arguments.out / f"report.{ending}").write_text(write(), encoding="utf-8")
    print(report.to_markdown())


def _explain(arguments: argparse.Namespace) -> None:
    _check_file(arguments.model)
    _check_file(arguments.image)
    endings = [".png", ".pdf", ".svg", ".npy"]
    if arguments.out.suffix.lower() not in endings:
        raise _UserError(f"--out must end in {', '.join(endings)}, not {arguments.out.name!r}")
    lower, upper = arguments.bounds
    if not lower < upper:
        raise _UserError(f"--bounds must be two numbers, the lower one first, not {lower:g} {upper:g}")

    import numpy as np
    import tensorflow as tf

    from keras_rar import saliency_map
    from keras_rar.networks.classifier import TARGETS, Classifier
    from keras_rar.reports import plotting

    classifier = Classifier(_read_model(arguments.model))
    x = _read_image(arguments.image, classifier.input_shape, lower, upper)
    classes = max(classifier.classes, 2)
    label = int(classifier.predicted(tf.constant(x))[0]) if arguments.label is None else arguments.label
    if not 0 <= label < classes:
        raise _UserError(f"--label must be from 0 to {classes - 1}, not {label}")
    options = {"target": arguments.target, "m": arguments.m, "baseline": arguments.baseline}
    ig = arguments.method == "ig"
    found = saliency_map(classifier.model, x, [label], arguments.method, return_completeness=ig, **options)
    maps, completeness = found if ig else (found, None)

    def probability(y):
        score = classifier.score(tf.constant([y], "int64"), TARGETS["probability"])
        return float(score(tf.constant(x))[0] / classifier.head.gradient_scale)

    predicted = int(classifier.predicted(tf.constant(x))[0])
    lines = [f"predicted class {predicted}, probability {probability(predicted):.3f}"]
    if label != predicted:
        lines.append(f"explained class {label}, probability {probability(label):.3f}")
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


# Files


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise _UserError(f"{path} is a folder; a SavedModel has to be saved again, as a .keras file")
    if not path.is_file():
        raise _UserError(f"no such file: {path}")


def _read_model(path: Path) -> Any:
    import keras

    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # of zipfile, h5py, json or Keras: there is no common class
        raise _UserError(f"{path} is not a Keras model that can be loaded: {_first_line(error)}") from error


def _read_data(path: Path) -> tuple[Any, Any]:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            for x, y in (("x", "y"), ("x_test", "y_test")):
                if x in file.files and y in file.files:
                    return np.atleast_1d(file[x]), np.atleast_1d(file[y])
            found = ", ".join(file.files)
    except Exception as error:  # of zipfile or NumPy, or an array that is no archive
        raise _UserError(f"{path} is not an .npz file of numbers: {_first_line(error)}") from error
    raise _UserError(f"{path} must hold arrays x and y, or x_test and y_test; it holds {found or 'none'}")


def _read_image(path: Path, shape: tuple[int | None, ...], lower: float, upper: float) -> Any:
    """The image as the model's input, `(1, height, width, channels)`."""
    import tensorflow as tf

    if len(shape) != 3 or shape[2] not in (1, 3):
        raise _UserError(f"explain needs a model of images with one or three channels; this one takes {shape}")
    try:
        image = tf.io.decode_image(path.read_bytes(), channels=shape[2], expand_animations=False)
    except tf.errors.OpError as error:
        raise _UserError(f"{path} is not an image that can be read: {_first_line(error)}") from error
    image = tf.cast(image, tf.float32) / 255
    size = [wanted or given for wanted, given in zip(shape[:2], image.shape[:2], strict=True)]
    if size != list(image.shape[:2]):
        print(f"{path.name}: {image.shape[0]} × {image.shape[1]} stretched to {size[0]} × {size[1]}", file=sys.stderr)
        image = tf.clip_by_value(tf.image.resize(image, size, antialias=True), 0.0, 1.0)
    return (lower + (upper - lower) * image).numpy()[None]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
