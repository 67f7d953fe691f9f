"""A layer that networks can begin with, where images differ in brightness and contrast.

`import keras_rar` registers it, so that saved networks that have it load.
"""

import math
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_rar")
class PerImageStandardization(keras.layers.Layer):
    """Images of mean 0 and variance 1, each by itself: `(x − mean) / max(std, 1/√n)` of its n numbers.

    As `tf.image.per_image_standardization`, but with a gradient of an image of one colour too.

    Args:
        **kwargs: As `keras.layers.Layer`.

    Example:

    >>> float(PerImageStandardization()(np.full((1, 8, 8, 3), 7.0)).numpy().std())
    0.0
    """

    def call(self, x: Any) -> Any:
        axes = list(range(1, len(x.shape)))
        centered = x - ops.mean(x, axis=axes, keepdims=True)
        variance = ops.mean(ops.square(centered), axis=axes, keepdims=True)
        return centered / ops.sqrt(ops.maximum(variance, 1 / math.prod(x.shape[1:])))
