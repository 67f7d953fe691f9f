"""The data that the package ships, and the paper's network."""

import numpy as np
import pytest

from keras_rar.paper import datasets, networks


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


def test_mini_can_be_learned(tmp_path):
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
