"""Top-k intersections against their definition by sets, at the border of the map too."""

import functools

import numpy as np
import pytest
from map_cases import (
    PATHS,
    ROUNDING,
    call_all,
    maps,
    pixel,
    top,
)

from keras_rar import metrics as ranking


@pytest.mark.parametrize("path", PATHS)
def test_topk_intersection_is_that_of_the_sets(path):
    a, b = maps("few values", 40, batch=12)
    sizes = (1, 7, 39)
    scores = call_all(path, [functools.partial(ranking.topk_intersection, k=k) for k in sizes], a, b)
    for k, score in zip(sizes, scores, strict=True):
        expected = [len(first & second) / k for first, second in zip(top(a, k), top(b, k), strict=True)]
        np.testing.assert_allclose(score, expected, atol=ROUNDING)


def test_topk_of_equal_entries_takes_the_first():
    a, b = np.float32([[0, 5, 5, 5]]), np.float32([[0, 0, 0, 9]])
    assert ranking.topk_intersection(a, b, 2).numpy() == [0]  # {1, 2} and {3, 0}
    assert ranking.topk_intersection(a, b, 3).numpy() == pytest.approx([2 / 3])  # {1, 2, 3} and {3, 0, 1}
    assert ranking.topk_intersection(0 * a, 0 * b, 2).numpy() == [1]


def near(chosen, shape, window):
    """The union of windows, pixel by pixel."""
    reach = window // 2
    rows, columns = np.indices(shape)
    places = {divmod(index, shape[1]) for index in chosen}
    inside = np.any([(abs(rows - i) <= reach) & (abs(columns - j) <= reach) for i, j in places], axis=0)
    return set(np.flatnonzero(inside))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("window", "k"), [(1, 4), (3, 1), (3, 4), (5, 9), (11, 2)])
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
    scores = [ranking.local_topk_intersection(a, b, 6, window).numpy() for window in (1, 3, 5, 7, 11)]
    np.testing.assert_array_equal(scores[0], ranking.topk_intersection(a, b, 6))
    assert np.all(np.diff(scores, axis=0) >= 0)
    assert np.any(scores[1] > scores[0])


def test_a_window_that_holds_any_two_pixels_is_refused():
    """With it any two maps score 1; a window that is smaller by two pixels tells opposite corners apart."""
    a, b = pixel(0, 0), pixel(3, 4)
    assert ranking.local_topk_intersection(a, b, 1, window=7).numpy() == [0]
    with pytest.raises(ValueError, match=r"^`window` must be below 9, from where on it holds the whole map"):
        ranking.local_topk_intersection(a, b, 1, window=9)


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
