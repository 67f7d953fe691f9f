"""Size functions s(·) of an attribution map: `(batch, ...) -> (batch,)`.

The choice of `s` is the choice of method in `ℓ(x) + λ max s(IG(x, x′))` (Chen et al. 2019, sec. 3).
"""

import tensorflow as tf

from keras_rar.core import checks
from keras_rar.core.gradients import floating


def per_example(attributions: tf.Tensor) -> tf.Tensor:
    """The entries of each example in one row, `(batch, entries)`.

    Raises:
        TypeError: If `attributions` is not floating point.
    """
    attributions = floating("attributions", attributions)
    return tf.reshape(attributions, [tf.shape(attributions)[0], -1])


def l1_norm(attributions: tf.Tensor) -> tf.Tensor:
    """`‖a‖₁ = Σᵢ |aᵢ|`, the size of IG-NORM. Its gradient at 0 is 0.

    Args:
        attributions: Tensor of shape `(batch, ...)`.

    Returns:
        Tensor of shape `(batch,)`.

    Example:

    >>> l1_norm([[1.0, -2.0]]).numpy()
    array([3.], dtype=float32)
    """
    return tf.reduce_sum(tf.abs(per_example(attributions)), axis=1)


def total(attributions: tf.Tensor) -> tf.Tensor:
    """`Σᵢ aᵢ`, which for IG is `ℓ(x′) − ℓ(x)`: with λ = 1, this is adversarial training (Madry et al. 2018).

    Args:
        attributions: Tensor of shape `(batch, ...)`.

    Returns:
        Tensor of shape `(batch,)`.

    Example:

    >>> total([[1.0, -2.0]]).numpy()
    array([-1.], dtype=float32)
    """
    return tf.reduce_sum(per_example(attributions), axis=1)


def absolute_total(attributions: tf.Tensor) -> tf.Tensor:
    """`|Σᵢ aᵢ|`, which for IG is `|ℓ(x′) − ℓ(x)|`, the change of the loss.

    Args:
        attributions: Tensor of shape `(batch, ...)`.

    Returns:
        Tensor of shape `(batch,)`.

    Example:

    >>> absolute_total([[1.0, -2.0]]).numpy()
    array([1.], dtype=float32)
    """
    return tf.abs(total(attributions))


def total_plus_l1(attributions: tf.Tensor, beta: float) -> tf.Tensor:
    """`Σᵢ aᵢ + β ‖a‖₁`, the size of IG-SUM-NORM.

    Args:
        attributions: Tensor of shape `(batch, ...)`.
        beta: Float >= 0.

    Returns:
        Tensor of shape `(batch,)`.

    Raises:
        ValueError: If `beta` is negative.

    Example:

    >>> total_plus_l1([[1.0, -2.0]], beta=0.5).numpy()
    array([0.5], dtype=float32)
    """
    return total(attributions) + checks.nonnegative_float("beta", beta) * l1_norm(attributions)


def power(attributions: tf.Tensor, q: float) -> tf.Tensor:
    """`‖a‖_q^q = Σᵢ |aᵢ|^q`; with IG of one node, this is input-gradient regularisation.

    Args:
        attributions: Tensor of shape `(batch, ...)`.
        q: Float >= 1.

    Returns:
        Tensor of shape `(batch,)`.

    Raises:
        ValueError: If `q` is below 1, where the gradient at 0 is infinite.

    Example:

    >>> power([[1.0, -2.0]], q=2).numpy()
    array([5.], dtype=float32)
    """
    if checks.positive_float("q", q) < 1:
        checks.fail("q", "a float >= 1", q)
    return tf.reduce_sum(tf.abs(per_example(attributions)) ** q, axis=1)


def cosine(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """`⟨a, b⟩ / (‖a‖₂ ‖b‖₂)` of the two maps of each example.

    Where one of them is all zeros, both the cosine and its gradient are 0.

    Args:
        a: Tensor of shape `(batch, ...)`.
        b: Tensor of the shape of `a`.

    Returns:
        Tensor of shape `(batch,)`.

    Example:

    >>> cosine([[2.0, 0.0]], [[-1.0, 0.0]]).numpy()
    array([-1.], dtype=float32)
    """
    return tf.reduce_sum(_unit(a) * _unit(b), axis=1)


def _unit(values: tf.Tensor) -> tf.Tensor:
    """`a / ‖a‖₂`; 0 of zeros. Divided by the largest entry first, tiny entries have squares that do not underflow."""
    values = _over_largest(per_example(values))
    return values * tf.math.rsqrt(tf.maximum(tf.reduce_sum(values**2, axis=1, keepdims=True), 1))


def _over_largest(values: tf.Tensor) -> tf.Tensor:
    """Each example divided by the absolute value of its largest entry, which counts as a constant; 0 of zeros."""
    largest = tf.stop_gradient(tf.reduce_max(tf.abs(values), axis=1, keepdims=True))
    return tf.math.divide_no_nan(values, largest)


def tempered(attributions: tf.Tensor, power: float) -> tf.Tensor:
    """`|a|` for p = 1, otherwise `(|a|/mean|a| + 10⁻³)ᵖ`: absolute values, less far apart for p < 1.

    Args:
        attributions: Tensor of shape `(batch, ...)`.
        power: Float > 0, p.

    Returns:
        Tensor of shape `(batch, entries)`, not negative.

    Raises:
        ValueError: If `power` is not positive.

    Example:

    >>> tempered([[0.0, 2.0, -4.0]], 1.0).numpy()
    array([[0., 2., 4.]], dtype=float32)
    """
    checks.positive_float("power", power)
    size = tf.abs(per_example(attributions))
    if power == 1:
        return size
    mean = tf.reduce_mean(size, axis=1, keepdims=True)
    return (tf.math.divide_no_nan(size, mean) + 1e-3) ** power


def soft_top_k(
    attributions: tf.Tensor, k: int | None = None, sharpness: float = 4.0, counted: tf.Tensor | None = None
) -> tf.Tensor:
    """`rᵖ / (1 + rᵖ)` with `r = |a| / (k-th largest |a|)`: near 1 for the k largest entries, near 0 for the others.

    The result does not depend on the scale of a map. The k-th largest entry counts as at least 10⁻³ of the largest:
    it may be 0.

    Args:
        attributions: Tensor of shape `(batch, ...)`, with more than `k` entries per example.
        k: Integer > 0. Defaults to an eighth of the entries, at least 1.
        sharpness: Float > 0, p.
        counted: Which entries count, booleans of the shape of `attributions`; the others are 0, as of padding. Of an
            example in which n count, k is at most n − 1, and by default an eighth of n, at least 1. Defaults to all.

    Returns:
        Tensor of shape `(batch, entries)`, from 0 to 1.

    Raises:
        ValueError: If an example has no more than `k` entries, or `k` or `sharpness` is not positive.

    Example:

    >>> soft_top_k([[1.0, 0.5, 0.0]], k=1, sharpness=1.0).numpy().round(3)
    array([[0.5  , 0.333, 0.   ]], dtype=float32)
    """
    checks.positive_float("sharpness", sharpness)
    attributions = floating("attributions", attributions)
    size = tf.abs(_over_largest(per_example(attributions)))
    most = highest_k(attributions, k)
    highest = tf.math.top_k(size, most).values
    if counted is None:
        last = highest[:, -1:]
    else:
        n = tf.math.count_nonzero(tf.reshape(counted, tf.shape(size)), axis=1, dtype=tf.int32)
        last = tf.gather(highest, k_of(k, n)[:, tf.newaxis] - 1, batch_dims=1)
    return tf.sigmoid(sharpness * tf.math.log(size / tf.maximum(last, 1e-3) + 1e-6))


def highest_k(attributions: tf.Tensor, k: int | None) -> int | tf.Tensor:
    """k, by default an eighth of the entries of a map, at least 1.

    Raises:
        ValueError: If it is not positive, or a map has no more entries.
    """
    if k is not None:
        checks.positive_int("k", k)
    entries = attributions.shape[1:].num_elements()  # None where inputs have any size
    if entries is None:
        return k_of(k, tf.reduce_prod(tf.shape(attributions)[1:]))
    most = max(entries // 8, 1) if k is None else k
    return most if most < entries else checks.fail("k", f"below {entries}, the number of entries of an input", most)


def k_of(k: int | None, n: tf.Tensor) -> tf.Tensor:
    """How many of n entries are the highest: k, at most n − 1; by default an eighth of them; at least 1."""
    return tf.maximum(n // 8 if k is None else tf.minimum(n - 1, k), 1)
