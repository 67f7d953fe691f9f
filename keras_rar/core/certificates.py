"""Certificates of smoothed maps: bounds on means from draws, and what means say of a map nearby."""

from typing import Any

import numpy as np
from scipy import special

from keras_rar.core import checks
from keras_rar.core.smoothing import Smoothing

_STAKES = 2.0 ** -np.arange(0, 8, 0.5)  # of `mean_lower_bound`: from all of the capital to half a per cent of it


def share_bounds(counts: Any, trials: int, failure: float) -> tuple[np.ndarray, np.ndarray]:
    """Bounds on the probability of an event that was seen `counts` times in independent trials.

    The interval of Clopper and Pearson (1934): `lower` is the `failure/2` quantile of `Beta(c, n − c + 1)`, `upper`
    the `1 − failure/2` quantile of `Beta(c + 1, n − c)`; 0 where c = 0, and 1 where c = n. Each of the two bounds is
    wrong with a probability of at most `failure/2`, for every n and every probability.

    Args:
        counts: Integers c from 0 to `trials`, an array of any shape.
        trials: Positive integer n.
        failure: Float between 0 and 1: the probability that the two bounds do not hold.

    Returns:
        Pair of float64 arrays of the shape of `counts`, `(lower, upper)`.

    Example:

    >>> lower, upper = share_bounds([0, 5, 10], 10, 0.05)
    >>> lower.round(3), upper.round(3)
    (array([0.   , 0.187, 0.692]), array([0.308, 0.813, 1.   ]))
    """
    every = np.arange(trials + 1, dtype="float64")
    lower = np.zeros(trials + 1)
    lower[1:] = special.betaincinv(every[1:], trials - every[1:] + 1, failure / 2)
    counts = np.asarray(counts).astype("int64")
    return lower[counts], 1 - lower[trials - counts]  # the bounds of an event and of its opposite


def mean_lower_bound(values: Any, failure: float) -> np.ndarray:
    """A lower bound on the mean of independent values in [0, 1] with one mean.

    The least `m` with `1/|C| Σ_{c ∈ C} Πᵢ (1 − c + c xᵢ/m) < 1/failure`, C a fixed set of numbers in (0, 1] (a bound by
    betting, after Waudby-Smith & Ramdas 2024, J. R. Stat. Soc. B). *Proof.* At the true mean μ each factor is >= 0 and
    has the mean 1, and the factors are independent. So the whole has the mean 1, and by Markov's inequality it reaches
    `1/failure` with a probability of at most `failure`. It falls with m: where it is below `1/failure` at μ, the least
    such m is at most μ. ∎

    The bound is as near to the mean as the variance of the values allows: for equal values it is far better than the
    inequality of Hoeffding.

    Args:
        values: Array of shape `(n, draws)`.
        failure: Float between 0 and 1: the probability that a bound does not hold.

    Returns:
        float64 array of shape `(n,)`, in [0, 1]; 0 where all values are 0.

    Example:

    >>> mean_lower_bound([[0.7] * 1000, [0.4, 1.0] * 500], 0.001).round(3)
    array([0.693, 0.66 ])
    """
    values = np.asarray(values, "float64")
    low, high = np.zeros(len(values)), np.ones(len(values))
    for _ in range(40):  # halvings, to 1e-12
        middle = (low + high) / 2
        gains = values / middle[:, None]
        with np.errstate(divide="ignore"):  # who stakes all loses all at the first 0
            logs = [np.log(1 - c + c * gains).sum(axis=1) for c in _STAKES]
        refuted = np.logaddexp.reduce(logs, axis=0) - np.log(len(_STAKES)) >= -np.log(failure)
        low, high = np.where(refuted, middle, low), np.where(refuted, high, middle)
    return low


def certified_overlap(lower: Any, upper: Any, k: int, shifts: Any) -> np.ndarray:
    """The least share of their k largest entries that two maps have in common, given bounds on one of them.

    `(k − s*)/k` with `s* = #{s >= 1 : A_(k−s+1) − B_(k+s) <= 2r}`, where `A_(1) >= A_(2) >= …` are the lower bounds in
    falling order and `B_(1) >= B_(2) >= …` the upper bounds in falling order, and r is the most that an entry can
    move. Without the error of the bounds, A = B, this is the certificate of Levine et al. (2019, arXiv:1905.12105).

    *Proof.* Let `aᵢ <= zᵢ <= bᵢ` and `|z′ᵢ − zᵢ| <= r` for every entry i, and let T and T′ be sets of k largest entries
    of z and of z′, equal entries chosen in any way. Suppose that T and T′ have k − s entries in common. Then s entries
    leave T and s enter. Call t the least z of those that enter, at j. Every entry i that leaves has `z′ᵢ <= z′_j`,
    because i is not in T′ and j is. So `zᵢ − r <= z′ᵢ <= z′_j <= t + r`, and `aᵢ <= t + 2r`.
    (1) Entries outside of T are not above any of T. So every z in T is at least t, and with the s that enter, k + s
    entries have `bᵢ >= zᵢ >= t`: `B_(k+s) >= t`.
    (2) Let z in T be above t + 2r: such an entry does not leave, so there are at most k − s of them. Entries outside
    of T are not above an entry that leaves, which is at most t + 2r. So at most k − s entries have `zᵢ > t + 2r`, and
    no more have `aᵢ > t + 2r`: `A_(k−s+1) <= t + 2r`.
    Together, `A_(k−s+1) − B_(k+s) <= 2r`. The left side grows with s, so s is at most s*. ∎

    No better bound follows from these premises: in (1) and (2) there is a z for which both are equalities.

    Args:
        lower: Lower bounds a of one map per row, `(n, entries)`, in coordinates in which entries move by at most r.
        upper: Upper bounds b, in the same shape. A bound that is NaN counts as none.
        k: Positive integer, at most the number of entries.
        shifts: Floats r >= 0, of shape `(radii,)`.

    Returns:
        float64 array of shape `(n, radii)`, in [0, 1].

    Raises:
        ValueError: If `k` is more than the number of entries.

    Example:

    >>> z = [[3.0, 2.0, 1.0, 0.0]]
    >>> certified_overlap(z, z, 2, shifts=[0.0, 0.4, 0.5, 1.5])
    array([[1. , 1. , 0.5, 0. ]])
    """
    lower, upper = (np.asarray(bound, "float64") for bound in (lower, upper))
    entries = lower.shape[1]
    if checks.positive_int("k", k) > entries:
        checks.fail("k", f"at most {entries}, the number of entries of a map", k)
    falling = -np.sort(-np.where(np.isnan(lower), -np.inf, lower), axis=1)
    falling_upper = -np.sort(-np.where(np.isnan(upper), np.inf, upper), axis=1)
    most = min(k, entries - k)
    leaving = falling[:, k - most : k][:, ::-1, None]
    entering = falling_upper[:, k : k + most, None]
    possible = leaving <= entering + 2 * np.asarray(shifts, "float64")  # not a difference: both may be infinite
    return (k - possible.sum(axis=1)) / k


def certified_cosine(norm: Any, smoothing: Smoothing, radii: Any) -> np.ndarray:
    """The least cosine of a smoothed map at x and at any point within each radius of it.

    Let `g(z)` be maps without negative entries and `‖g(z)‖₂ <= 1`, `m = E g(x + δ)`, `m′ = E g(x′ + δ)`, `M = ‖m‖₂`,
    and v the total variation distance of `x + δ` and `x′ + δ`. The larger of two bounds is returned:

    (a) `√(1 − 2v²/M²)` if `v <= M/2`; `(M − v) / √((M − v)² + v²)` if `M/2 < v < M`; else 0.
    (b) `l / √(l² + min(u² − l², 2v²))` with l and u the least and the largest that a mean M can become.

    That uniform noise bounds the cosine through the volume that two balls have in common is the idea of Wang and Kong
    (2024, arXiv:2405.06361). The two bounds here are others than theirs, proved as follows.

    *Proof of (a).* The two distributions have a part of mass 1 − v in common. With a and b the averages of g over the
    rest of each, `m′ = m − v a + v b`. a and b have no negative entries and a norm of at most 1. Let `a∥`, `b∥` be
    their components along m, which are in [0, 1], and `t = a∥ − b∥`. Along m, m′ is `M − v t`. Across, it is v times
    the difference of the rests of b and a, whose square is
    `‖a‖² − a∥² + ‖b‖² − b∥² − 2⟨a⊥, b⊥⟩ <= 2 − a∥² − b∥² + 2 a∥ b∥ = 2 − t²`, because `0 <= ⟨a, b⟩ = a∥ b∥ + ⟨a⊥, b⊥⟩`.
    So the tangent of the angle is at most `v √(2 − t²) / (M − v t)` while `M > v`. Over −1 <= t <= 1 it is largest at
    `t = 2v/M`, or at 1 if that is less, which gives the two cases. Vectors without negative entries have a cosine
    >= 0. ∎

    *Proof of (b).* For a unit vector w without negative entries, `⟨g, w⟩` is in [0, 1]: its mean moves as `smoothing`
    says. With `w = m/M`: the component of m′ along m is at least l. With `w = m′/‖m′‖`: its mean at x is at most M, so
    `‖m′‖ <= u`, and what is across has a square of at most `u² − l²`, and by (a) of at most `2v²`. ∎

    Both grow with M, so a lower bound on M will do, and fall with the radius, so they hold for all points within it.

    Args:
        norm: Lower bounds on M, of shape `(n,)`, in [0, 1].
        smoothing: The noise.
        radii: Floats >= 0, of shape `(radii,)`.

    Returns:
        float64 array of shape `(n, radii)`, in [0, 1]; 0 where `norm` is 0.

    Example:

    >>> from keras_rar.core.smoothing import Gaussian
    >>> certified_cosine([0.8, 1.0], Gaussian(0.5, 784), [0.0, 0.1, 0.5]).round(3)
    array([[1.   , 0.99 , 0.736],
           [1.   , 1.   , 1.   ]])
    """
    norm = np.asarray(norm, "float64")[:, None]
    v = smoothing.distance(radii)[None]
    rest = np.maximum(norm - v, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        near = np.sqrt(1 - 2 * np.square(np.minimum(v / norm, 0.5)))
        by_overlap = np.where(v <= norm / 2, near, rest / np.hypot(rest, v))
        least, largest = smoothing.lowest(norm, radii), smoothing.highest(norm, radii)
        across = np.sqrt(np.clip(largest**2 - least**2, 0.0, 2 * v**2))
        by_shift = least / np.hypot(least, across)
    found = np.fmax(np.nan_to_num(by_overlap), np.nan_to_num(by_shift))
    return np.where(norm > 0, found, 0.0)
