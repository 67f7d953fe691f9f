"""The precision in which a machine trains fastest."""

import time

import tensorflow as tf

_FASTER = 1.25  # bfloat16 must be faster by more than chance


def fastest_policy() -> str:
    """The dtype policy to train in: bfloat16 halves the time on some machines, and doubles it on others.

    A CPU with instructions for bfloat16 may still be slower in it than in float32, so both are timed, on the second
    convolution of the paper's CNN with 250 images.

    Returns:
        `"mixed_bfloat16"` if it is faster by a quarter, else `"float32"`.

    Example:

    >>> fastest_policy() in ("float32", "mixed_bfloat16")
    True
    """
    return "mixed_bfloat16" if _FASTER * _seconds("bfloat16") < _seconds("float32") else "float32"


def _seconds(dtype: str) -> float:
    """Seconds of the fastest of five calls: other work on the machine disturbs it least."""
    images, kernel = tf.ones([250, 14, 14, 32], dtype), tf.ones([5, 5, 32, 64], dtype)

    @tf.function(autograph=False)
    def convolve(images, kernel):  # arguments, because constants would be folded
        return tf.reduce_sum(tf.nn.conv2d(images, kernel, 1, "SAME"))

    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        convolve(images, kernel).numpy()
        seconds.append(time.perf_counter() - start)
    return min(seconds[2:])
