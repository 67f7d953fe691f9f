"""Occlusion against closed forms and a loop over windows."""

import numpy as np
import pytest
import tensorflow as tf
from map_derivatives import assert_is_that_of_differences

from keras_rar.core.held import Columns, Held
from keras_rar.core.occlusion import Occlusion

W = np.array([1.0, -2.0, 3.0, 0.5])
X = np.random.default_rng(0).uniform(-1, 1, size=(3, 4))
ROUNDING = {"rtol": 1e-12, "atol": 1e-13}  # float64


def linear(z):
    return tf.linalg.matvec(z, tf.constant(W, z.dtype)) + 0.5


def smooth(z):
    return tf.sin(tf.reduce_sum(z, axis=list(range(1, z.shape.rank)))) + tf.reduce_sum(
        z**4, list(range(1, z.shape.rank))
    )


def attributions(saliency, f, x=X):
    return saliency(f, tf.constant(x)).numpy()


@pytest.mark.parametrize("baseline", [0.0, 0.7, [0.5, 0.0, -0.5, 1.0]])
def test_single_features_of_a_linear_score_are_exact(baseline):
    found = attributions(Occlusion(baseline=baseline), linear)
    np.testing.assert_allclose(found, W * (X - np.array(baseline)), **ROUNDING)
    x = tf.constant(X)
    np.testing.assert_allclose(found.sum(axis=1), linear(x) - linear(tf.constant(np.broadcast_to(baseline, X.shape))))


def test_windows_of_a_linear_score():
    """Two features at a time: each gets the mean of what its windows lose."""
    pairs = (W * X)[:, :-1] + (W * X)[:, 1:]
    expected = np.stack([pairs[:, 0], pairs[:, :2].mean(axis=1), pairs[:, 1:].mean(axis=1), pairs[:, 2]], axis=1)
    np.testing.assert_allclose(attributions(Occlusion(2, 1), linear), expected, **ROUNDING)


def test_the_last_window_lies_at_the_end():
    """Windows of 3 of 5 features, moved by 3: the second one covers the last three, and none is left out."""
    x = np.random.default_rng(1).normal(size=(2, 5))
    found = attributions(Occlusion(3, 3), lambda z: tf.reduce_sum(z, axis=1), x)
    first, last = x[:, :3].sum(axis=1), x[:, 2:].sum(axis=1)
    np.testing.assert_allclose(found, np.stack([first, first, (first + last) / 2, last, last], axis=1), **ROUNDING)


@pytest.mark.parametrize(("window", "stride"), [(2, 1), (2, None), ((3, 2), (2, 1)), (1, 1), (100, None)])
@pytest.mark.parametrize("data_format", ["auto", "channels_first", "none"])
def test_windows_of_images_are_those_of_a_loop(window, stride, data_format):
    rng = np.random.default_rng(2)
    x = rng.uniform(size=(2, 5, 4)) if data_format == "none" else rng.uniform(size=(2, 5, 4, 3))
    seen = np.moveaxis(x, -1, 1) if data_format == "channels_first" else x
    sizes = [min(n, size) for n, size in zip((5, 4), np.broadcast_to(window, 2), strict=True)]
    steps = [-(-size // 2) for size in sizes] if stride is None else np.broadcast_to(stride, 2)
    total, count = np.zeros((2, 5, 4)), np.zeros((5, 4))
    starts = [[*range(0, n - size, step), n - size] for n, size, step in zip((5, 4), sizes, steps, strict=True)]
    for top in starts[0]:
        for left in starts[1]:
            part = slice(top, top + sizes[0]), slice(left, left + sizes[1])
            covered = x.copy()
            covered[(slice(None), *part)] = 0.2
            lost = smooth(tf.constant(x)) - smooth(tf.constant(covered))
            total[(slice(None), *part)] += lost.numpy()[:, np.newaxis, np.newaxis]
            count[part] += 1
    found = attributions(Occlusion(window, stride, 0.2, data_format), smooth, seen)
    if data_format != "none":
        found = found.sum(axis=1 if data_format == "channels_first" else -1)
    np.testing.assert_allclose(found, total / count, **ROUNDING)


def test_the_default_window_is_a_seventh_of_each_axis():
    image = np.random.default_rng(0).uniform(size=(1, 14, 21, 1))
    np.testing.assert_array_equal(
        attributions(Occlusion(), smooth, image), attributions(Occlusion((2, 3), (1, 2)), smooth, image)
    )


@pytest.mark.parametrize("chunk", [1, 3, 100, None, "auto"])
def test_a_chunk_changes_memory_alone(chunk):
    x = np.random.default_rng(2).uniform(size=(2, 4, 4, 2))
    whole, chunked = (Occlusion(2, 1, chunk=c) for c in (None, chunk))
    np.testing.assert_allclose(attributions(chunked, smooth, x), attributions(whole, smooth, x), **ROUNDING)


@pytest.mark.parametrize("chunk", [None, 2])
def test_its_derivative_is_that_of_differences(chunk):
    assert_is_that_of_differences(Occlusion(2, 1, 0.3, chunk=chunk), smooth, X)


def test_what_is_the_input_itself_is_never_covered():
    found = attributions(Occlusion(2, 1, [0.0, None, 0.0, 0.0]), linear)
    assert np.all(found[:, 1] == 0)
    np.testing.assert_allclose(found[:, 0], (W * X)[:, 0], **ROUNDING)


def test_words_are_covered_by_rows_and_padding_stays():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(2, 3, 2)), np.broadcast_to([[[1.0], [1.0], [0.0]]], (2, 3, 1))], axis=-1)
    f = Held(lambda z: tf.reduce_sum(z[..., :2], axis=[1, 2]), Columns(2, masked=True))
    found = Occlusion(data_format="rows")(f, tf.constant(x)).numpy()
    np.testing.assert_allclose(found[:, :2, :2].sum(axis=-1), x[:, :2, :2].sum(axis=-1), **ROUNDING)
    assert np.all(found[:, 2] == 0)
    assert np.all(found[..., 2] == 0)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Occlusion(0), ValueError, "`window` must be a positive integer. Received: window=0"),
        (lambda: Occlusion("2"), TypeError, "`window` must be a positive integer. Received: window='2'"),
        (lambda: Occlusion(stride=(1, 0)), ValueError, "`stride` must be a positive integer. Received: stride=0"),
        (lambda: Occlusion(2, 3), ValueError, "`stride` must be at most as large as the window.*Received: stride=3"),
        (lambda: Occlusion((2, 3), (2, 4)), ValueError, r"`stride` must be at most as large .*stride=\(2, 4\)"),
        (lambda: Occlusion(stride=2)(linear, X), ValueError, "`stride` must be at most as large as the window"),
        (lambda: Occlusion((2, 2))(linear, X), ValueError, r"`window` must be an integer, or 1 of them.*\(2, 2\)"),
        (
            lambda: Occlusion((2, 2), (1, 1, 1)),
            ValueError,
            "`stride` must be an integer, or as many as the window has, 2",
        ),
        (lambda: Occlusion(baseline=np.inf), ValueError, "`baseline` must be finite. Received: baseline=inf"),
        (lambda: Occlusion(data_format="first"), ValueError, "`data_format` must be one of"),
        (lambda: Occlusion(chunk=0), ValueError, "`chunk` must be a positive integer. Received: chunk=0"),
    ],
)
def test_arguments_are_validated(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_unknown_sizes_are_refused():
    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32)])
    def explain(x):
        return Occlusion()(lambda z: tf.reduce_sum(z, axis=1), x)

    with pytest.raises(
        ValueError, match=r"`x` must have known sizes to be occluded. Received: inputs of shape \(None,\)"
    ):
        explain(tf.ones([2, 3]))
