"""The share of their highest entries that two attribution maps have in common, per example."""

import tensorflow as tf

from keras_rar.core import checks, orders
from keras_rar.core.maps import finish, flat, pair

MEASURES = ("recall", "precision")


def _top(m: tf.Tensor, k: int) -> tf.Tensor:
    """Whether each entry of `(batch, entries)` is among the k largest of its row; equal entries count in order."""
    if checks.positive_int("k", k) >= m.shape[1]:  # all entries are what any two maps have in common
        checks.fail("k", f"below {m.shape[1]}, the number of entries of a map", k)
    largest = tf.math.top_k(orders.keys(m), k).indices
    place = largest + m.shape[1] * tf.range(tf.shape(m)[0])[:, None]
    mask = tf.scatter_nd(tf.reshape(place, [-1, 1]), tf.reshape(tf.ones_like(place), [-1]), [tf.size(m)])
    return tf.reshape(mask, tf.shape(m)) > 0


def _share(a: tf.Tensor, b: tf.Tensor, k: int) -> tf.Tensor:
    return tf.cast(tf.math.count_nonzero(a & b, axis=1), tf.float64) / k


def topk_intersection(a: tf.Tensor, b: tf.Tensor, k: int) -> tf.Tensor:
    """Share of the k largest entries that the maps have in common.

    `|T_k(a) ∩ T_k(b)| / k`, T_k(m) the k largest entries by value (Ghorbani et al. 2019). Of equal entries, those with
    a lower index come first, as in `tf.math.top_k`. Two maps of zeros therefore score 1: their first k entries are the
    same.

    Args:
        a: Tensor of shape `(batch, ...)`.
        b: Tensor of the shape of `a`.
        k: Positive integer, below the number of entries of a map.

    Returns:
        Tensor of shape `(batch,)`, in [0, 1].

    Raises:
        ValueError: If the shapes differ, more than the batch is unknown, or `k` is out of range.

    Example:

    >>> topk_intersection([[1.0, 2.0, 3.0, 0.0]], [[4.0, 1.0, 3.0, 2.0]], k=2).numpy()
    array([0.5], dtype=float32)
    """
    a, b = pair(a, b)
    return finish(_share(_top(flat(a), k), _top(flat(b), k), k), a, b)


def odd_window(window: int) -> int:
    """`window`, if it is a positive odd integer."""
    return int(window) if checks.positive_int("window", window) % 2 else checks.fail("window", "odd", window)


def _check_reach(window: int, sides: tuple[int, ...]) -> None:
    """Refuse a window that holds the whole map wherever it stands: any two maps would score 1."""
    least = 2 * max(sides) - 1
    if window >= least:
        checks.fail("window", f"below {least}, from where on it holds the whole map wherever it stands", window)


def local_topk_intersection(a: tf.Tensor, b: tf.Tensor, k: int, window: int = 3, measure: str = "recall") -> tf.Tensor:
    """Share of one map's k largest entries that lie near those of the other: a shift by one pixel loses nothing.

    recall `|N_w(T_k(a)) ∩ T_k(b)| / k`, precision `|T_k(a) ∩ N_w(T_k(b))| / k`, with N_w(S) the union of the windows of
    (2w + 1) × (2w + 1) pixels around the pixels of S (Kamath et al. 2024, w-LENS-recall@k and w-LENS-prec@k; a is the
    map before the attack). Windows end at the border of the map. T_k is that of `topk_intersection`, and
    with `window=1` the scores are equal.

    Args:
        a: Tensor of shape `(batch, height, width)`, the maps before.
        b: Tensor of the shape of `a`, the maps after.
        k: Positive integer, below the number of entries of a map.
        window: Odd integer, the side 2w + 1 of a window, which must not hold the whole map wherever it stands: the
            wider, the more pixels are near by chance. Defaults to `3`.
        measure: `"recall"`, which widens the top k of `a`, or `"precision"`, which widens the top k of `b`. Defaults to
            `"recall"`.

    Returns:
        Tensor of shape `(batch,)`, in [0, 1].

    Raises:
        ValueError: If the shapes differ or are not `(batch, height, width)`, more than the batch is unknown, or an
            option is out of range.

    Example:

    >>> before, after = tf.eye(4)[None], tf.roll(tf.eye(4), 1, axis=0)[None]  # a diagonal, and one pixel lower
    >>> topk_intersection(before, after, k=4).numpy(), local_topk_intersection(before, after, k=4).numpy()
    (array([0.], dtype=float32), array([0.75], dtype=float32))
    """
    a, b = pair(a, b, rank=3)
    _check_reach(odd_window(window), tuple(a.shape[1:]))
    checks.one_of("measure", measure, MEASURES)
    near, exact = _top(flat(a), k), _top(flat(b), k)
    if measure == "precision":
        near, exact = exact, near
    near = tf.reshape(tf.cast(near, tf.float32), [-1, *a.shape[1:], 1])
    near = tf.nn.max_pool2d(near, window, 1, "SAME") > 0
    return finish(_share(tf.reshape(near, tf.shape(exact)), exact, k), a, b)
