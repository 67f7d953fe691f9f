"""Distances of what a network predicts at two inputs, of logits alone."""

import tensorflow as tf

from keras_rar.core import labels
from keras_rar.core.gradients import floating


def of_classes(logits: tf.Tensor) -> tf.Tensor:
    """Logits of two classes or more: one output unit z stands for the logits 0 and z.

    Args:
        logits: Tensor of shape `(batch, units)`.

    Returns:
        Tensor of shape `(batch, classes)`, whose softmax are the probabilities.

    Example:

    >>> of_classes([[2.0]]).numpy()
    array([[0., 2.]], dtype=float32)
    """
    logits = floating("logits", logits)
    return tf.concat([tf.zeros_like(logits), logits], axis=1) if logits.shape[-1] == 1 else logits


def kl_divergence(logits: tf.Tensor, other_logits: tf.Tensor) -> tf.Tensor:
    """`KL(p ‖ q) = Σ_c p_c (log p_c − log q_c)` of the softmax p of logits and q of others.

    Args:
        logits: Tensor of shape `(batch, units)`; of one unit, the two classes of a sigmoid.
        other_logits: Tensor of the shape of `logits`.

    Returns:
        Tensor of shape `(batch,)`, not negative.

    Example:

    >>> kl_divergence([[0.0, 0.0]], [[0.0, 2.0]]).numpy().round(3)
    array([0.434], dtype=float32)
    """
    log_p, log_q = (tf.nn.log_softmax(of_classes(z)) for z in (logits, other_logits))
    return tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=1)


def label_rows(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The label as a probability of each class, `(batch, classes)`.

    Args:
        y: Labels, as for `label_logit`.
        logits: Tensor of shape `(batch, units)`.

    Returns:
        Tensor of shape `(batch, classes)`, in the dtype of the logits.

    Example:

    >>> label_rows([1], [[0.5]]).numpy()
    array([[0., 1.]], dtype=float32)
    """
    y, logits = tf.convert_to_tensor(y), floating("logits", logits)
    if not labels.are_indices(y, logits.shape[-1]):
        return tf.cast(y, logits.dtype)
    if logits.shape[-1] == 1:
        positive = tf.cast(tf.reshape(y, [-1]), logits.dtype)
        return tf.stack([1 - positive, positive], axis=1)
    return tf.one_hot(tf.cast(tf.reshape(y, [-1]), tf.int32), logits.shape[-1], dtype=logits.dtype)


def label_probability(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """`p_y`, the probability of the label.

    Args:
        y: Labels, as for `label_logit`.
        logits: Tensor of shape `(batch, units)`.

    Returns:
        Tensor of shape `(batch,)`.

    Example:

    >>> label_probability([1], [[1.0, 1.0]]).numpy()
    array([0.5], dtype=float32)
    """
    return tf.reduce_sum(label_rows(y, logits) * tf.nn.softmax(of_classes(logits)), axis=1)


def runner_up_loss(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """`−log(1 − max_{c ≠ y} p_c)`: how near the most probable of the other classes is (Wang et al., ICLR 2020).

    Args:
        y: Labels, as for `label_logit`.
        logits: Tensor of shape `(batch, units)`.

    Returns:
        Tensor of shape `(batch,)`, not negative; finite wherever the logits are.

    Example:

    >>> runner_up_loss([0], [[0.0, 0.0]]).numpy().round(3)
    array([0.693], dtype=float32)
    """
    is_label = label_rows(y, logits) > 0.5
    logits = of_classes(logits)
    lowest = logits.dtype.min
    best = tf.argmax(tf.where(is_label, lowest, logits), axis=1)
    others = tf.where(tf.one_hot(best, logits.shape[-1], on_value=True, off_value=False), lowest, logits)
    return tf.reduce_logsumexp(logits, axis=1) - tf.reduce_logsumexp(others, axis=1)


def runner_up_logit(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The largest logit of the classes that are not the label; of one output unit the negative of the label's.

    Args:
        y: Labels, as for `label_logit`.
        logits: Tensor of shape `(batch, units)`.

    Returns:
        Tensor of shape `(batch,)`.

    Example:

    >>> runner_up_logit([1], [[0.5, 2.0, -1.0]]).numpy()
    array([0.5], dtype=float32)
    """
    logits = floating("logits", logits)
    if logits.shape[-1] == 1:
        return -labels.label_logit(y, logits)
    return tf.reduce_max(tf.where(label_rows(y, logits) > 0.5, logits.dtype.min, logits), axis=1)


def runner_up_probability(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """`max_{c ≠ y} p_c`, the probability of the most probable of the other classes.

    Args:
        y: Labels, as for `label_logit`.
        logits: Tensor of shape `(batch, units)`.

    Returns:
        Tensor of shape `(batch,)`.

    Example:

    >>> runner_up_probability([1], [[1.0, 1.0]]).numpy()
    array([0.5], dtype=float32)
    """
    p = tf.nn.softmax(of_classes(logits))
    return tf.reduce_max(tf.where(label_rows(y, logits) > 0.5, tf.zeros_like(p), p), axis=1)
