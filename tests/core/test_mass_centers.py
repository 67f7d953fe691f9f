"""Centres of mass against SciPy."""

import numpy as np
import pytest
from map_cases import PATHS, ROUNDING, call, maps, pixel
from scipy import ndimage

from keras_rar import metrics as ranking


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
