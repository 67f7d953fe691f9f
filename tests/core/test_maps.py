"""What all similarities of maps share: shapes, types, NaN, empty batches, graphs and errors."""

import re

import numpy as np
import pytest
import tensorflow as tf
from map_cases import IMAGE_SCORES, PATHS, ROUNDING, call_all, maps

from keras_rar import metrics as ranking


@pytest.mark.parametrize("path", ["graph", pytest.param("xla", marks=pytest.mark.slow)])
def test_graph_and_xla_give_the_eager_numbers(path):
    a, b = (np.concatenate(pair) for pair in zip(maps("no ties", 60), maps("mostly zero", 60), strict=True))
    a, b = a.reshape(8, 6, 10), b.reshape(8, 6, 10)
    expected = call_all("eager", IMAGE_SCORES.values(), a, b)
    scores = call_all(path, IMAGE_SCORES.values(), a, b)
    np.testing.assert_allclose(scores, expected, rtol=2e-7, atol=2e-7)  # units of float32


@pytest.mark.parametrize("path", PATHS)
def test_an_empty_batch_gives_no_scores(path):
    empty = np.zeros((0, 4, 5), "float32")
    for score in call_all(path, IMAGE_SCORES.values(), empty, empty):
        assert score.shape == (0,)


@pytest.mark.parametrize("name", ["topk_intersection", "local_topk_intersection", "mass_center_distance"])
def test_a_nan_makes_its_own_score_nan(name):
    a, b = (m.reshape(4, 4, 5) for m in maps("no ties", 20))
    expected = IMAGE_SCORES[name](a, b).numpy()
    a[1, 2, 3], b[3, 0, 0] = np.nan, np.nan
    expected[[1, 3]] = np.nan
    np.testing.assert_array_equal(IMAGE_SCORES[name](a, b), expected)


@pytest.mark.parametrize(
    ("dtype", "result"),
    [(name, "float32") for name in ("bool", "int8", "uint8", "int16", "float16", "bfloat16", "float32")]
    + [(name, "float64") for name in ("int32", "int64", "float64")],
)
def test_every_type_of_real_numbers(dtype, result):
    rng = np.random.default_rng(0)
    a, b = (tf.cast(rng.integers(0, 2 if dtype == "bool" else 9, (3, 4, 5)), dtype) for _ in range(2))
    scores = call_all("eager", IMAGE_SCORES.values(), a, b)
    assert {score.dtype.name for score in scores} == {result}
    expected = call_all("eager", IMAGE_SCORES.values(), tf.cast(a, "float32"), tf.cast(b, "float32"))
    np.testing.assert_allclose(scores, expected, atol=ROUNDING)


A = np.ones((2, 3, 4), "float32")


@pytest.mark.parametrize("name", IMAGE_SCORES)
@pytest.mark.parametrize(
    ("a", "b"), [(A, A[:, :2]), (A, A[:1]), (A, A.reshape(2, 12)), (A[0, 0], A[0, 0]), (np.float32(1), np.float32(1))]
)
def test_maps_of_other_shapes_are_refused(name, a, b):
    with pytest.raises(ValueError, match=r"`a` and `b` must be maps of one shape \(batch, .*Received: shapes"):
        IMAGE_SCORES[name](a, b)


def test_an_unknown_number_of_entries_is_refused():
    for shape in ([2, None, 4], None):
        spec = tf.TensorSpec(shape, tf.float32)
        for function in IMAGE_SCORES.values():
            with pytest.raises(ValueError, match=re.escape("only the batch may be unknown. Received: shapes")):
                tf.function(function, autograph=False).get_concrete_function(spec, spec)
        with pytest.raises(ValueError, match=re.escape("only the batch may be unknown. Received: shape")):
            tf.function(ranking.mass_center, autograph=False).get_concrete_function(spec)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda: ranking.topk_intersection(A, A, 0), ValueError, "`k` must be a positive integer. Received: k=0"),
        (lambda: ranking.topk_intersection(A, A, 2.5), ValueError, "`k` must be a positive integer. Received: k=2.5"),
        (lambda: ranking.topk_intersection(A, A, "2"), TypeError, "`k` must be a positive integer. Received: k='2'"),
        (lambda: ranking.topk_intersection(A, A, 12), ValueError, "`k` must be below 12, the number of entries"),
        (lambda: ranking.local_topk_intersection(A, A, 12), ValueError, "`k` must be below 12"),
        (lambda: ranking.local_topk_intersection(A, A, 2, 2), ValueError, "`window` must be odd. Received: window=2"),
        (lambda: ranking.local_topk_intersection(A, A, 2, 0), ValueError, "`window` must be a positive integer"),
        (lambda: ranking.local_topk_intersection(A, A, 2, 3, "f1"), ValueError, "`measure` must be one of ['recall', "),
        (lambda: ranking.mass_center(A[0]), ValueError, "`m` must be maps of shape (batch, height, width)"),
        (lambda: ranking.pearson(A + 1j, A), TypeError, "`a` must be real numbers. Received: a='complex64'"),
        (lambda: ranking.pearson(A, tf.constant([["x"]])), TypeError, "`b` must be real numbers. Received: b='string'"),
    ],
)
def test_bad_arguments_are_refused(function, error, message):
    with pytest.raises(error, match=re.escape(message)):
        function()
