"""The data that the package ships, and the paper's network."""

import gzip
import runpy
from pathlib import Path

import numpy as np
import pytest

from keras_rar.paper import datasets, networks

ROOT = Path(__file__).parents[1]
OFFICIAL = Path("/usr/share/datasets/fashion-mnist")


def test_mini_has_the_promised_shape_range_and_balance():
    for split, n in (("train", 6000), ("test", 1000)):
        x, y = datasets.load("fashion_mnist_mini", split)
        assert x.shape == (n, 28, 28, 1)
        assert x.dtype == "float32"
        assert (x.min(), x.max()) == (0.0, 1.0)
        np.testing.assert_array_equal(np.bincount(y), [n // 10] * 10)


def test_mini_has_no_image_twice():
    """No synthetic copies, and no test image among the training images."""
    (x, _), (x_test, _) = datasets.load("fashion_mnist_mini")
    assert len({image.tobytes() for image in (*x, *x_test)}) >= 6995  # the official files repeat a few


def test_mini_can_be_learned():
    """Labels belong to images: nearest class mean scores far above the 10 % of chance."""
    (x, y), (x_test, y_test) = datasets.load("fashion_mnist_mini")
    means = np.stack([x[y == label].mean(axis=0).ravel() for label in range(10)])
    distances = ((x_test.reshape(1000, 1, -1) - means) ** 2).sum(axis=2)
    assert (distances.argmin(axis=1) == y_test).mean() > 0.6


def test_mini_is_small_and_licensed():
    data = datasets._MINI
    assert data.stat().st_size < 4e6
    assert "MIT License" in data.with_name("LICENSE").read_text("utf-8")


@pytest.mark.parametrize("arguments", [("fashion_mnist_maxi",), ("fashion_mnist_mini", "validation")])
def test_unknown_name_or_split_lists_the_known(arguments):
    with pytest.raises(ValueError, match=r"must be one of \[.*Received"):
        datasets.load(*arguments)


def test_cnn_is_the_network_of_the_paper():
    model = networks.cnn()
    assert model.count_params() == 3_274_634
    assert [w.shape for w in model.weights[::2]] == [(5, 5, 1, 32), (5, 5, 32, 64), (3136, 1024), (1024, 10)]


def official_files(directory, sizes):
    """Small files in the layout of the official ones: an image is its index and label, repeated."""
    for prefix, n in sizes.items():
        labels = np.arange(n, dtype=np.uint8) % 10
        images = np.zeros((n, 28, 28), np.uint8)
        images[:, 0, 0], images[:, 0, 1], images[:, 0, 2] = np.arange(n) // 256, np.arange(n) % 256, labels
        for kind, header, values in (("images-idx3", 16, images), ("labels-idx1", 8, labels)):
            path = directory / f"{prefix}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(bytes(header) + values.tobytes()))


def test_the_script_draws_a_balanced_subset_without_repeats(tmp_path):
    script = runpy.run_path(str(ROOT / "scripts/make_fashion_mnist_mini.py"))
    official_files(tmp_path, {"train": 7000, "t10k": 1500})
    for split, n in (("train", 6000), ("test", 1000)):
        x, y = script["draw"](tmp_path, split, np.random.RandomState(0))
        np.testing.assert_array_equal(np.bincount(y), [n // 10] * 10)
        np.testing.assert_array_equal(x[:, 0, 2], y)  # an image keeps its label
        assert len(np.unique(x[:, 0, :2], axis=0)) == n
        assert np.any(np.diff(y.astype(int)) < 0)  # not sorted by class


@pytest.mark.skipif(not OFFICIAL.exists(), reason="the official files, as Debian's dataset-fashion-mnist installs them")
def test_the_script_makes_the_file_that_is_shipped():
    script = runpy.run_path(str(ROOT / "scripts/make_fashion_mnist_mini.py"))
    rng = np.random.RandomState(script["SEED"])
    with np.load(datasets._MINI) as shipped:
        for split in ("train", "test"):
            x, y = script["draw"](OFFICIAL, split, rng)
            np.testing.assert_array_equal(shipped[f"x_{split}"], x)
            np.testing.assert_array_equal(shipped[f"y_{split}"], y)
