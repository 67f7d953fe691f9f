"""Kendall's tau-b of a batch of maps: keras_rar against a loop over SciPy.

    python benchmarks/kendall.py [--out benchmarks/results/kendall.json]

Median of several rounds; the speed-up is the median of the ratios within a round, in which the loop over SciPy and each
of ours run one after the other, each call after one that is not timed. "two sorts" is `tf.sort` of either map, which
bounds any count by sorting in a graph.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import scipy.stats
import tensorflow as tf
from machine import describe

from keras_rar.core.correlations import kendall_tau_b

SIZES = (784, 1024, 16384)
BATCH = 64
ROUNDS = {784: 15, 1024: 15, 16384: 5}


def maps(entries: int, tied: bool) -> tuple[np.ndarray, np.ndarray]:
    """Correlated maps in float32; `tied`: four-fifths zeros, as on MNIST."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(BATCH, entries))
    b = a + rng.normal(size=a.shape)
    if tied:
        a, b = (np.maximum(m - np.quantile(m, 0.8), 0) for m in (a, b))
    return a.astype("float32"), b.astype("float32")


def scipy_loop(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.array([scipy.stats.kendalltau(*pair).statistic for pair in zip(a, b, strict=True)])


def seconds(function, *arguments) -> float:
    np.asarray(function(*arguments))  # warm-up: tracing, caches
    start = time.perf_counter()
    np.asarray(function(*arguments))
    return time.perf_counter() - start


def compare(entries: int, tied: bool) -> dict:
    a, b = maps(entries, tied)
    tensors = tf.constant(a), tf.constant(b)
    ways = {
        "scipy_loop": (scipy_loop, a, b),
        "eager": (kendall_tau_b, *tensors),
        "graph": (tf.function(kendall_tau_b, autograph=False), *tensors),
        "xla": (tf.function(kendall_tau_b, autograph=False, jit_compile=True), *tensors),
        "two_sorts": (tf.function(lambda a, b: tf.sort(a) + tf.sort(b), autograph=False), *tensors),
    }
    expected = scipy_loop(a, b)
    ours = [
        np.asarray(way(*arguments)) for name, (way, *arguments) in ways.items() if name in ("eager", "graph", "xla")
    ]
    times = {name: [] for name in ways}
    for _ in range(ROUNDS[entries]):
        for name, way in ways.items():
            times[name].append(seconds(*way))
    ratios = {name: np.divide(times["scipy_loop"], times[name]) for name in ("eager", "graph", "xla")}
    return {
        "entries": entries,
        "tied": tied,
        "milliseconds": {name: round(1e3 * float(np.median(values)), 3) for name, values in times.items()},
        "speed_up": {name: round(float(np.median(values)), 1) for name, values in ratios.items()},
        "largest_difference": float(max(np.abs(values - expected).max() for values in ours)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    out = parser.parse_args().out
    print(f"batch {BATCH}, milliseconds a batch (times as fast as the loop over SciPy)\n")
    print("| entries | maps | SciPy loop | eager | tf.function | XLA | two sorts | largest difference |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for entries in SIZES:
        for tied in (False, True):
            row = compare(entries, tied)
            rows.append(row)
            ms, times = row["milliseconds"], row["speed_up"]
            cells = [entries, "4/5 zeros" if tied else "no ties", f"{ms['scipy_loop']:.1f}"]
            cells += [f"{ms[name]:.2f} ({times[name]:.1f} ×)" for name in ("eager", "graph", "xla")]
            cells += [f"{ms['two_sorts']:.2f}", f"{row['largest_difference']:.0e}"]
            print("|", " | ".join(map(str, cells)), "|", flush=True)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({"machine": describe(), "batch": BATCH, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
