"""Maps for people: attributions reduced to one number a pixel."""

import tensorflow as tf


def normalize_map(attributions: tf.Tensor) -> tf.Tensor:
    """Attributions as the paper shows and compares them.

    `Mⱼ = d · Σ_c |a_jc| / Σ_jc |a_jc|`: absolute values, summed over channels, scaled to sum to the
    number `d` of entries of the map (Ghorbani et al. 2019). All zeros stay zeros.

    Args:
        attributions: Tensor of shape `(batch, height, width, channels)`, or of any other rank, where
            there are no channels to sum.

    Returns:
        Tensor of shape `(batch, height, width)`, or of the shape of `attributions`.

    Example:

    >>> normalize_map(tf.constant([[1.0, -3.0]])).numpy()
    array([[0.5, 1.5]], dtype=float32)
    """
    saliency = tf.abs(attributions)
    if attributions.shape.rank == 4:
        saliency = tf.reduce_sum(saliency, axis=-1)
    axes = list(range(1, saliency.shape.rank))
    entries = tf.cast(tf.reduce_prod(tf.shape(saliency)[1:]), saliency.dtype)
    return entries * tf.math.divide_no_nan(saliency, tf.reduce_sum(saliency, axes, keepdims=True))
