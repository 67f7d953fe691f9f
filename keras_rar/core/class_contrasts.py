"""How the maps of two classes, and those of two inputs, differ: what the regularizers of Sarkar et al. are made of."""

import tensorflow as tf

from keras_rar.core.gradients import floating
from keras_rar.core.sizes import per_example


def divergence_from_uniform(attributions: tf.Tensor, counted: tf.Tensor | None = None) -> tf.Tensor:
    """`KL(U ‖ softmax(a)) = log Σᵢ exp(aᵢ) − mean(a) − log n`, U the uniform distribution over n places.

    0 of a map that is the same everywhere. Of maps of images the channels of a place are added up first.

    Args:
        attributions: Tensor of shape `(batch, ...)`; of four axes or more, the last is that of channels.
        counted: Which entries count, booleans of the shape of `attributions`. Defaults to all.

    Returns:
        Tensor of shape `(batch,)`, not negative.

    Example:

    >>> divergence_from_uniform([[3.0, 3.0], [0.0, 2.0]]).numpy().round(3)
    array([0.   , 0.434], dtype=float32)
    """
    attributions = floating("attributions", attributions)
    counted = tf.ones_like(attributions, tf.bool) if counted is None else counted
    if attributions.shape.rank >= 4:
        attributions, counted = tf.reduce_sum(attributions, axis=-1), tf.reduce_any(counted, axis=-1)
    a = per_example(attributions)
    counted = tf.reshape(counted, tf.shape(a))
    n = tf.cast(tf.math.count_nonzero(counted, axis=1), a.dtype)
    mean = tf.math.divide_no_nan(tf.reduce_sum(tf.where(counted, a, tf.zeros_like(a)), axis=1), n)
    return tf.reduce_logsumexp(tf.where(counted, a, a.dtype.min), axis=1) - mean - tf.math.log(n)


def weighted_change(attributions: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
    """`Σᵢ wᵢ |Δᵢ|`, with `wᵢ = |aᵢ|` where the change Δ has the sign of the map a, and 1 elsewhere.

    What makes a map stronger where it is strong costs little as long as its entries are below 1; what turns it costs
    all. (Where signs agree, `aᵢ Δᵢ = |aᵢ| |Δᵢ|`.)

    Args:
        attributions: Tensor of shape `(batch, ...)`, a.
        change: Tensor of the shape of `attributions`, Δ.

    Returns:
        Tensor of shape `(batch,)`, not negative.

    Example:

    >>> weighted_change([[0.5, 0.5, 0.0]], [[2.0, -2.0, 1.0]]).numpy()
    array([4.], dtype=float32)
    """
    a, change = per_example(attributions), per_example(change)
    return tf.reduce_sum(tf.where(tf.sign(a) == tf.sign(change), a * change, tf.abs(change)), axis=1)
