"""The IDX files in which MNIST and Fashion-MNIST are distributed."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

_NAMES = {"train": "train", "test": "t10k"}
FILES = [f"{name}-{kind}-ubyte" for name in _NAMES.values() for kind in ("images-idx3", "labels-idx1")]
_LARGEST = {1: 60_000, 3: 60_000 * 28 * 28}  # bytes of the labels and of the images of the largest data set
_SYSTEM = Path("/usr/share/datasets")  # where the Debian packages dataset-… put their files


def find(name: str, data_dir: str | Path | None = None) -> Path | None:
    """The folder that holds the files of a data set: `data_dir`, or the system's by default."""
    folder = Path(data_dir) if data_dir is not None else _SYSTEM / name.replace("_", "-")
    return folder if all(_path(folder, file) is not None for file in FILES) else None


def read(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images `(n, height, width)` and labels `(n,)`, uint8.

    Args:
        folder: A folder with the files, gzipped or not.
        split: `"train"` or `"test"`.

    Raises:
        ValueError: If a file is damaged or too large, or the numbers of images and labels differ.
    """
    images = _array(_path(folder, f"{_NAMES[split]}-images-idx3-ubyte"), 3)
    labels = _array(_path(folder, f"{_NAMES[split]}-labels-idx1-ubyte"), 1)
    if len(images) != len(labels):
        raise ValueError(
            f"{folder} must hold one label per image. Received: {len(images)} images, {len(labels)} labels"
        )
    return images, labels


def _path(folder: Path, file: str) -> Path | None:
    return next((path for path in (folder / file, folder / f"{file}.gz") if path.is_file()), None)


def _array(path: Path | None, rank: int) -> np.ndarray:
    """The array in an IDX file: the bytes 0, 0, 8 (unsigned bytes) and the rank, each size in four bytes, the data."""
    if path is None:
        raise ValueError("`data_dir` must hold the IDX files of a data set. Received: a folder without one of them")
    try:
        with path.open("rb") as opened:
            is_gzipped = opened.read(2) == b"\x1f\x8b"
        with gzip.open(path) if is_gzipped else path.open("rb") as opened:
            header = opened.read(4 + 4 * rank)
            shape = tuple(int(size) for size in np.frombuffer(header[4:], ">u4")) if header[4:] else ()
            size = math.prod(shape) if len(shape) == rank and header[:4] == bytes([0, 0, 8, rank]) else 0
            if size > _LARGEST[rank]:
                raise ValueError(f"{path} must have at most {_LARGEST[rank]} bytes, unpacked. Received: {size}")
            content = opened.read(size + 1)  # no more than the header declares is held in memory
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} must be a whole file. Received: one that cannot be read ({error})") from error
    if len(content) != size or not size:
        raise ValueError(f"{path} must be an IDX file of {rank} dimensions of unsigned bytes. Received: something else")
    return np.frombuffer(content, np.uint8).reshape(shape)
