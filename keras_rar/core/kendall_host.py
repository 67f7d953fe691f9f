"""Kendall's tau with NumPy, which sorts with vector instructions: several times as fast on a CPU as the graph."""

import concurrent.futures
import os

import numpy as np

CHUNK = 2**17  # entries that one thread of the host compares at a time


def kendall_tau_b(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`kendall_tau_b` of two arrays `(batch, entries)`, in float64, for a few maps at a time."""
    batch, entries = a.shape
    if not a.size:
        return np.ones(batch)
    rows = max(1, CHUNK // entries)
    chunks = [(a[i : i + rows], b[i : i + rows]) for i in range(0, batch, rows)]
    if len(chunks) == 1:
        counts = [_pair_counts(a, b)]
    else:
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            counts = list(pool.map(lambda chunk: _pair_counts(*chunk), chunks))
    difference, untied_a, untied_b = np.concatenate(counts, axis=1).astype("float64")
    singular = (untied_a == 0) | (untied_b == 0)
    tau = difference / np.sqrt(np.where(singular, 1.0, untied_a * untied_b))
    tau = np.where(singular, untied_a == untied_b, tau)
    return np.where(np.isnan(a).any(axis=1) | np.isnan(b).any(axis=1), np.nan, tau)


def _keys(m: np.ndarray) -> np.ndarray:
    if m.dtype == np.float64:
        return np.unique(m, return_inverse=True)[1].reshape(m.shape)
    bits = m.view(np.int32)
    sign = bits >> 31
    return ((bits & 0x7FFFFFFF) ^ sign) - sign


def _pair_counts(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`P − Q`, `n₀ − n₁` and `n₀ − n₂`, stacked."""
    entries = a.shape[1]
    words = np.empty((*a.shape, 2), "<i4")  # the low and the high word of one int64
    whole, low, high = words.view("<i8")[:, :, 0], words[:, :, 0], words[:, :, 1]
    high[:] = _keys(a)
    low[:] = _keys(b)
    low ^= -(2**31)  # the low word sorts as if unsigned
    whole.sort(axis=1)
    pairs = entries * (entries - 1) // 2
    ties_ab, untied_a = _tied_pairs(whole), pairs - _tied_pairs(high)
    high[:] = low ^ -(2**31)
    low[:] = np.arange(entries)
    whole.sort(axis=1)
    untied_b = pairs - _tied_pairs(high)
    difference = untied_a + untied_b - pairs + ties_ab - 2 * _inversions(low)
    return np.stack([difference, untied_a, untied_b])


def _tied_pairs(values: np.ndarray) -> np.ndarray:
    same = np.zeros((values.shape[0], values.shape[1] + 1), bool)
    np.equal(values[:, 1:], values[:, :-1], out=same[:, 1:-1])
    flat = same.ravel()
    first, last = np.flatnonzero(flat[1:] > flat[:-1]), np.flatnonzero(flat[1:] < flat[:-1])
    pairs = (last - first) * (last - first + 1) // 2
    return np.bincount(first // same.shape[1], pairs, minlength=len(values)).astype("int64")


def _inversions(permutation: np.ndarray) -> np.ndarray:
    """Number of pairs out of order in each row, by merge sort.

    When two sorted halves are merged, each entry of the left half counts the entries of the right half before it.
    """
    batch, entries = permutation.shape
    levels = max(entries.bit_length() - 5, 0)
    half = -(-entries >> levels)  # at most 32
    size = half << levels
    values = np.empty((batch, size), np.int16 if size <= 2**14 else np.int32)
    values[:, :entries] = permutation
    values[:, entries:] = np.arange(entries, size)
    columns = np.ascontiguousarray(values.reshape(-1, half).T)
    direct = np.zeros(columns.shape, np.uint8)
    for lag in range(1, half):
        direct[lag:] += (columns[lag:] < columns[:-lag]).view(np.uint8)
    total = direct.reshape(half, batch, -1).sum(axis=(0, 2), dtype=np.int64)
    values <<= 1  # the lowest bit will tell the right half from the left
    while half < size:
        merged = values.reshape(-1, 2 * half)
        merged &= -2
        merged[:, half:] |= 1
        merged.sort(axis=1)
        exact = np.float32 if 2 * half**2 < 2**24 else np.float64
        places = (merged & 1).astype(exact) @ np.arange(2 * half, dtype=exact)
        latest = half * (3 * half - 1) // 2  # the sum of the places of the right half, if all of it comes last
        total += (latest - places.reshape(batch, -1).astype(np.int64)).sum(axis=1)
        half *= 2
    return total
