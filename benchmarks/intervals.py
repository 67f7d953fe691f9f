"""How often the 95 % intervals of reports hold the true mean, by simulation: three kinds, of few and of many examples.

    python benchmarks/intervals.py

Scores per example are drawn from Beta distributions, which are like those of maps and accuracies; differences are of
two models on the same examples, whose scores correlate by 0.8. It takes a minute, needs NumPy and SciPy alone, and
writes `benchmarks/results/intervals.json`.
"""

import json
from pathlib import Path

import numpy as np
import scipy.stats

SIMULATIONS, RESAMPLES = 2000, 999
SIZES = (5, 10, 16, 20, 50, 100, 150)
NAMES = ("percentile", "Student's t", "BCa")
ENDS = (0.025, 0.975)
NORMAL = np.linspace(-6, 6, 6001)
SHARES = scipy.stats.norm.cdf(NORMAL)
RESULTS = Path(__file__).parent / "results" / "intervals.json"


def betas(rng, n, *shapes, correlation=0.8):
    """Scores of one or more models on the same examples, `(models, simulations, n)`: a Gaussian copula."""
    shared = rng.normal(size=(SIMULATIONS, n))
    own = rng.normal(size=(len(shapes), SIMULATIONS, n))
    drawn = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
    tables = [scipy.stats.beta.ppf(SHARES, *shape) for shape in shapes]
    return np.stack([np.interp(one, NORMAL, table) for one, table in zip(drawn, tables, strict=True)])


def differences(first, second):
    """Paired differences of two Beta distributions, and their true mean."""
    mean = first[0] / sum(first) - second[0] / sum(second)
    return lambda rng, n: np.subtract(*betas(rng, n, first, second)), mean


def broken(share, gain):
    """Differences of two accuracies: +1, -1 or 0 of each example."""
    return lambda rng, n: rng.choice([1.0, -1.0, 0.0], (SIMULATIONS, n), p=[share + gain, share, 1 - 2 * share - gain])


KINDS = {
    "scores, Beta(5, 2)": (lambda rng, n: betas(rng, n, (5, 2))[0], 5 / 7),
    "scores, Beta(2, 1)": (lambda rng, n: betas(rng, n, (2, 1))[0], 2 / 3),
    "scores, many near 0 and 1, Beta(0.5, 0.5)": (lambda rng, n: betas(rng, n, (0.5, 0.5))[0], 0.5),
    "accuracy of 90 %": (lambda rng, n: (rng.uniform(size=(SIMULATIONS, n)) < 0.9).astype(float), 0.9),
    "differences, Beta(5, 2) − Beta(4, 3)": differences((5, 2), (4, 3)),
    "differences, Beta(8, 1) − Beta(2, 1)": differences((8, 1), (2, 1)),
    "differences of accuracies": (broken(0.1, 0.1), 0.1),
}


def intervals(values, rng):
    """Lower and upper ends by kind, each `(simulations,)`; all simulations are resampled by the same draws."""
    n = values.shape[1]
    counts = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
    means = np.sort(values.astype("float32") @ counts.T.astype("float32"), axis=1)
    low, high = (round(end * (RESAMPLES + 1)) - 1 for end in ENDS)
    mean, error = values.mean(1), values.std(1, ddof=1) / np.sqrt(n)
    t = scipy.stats.t.ppf(ENDS[1], n - 1)
    return {
        "percentile": (means[:, low], means[:, high]),
        "Student's t": (mean - t * error, mean + t * error),
        "BCa": bca(values, means),
    }


def bca(values, means):
    """Bias-corrected and accelerated (Efron 1987); a point where all values are equal."""
    n, mean = values.shape[1], values.mean(1)
    without = (n * mean[:, None] - values) / (n - 1)
    centred = without.mean(1, keepdims=True) - without
    spread = np.sum(centred**2, 1) ** 1.5
    acceleration = np.divide(np.sum(centred**3, 1), 6 * spread, out=np.zeros(len(mean)), where=spread > 0)
    here = mean.astype("float32")[:, None]
    below = (np.sum(means < here, 1) + 0.5 * np.sum(means == here, 1)) / RESAMPLES
    bias = scipy.stats.norm.ppf(np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES))
    found = []
    for end in scipy.stats.norm.ppf(ENDS):
        share = scipy.stats.norm.cdf(bias + (bias + end) / (1 - acceleration * (bias + end)))
        place = np.clip((share * (RESAMPLES - 1)).round().astype(int), 0, RESAMPLES - 1)
        found.append(np.take_along_axis(means, place[:, None], 1)[:, 0])
    return tuple(found)


def main():
    rng, rows = np.random.default_rng(0), []
    for kind, (draw, mean) in KINDS.items():
        for n in SIZES:
            values = draw(rng, n)
            row = {"kind": kind, "n": n}
            for name, (low, high) in intervals(values, rng).items():
                holds = (low <= mean + 1e-6) & (mean - 1e-6 <= high)
                row[name] = {"holds": float(holds.mean()), "width": float(np.mean(high - low))}
            rows.append(row)
            print(f"{kind:45} {n:4}", *(f"{name} {row[name]['holds']:.3f}" for name in NAMES))
    RESULTS.write_text(json.dumps({"simulations": SIMULATIONS, "resamples": RESAMPLES, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
