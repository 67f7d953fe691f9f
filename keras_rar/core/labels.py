"""Labels: class indices `(batch,)` or `(batch, 1)`, or one-hot `(batch, classes)`."""

from typing import Any

import tensorflow as tf

from keras_rar.core.gradients import floating


def check_layout(y: tf.Tensor, classes: int, takes_indices: bool | None = None) -> None:
    """Refuse labels whose static shape fits no layout, or not the one that the loss takes.

    Args:
        y: Labels, a tensor or an array.
        classes: Number of output units.
        takes_indices: Whether the loss takes class indices rather than one-hot labels. Defaults to either.

    Raises:
        ValueError: If the shape does not fit.
    """
    shape = _shape(y)
    if shape.rank is None:
        raise ValueError("`y` must have a known rank: set its shape in the data set. Received: an unknown shape")
    if shape.rank not in (1, 2) or (shape.rank == 2 and shape[-1] not in (None, 1, classes)):
        raise ValueError(
            "`y` must have the shape (batch,) or (batch, 1) of class indices, or (batch, classes) of one-hot "
            f"labels, with classes={classes}. Received: y.shape={tuple(shape)}"
        )
    if takes_indices is not None and classes > 1 and are_indices(y, classes) != takes_indices:
        layout = "class indices, of shape (batch,) or (batch, 1)" if takes_indices else "one-hot, (batch, classes)"
        raise ValueError(f"`y` must be {layout}, for this loss. Received: y.shape={tuple(shape)}")


def are_indices(y: tf.Tensor, classes: int) -> bool:
    """Whether the labels are class indices (for one output unit: 0 or 1) rather than one-hot."""
    shape = _shape(y)
    return shape.rank == 1 or shape[-1] == 1 or classes == 1


def _shape(y: Any) -> tf.TensorShape:
    """The static shape of a tensor, a `TensorSpec` or an array."""
    return y.shape if isinstance(y, tf.TypeSpec) else tf.convert_to_tensor(y).shape


def valid(y: tf.Tensor, classes: int) -> tf.Tensor:
    """Whether each entry of `y` is the index of a class or, in one-hot labels, finite."""
    y = tf.cast(y, tf.float64)
    if not are_indices(y, classes):
        return tf.math.is_finite(y)
    if classes == 1:  # a probability of the positive class is a label too
        return (y >= 0) & (y <= 1)
    return (y >= 0) & (y <= classes - 1) & (y == tf.floor(y))


def replace_invalid(y: tf.Tensor, classes: int) -> tf.Tensor:
    """The labels with 0 in place of invalid ones, so that a batch can be computed and then reported."""
    y = tf.convert_to_tensor(y)
    return tf.where(valid(y, classes), y, tf.zeros_like(y))


def label_logit(y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The logit of the label: `z_y`; for one-hot `Σ_c y_c z_c`; for one output unit `(2y − 1) z`.

    Args:
        y: Labels of shape `(batch,)`, `(batch, 1)` or `(batch, classes)`.
        logits: Tensor of shape `(batch, classes)`.

    Returns:
        Tensor of shape `(batch,)`.

    Raises:
        TypeError: If `logits` is not floating point.

    Example:

    >>> label_logit(tf.constant([1]), tf.constant([[0.5, 2.0]])).numpy()
    array([2.], dtype=float32)
    """
    y, logits = tf.convert_to_tensor(y), floating("logits", logits)
    classes = logits.shape[-1]
    if not are_indices(y, classes):
        return tf.reduce_sum(tf.cast(y, logits.dtype) * logits, axis=-1)
    if classes == 1:
        return (2 * tf.cast(tf.reshape(y, [-1]), logits.dtype) - 1) * logits[:, 0]
    return tf.gather(logits, tf.cast(tf.reshape(y, [-1]), tf.int32), batch_dims=1)
