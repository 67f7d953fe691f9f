"""The options of `keras-rar` and their help."""

import argparse
import importlib.util
import re
from pathlib import Path
from typing import Any, NoReturn

from keras_rar_cli import options
from keras_rar_cli.errors import UserError

EVALUATE = """\
Attack a classifier twice within the radius: its predictions on all examples (adversarial accuracy), and the saliency
maps of the correctly classified ones (top-k intersection, Kendall's tau, Spearman's rho). Print a table and write
report.html, report.json, report.csv and report.npz (for keras_rar.RobustnessReport.load). Results are kept as they
come: run an interrupted command again and it continues."""
EVALUATE_EXAMPLE = """\
examples:
  keras-rar evaluate model.keras data.npz --bounds 0 1 --epsilon 0.1 --examples 100 --out report/
  keras-rar evaluate model.keras data.npz --protocol paper --dataset fashion_mnist --attacked 50"""
COMPARE = """\
Measure two or more classifiers on the same examples with the same settings, each as `evaluate` does. Print one table
with the differences from the first model and their intervals, and write comparison.html, comparison.json,
comparison.png and one report for each model. Run an interrupted command again and it continues."""
COMPARE_EXAMPLE = """\
example:
  keras-rar compare natural.keras robust.keras data.npz --bounds 0 1 --epsilon 0.1 --out comparison/"""
EXPLAIN = """\
Draw the saliency map of one image: how much each pixel counts for the score of a class. The image is resized to the
size of the model's input, converted to grey if the model takes one channel, and scaled to the bounds."""
EXPLAIN_EXAMPLE = """\
example:
  keras-rar explain model.keras image.png --bounds 0 1 --m auto --out map.png"""


class _Parser(argparse.ArgumentParser):
    """Reports a mistake as `UserError`, and never takes a part of an option's name for it."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        settings |= {"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter}
        super().__init__(*arguments, **settings)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments of a command; files may also stand between options.

    Raises:
        UserError: If they are wrong.
    """
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    files = [word for word in rest if not word.startswith("-")]
    if arguments.command == "compare" and files == rest:
        arguments.files += [Path(word) for word in files]
    elif rest:
        raise UserError(f"unrecognized arguments: {' '.join(rest)}; see keras-rar {arguments.command} --help")
    return arguments


def version() -> str:
    """The version of the package, read from its source: importing it would load TensorFlow."""
    found = importlib.util.find_spec("keras_rar")
    text = Path(str(found and found.origin)).read_text("utf-8")
    return re.findall(r'^__version__ = "(.+)"', text, re.MULTILINE)[0]


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        print(f"keras-rar {version()}")
        parser.exit()


def _parser() -> _Parser:
    parser = _Parser("keras-rar", description="Measure how robust the explanations of a Keras classifier are.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(
        title="commands", metavar="evaluate | compare | explain", dest="command", required=True
    )
    evaluate = commands.add_parser(
        "evaluate", help="report how robust a classifier is", description=EVALUATE, epilog=EVALUATE_EXAMPLE
    )
    evaluate.add_argument("model", type=Path, help="a .keras file; a RARModel is fine")
    evaluate.add_argument("data", type=Path, help="an .npz file with arrays x and y, or x_test and y_test")
    _add_measuring(evaluate, "report")

    compare = commands.add_parser(
        "compare",
        help="measure several classifiers on the same examples",
        description=COMPARE,
        epilog=COMPARE_EXAMPLE,
    )
    compare.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="two or more .keras files, and the .npz file last"
    )
    _add_measuring(compare, "comparison")

    explain = commands.add_parser(
        "explain", help="draw the saliency map of an image", description=EXPLAIN, epilog=EXPLAIN_EXAMPLE
    )
    explain.add_argument("model", type=Path, help="a .keras file; a RARModel is fine")
    explain.add_argument("image", type=Path, help="a PNG, JPEG, GIF or BMP file")
    _add_explaining(explain)
    return parser


def _add_measuring(command: argparse.ArgumentParser, out: str) -> None:
    """Options of `evaluate` and `compare`."""
    add = command.add_argument
    add("--out", type=Path, default=Path(out), metavar="FOLDER", help=f"folder of the results (default: {out})")
    add("--examples", "--images", type=options.positive_int, metavar="N", help="use the first N examples only")
    add("--protocol", choices=options.PROTOCOLS, default="quick", help="settings to begin with (default: quick)")
    add("--dataset", choices=options.DATASETS, help="data set whose settings --protocol paper takes")
    add(
        "--batch-size",
        type=options.positive_int,
        metavar="N",
        help="examples attacked at once (default: as many as fit in memory)",
    )
    add("--class-names", metavar="NAMES", help="names of the classes: a text file, one per line, or a,b,c")
    add("--feature-names", metavar="NAMES", help="names of the features of tabular data, in the same form")
    add("--no-progress", action="store_true", help="show no progress bar")
    settings = command.add_argument_group("settings that replace those of the protocol")
    settings.add_argument(
        "--bounds", type=options.finite_float, nargs=2, metavar=("LOW", "HIGH"), help="valid range of inputs"
    )
    for name, (kind, text) in options.SETTINGS.items():
        taken: dict[str, Any] = {"choices": kind} if isinstance(kind, list) else {"type": kind}
        metavar = None if isinstance(kind, list) else options.METAVARS[kind]
        settings.add_argument("--" + name.replace("_", "-"), **taken, metavar=metavar, help=text)


def _add_explaining(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--label", type=options.nonnegative_int, metavar="N", help="class to explain (default: the predicted one)")
    add("--method", default="ig", choices=options.EXPLAINED, help="attribution method (default: ig)")
    add("--target", choices=options.TARGETS, default="logit", help="score to explain (default: logit)")
    add(
        "--m",
        type=options.nodes,
        default=100,
        metavar="N|auto",
        help="nodes of ig; auto takes as many as completeness needs (default: 100)",
    )
    add("--baseline", type=options.finite_float, metavar="X", help="start of ig's segment (default: as trained, or 0)")
    add(
        "--bounds",
        type=options.finite_float,
        nargs=2,
        default=(0.0, 1.0),
        metavar=("LOW", "HIGH"),
        help="values of black and white in the model's input (default: 0 1)",
    )
    add(
        "--out",
        type=Path,
        default=Path("map.png"),
        metavar="FILE",
        help="picture of the image and its map (.png, .pdf, .svg), or the numbers (.npy) (default: map.png)",
    )
