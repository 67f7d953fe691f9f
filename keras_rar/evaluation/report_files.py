"""A report as a file: named groups of arrays and a little JSON in an `.npz`, without pickles."""

import csv
import io
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from keras_rar.core import files


def write(path: str | Path, about: dict[str, Any], groups: dict[str, dict[str, np.ndarray]]) -> None:
    """Write the file; it appears whole or not at all."""
    path = Path(path)
    arrays: dict[str, Any] = {
        f"{group}/{name}": array for group, columns in groups.items() for name, array in columns.items()
    }
    arrays["about"] = np.array(json.dumps(about))
    with files.whole(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read(path: str | Path, groups: tuple[str, ...]) -> dict[str, Any]:
    """What `write` wrote: the content of `about`, and the groups by name."""
    with np.load(path, allow_pickle=False) as file:
        about = json.loads(str(file["about"]))
        columns: dict[str, Any] = {group: {} for group in groups}
        for name in file.files:
            group, _, column = name.partition("/")
            if group in columns:
                columns[group][column] = file[name]
        return {**about, **columns}


def csv_of(columns: dict[str, np.ndarray]) -> str:
    """Columns as comma-separated values, their names first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    return text.getvalue()


def without_nan(value: Any) -> Any:
    """Plain values with None in place of what is not a number, which JSON does not know."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def file_names(names: Iterable[str]) -> list[str]:
    """A file name per model, of letters that every file system knows.

    Raises:
        ValueError: If two names would have one file.

    Example:

    >>> file_names(["natural", "λ = 1/2"])
    ['natural.npz', '_1_2.npz']
    """
    names = list(names)
    files = [re.sub(r"[^A-Za-z0-9.-]+", "_", name) + ".npz" for name in names]
    if len({file.lower() for file in files}) < len(files):
        raise ValueError(f"Names of models must differ in letters and digits, as they name files. Received: {names}")
    return files
