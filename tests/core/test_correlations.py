"""Correlations of maps against SciPy and NumPy, and under what may not change them."""

import functools
import itertools
import resource
import tracemalloc

import numpy as np
import pytest
from map_cases import (
    CORRELATIONS,
    KINDS,
    PATHS,
    RANK_CORRELATIONS,
    ROUNDING,
    call,
    call_all,
    maps,
    of_scipy,
)
from scipy import stats

from keras_rar import metrics as ranking
from keras_rar.core import kendall_host

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
