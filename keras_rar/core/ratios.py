"""Differences of logits in units of the logits themselves: a network does not hide from them by its scale."""

import tensorflow as tf

from keras_rar.core.gradients import floating

_LEAST = 1e-12  # as in the authors' code: three equal logits have no ratio


def difference_ratio(margin: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The difference of logits ratio, `DLR = (max_{c ≠ y} z_c − z_y) / (z_π1 − z_π3)`, π by decreasing logit.

    Croce & Hein (2020), sec. 4. It does not change when a constant is added to the logits, nor when they are
    multiplied: where the softmax is 1 in float32 the cross-entropy has no gradient, and this ratio has.

    Args:
        margin: Tensor of shape `(batch,)`, `max_{c ≠ y} z_c − z_y`.
        logits: Tensor of shape `(batch, classes)`, of at least three classes.

    Returns:
        Tensor of shape `(batch,)`: positive where the label is not the prediction.

    Example:

    >>> difference_ratio(tf.constant([-2.0]), tf.constant([[5.0, 3.0, 1.0]])).numpy()
    array([-0.5], dtype=float32)
    """
    margin, logits = floating("margin", margin), floating("logits", logits)
    highest = tf.math.top_k(logits, 3).values
    return margin / (highest[:, 0] - highest[:, 2] + _LEAST)


def targeted_ratio(difference: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The targeted ratio, `(z_t − z_y) / (z_π1 − (z_π3 + z_π4) / 2)` (Croce & Hein 2020, sec. 4).

    Args:
        difference: Tensor of shape `(batch,)`, `z_t − z_y` of a class t to be reached.
        logits: Tensor of shape `(batch, classes)`, of at least four classes.

    Returns:
        Tensor of shape `(batch,)`.

    Example:

    >>> targeted_ratio(tf.constant([-4.0]), tf.constant([[5.0, 3.0, 2.0, 0.0]])).numpy()
    array([-1.], dtype=float32)
    """
    difference, logits = floating("difference", difference), floating("logits", logits)
    highest = tf.math.top_k(logits, 4).values
    return difference / (highest[:, 0] - (highest[:, 2] + highest[:, 3]) / 2 + _LEAST)
