"""What attribution attacks increase, and the similarities that choose an iterate, against their definitions."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from keras_rar.core import map_objectives

MAPS = np.random.default_rng(0).uniform(size=(2, 2, 5, 4))  # before and after, of two examples each
BEFORE, AFTER = (tf.constant(m) for m in MAPS)


def gradient(objective, after=AFTER):
    with tf.GradientTape() as tape:
        tape.watch(after)
        value = objective(BEFORE, after)
    return tape.gradient(value, after).numpy()


@pytest.mark.parametrize("k", [1, 7, 20])
def test_topk_drains_the_highest_entries_of_the_map_at_x(k):
    top = np.argsort(MAPS[0].reshape(2, -1))[:, -k:]
    expected = [-row[indices].sum() for row, indices in zip(MAPS[1].reshape(2, -1), top, strict=True)]
    np.testing.assert_allclose(map_objectives.topk(k)(BEFORE, AFTER), expected)
    mask = np.zeros((2, 20))
    np.put_along_axis(mask, top, 1, axis=1)
    np.testing.assert_array_equal(gradient(map_objectives.topk(k)), -mask.reshape(2, 5, 4))


def test_mass_center_is_the_squared_distance_from_the_rounded_centre():
    centres = np.array([[ndimage.center_of_mass(m) for m in maps] for maps in MAPS])
    expected = np.sum((centres[1] - np.floor(centres[0])) ** 2, axis=1)
    np.testing.assert_allclose(map_objectives.mass_center(BEFORE, AFTER), expected)


def test_mass_center_has_a_direction_at_the_input(monkeypatch):
    """Why the centre is rounded: from the centre itself every direction is as good, and the first step is 0."""
    assert np.abs(gradient(map_objectives.mass_center, BEFORE)).max() > 0.01
    monkeypatch.setattr(tf, "floor", tf.identity)
    assert np.abs(gradient(map_objectives.mass_center, BEFORE)).max() < 1e-12


def test_mass_center_of_an_empty_map_is_no_nan():
    value = map_objectives.mass_center(tf.zeros_like(BEFORE), tf.zeros_like(AFTER))
    np.testing.assert_array_equal(value, [0, 0])


def test_target_sums_the_region():
    region = np.zeros((5, 4), bool)
    region[1:3, 2:] = True
    np.testing.assert_allclose(map_objectives.target(region)(BEFORE, AFTER), MAPS[1][:, 1:3, 2:].sum(axis=(1, 2)))
    np.testing.assert_array_equal(gradient(map_objectives.target(region)), np.broadcast_to(region, (2, 5, 4)))


@pytest.mark.parametrize("name", map_objectives.SIMILARITIES)
def test_every_similarity_is_greatest_for_equal_maps(name):
    similarity = map_objectives.SIMILARITIES[name]
    equal, other = similarity(BEFORE, BEFORE, 5), similarity(BEFORE, AFTER, 5)
    np.testing.assert_allclose(equal, 0.0 if name == "mass_center" else 1.0, atol=1e-12)
    assert np.all(other.numpy() < equal.numpy() - 0.01)


def test_the_similarities_are_what_their_names_say():
    """On a map of four entries and one in which two of them, and their places, are exchanged."""
    a = tf.constant([[[4.0, 3.0], [2.0, 1.0]]])
    b = tf.constant([[[3.0, 4.0], [2.0, 1.0]]])
    found = {name: float(similarity(a, b, 1)[0]) for name, similarity in map_objectives.SIMILARITIES.items()}
    # One pair of six out of order; Σd² = 2, 1 − 6·2/60; other maxima; columns' mass 4/10 and 5/10.
    expected = {"kendall_tau": 4 / 6, "spearman_rho": 0.8, "topk_intersection": 0.0, "mass_center": -0.1}
    assert found == pytest.approx(expected, abs=1e-6)
