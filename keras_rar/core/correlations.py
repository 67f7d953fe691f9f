"""Correlations of two attribution maps per example: of their ranks, or of their entries."""

import tensorflow as tf

from keras_rar.core import kendall_host, orders
from keras_rar.core.maps import finish, flat, pair, quotient, score_dtype


def kendall_tau_b(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Kendall's rank correlation with ties.

    `τ_b = (P − Q) / √((n₀ − n₁)(n₀ − n₂))` with P concordant and Q discordant pairs of `n₀ = n (n − 1) / 2`, of which
    `n₁` are tied in `a` and `n₂` in `b` (Kendall 1945). The pairs are counted by sorting (Knight 1966), which takes
    O(n log n) time and O(n) memory per map. Eager calls on a CPU count with NumPy, which is several times as fast.

    Args:
        a: Tensor of shape `(batch, ...)`.
        b: Tensor of the shape of `a`.

    Returns:
        Tensor of shape `(batch,)`, in [-1, 1].

    Raises:
        ValueError: If the shapes differ, or more than the batch is unknown.

    Example:

    >>> kendall_tau_b([[1.0, 2.0, 3.0, 3.0]], [[1.0, 4.0, 2.0, 2.0]]).numpy()
    array([0.2], dtype=float32)
    """
    a, b = pair(a, b)
    if tf.executing_eagerly() and "CPU" in a.device:
        return tf.constant(kendall_host.kendall_tau_b(flat(a).numpy(), flat(b).numpy()), score_dtype(a, b))
    ranks_a, ranks_b = (orders.ranks(orders.keys(flat(m))) for m in (a, b))
    return finish(quotient(*orders.pair_counts(ranks_a, ranks_b)), a, b)


def spearman_rho(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Spearman's rank correlation: Pearson's correlation of the ranks.

    `ρ = Σᵢ (R(a)ᵢ − R̄)(R(b)ᵢ − R̄) / √(Σᵢ (R(a)ᵢ − R̄)² · Σᵢ (R(b)ᵢ − R̄)²)` (Spearman 1904). Equal entries have the
    same rank R: the mean of the ranks that they take up.

    Args:
        a: Tensor of shape `(batch, ...)`.
        b: Tensor of the shape of `a`.

    Returns:
        Tensor of shape `(batch,)`, in [-1, 1].

    Raises:
        ValueError: If the shapes differ, or more than the batch is unknown.

    Example:

    >>> spearman_rho([[1.0, 2.0, 3.0]], [[1.0, 9.0, 4.0]]).numpy()
    array([0.5], dtype=float32)
    """
    a, b = pair(a, b)
    ranks_a, ranks_b = (tf.cast(orders.centred_ranks(orders.keys(flat(m))), tf.float64) for m in (a, b))
    return finish(_cosine(ranks_a, ranks_b), a, b)


def _cosine(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return quotient(*(tf.reduce_sum(product, axis=1) for product in (a * b, a * a, b * b)))


def _scaled(m: tf.Tensor) -> tf.Tensor:
    """Each row in float64, divided by its largest entry: squares neither overflow nor vanish."""
    m = tf.cast(m, tf.float64)
    return tf.math.divide_no_nan(m, tf.reduce_max(tf.abs(m), axis=1, keepdims=True))


def _centred(m: tf.Tensor) -> tf.Tensor:
    m = tf.cast(m, tf.float64)
    constant = tf.reduce_all(m == m[:, :1], axis=1, keepdims=True)  # exactly 0: a mean is rounded
    return tf.where(constant, tf.zeros_like(m), m - tf.reduce_mean(m, axis=1, keepdims=True))


def pearson(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Pearson's correlation of the entries.

    `r = Σᵢ (aᵢ − ā)(bᵢ − b̄) / √(Σᵢ (aᵢ − ā)² · Σᵢ (bᵢ − b̄)²)`, computed in float64. NaN where a map has an infinity.

    Args:
        a: Tensor of shape `(batch, ...)`.
        b: Tensor of the shape of `a`.

    Returns:
        Tensor of shape `(batch,)`, in [-1, 1].

    Raises:
        ValueError: If the shapes differ, or more than the batch is unknown.

    Example:

    >>> pearson([[1.0, 2.0, 3.0]], [[2.0, 4.0, 6.0]]).numpy()
    array([1.], dtype=float32)
    """
    a, b = pair(a, b)
    return finish(_cosine(*(_scaled(_centred(flat(m))) for m in (a, b))), a, b)


def cosine_similarity(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Cosine of the angle between the maps.

    `cos(a, b) = Σᵢ aᵢ bᵢ / (‖a‖₂ ‖b‖₂)`, computed in float64. NaN where a map has an infinity.

    Args:
        a: Tensor of shape `(batch, ...)`.
        b: Tensor of the shape of `a`.

    Returns:
        Tensor of shape `(batch,)`, in [-1, 1].

    Raises:
        ValueError: If the shapes differ, or more than the batch is unknown.

    Example:

    >>> cosine_similarity([[3.0, 4.0]], [[4.0, 3.0]]).numpy()
    array([0.96], dtype=float32)
    """
    a, b = pair(a, b)
    return finish(_cosine(_scaled(flat(a)), _scaled(flat(b))), a, b)
