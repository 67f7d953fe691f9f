"""What can be refused before TensorFlow is loaded: options that exclude each other, and files that cannot be right."""

import argparse
import importlib.util
import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_rar_cli.errors import UserError

PICTURES = [".png", ".pdf", ".svg"]
ENDINGS = [*PICTURES, ".npy"]
ARRAYS = [("x", "y"), ("x_test", "y_test")]
"""Names of the inputs and labels in an `.npz` file, in the order they are looked for."""
_IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_LONGEST_CONFIG = 64 * 2**20


def check(arguments: argparse.Namespace) -> None:
    """Check a command, and put its files and names in their final form.

    `models` becomes a dictionary of files by the name of the model, `class_names` and `feature_names` lists.

    Raises:
        UserError: If it cannot succeed.
    """
    if arguments.command == "explain":
        _check_explain(arguments)
        return
    if arguments.command == "compare":
        *models, arguments.data = arguments.files
        if len(models) < 2:
            raise UserError(
                "compare needs two or more .keras files and then the .npz file; see keras-rar compare --help"
            )
    else:
        models = [arguments.model]
    _check_settings(arguments)
    for path in [*models, arguments.data]:
        _check_file(path)
    arguments.models = _named(models)
    found = [saved_config(path) for path in models]
    check_data(arguments.data)
    if arguments.epsilon is None and arguments.protocol != "paper":
        _check_epsilon(arguments, dict(zip(arguments.models, found, strict=True)))
    for name in ("class_names", "feature_names"):
        setattr(arguments, name, names_of(getattr(arguments, name)))
    if arguments.out.exists() and not arguments.out.is_dir():
        raise UserError(f"--out must be a folder. File exists: {arguments.out}")


def _check_settings(arguments: argparse.Namespace) -> None:
    if arguments.protocol == "paper" and arguments.dataset is None:
        raise UserError("--protocol paper needs --dataset, the data set whose settings it takes")
    if arguments.protocol != "paper" and arguments.dataset is not None:
        raise UserError("--dataset is for --protocol paper only")
    if arguments.bounds is not None:
        _check_bounds(arguments.bounds)


def _check_explain(arguments: argparse.Namespace) -> None:
    ending = arguments.out.suffix.lower()
    if ending not in ENDINGS:
        raise UserError(f"--out must end in {', '.join(ENDINGS)}. Received: {arguments.out.name}")
    _check_bounds(arguments.bounds)
    _check_file(arguments.model)
    _check_file(arguments.image)
    saved_config(arguments.model)
    with arguments.image.open("rb") as file:
        if not file.read(8).startswith(_IMAGES):
            raise UserError(f"{arguments.image} is not an image that can be read: it is no PNG, JPEG, GIF or BMP file")
    if not arguments.out.parent.is_dir():
        raise UserError(f"--out must lie in a folder that exists. No such file or directory: {arguments.out.parent}")
    if ending in PICTURES and importlib.util.find_spec("matplotlib") is None:
        raise UserError("a picture needs matplotlib: pip install matplotlib, or write the numbers with --out map.npy")


def _check_bounds(bounds: Sequence[float]) -> None:
    lower, upper = bounds
    if not lower < upper:
        raise UserError(f"--bounds must be two numbers, the lower one first. Received: {lower:g} {upper:g}")


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"{path} is a folder; the model of a SavedModel has to be saved again, as a .keras file")
    if not path.is_file():
        raise UserError(f"no such file: {path}")


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """The files by name: their stems, or as much of their paths as tells them apart in names of files."""
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("compare needs different files, and one is given twice")
    full = [path.resolve().with_suffix("").parts for path in paths]
    for length in range(1, max(map(len, full)) + 1):
        names = ["/".join(parts[-length:]) for parts in full]
        if len({re.sub("[^a-z0-9.-]+", "_", name.lower()) for name in names}) == len(names):
            return dict(zip(names, paths, strict=True))
    raise UserError("compare needs models whose paths differ in letters or digits, as they name the reports")


def saved_config(path: Path) -> dict[str, Any] | None:
    """What a `.keras` file says about its model; `None` for an HDF5 file, which only Keras can read.

    Raises:
        UserError: If it is neither.
    """
    with path.open("rb") as file:
        if file.read(8) == _HDF5:
            return None
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("config.json").file_size > _LONGEST_CONFIG:
                return None  # Keras says what it thinks of that
            found = json.loads(archive.read("config.json"))
            if isinstance(found, dict):
                return found
            reason = "its config.json describes no model"
    except KeyError:
        reason = "it has no config.json"
    except Exception as error:  # of zipfile, zlib or json: there is no common class
        reason = str(error) or type(error).__name__
    raise UserError(f"{path} is not a Keras model that can be loaded: {reason}")


def is_wrapped(config: dict[str, Any] | None) -> bool | None:
    """Whether a saved model is a `RARModel`, which has the ball of its training; `None` if the file does not tell."""
    return None if config is None else config.get("registered_name") == "keras_rar>RARModel"


def _check_epsilon(arguments: argparse.Namespace, configs: dict[str, dict[str, Any] | None]) -> None:
    without = [name for name, config in configs.items() if is_wrapped(config) is False]
    if without:
        raise UserError(
            f"--epsilon must be given, the radius of the attacks in the units of the input: {', '.join(without)} was "
            "not trained within a ball that could be taken"
        )


def check_data(path: Path) -> None:
    """Refuse what holds no inputs and labels, without reading them.

    Raises:
        UserError: If it is no `.npz` file with the names looked for.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise UserError(f"{path} is not an .npz file of numbers: {error}") from error
    if not any(set(pair) <= set(names) for pair in ARRAYS):
        found = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
        raise UserError(f"{path} must hold arrays x and y, or x_test and y_test; it holds {found or 'none'}")


def names_of(text: str | None) -> list[str] | None:
    """Names from a text file with one per line, or from a list with commas.

    Raises:
        UserError: If there are none, or the file is no text.
    """
    if text is None:
        return None
    path = Path(text)
    try:
        found = path.read_text("utf-8").splitlines() if path.is_file() else text.split(",")
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{text} is not a text file of names: {error}") from error
    names = [name.strip() for name in found if name.strip()]
    if not names or ("," not in text and not path.is_file()):
        raise UserError(f"names must be a text file with one per line, or a list such as cat,dog. Received: {text}")
    return names
