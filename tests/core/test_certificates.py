"""Certificates: bounds on means hold as often as they say, and no map nearby is less similar than certified."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from keras_rar.core.certificates import certified_cosine, certified_overlap, mean_lower_bound, share_bounds
from keras_rar.core.smoothing import Gaussian, UniformBall

NOISES = [Gaussian(0.5, 3), UniformBall(0.5, 3)]
each_noise = pytest.mark.parametrize("noise", NOISES, ids=lambda noise: type(noise).__name__)


def test_bounds_on_a_share_are_those_of_scipy():
    lower, upper = share_bounds(np.arange(31), 30, 0.02)
    for count in range(31):
        expected = stats.binomtest(count, 30).proportion_ci(0.98, method="exact")
        np.testing.assert_allclose((lower[count], upper[count]), expected, atol=1e-9)


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.93])
def test_bounds_on_a_share_fail_as_seldom_as_they_say(p):
    """Exactly, over all counts."""
    lower, upper = share_bounds(np.arange(41), 40, 0.1)
    chance = stats.binom.pmf(np.arange(41), 40, p)
    assert chance[lower > p].sum() <= 0.05
    assert chance[upper < p].sum() <= 0.05


@pytest.mark.parametrize("shape", [(1, 1), (0.3, 0.3), (8, 2), (0.02, 0.02), (50, 50)])
def test_lower_bounds_on_a_mean_fail_as_seldom_as_they_say(shape):
    values = np.random.default_rng(0).beta(*shape, size=(600, 40))
    mean = shape[0] / sum(shape)
    failures = np.mean(mean_lower_bound(values, 0.1) > mean)
    assert failures <= 0.1
    assert np.mean(mean_lower_bound(values, 0.999) > mean) > 0.1  # negative control: a bound that may fail does fail


def test_a_lower_bound_on_a_mean_follows_the_variance_and_the_number_of_values():
    rng = np.random.default_rng(0)
    narrow, wide = (0.6 + width * rng.uniform(-1, 1, size=(1, 1000)) for width in (0.02, 0.4))
    bounds = [mean_lower_bound(values, 0.001)[0] for values in (narrow, wide, wide[:, :100])]
    assert 0.6 > bounds[0] > bounds[1] > bounds[2]
    hoeffding = wide.mean() - np.sqrt(np.log(1000) / 2000)
    assert bounds[1] > hoeffding
    np.testing.assert_array_equal(mean_lower_bound(np.zeros([1, 9]), 0.001) < 1e-11, True)


def test_a_half_space_reaches_the_bound_of_gaussian_noise():
    """`P(x + δ₁ >= c)` at x = 0 and at a step to either side."""
    noise, step, thresholds = Gaussian(0.5, 3), 0.3, np.linspace(-1, 1, 9)
    mean = stats.norm.sf(thresholds, 0, 0.5)
    np.testing.assert_allclose(noise.highest(mean, step), stats.norm.sf(thresholds, step, 0.5), rtol=1e-12)
    np.testing.assert_allclose(noise.lowest(mean, step), stats.norm.sf(thresholds, -step, 0.5), rtol=1e-12)
    np.testing.assert_allclose(noise.distance(step), 1 - 2 * stats.norm.sf(step / 2, 0, 0.5), rtol=1e-12)


def test_two_balls_have_in_common_what_they_have_in_one_and_three_dimensions():
    t = np.linspace(0, 1.2, 7)  # the distance of the centres over twice the radius
    line, space = UniformBall(0.5, 1), UniformBall(0.5, 3)
    np.testing.assert_allclose(line.distance(2 * line.radius * t), np.minimum(t, 1), atol=1e-12)
    inside = np.minimum(t, 1)
    np.testing.assert_allclose(
        space.distance(2 * space.radius * t), 1 - (1 - inside) ** 2 * (2 + inside) / 2, atol=1e-12
    )


def test_uniform_noise_of_many_dimensions_is_as_gaussian_noise():
    radii = np.linspace(0, 1, 5)
    np.testing.assert_allclose(UniformBall(0.5, 10**5).distance(radii), Gaussian(0.5, 10**5).distance(radii), atol=1e-4)


@each_noise
def test_noise_has_the_standard_deviation_it_says(noise):
    x = tf.fill([20_000, 3], 2.0)
    drawn = noise.draw(x, tf.constant([1, 2])).numpy() - 2
    np.testing.assert_allclose(drawn.std(axis=0), noise.sigma, rtol=0.02)  # 4 standard errors
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.eye(3), atol=0.03)
    if isinstance(noise, UniformBall):
        shares = (np.linalg.norm(drawn, axis=1) / noise.radius) ** 3
        assert stats.kstest(shares, "uniform").pvalue > 1e-3


@each_noise
def test_means_move_by_no_more_than_the_bound(noise):
    """Of functions of every shape; a bound for twice the standard deviation does not hold (negative control)."""
    rng, step = np.random.default_rng(0), np.array([0.4, 0.0, 0.0])
    z = noise.draw(tf.zeros([100_000, 3]), tf.constant([0, 0])).numpy()
    wrong = type(noise)(2 * noise.sigma, 3)
    broken = 0
    for _ in range(40):
        w, c = rng.normal(size=3), rng.normal()
        w = w if rng.uniform() < 0.5 else np.array([1.0, 0.0, 0.0])
        h = lambda z, w=w, c=c: (np.sin(z @ w + c) > 0.3) & (z @ w > -0.4)  # noqa: E731
        before, after = h(z).mean(), h(z + step).mean()
        error = 5 * 0.5 / np.sqrt(len(z))
        low, high = noise.lowest(before, 0.4), noise.highest(before, 0.4)
        assert low - error <= after <= high + error
        broken += not wrong.lowest(before, 0.4) - error <= after <= wrong.highest(before, 0.4) + error
    assert broken


def least_overlap(z, k, shift):
    """Over all sets that can be the k largest entries of a map that moved."""
    entries = range(len(z))
    tops = set(itertools.islice(sorted(entries, key=lambda i: -z[i]), k))
    found = [
        len(tops & set(new))
        for new in itertools.combinations(entries, k)
        if min(z[i] + shift for i in new) >= max((z[i] - shift for i in entries if i not in new), default=-np.inf)
    ]
    return min(found) / k


@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_the_certified_overlap_is_the_least_there_is(k):
    rng = np.random.default_rng(k)
    shifts = np.array([0.0, 0.1, 0.4, 1.0, 3.0])
    for z in rng.normal(size=(20, 6)):
        expected = [least_overlap(z, k, shift) for shift in shifts]
        np.testing.assert_allclose(certified_overlap([z], [z], k, shifts)[0], expected)


def test_the_certified_overlap_is_the_least_of_all_maps_within_the_bounds():
    rng, shifts, k = np.random.default_rng(0), np.array([0.0, 0.15, 0.3, 0.6]), 2
    for _ in range(8):
        middle, width = rng.normal(size=5), rng.uniform(0, 0.4, size=5)
        lower, upper = middle - width, middle + width
        levels = [np.unique(np.clip([*lower, *upper, *(upper + 0.3)], a, b)) for a, b in zip(lower, upper, strict=True)]
        levels = [rng.permutation(level)[:4] for level in levels]
        worst = np.ones(len(shifts))
        for z in itertools.product(*levels):
            worst = np.minimum(worst, certified_overlap([z], [z], k, shifts)[0])
        found = certified_overlap([lower], [upper], k, shifts)[0]
        assert np.all(found <= worst)
    wide = certified_overlap([[0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]], 1, [0.0])
    assert wide == 0  # nothing known, nothing certified


def test_the_certified_overlap_with_ties_infinities_and_nan():
    assert certified_overlap([[1.0, 1.0, 0.0]], [[1.0, 1.0, 0.0]], 1, [0.0]) == 0  # either may be called the largest
    infinite = [[np.inf, -np.inf, -np.inf]]
    np.testing.assert_array_equal(certified_overlap(infinite, infinite, 1, [0.0, 9.0]), [[1, 1]])
    np.testing.assert_array_equal(certified_overlap(infinite, infinite, 2, [0.0]), [[0.5]])
    unknown = np.full([1, 4], np.nan)
    assert certified_overlap(unknown, unknown, 2, [0.0]) == 0
    assert certified_overlap(unknown, unknown, 4, [0.0]) == 1  # all entries are all entries
    with pytest.raises(ValueError, match="`k` must be at most 4"):
        certified_overlap(unknown, unknown, 5, [0.0])


class Apart(UniformBall):
    """Noise whose distributions at the two points have a given distance."""

    def distance(self, radii):
        return np.asarray(radii, "float64")


def averages(rng, v):
    """Averages of maps without negative entries, of norm <= 1, over two distributions with the distance v."""
    common, here, there = np.abs(rng.normal(size=(3, 3))) * (rng.uniform(size=(3, 3)) < 0.6)
    common, here, there = (a / max(np.linalg.norm(a), 1e-9) for a in (common, here, there))
    return (1 - v) * common + v * here, (1 - v) * common + v * there


def cosine(a, b):
    return a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12)


def test_no_two_averages_have_a_cosine_below_the_certified_one():
    """And some have, if the distance is said to be half of what it is (negative control)."""
    rng, broken = np.random.default_rng(0), 0
    for _ in range(1000):
        v = rng.uniform(0, 0.9)
        m, other = averages(rng, v)
        norm = [np.linalg.norm(m)]
        assert cosine(m, other) >= certified_cosine(norm, Apart(1.0, 3), [v])[0, 0] - 1e-9
        broken += cosine(m, other) < certified_cosine(norm, Apart(1.0, 3), [v / 2])[0, 0] - 1e-9
    assert broken


def test_the_certified_cosine_is_reached():
    """By maps that are all one, but for the part that the other distribution has alone, where they are another."""
    v = np.array([0.6, 0.75, 0.9])
    reached = (1 - v) / np.hypot(1 - v, v)
    np.testing.assert_allclose(certified_cosine([1.0], Apart(1.0, 3), v)[0], reached)


@each_noise
def test_the_certified_cosine_falls_with_the_radius_and_grows_with_the_norm(noise):
    found = certified_cosine(np.linspace(0, 1, 21), noise, np.linspace(0, 3, 31))
    assert np.all(np.diff(found, axis=1) <= 1e-12)
    assert np.all(np.diff(found, axis=0) >= -1e-12)
    np.testing.assert_allclose(found[1:, 0], 1)
    assert np.all(found[0] == 0)
    assert np.all((found >= 0) & (found <= 1))


def test_with_gaussian_noise_a_map_that_never_changes_is_certified_everywhere():
    np.testing.assert_array_equal(certified_cosine([1.0], Gaussian(0.5, 3), [0.0, 1.0, 9.0]), [[1, 1, 1]])
