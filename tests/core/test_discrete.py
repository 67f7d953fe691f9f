"""Columns that a small change makes invalid are found, and said."""

import numpy as np

from keras_rar.core import discrete

RNG = np.random.default_rng(0)
N = 40


def table():
    """Two numbers, a count, a flag, a group of three, a constant, and two columns whose sum is not always 1."""
    numbers, count, flag = RNG.normal(size=(N, 2)), RNG.integers(0, 9, (N, 1)), RNG.integers(0, 2, (N, 1))
    group = np.eye(3)[np.arange(N) % 3]
    pair = np.array([[0, 0], [0, 1], [1, 0], [0, 1]] * (N // 4))
    return np.concatenate([numbers, count, flag, group, np.ones((N, 1)), pair], axis=1)


FREE = np.ones(10, bool)


def test_whole_columns_and_groups_are_found():
    x = table()
    assert np.flatnonzero(discrete.whole(x)).tolist() == [2, 3, 4, 5, 6, 8, 9]
    assert discrete.one_hot(x) == [range(4, 7)]
    both = np.concatenate([np.eye(2)[np.arange(N) % 2], np.eye(4)[np.arange(N) % 4]], axis=1)
    assert discrete.one_hot(both) == [range(2), range(2, 6)]


def test_groups_are_those_of_a_search_through_all():
    """Of random tables of zeros and ones; a group ends where it can."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(1, 4, 4)
        parts = [np.eye(size + 1)[rng.integers(0, size + 1, N)][:, : size + rng.integers(0, 2)] for size in sizes]
        x = np.concatenate(parts, axis=1)
        free = discrete.whole(x)
        all_groups, start = [], 0
        while start < x.shape[1]:
            stops = [b for b in range(start + 2, x.shape[1] + 1) if np.all(x[:, start:b].sum(axis=1) == 1)]
            stops = [b for b in stops if free[start:b].all()]
            all_groups += [range(start, stops[0])] if stops else []
            start = stops[0] if stops else start + 1
        assert discrete.one_hot(x) == all_groups


def test_what_is_said_names_the_columns_that_may_change():
    assert discrete.said(table(), FREE) == (
        "Columns with few whole numbers may change (2, 3, 8, 9) and columns that are one-hot may change (4 to 6): an "
        "attack gives them values that no example has. Fix a column by an `epsilon` of 0."
    )
    names = list("abcdefghij")
    assert "(c, d, i, j)" in discrete.said(table(), FREE, names)
    free = FREE.copy()
    free[[2, 3, 4, 5, 6, 8, 9]] = False
    assert discrete.said(table(), free) == ""
    free[5] = True  # a part of a group is enough
    assert "one-hot may change (4 to 6)" in discrete.said(table(), free)
    assert "0, 1, 2, 3, 4, 5, 6, 7 and 12 more" in discrete.said(RNG.integers(0, 9, (N, 20)), np.ones(20, bool))


def test_nothing_is_said_of_numbers_images_and_text():
    """Negative controls."""
    assert discrete.said(RNG.normal(size=(N, 10)), FREE) == ""
    assert discrete.said(RNG.integers(0, 90, (N, 10)), FREE) == ""  # such as ages
    assert discrete.said(np.arange(20).reshape(2, 10), FREE) == ""  # two rows say nothing
    assert discrete.said(RNG.integers(0, 2, (N, 5, 2)), np.ones((5, 2), bool)) == ""
    assert discrete.said(np.zeros((0, 3)), FREE[:3]) == ""
    assert discrete.said(np.array([["a", "b"]]), FREE[:2]) == ""
