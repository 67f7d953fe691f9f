"""Correlations of two maps that training can follow: of their entries, and of their ranks."""

import numpy as np
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.core.gradients import floating
from keras_rar.core.sizes import cosine, per_example


def correlation(a: tf.Tensor, b: tf.Tensor, counted: tf.Tensor | None = None) -> tf.Tensor:
    """Pearson's correlation of the entries of the two maps, with a gradient: the cosine of what is above the mean.

    Where one of them is constant, both the correlation and its gradient are 0.

    Args:
        a: Tensor of shape `(batch, ...)`.
        b: Tensor of the shape of `a`.
        counted: Which entries count, booleans of the shape of `a`. Defaults to all.

    Returns:
        Tensor of shape `(batch,)`.

    Example:

    >>> correlation([[1.0, 2.0, 3.0]], [[3.0, 5.0, 7.0]]).numpy().round(3)
    array([1.], dtype=float32)
    """
    a = floating("a", a)
    counts = tf.ones_like(a, tf.bool) if counted is None else tf.reshape(counted, tf.shape(a))
    return cosine(_centred(a, counts), _centred(b, counts))


def _centred(values: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """Each entry that counts minus their mean, exactly 0 where they are equal: a mean is rounded."""
    values = per_example(values)
    counts = tf.reshape(counts, tf.shape(values))
    low, high = (tf.where(counts, values, tf.cast(end, values.dtype)) for end in (np.inf, -np.inf))
    varies = tf.reduce_min(low, axis=1, keepdims=True) < tf.reduce_max(high, axis=1, keepdims=True)
    total = tf.reduce_sum(tf.where(counts, values, tf.zeros_like(values)), axis=1, keepdims=True)
    n = tf.cast(tf.math.count_nonzero(counts, axis=1, keepdims=True), values.dtype)
    return tf.where(counts & varies, values - tf.math.divide_no_nan(total, n), tf.zeros_like(values))


def soft_kendall(
    a: tf.Tensor,
    b: tf.Tensor,
    temperature: float = 0.1,
    shifts: int = 16,
    seed: tf.Tensor | int = 0,
    counted: tf.Tensor | None = None,
) -> tf.Tensor:
    """A smooth Kendall's tau-b: the cosine of the soft signs of differences, over a part of all pairs.

    `Σ u v / √(Σ u² Σ v²)` with `u = tanh((aᵢ − aⱼ) / (T mean|a|))` and v the same of b: for T → 0 the signs are hard
    and this is tau-b of the pairs (Kendall 1945). The pairs are i and `i + s`, cyclically, for random shifts s: memory
    is that of `shifts` maps, not that of all pairs, which an image of 784 pixels has 307,000 of.

    Where all entries of a map that count are equal, the result and its gradient are 0.

    Args:
        a: Tensor of shape `(batch, ...)`.
        b: Tensor of the shape of `a`.
        temperature: Float > 0, T. Defaults to `0.1`.
        shifts: Integer > 0, how many shifts; of a map of n entries n − 1 at most, which are all pairs, each twice.
            Defaults to `16`.
        seed: Integer, or a scalar tensor: which shifts. Defaults to `0`.
        counted: Which entries count, booleans of the shape of `a`. Defaults to all.

    Returns:
        Tensor of shape `(batch,)`, from -1 to 1.

    Raises:
        ValueError: If `temperature` or `shifts` is not positive.

    Example:

    >>> soft_kendall([[1.0, 2.0, 4.0]], [[1.0, 3.0, 2.0]], temperature=1e-3).numpy().round(3)
    array([0.333], dtype=float32)
    """
    checks.positive_float("temperature", temperature)
    checks.positive_int("shifts", shifts)
    a = floating("a", a)
    counts = tf.ones_like(a) if counted is None else tf.cast(tf.reshape(counted, tf.shape(a)), a.dtype)
    a, b, counts = per_example(a), per_example(b), per_example(counts)
    places = tf.range(tf.shape(a)[1])
    drawn = tf.random.stateless_uniform(tf.shape(places[1:]), tf.stack([tf.cast(seed, tf.int32), 0]))
    others = tf.argsort(drawn)[:shifts] + 1
    partners = (places[tf.newaxis] + others[:, tf.newaxis]) % tf.maximum(tf.size(places), 1)
    both = counts[:, tf.newaxis] * tf.gather(counts, partners, axis=1)

    def signs(values):
        n = tf.reduce_sum(counts, axis=1, keepdims=True)
        mean = tf.math.divide_no_nan(tf.reduce_sum(counts * tf.abs(values), axis=1, keepdims=True), n)
        relative = tf.math.divide_no_nan(values, temperature * mean)
        return both * tf.tanh(relative[:, tf.newaxis] - tf.gather(relative, partners, axis=1))

    return cosine(signs(a), signs(b))
