"""The order of entries is that of their bits: zeros, denormals, infinities, and what float32 would round."""

import functools

import numpy as np
import pytest
from map_cases import (
    PATHS,
    RANK_CORRELATIONS,
    ROUNDING,
    call_all,
    every_pair,
)

from keras_rar import metrics as ranking


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


@pytest.mark.parametrize("path", ["eager", "graph"])
def test_what_float32_would_round_to_ties_is_told_apart(path):
    close = 1 + 2.0**-40 * np.arange(5)[None]
    large = 2**40 + np.arange(5)[None]
    for m in (close, large):
        other = np.float32([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]])
        scores = call_all(path, RANK_CORRELATIONS.values(), np.repeat(m, 2, axis=0), other)
        np.testing.assert_allclose(scores, [[1, -1]] * 2, atol=1e-12)  # float64
