"""Maps to compare, and the three ways in which TensorFlow calls a function of them."""

import functools
import warnings

import numpy as np
import tensorflow as tf

from keras_rar import metrics as ranking

CORRELATIONS = {f.__name__: f for f in (
    ranking.kendall_tau_b, ranking.spearman_rho, ranking.pearson, ranking.cosine_similarity,
)}  # fmt: skip
RANK_CORRELATIONS = {name: CORRELATIONS[name] for name in ("kendall_tau_b", "spearman_rho")}
IMAGE_SCORES = {
    **CORRELATIONS,
    "topk_intersection": functools.partial(ranking.topk_intersection, k=5),
    "local_topk_intersection": functools.partial(ranking.local_topk_intersection, k=5),
    "mass_center_distance": ranking.mass_center_distance,
}
PATHS = ("eager", "graph", "xla")
KINDS = ("no ties", "few values", "mostly zero")
ROUNDING = 1e-6  # of a result in float32


def call_all(path, functions, *maps):
    """The functions as a caller of that kind meets them; a graph does not know the batch."""
    maps = [tf.convert_to_tensor(m) for m in maps]

    def every(*maps):
        return [function(*maps) for function in functions]

    if path != "eager":
        batch = maps[0].shape[:1] if path == "xla" else [None]
        signature = [tf.TensorSpec([*batch, *m.shape[1:]], m.dtype) for m in maps]
        every = tf.function(every, signature, autograph=False, jit_compile=path == "xla")
    return [score.numpy() for score in every(*maps)]


def call(path, function, *maps):
    return call_all(path, [function], *maps)[0]


def maps(kind, entries, batch=4, seed=0):
    """Correlated pairs: without ties, with few values, or four-fifths zeros as on MNIST."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(batch, entries))
    b = 0.7 * a + rng.normal(size=a.shape)
    if kind == "few values":
        a, b = np.round(a), np.round(2 * b)
    if kind == "mostly zero":
        a, b = (np.maximum(m - np.quantile(m, 0.8), 0) for m in (a, b))
    return a.astype("float32"), b.astype("float32")


def every_pair(a, b):
    """Kendall's tau-b by its definition."""
    i, j = np.triu_indices(a.shape[1], 1)
    signs = [np.where(m[:, i] > m[:, j], 1, np.where(m[:, i] < m[:, j], -1, 0)) for m in (a, b)]
    sizes = [np.sqrt(np.sum(sign**2, axis=1)) for sign in signs]
    return np.sum(signs[0] * signs[1], axis=1) / (sizes[0] * sizes[1])


def of_scipy(function, a, b):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant maps
        return np.array([function(*pair)[0] for pair in zip(a.astype("float64"), b.astype("float64"), strict=True)])


def top(m, k):
    return [set(np.argsort(-row, kind="stable")[:k]) for row in m.reshape(len(m), -1)]


def pixel(row, column, shape=(4, 5)):
    m = np.zeros((1, *shape), "float32")
    m[0, row, column] = 1
    return m
