"""The preprocessing and augmentation of the paper (Chen et al. 2019, supplement), with layers of Keras."""

import keras
import numpy as np
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.training.batches import Batches

_ROTATION = 15 / 360  # turns
_TRANSLATION = 2.5  # pixels, whatever the size of the image
_DRAWS = 16  # more seeds than a layer uses per batch
_CORNERS = 0.24  # of the size of the image: the furthest that a corner moves


def equalized(images: np.ndarray) -> np.ndarray:
    """Images with the histogram of each channel equalised.

    Args:
        images: Array of bytes, `(n, height, width, channels)`.

    Returns:
        float32 array of the same shape, in [0, 255].

    Example:

    >>> dark = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    >>> float(equalized(dark).max())
    255.0
    """
    layer = keras.layers.Equalization(dtype="float32")  # given a batch, it would make one histogram of all images
    data = tf.data.Dataset.from_tensor_slices(images).map(layer, num_parallel_calls=tf.data.AUTOTUNE).batch(256)
    return np.concatenate([batch.numpy() for batch in data])


def transformations(size: int, seed: int = 0) -> keras.Sequential:
    """Layers that rotate images by up to 15°, shift them by up to 2.5 pixels, and then shift their corners.

    The paper shifts each corner by up to a random share of the size, at most ± 0.24, and fills the border with the
    pixels at the edge. `keras.layers.RandomPerspective` differs: it always draws from ± 0.24, moves one corner not at
    all and two in one direction only, and fills the border with zeros.

    Args:
        size: Height and width of the images, in pixels.
        seed: Integer. Defaults to `0`.

    Returns:
        A `keras.Sequential`.

    Example:

    >>> transformations(8)(np.ones((2, 8, 8, 3)), training=True).shape
    TensorShape([2, 8, 8, 3])
    """
    seed, shift = checks.seed(seed, unsigned=True), _TRANSLATION / size
    return keras.Sequential(
        [
            keras.layers.RandomRotation(_ROTATION, fill_mode="nearest", seed=seed),
            keras.layers.RandomTranslation(shift, shift, fill_mode="constant", seed=seed + 1),
            # two equal numbers mean always; of one number, Keras would draw how often
            keras.layers.RandomPerspective((1.0, 1.0), scale=2 * _CORNERS, seed=seed + 2),
        ]
    )


def balanced(labels: np.ndarray, per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows that make a balanced data set, and for each whether it is to be transformed.

    Each class has all of its examples unchanged, and then transformed ones in turn, up to `per_class`.

    Args:
        labels: Class indices, `(n,)`.
        per_class: Positive integer.

    Returns:
        Rows and booleans, each of shape `(examples,)`.

    Example:

    >>> balanced(np.array([0, 1, 1]), 3)[0].tolist()
    [0, 0, 0, 1, 2, 1]
    """
    checks.positive_int("per_class", per_class)
    rows, is_new = [], []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        number = np.arange(max(per_class, len(own)))
        rows.append(own[number % len(own)])
        is_new.append(number >= len(own))
    return np.concatenate(rows), np.concatenate(is_new)


def pipeline(
    images: np.ndarray,
    labels: np.ndarray,
    per_class: int,
    *,
    batch_size: int,
    equalize: bool,
    seed: int = 0,
    whole: bool = False,
) -> Batches:
    """Balanced and augmented batches. Every epoch has new transformations, which the seed determines.

    Args:
        images: Array of bytes, `(n, size, size, channels)`.
        labels: Class indices, `(n,)`.
        per_class: As for `balanced`.
        batch_size: Positive integer.
        equalize: Whether to equalise histograms after the transformations.
        seed: Integer. Defaults to `0`.
        whole: As for `Batches`. Defaults to `False`.

    Returns:
        `Batches` of `(x, y)`, x float32 in [0, 255].

    Example:

    >>> x, y = np.zeros((4, 8, 8, 3), np.uint8), np.array([0, 1, 1, 1])
    >>> [len(batch[1]) for batch in pipeline(x, y, 5, batch_size=4, equalize=True).stream().take(3)]
    [4, 4, 2]
    """
    transform, equalization = transformations(images.shape[1], seed), keras.layers.Equalization(dtype="float32")
    source, classes = tf.constant(images), tf.constant(labels, tf.int64)

    seeds = [int(layer.generator.state[0]) for layer in transform.layers]
    examples, are_new = (tf.constant(values) for values in balanced(labels, per_class))

    def make(numbers: tf.Tensor, batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows, is_new = tf.gather(examples, numbers), tf.gather(are_new, numbers)
        for layer, own in zip(
            transform.layers, seeds, strict=True
        ):  # else the result would depend on the batches made before
            layer.generator.state.assign([own, _DRAWS * batch])
        x = tf.cast(tf.gather(source, rows), tf.float32)
        x = tf.where(is_new[:, None, None, None], transform(x, training=True), x)
        x = tf.round(tf.clip_by_value(x, 0.0, 255.0))
        return tf.map_fn(equalization, x) if equalize else x, tf.gather(classes, rows)

    return Batches(len(examples), make, batch_size, seed, whole)
