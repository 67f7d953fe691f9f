"""Rank metrics against SciPy, against their definitions in NumPy, and under what may not change them."""

import functools
import itertools
import re
import resource
import tracemalloc
import warnings

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage, stats

from keras_rar import metrics as ranking
from keras_rar.core import kendall_host

CORRELATIONS = {f.__name__: f for f in (
    ranking.kendall_tau_b, ranking.spearman_rho, ranking.pearson, ranking.cosine_similarity,
)}  # fmt: skip
RANK_CORRELATIONS = {name: CORRELATIONS[name] for name in ("kendall_tau_b", "spearman_rho")}
IMAGE_SCORES = {
    **CORRELATIONS,
    "topk_intersection": functools.partial(ranking.topk_intersection, k=5),
    "local_topk_intersection": functools.partial(ranking.local_topk_intersection, k=5),
    "mass_center_distance": ranking.mass_center_distance,
}
PATHS = ("eager", "graph", "xla")
KINDS = ("no ties", "few values", "mostly zero")
ROUNDING = 1e-6  # of a result in float32


def call_all(path, functions, *maps):
    """The functions as a caller of that kind meets them; a graph does not know the batch."""
    maps = [tf.convert_to_tensor(m) for m in maps]

    def every(*maps):
        return [function(*maps) for function in functions]

    if path != "eager":
        batch = maps[0].shape[:1] if path == "xla" else [None]
        signature = [tf.TensorSpec([*batch, *m.shape[1:]], m.dtype) for m in maps]
        every = tf.function(every, signature, autograph=False, jit_compile=path == "xla")
    return [score.numpy() for score in every(*maps)]


def call(path, function, *maps):
    return call_all(path, [function], *maps)[0]


def maps(kind, entries, batch=4, seed=0):
    """Correlated pairs: without ties, with few values, or four-fifths zeros as on MNIST."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(batch, entries))
    b = 0.7 * a + rng.normal(size=a.shape)
    if kind == "few values":
        a, b = np.round(a), np.round(2 * b)
    if kind == "mostly zero":
        a, b = (np.maximum(m - np.quantile(m, 0.8), 0) for m in (a, b))
    return a.astype("float32"), b.astype("float32")


def every_pair(a, b):
    """Kendall's tau-b by its definition."""
    i, j = np.triu_indices(a.shape[1], 1)
    signs = [np.where(m[:, i] > m[:, j], 1, np.where(m[:, i] < m[:, j], -1, 0)) for m in (a, b)]
    sizes = [np.sqrt(np.sum(sign**2, axis=1)) for sign in signs]
    return np.sum(signs[0] * signs[1], axis=1) / (sizes[0] * sizes[1])


def of_scipy(function, a, b):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant maps
        return np.array([function(*pair)[0] for pair in zip(a.astype("float64"), b.astype("float64"), strict=True)])


# Against SciPy


@pytest.mark.parametrize(
    ("path", "entries", "kind"),
    [
        *itertools.product(["eager"], [4, 7, 8, 31, 32, 33, 784, 1024], KINDS),
        *zip(["graph"] * 5, [4, 9, 33, 784, 784], [*KINDS, "no ties", "mostly zero"], strict=True),
        ("xla", 100, "few values"),
        ("xla", 30, "mostly zero"),
    ],
)
def test_rank_correlations_are_those_of_scipy(path, entries, kind):
    a, b = maps(kind, entries)
    scores = call_all(path, RANK_CORRELATIONS.values(), a, b)
    for ours, theirs in zip(scores, (stats.kendalltau, stats.spearmanr), strict=True):
        expected = of_scipy(theirs, a, b)
        defined = np.isfinite(expected)  # not both constant, nor one
        assert defined.any()
        np.testing.assert_allclose(ours[defined], expected[defined], atol=ROUNDING)


@pytest.mark.parametrize("path", ["eager", "graph"])
@pytest.mark.parametrize("kind", ["no ties", "mostly zero"])
@pytest.mark.parametrize("entries", [16384, 20000])  # either side of what 16 bits hold
def test_large_maps_are_exact_in_float64(path, kind, entries):
    a, b = (m.astype("float64") for m in maps(kind, entries, batch=2))
    tau, rho = call_all(path, RANK_CORRELATIONS.values(), a, b)
    assert tau.dtype == rho.dtype == np.float64
    np.testing.assert_allclose(tau, of_scipy(stats.kendalltau, a, b), atol=1e-13)  # float64
    np.testing.assert_allclose(rho, of_scipy(stats.spearmanr, a, b), atol=1e-13)


def test_many_maps_are_counted_in_several_threads_each_in_its_row():
    a, b = maps("few values", 5000, batch=80)  # four chunks, the last one short
    assert a.size > 3 * kendall_host.CHUNK
    whole = ranking.kendall_tau_b(a, b).numpy()
    np.testing.assert_array_equal(whole[::7], ranking.kendall_tau_b(a[::7], b[::7]))
    np.testing.assert_allclose(whole[-2:], of_scipy(stats.kendalltau, a[-2:], b[-2:]), atol=ROUNDING)


def test_pearson_and_cosine_are_those_of_numpy():
    a, b = maps("no ties", 50)
    a = a + 1000  # float32 sums would lose it
    expected = [np.corrcoef(*pair.astype("float64"))[0, 1] for pair in np.stack([a, b], axis=1)]
    np.testing.assert_allclose(ranking.pearson(a, b), expected, atol=ROUNDING)
    wide = a.astype("float64"), b.astype("float64")
    cosine = np.sum(wide[0] * wide[1], 1) / np.linalg.norm(wide[0], axis=1) / np.linalg.norm(wide[1], axis=1)
    np.testing.assert_allclose(ranking.cosine_similarity(a, b), cosine, atol=ROUNDING)


@pytest.mark.parametrize("path", ["graph", "xla"])
def test_graph_and_xla_give_the_eager_numbers(path):
    a, b = (np.concatenate(pair) for pair in zip(maps("no ties", 60), maps("mostly zero", 60), strict=True))
    a, b = a.reshape(8, 6, 10), b.reshape(8, 6, 10)
    expected = call_all("eager", IMAGE_SCORES.values(), a, b)
    scores = call_all(path, IMAGE_SCORES.values(), a, b)
    np.testing.assert_allclose(scores, expected, rtol=2e-7, atol=2e-7)  # units of float32


# What leaves them as they are


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CORRELATIONS)
def test_identical_maps_score_one_and_opposite_maps_minus_one(name, kind):
    a, _ = maps(kind, 200)
    np.testing.assert_allclose(CORRELATIONS[name](a, a), 1, atol=0 if name == "kendall_tau_b" else ROUNDING)
    np.testing.assert_allclose(CORRELATIONS[name](a, -a), -1, atol=ROUNDING)


@pytest.mark.parametrize("name", CORRELATIONS)
def test_independent_maps_score_about_zero(name):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 16, 1000)).astype("float32")
    score = CORRELATIONS[name](a, b).numpy()
    assert np.all(np.abs(score) < 5 / np.sqrt(1000))  # at least five standard deviations of each of them
    assert np.all(score != 0)


@pytest.mark.parametrize("kind", ["no ties", "mostly zero"])
@pytest.mark.parametrize("name", CORRELATIONS)
def test_symmetry_sign_order_of_entries_and_shape(name, kind):
    function = CORRELATIONS[name]
    a, b = maps(kind, 120)
    score = function(a, b).numpy()
    order = np.random.default_rng(1).permutation(120)
    close = functools.partial(np.testing.assert_allclose, desired=score, atol=ROUNDING)
    close(function(b, a))
    close(-function(-a, b).numpy())
    close(function(a[:, order], b[:, order]))
    close(function(a.reshape(4, 5, 8, 3), b.reshape(4, 5, 8, 3)))
    close(function(7 * a, 0.1 * b))
    assert np.abs(function(a[:, order], b).numpy() - score).max() > 0.1  # negative control


@pytest.mark.parametrize("name", RANK_CORRELATIONS)
def test_increasing_functions_of_the_entries_change_no_rank_correlation(name):
    a, b = maps("few values", 200)
    function = RANK_CORRELATIONS[name]
    np.testing.assert_array_equal(function(np.exp(a), b**3), function(a, b))
    assert np.abs(ranking.pearson(np.exp(a), b**3).numpy() - ranking.pearson(a, b).numpy()).max() > 0.01


def test_examples_are_scored_alone():
    a, b = maps("few values", 90, batch=6)
    for function in CORRELATIONS.values():
        whole = function(a, b).numpy()
        for i in range(6):
            np.testing.assert_array_equal(function(a[i : i + 1], b[i : i + 1]), whole[i : i + 1])


# Singular points

ZEROS, CONSTANT, VARIED = np.zeros((1, 6)), np.full((1, 6), 2.0), np.arange(6.0)[None]
NAN = np.array([[0.0, 1, 2, np.nan, 4, 5]])


@pytest.mark.parametrize("path", PATHS)
def test_constant_maps_score_one_together_and_zero_alone_and_nan_is_nan(path):
    a = np.concatenate([ZEROS, ZEROS, VARIED, VARIED, NAN, VARIED, NAN]).astype("float32")
    b = np.concatenate([ZEROS, VARIED, ZEROS, VARIED, VARIED, NAN, NAN]).astype("float32")
    for score in call_all(path, CORRELATIONS.values(), a, b):
        np.testing.assert_allclose(score, [1, 0, 0, 1, *3 * [np.nan]], atol=ROUNDING)


@pytest.mark.parametrize("name", ["kendall_tau_b", "spearman_rho", "pearson"])
def test_other_constants_are_constant_too(name):
    tenth = np.full((2, 6), 0.1)
    assert np.all(tenth.sum(axis=1) / 6 != tenth[:, 0])  # the mean is rounded
    a, b = tenth, np.concatenate([CONSTANT, VARIED])
    np.testing.assert_array_equal(CORRELATIONS[name](a, b), [1, 0])
    np.testing.assert_array_equal(CORRELATIONS[name](b, a), [1, 0])


def test_a_constant_that_is_not_zero_is_not_singular_for_the_cosine():
    constant, varied = CONSTANT.astype("float32"), VARIED.astype("float32")
    expected = VARIED.sum() / np.sqrt(6) / np.linalg.norm(VARIED)
    np.testing.assert_allclose(ranking.cosine_similarity(constant, varied), [expected], atol=ROUNDING)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("entries", [0, 1])
def test_maps_of_no_or_one_entry_are_equal(entries, path):
    a = np.ones((3, entries), "float32")
    np.testing.assert_array_equal(call_all(path, CORRELATIONS.values(), a, 2 * a), np.ones((4, 3)))


@pytest.mark.parametrize("path", PATHS)
def test_maps_of_two_entries(path):
    a, b = np.float32([[1, 2], [1, 2], [1, 1], [1, 1]]), np.float32([[0, 9], [9, 0], [0, 9], [3, 3]])
    np.testing.assert_array_equal(call_all(path, RANK_CORRELATIONS.values(), a, b), [[1, -1, 0, 1]] * 2)


@pytest.mark.parametrize("path", PATHS)
def test_an_empty_batch_gives_no_scores(path):
    empty = np.zeros((0, 4, 5), "float32")
    for score in call_all(path, IMAGE_SCORES.values(), empty, empty):
        assert score.shape == (0,)


# Order is read from the bits


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zeros_of_either_sign_denormals_and_infinities_are_ordered(path, dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    a = np.array([[-np.inf, -1, -tiny, -0.0, 0.0, tiny, 2 * tiny, np.finfo(dtype).tiny, 3, np.inf, np.inf]], dtype)
    ranks = np.array([[0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 8]], dtype)
    b = np.array([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]], dtype)
    tops = [functools.partial(ranking.topk_intersection, k=k) for k in (2, 5)]
    scores = call_all(path, [*RANK_CORRELATIONS.values(), *tops], np.repeat(a, 2, axis=0), np.concatenate([ranks, b]))
    np.testing.assert_allclose(np.array(scores)[:, 0], 1, atol=ROUNDING)
    np.testing.assert_allclose(scores[0][1:], every_pair(ranks, b), atol=ROUNDING)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["pearson", "cosine_similarity"])
def test_an_infinity_makes_pearson_and_cosine_nan_and_no_other_example(name, path):
    a, b = maps("no ties", 20)
    expected = CORRELATIONS[name](a, b).numpy()
    a[1, 3], b[2, 4] = np.inf, -np.inf
    expected[1:3] = np.nan
    np.testing.assert_allclose(call(path, CORRELATIONS[name], a, b), expected, atol=ROUNDING)


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e200])
@pytest.mark.parametrize("name", CORRELATIONS)
def test_squares_neither_vanish_nor_overflow(name, scale):
    a, b = (m.astype("float64") for m in maps("no ties", 50))
    score = CORRELATIONS[name](a, b).numpy()
    np.testing.assert_allclose(CORRELATIONS[name](scale * a, scale * b), score, atol=1e-12)  # float64


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


@pytest.mark.parametrize("path", ["eager", "graph"])
def test_what_float32_would_round_to_ties_is_told_apart(path):
    close = 1 + 2.0**-40 * np.arange(5)[None]
    large = 2**40 + np.arange(5)[None]
    for m in (close, large):
        other = np.float32([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]])
        scores = call_all(path, RANK_CORRELATIONS.values(), np.repeat(m, 2, axis=0), other)
        np.testing.assert_allclose(scores, [[1, -1]] * 2, atol=1e-12)  # float64


# Top-k


def top(m, k):
    return [set(np.argsort(-row, kind="stable")[:k]) for row in m.reshape(len(m), -1)]


@pytest.mark.parametrize("path", PATHS)
def test_topk_intersection_is_that_of_the_sets(path):
    a, b = maps("few values", 40, batch=12)
    sizes = (1, 7, 40)
    scores = call_all(path, [functools.partial(ranking.topk_intersection, k=k) for k in sizes], a, b)
    for k, score in zip(sizes, scores, strict=True):
        expected = [len(first & second) / k for first, second in zip(top(a, k), top(b, k), strict=True)]
        np.testing.assert_allclose(score, expected, atol=ROUNDING)


def test_topk_of_equal_entries_takes_the_first():
    a, b = np.float32([[0, 5, 5, 5]]), np.float32([[0, 0, 0, 9]])
    assert ranking.topk_intersection(a, b, 2).numpy() == [0]  # {1, 2} and {3, 0}
    assert ranking.topk_intersection(a, b, 3).numpy() == pytest.approx([2 / 3])  # {1, 2, 3} and {3, 0, 1}
    assert ranking.topk_intersection(0 * a, 0 * b, 2).numpy() == [1]


@pytest.mark.parametrize("name", ["topk_intersection", "local_topk_intersection", "mass_center_distance"])
def test_a_nan_makes_its_own_score_nan(name):
    a, b = (m.reshape(4, 4, 5) for m in maps("no ties", 20))
    expected = IMAGE_SCORES[name](a, b).numpy()
    a[1, 2, 3], b[3, 0, 0] = np.nan, np.nan
    expected[[1, 3]] = np.nan
    np.testing.assert_array_equal(IMAGE_SCORES[name](a, b), expected)


# Top-k, near


def near(chosen, shape, window):
    """The union of windows, pixel by pixel."""
    reach = window // 2
    rows, columns = np.indices(shape)
    places = {divmod(index, shape[1]) for index in chosen}
    inside = np.any([(abs(rows - i) <= reach) & (abs(columns - j) <= reach) for i, j in places], axis=0)
    return set(np.flatnonzero(inside))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("window", "k"), [(1, 4), (3, 1), (3, 4), (5, 9), (21, 2)])
def test_local_topk_intersection_is_that_of_the_sets(window, k, path):
    a, b = (m.reshape(8, 6, 7) for m in maps("few values", 42, batch=8))
    pairs = list(zip(top(a, k), top(b, k), strict=True))
    recall = [len(near(before, (6, 7), window) & after) / k for before, after in pairs]
    precision = [len(before & near(after, (6, 7), window)) / k for before, after in pairs]
    local = functools.partial(ranking.local_topk_intersection, k=k, window=window)
    scores = call_all(path, [functools.partial(local, measure=measure) for measure in ranking.MEASURES], a, b)
    np.testing.assert_allclose(scores, [recall, precision], atol=ROUNDING)


def test_recall_and_precision_are_each_other_s_mirror_and_differ():
    a, b = (m.reshape(8, 6, 7) for m in maps("no ties", 42, batch=8))
    recall, precision = (ranking.local_topk_intersection(a, b, 6, measure=m).numpy() for m in ranking.MEASURES)
    np.testing.assert_array_equal(ranking.local_topk_intersection(b, a, 6, measure="precision"), recall)
    assert np.any(recall != precision)


def test_a_window_of_one_pixel_is_topk_intersection_and_a_wider_one_never_scores_less():
    a, b = (m.reshape(8, 6, 7) for m in maps("no ties", 42, batch=8))
    scores = [ranking.local_topk_intersection(a, b, 6, window).numpy() for window in (1, 3, 5, 7, 13)]
    np.testing.assert_array_equal(scores[0], ranking.topk_intersection(a, b, 6))
    assert np.all(np.diff(scores, axis=0) >= 0)
    assert np.any(scores[1] > scores[0])
    np.testing.assert_array_equal(scores[-1], 1)  # the window is as large as the image


def pixel(row, column, shape=(4, 5)):
    m = np.zeros((1, *shape), "float32")
    m[0, row, column] = 1
    return m


@pytest.mark.parametrize(
    ("before", "after", "score"),
    [
        ((0, 4), (1, 0), 0),  # neighbours in the flattened map
        ((1, 0), (0, 4), 0),
        ((0, 4), (2, 0), 0),  # one row below in the flattened map, less one
        ((0, 0), (3, 4), 0),
        ((0, 0), (0, 1), 1),
        ((0, 1), (0, 0), 1),  # the very first pixel counts
        ((3, 4), (2, 3), 1),
        ((1, 2), (3, 2), 0),
    ],
)
def test_windows_end_at_the_border(before, after, score):
    for measure in ranking.MEASURES:
        assert ranking.local_topk_intersection(pixel(*before), pixel(*after), 1, measure=measure).numpy() == [score]


def test_a_shift_by_one_pixel_keeps_the_local_score_and_loses_the_plain_one():
    a = np.zeros((1, 8, 8), "float32")
    a[0, ::3, :7:3] = np.arange(9).reshape(3, 3) + 1
    shifted = np.roll(a, 1, axis=2)
    assert ranking.topk_intersection(a, shifted, 9).numpy() == [0]
    assert ranking.local_topk_intersection(a, shifted, 9).numpy() == [1]


# Centres of mass


@pytest.mark.parametrize("path", PATHS)
def test_mass_center_is_that_of_scipy_and_of_the_image_where_there_is_no_mass(path):
    m = np.abs(maps("no ties", 30, batch=3)[0]).reshape(3, 5, 6)
    m[1] = 0
    expected = [ndimage.center_of_mass(m[0]), (2, 2.5), ndimage.center_of_mass(m[2])]
    np.testing.assert_allclose(call(path, ranking.mass_center, m), expected, atol=1e-6)  # float32 of numbers up to 5


def test_mass_center_moves_with_the_map_and_not_with_its_scale():
    assert ranking.mass_center(pixel(3, 1)).numpy().tolist() == [[3, 1]]
    m = np.zeros((1, 9, 9), "float32")
    m[0, 1:4, 2:6] = np.random.default_rng(0).uniform(size=(3, 4))
    moved = np.roll(m, (2, 3), axis=(1, 2))
    np.testing.assert_allclose(ranking.mass_center(moved) - ranking.mass_center(m), [[2, 3]], atol=ROUNDING)
    np.testing.assert_allclose(ranking.mass_center_distance(m, moved), [np.hypot(2, 3)], atol=ROUNDING)
    np.testing.assert_allclose(ranking.mass_center(1e30 * m), ranking.mass_center(m), rtol=1e-6)
    np.testing.assert_array_equal(ranking.mass_center_distance(m, m), [0])


# Errors

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
        (lambda: ranking.topk_intersection(A, A, 13), ValueError, "`k` must be at most 12, the number of entries"),
        (lambda: ranking.local_topk_intersection(A, A, 13), ValueError, "`k` must be at most 12"),
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


# Memory


def test_a_map_of_16384_entries_needs_no_square_of_them():
    a, b = maps("no ties", 16384, batch=8)
    pairs = 8 * 16384**2  # bytes, at one byte a pair: 2 GB
    tracemalloc.start()
    ranking.kendall_tau_b(a, b)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert a.nbytes < peak < pairs / 50
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call("graph", ranking.kendall_tau_b, a, b)
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < pairs / 8
