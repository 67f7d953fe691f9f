"""Ablations of scores whose values are known: linear and additive functions."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_rar.core import ablation

WEIGHTS = np.array([3.0, -1.0, 0.5, 2.0, -0.25], "float32")
X = np.array([[1.0, 2.0, -1.0, 0.5, 4.0], [0.75, -1.0, 2.0, 1.5, 3.0]], "float32")
BASELINE = np.array([0.5, 0.0, 0.25, 0.0, 1.0], "float32")
CONTRIBUTIONS = WEIGHTS * (X - BASELINE)


def linear(z):
    return tf.linalg.matvec(z, WEIGHTS) + 0.75


def area_of(ranks, x=X, baseline=BASELINE, f=linear):
    counts = ablation.stages(x.shape[1], x.shape[1])
    removed = np.asarray(ranks)[None] < counts[:, None, None]
    return ablation.curve_area(ablation.ablated_scores(f, tf.constant(x), baseline, removed), counts).numpy()


def ranks_of(maps):
    return ablation.removal_ranks(maps, np.zeros(np.shape(maps)))


def test_ranks_are_those_of_numpy():
    rng = np.random.default_rng(0)
    maps, ties = rng.integers(0, 4, (5, 30)).astype("float32"), rng.uniform(size=(5, 30))
    expected = np.empty((5, 30), int)
    for row, m, tie in zip(expected, maps, ties, strict=True):
        row[np.lexsort((tie, -m))] = np.arange(30)
    np.testing.assert_array_equal(ablation.removal_ranks(maps, ties), expected)
    images = ablation.removal_ranks(maps.reshape(5, 6, 5), ties.reshape(5, 6, 5))
    np.testing.assert_array_equal(images, expected.reshape(5, 6, 5))


def test_stages_take_away_all_in_steps_of_nearly_one_size():
    for entries, points in ((784, 50), (7, 7), (10, 3), (5, 1)):
        counts = ablation.stages(entries, points)
        assert (counts[0], counts[-1], len(counts)) == (0, entries, points + 1)
        assert np.ptp(np.diff(counts)) <= 1


@pytest.mark.parametrize("points", [0, 11, 2.5])
def test_stages_that_do_not_fit_are_refused(points):
    with pytest.raises(ValueError, match=r"^`points` must be .* Received: points="):
        ablation.stages(10, points)


def test_a_linear_score_loses_the_contribution_of_each_entry():
    order = np.argsort(-CONTRIBUTIONS, axis=1)
    sorted_contributions = np.take_along_axis(CONTRIBUTIONS, order, 1)
    whole = X @ WEIGHTS + 0.75
    expected = whole[:, None] - np.concatenate([np.zeros((2, 1)), np.cumsum(sorted_contributions, axis=1)], axis=1)
    ranks = ranks_of(CONTRIBUTIONS).numpy()
    scores = ablation.ablated_scores(linear, tf.constant(X), BASELINE, ranks[None] < np.arange(6)[:, None, None])
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    np.testing.assert_allclose(area_of(ranks), 0.1 * (expected[:, 1:] + expected[:, :-1]).sum(axis=1), atol=1e-5)


def test_the_true_contributions_have_the_lowest_area_of_all_orders():
    best, worst = area_of(ranks_of(CONTRIBUTIONS)), area_of(ranks_of(-CONTRIBUTIONS))
    areas = np.array([area_of(np.tile(order, (2, 1))) for order in itertools.permutations(range(5))])
    for example in range(2):
        found = np.sort(areas[:, example])
        np.testing.assert_allclose(found[[0, -1]], [best[example], worst[example]], atol=1e-5)
        gap = np.diff(np.sort(CONTRIBUTIONS[example])).min() / 5  # of two neighbours that change their places
        assert found[1] > found[0] + 0.9 * gap > found[0]
    middle = (linear(X) + linear(BASELINE[None])) / 2  # where a map that knows nothing ends
    np.testing.assert_allclose(areas.mean(axis=0), middle, atol=1e-4)


def test_deletion_and_insertion_of_a_linear_score_sum_to_both_ends():
    ranks = ranks_of(np.random.default_rng(0).normal(size=(2, 5)))
    start = np.tile(BASELINE, (2, 1))
    both = area_of(ranks) + area_of(ranks, start, X)
    np.testing.assert_allclose(both, linear(X).numpy() + linear(start).numpy(), atol=1e-5)


def test_scores_of_images_lose_all_channels_of_a_pixel():
    x = np.random.default_rng(0).uniform(size=(2, 3, 2, 4)).astype("float32")
    removed = np.random.default_rng(1).uniform(size=(5, 2, 3, 2, 1)) < 0.5
    f = lambda z: tf.reduce_sum(z**2, axis=[1, 2, 3])  # noqa: E731
    expected = (np.where(removed, 0.5, x[None]) ** 2).sum(axis=(2, 3, 4)).T
    np.testing.assert_allclose(ablation.ablated_scores(f, tf.constant(x), 0.5, removed), expected, rtol=1e-5)


def test_ablated_scores_know_whose_row_is_whose():
    y = tf.constant([1.0, 10.0])
    f = lambda z: tf.tile(y, [tf.shape(z)[0] // 2]) * z[:, 0]  # noqa: E731
    scores = ablation.ablated_scores(f, tf.ones([2, 2]), 0.0, np.zeros((3, 1, 2), bool))
    np.testing.assert_array_equal(scores, [[1, 1, 1], [10, 10, 10]])


SUBSETS = np.array(list(itertools.product([0.0, 1.0], repeat=5)))[1:]
CHANGES = CONTRIBUTIONS @ SUBSETS.T


def reference(a, subsets, changes, normalized):
    """One example at a time, by least squares."""
    found = []
    for attributions, true in zip(a, changes, strict=True):
        claimed = subsets @ attributions
        scale = max(np.linalg.lstsq(claimed[:, None], true, rcond=None)[0][0], 0) if normalized else 1
        found.append(np.mean((scale * claimed - true) ** 2) / (np.mean(true**2) if normalized else 1))
    return found


@pytest.mark.parametrize("normalized", [True, False])
def test_infidelity_is_that_of_a_regression(normalized):
    a = np.random.default_rng(0).normal(size=(2, 5)) + CONTRIBUTIONS
    found = ablation.infidelity(a, SUBSETS, CHANGES, normalized)
    np.testing.assert_allclose(found, reference(a, SUBSETS, CHANGES, normalized), rtol=1e-6)


def test_true_contributions_have_no_infidelity():
    np.testing.assert_allclose(ablation.infidelity(CONTRIBUTIONS, SUBSETS, CHANGES), 0, atol=1e-12)
    np.testing.assert_allclose(ablation.infidelity(CONTRIBUTIONS, SUBSETS, CHANGES, False), 0, atol=1e-12)


def test_normalized_infidelity_depends_on_no_scale():
    a = np.random.default_rng(0).normal(size=(2, 5)) + CONTRIBUTIONS
    expected = ablation.infidelity(a, SUBSETS, CHANGES)
    assert np.all((expected.numpy() > 0.01) & (expected.numpy() < 1))
    np.testing.assert_allclose(ablation.infidelity(1e4 * a, SUBSETS, 1e-3 * CHANGES), expected, rtol=1e-6)
    raw, doubled = (ablation.infidelity(scale * a, SUBSETS, CHANGES, False).numpy() for scale in (1, 2))
    assert np.all(np.abs(doubled / raw - 1) > 0.1)  # negative control


def test_zeros_and_the_wrong_sign_tell_nothing():
    for a in (np.zeros((2, 5)), -CONTRIBUTIONS):
        np.testing.assert_allclose(ablation.infidelity(a, SUBSETS, CHANGES), 1)


def test_a_score_that_no_ablation_changes_has_no_infidelity():
    changes = CHANGES * [[0], [1]]
    assert np.isnan(ablation.infidelity(CONTRIBUTIONS, SUBSETS, changes)).tolist() == [True, False]


def test_subsets_of_images_are_squares_and_differ_by_seed():
    found = ablation.random_subsets((6, 9), 200, seed=-1)
    sides = np.sqrt(found.sum(axis=(1, 2)))
    assert sorted(set(sides)) == [1, 2, 3]
    for subset, side in zip(found, sides, strict=True):
        rows, columns = np.nonzero(subset)
        assert np.ptp(rows) == np.ptp(columns) == side - 1
    assert found.any(axis=0).all()
    np.testing.assert_array_equal(found, ablation.random_subsets((6, 9), 200, seed=-1))
    assert np.any(found != ablation.random_subsets((6, 9), 200, seed=2))


def test_subsets_of_features_have_all_sizes_but_none_and_all():
    found = ablation.random_subsets((5,), 200, seed=0)
    assert set(found.sum(axis=1)) == {1, 2, 3, 4}
    assert found.any(axis=0).all()
    assert ablation.random_subsets((1,), 3, seed=0).all()
