"""The data of the experiments."""

from pathlib import Path

import numpy as np

from keras_rar.core import checks

_MINI = Path(__file__).parent / "data" / "fashion_mnist_mini.npz"
Split = tuple[np.ndarray, np.ndarray]


def _fashion_mnist_mini() -> dict[str, Split]:
    with np.load(_MINI, allow_pickle=False) as arrays:
        return {
            split: (
                arrays[f"x_{split}"][..., np.newaxis].astype("float32") / 255,
                arrays[f"y_{split}"].astype("int64"),
            )
            for split in ("train", "test")
        }


DATASETS = {"fashion_mnist_mini": _fashion_mnist_mini}


def load(name: str, split: str | None = None) -> Split | tuple[Split, Split]:
    """A data set, as NumPy arrays.

    `"fashion_mnist_mini"` is part of the package: 6,000 training and 1,000 test images of the real
    Fashion-MNIST (Xiao et al. 2017, MIT licence), 600 and 100 a class, drawn from the official training
    and test files by `scripts/make_fashion_mnist_mini.py`.

    Args:
        name: A name in `DATASETS`.
        split: `"train"`, `"test"`, or `None` for both.

    Returns:
        `(x, y)`, or `((x_train, y_train), (x_test, y_test))`. `x` is float32 in [0, 1], of shape
        `(n, 28, 28, 1)`; `y` holds class indices, int64, of shape `(n,)`.

    Raises:
        ValueError: If the name or the split is unknown.

    Example:

    >>> x, y = load("fashion_mnist_mini", "test")
    >>> x.shape, y.shape
    ((1000, 28, 28, 1), (1000,))
    """
    splits = DATASETS[checks.one_of("name", name, DATASETS)]()
    checks.one_of("split", split, ["train", "test", None])
    return (splits["train"], splits["test"]) if split is None else splits[split]
