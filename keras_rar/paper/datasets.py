"""The data of the experiments."""

from pathlib import Path

import numpy as np

from keras_rar.core import checks
from keras_rar.paper import idx

_MINI = Path(__file__).parent / "data" / "fashion_mnist_mini.npz"
Split = tuple[np.ndarray, np.ndarray]


def _raw(name: str, split: str, data_dir: str | Path | None) -> Split:
    """Images `(n, 28, 28)` and labels, as bytes."""
    if name == "fashion_mnist_mini":
        with np.load(_MINI, allow_pickle=False) as arrays:
            return arrays[f"x_{split}"], arrays[f"y_{split}"]
    folder = idx.find(name, data_dir)
    if folder is not None:
        return idx.read(folder, split)
    if data_dir is not None:
        raise FileNotFoundError(f"`data_dir` must hold {', '.join(idx.FILES)}, gzipped or not. Received: {data_dir}")
    return _downloaded(name, split)


def _downloaded(name: str, split: str) -> Split:
    try:
        import tensorflow_datasets as tfds

        data = tfds.load(name, split=split, batch_size=-1)
    except Exception as error:  # no package, no connection, a host that refuses: the way out is the same
        raise FileNotFoundError(
            f"{name!r} is not on this machine and could not be downloaded ({type(error).__name__}: {error}). Put "
            f"{', '.join(idx.FILES)} (gzipped or not) into a folder and pass it as data_dir, or install "
            "tensorflow-datasets and connect to the internet."
        ) from error
    return np.asarray(data["image"])[..., 0], np.asarray(data["label"])


DATASETS = ("fashion_mnist_mini", "fashion_mnist", "mnist")


def load(name: str, split: str | None = None, *, data_dir: str | Path | None = None) -> Split | tuple[Split, Split]:
    """A data set, as NumPy arrays.

    `"fashion_mnist_mini"` is part of the package: 6,000 training and 1,000 test images of the real
    Fashion-MNIST (Xiao et al. 2017, MIT licence), 600 and 100 a class, drawn from the official training
    and test files by `scripts/make_fashion_mnist_mini.py`. `"fashion_mnist"` and `"mnist"` are the whole sets,
    60,000 and 10,000 images: read from the official files in `data_dir` or where the system has them (the Debian
    package dataset-fashion-mnist), and otherwise downloaded by tensorflow-datasets.

    Args:
        name: A name in `DATASETS`.
        split: `"train"`, `"test"`, or `None` for both.
        data_dir: Folder with the four official IDX files, gzipped or not.

    Returns:
        `(x, y)`, or `((x_train, y_train), (x_test, y_test))`. `x` is float32 in [0, 1], of shape
        `(n, 28, 28, 1)`; `y` holds class indices, int64, of shape `(n,)`.

    Raises:
        FileNotFoundError: If the files are neither here nor to be downloaded; it names them.
        ValueError: If the name or the split is unknown, or a file is not what its name says.

    Example:

    >>> x, y = load("fashion_mnist_mini", "test")
    >>> x.shape, y.shape
    ((1000, 28, 28, 1), (1000,))
    """
    checks.one_of("name", name, DATASETS)
    checks.one_of("split", split, ["train", "test", None])
    raw = [_raw(name, part, data_dir) for part in ([split] if split else ["train", "test"])]
    loaded = [(x[..., np.newaxis].astype("float32") / 255, y.astype("int64")) for x, y in raw]
    return loaded[0] if split else (loaded[0], loaded[1])
