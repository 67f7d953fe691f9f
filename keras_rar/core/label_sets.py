"""Sets of labels, for networks of several sigmoids: one integer per set, so that sets are compared as classes are.

A set of one label is the index of that label. Any other set S is `1,000,000 + Σ_{c ∈ S} 2^c`, which no index is.
"""

import numpy as np
import tensorflow as tf

from keras_rar.core.gradients import floating

MOST = 62  # labels that a set of them can be told from its integer
FIRST = 1_000_000


def code(present: tf.Tensor) -> tf.Tensor:
    """The integer of each set of labels. Of more than 62 labels, sets of several get a number that is hardly shared.

    Args:
        present: Tensor of shape `(n, classes)`, not zero where a label is in the set.

    Returns:
        Tensor of shape `(n,)`, int64, at least 0.

    Example:

    >>> code([[0, 1, 0], [1, 0, 1], [0, 0, 0]]).numpy()
    array([      1, 1000005, 1000000])
    """
    present = tf.cast(tf.cast(present, tf.bool), tf.int64)
    classes = present.shape[-1]
    if classes <= MOST:
        values = 2 ** np.arange(classes, dtype="int64")
    else:
        values = np.random.default_rng(classes).integers(1, 2**62, classes)
    total = tf.bitwise.bitwise_and(tf.reduce_sum(present * values, axis=-1), np.int64(2**62 - 1))
    return tf.where(tf.reduce_sum(present, axis=-1) == 1, tf.argmax(present, axis=-1), FIRST + total)


def members(codes: tf.Tensor, classes: int) -> tf.Tensor:
    """Which labels are in each set: the inverse of `code`, for sets of one label and for at most 62 labels.

    Args:
        codes: Integer tensor of shape `(n,)`.
        classes: Number of labels.

    Returns:
        Boolean tensor of shape `(n, classes)`.

    Example:

    >>> members([1, 1000005, 1000000], 3).numpy().astype(int)
    array([[0, 1, 0],
           [1, 0, 1],
           [0, 0, 0]])
    """
    codes = tf.cast(codes, tf.int64)[:, tf.newaxis]
    labels = tf.range(classes, dtype=tf.int64)
    bits = tf.bitwise.right_shift(tf.maximum(codes - FIRST, 0), tf.minimum(labels, MOST))
    return tf.where(codes < FIRST, codes == labels, tf.bitwise.bitwise_and(bits, tf.ones_like(bits)) == 1)


def signed(codes: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The logit of each label of a set, and minus that of each other: `s_c z_c`, positive where the score is right.

    Args:
        codes: Integer tensor of shape `(n,)`.
        logits: Tensor of shape `(n, classes)`.

    Returns:
        Tensor of shape `(n, classes)`.

    Raises:
        TypeError: If `logits` is not floating point.
    """
    logits = floating("logits", logits)
    return tf.where(members(codes, logits.shape[-1]), logits, -logits)


def binary_crossentropy(codes: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The binary cross-entropy of a set, summed over all labels: `Σ_c log(1 + e^{−s_c z_c})`.

    Args:
        codes: Integer tensor of shape `(n,)`.
        logits: Tensor of shape `(n, classes)`.

    Returns:
        Tensor of shape `(n,)`.

    Raises:
        TypeError: If `logits` is not floating point.

    Example:

    >>> binary_crossentropy([0], [[0.0, 0.0]]).numpy().round(3)  # 2 log 2
    array([1.386], dtype=float32)
    """
    return tf.reduce_sum(tf.nn.softplus(-signed(codes, logits)), axis=-1)


def margin(codes: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """`max_c −s_c z_c`: positive where a label is wrong.

    Args:
        codes: Integer tensor of shape `(n,)`.
        logits: Tensor of shape `(n, classes)`.

    Returns:
        Tensor of shape `(n,)`.

    Raises:
        TypeError: If `logits` is not floating point.

    Example:

    >>> margin([1, 1], [[-2.0, 1.0], [2.0, 1.0]]).numpy()
    array([-1.,  2.], dtype=float32)
    """
    return tf.reduce_max(-signed(codes, logits), axis=-1)


def leading(codes: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The label of a set that has the highest logit; of an empty one, or one that is not known, that of all labels.

    Args:
        codes: Integer tensor of shape `(n,)`.
        logits: Tensor of shape `(n, classes)`, of any numbers.

    Returns:
        Tensor of shape `(n,)`, int64.

    Example:

    >>> leading([1000005, 1000000, 1], 3 * [[1.0, 3.0, 2.0]]).numpy()  # of {0, 2}, of none, of {1}
    array([2, 1, 1])
    """
    logits = tf.cast(logits, tf.float64)
    classes = logits.shape[-1]
    chosen = members(codes, classes)
    codes = tf.cast(codes, tf.int64)
    known = tf.reduce_any(chosen, axis=-1, keepdims=True) & ((codes[:, tf.newaxis] < FIRST) | (classes <= MOST))
    return tf.argmax(tf.where(chosen | ~known, logits, tf.constant(-np.inf, logits.dtype)), axis=-1)


def indices(code: int) -> list[int]:
    """The labels of one set, by its integer.

    Example:

    >>> indices(1), indices(1000005)
    ([1], [0, 2])
    """
    code = int(code)
    return [code] if code < FIRST else [label for label in range(MOST) if (code - FIRST) >> label & 1]
