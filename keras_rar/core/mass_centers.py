"""Centres of mass of attribution maps, per example."""

import tensorflow as tf

from keras_rar.core.maps import as_map, finish, pair


def mass_center(m: tf.Tensor) -> tf.Tensor:
    """Centre of mass of each map, in pixels from the middle of the first pixel.

    `C(m) = Σᵢ pᵢ mᵢ / Σᵢ mᵢ`, pᵢ = (row, column) of pixel i (Ghorbani et al. 2019), computed in float64. It is meant
    for maps that are not negative. Where the entries sum to 0, as in a map of zeros, it is the middle of the image.

    Args:
        m: Tensor of shape `(batch, height, width)`.

    Returns:
        Tensor of shape `(batch, 2)`: row, column.

    Raises:
        ValueError: If the shape is not `(batch, height, width)`, or more than the batch is unknown.

    Example:

    >>> mass_center([[[0.0, 0.0, 0.0], [1.0, 0.0, 3.0]]]).numpy()
    array([[1. , 1.5]], dtype=float32)
    """
    m = as_map("m", m)
    if m.shape.rank != 3 or not m.shape[1:].is_fully_defined():
        raise ValueError(
            f"`m` must be maps of shape (batch, height, width), in which only the batch may be unknown. "
            f"Received: shape {m.shape}"
        )
    return tf.cast(_center(m), m.dtype)


def _center(m: tf.Tensor) -> tf.Tensor:
    m = tf.cast(m, tf.float64)
    height, width = m.shape[1:]
    mass = tf.reduce_sum(m, axis=[1, 2])[:, None]
    row = tf.linalg.matvec(tf.reduce_sum(m, axis=2), tf.range(height, dtype=tf.float64))
    column = tf.linalg.matvec(tf.reduce_sum(m, axis=1), tf.range(width, dtype=tf.float64))
    middle = tf.constant([(height - 1) / 2, (width - 1) / 2], tf.float64)
    center = tf.stack([row, column], axis=1) / tf.where(mass == 0, tf.ones_like(mass), mass)
    return tf.where(mass == 0, middle, center)


def mass_center_distance(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Euclidean distance between the centres of mass, `‖C(a) − C(b)‖₂`, in pixels (Ghorbani et al. 2019).

    Args:
        a: Tensor of shape `(batch, height, width)`.
        b: Tensor of the shape of `a`.

    Returns:
        Tensor of shape `(batch,)`, in pixels.

    Raises:
        ValueError: If the shapes differ or are not `(batch, height, width)`, or more than the batch is unknown.

    Example:

    >>> mass_center_distance(tf.eye(3)[None], [[[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 2.0]]]).numpy()
    array([1.4142135], dtype=float32)
    """
    a, b = pair(a, b, rank=3)
    return finish(tf.norm(_center(a) - _center(b), axis=1), a, b)
