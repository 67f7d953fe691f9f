"""How many examples of a network to compute at once: as many as fit into a budget. One rule for all that measures."""

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from keras_rar.core.abstract_saliency import points_at_once
from keras_rar.core.saliency_methods import METHODS
from keras_rar.networks.kept import kept_with
from keras_rar.networks.output import head_of

Derivatives = Literal["none", "first", "second"]

BUDGET = 2.0
"""Gigabytes that a batch may fill."""

FACTORS: dict[Derivatives, float] = {"none": 0.4, "first": 1.2, "second": 3.0}
"""Memory of an example by the derivatives in the input that are computed, as a multiple of the results of its forward
pass: what the peak of a process grows by per example, of three convolutional networks the one that takes most."""


def bytes_of_example(model: keras.Model, shape: tuple[int, ...], derivatives: Derivatives) -> float:
    """Memory that one example takes, in bytes; found once for a model as it is.

    Args:
        model: A built Keras classifier.
        shape: Shape of the example.
        derivatives: Which derivatives in the input are computed.
    """
    forward = functools.partial(head_of(model).bytes_per_point, shape, staged=False)
    return FACTORS[derivatives] * max(1.0, kept_with(model).get(("bytes of an example", shape), forward))


def examples(model: keras.Model, shape: tuple[int, ...], derivatives: Derivatives, most: int, points: int = 1) -> int:
    """How many examples to compute at once.

    As many as fit into `BUDGET` with all their points, but no more than `most`, and one at the least. A warning says
    where not even one point of one example fits.

    Args:
        model: A built Keras classifier.
        shape: Shape of an example.
        derivatives: Which derivatives in the input are computed.
        most: Positive integer, what is enough to keep a machine busy.
        points: Positive integer, points of an example that are computed at once, such as the nodes of IG.

    Returns:
        A positive integer.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> examples(model, (4,), "first", most=100)
    100
    """
    each = bytes_of_example(model, shape, derivatives)
    if each > BUDGET * 1e9:
        warnings.warn(
            f"One example of {model.name!r} takes {each / 1e9:.2g} GB, more than the budget of {BUDGET:g} GB: "
            "examples are computed one at a time.",
            RuntimeWarning,
            stacklevel=2,
        )
    return max(1, min(most, int(BUDGET * 1e9 / (each * points))))


def chunked(saliency: Any, model: keras.Model, x: tf.Tensor, derivatives: Derivatives) -> Any:
    """A saliency that evaluates as many of its points at once as fit, if it is to choose how many.

    Args:
        saliency: A `Saliency`, or a function.
        model: A built Keras classifier.
        x: A batch of inputs.
        derivatives: Which derivatives in the input are computed.

    Returns:
        The saliency itself where what it would choose fits.
    """
    if type(saliency) not in METHODS.values() or getattr(saliency, "chunk", None) != "auto":
        return saliency
    each = bytes_of_example(model, tuple(x.shape[1:]), derivatives)
    fitting = max(1, int(BUDGET * 1e9 / (each * (x.shape[0] or 32))))
    return dataclasses.replace(saliency, chunk=fitting) if fitting < points_at_once(x.shape) else saliency


def points_said(chunk: Any, points: Any) -> int:
    """How many points of an example go at once as `chunk` says: all with `None`; 1 where it leaves it to what fits.

    What is no number is refused elsewhere.

    Example:

    >>> points_said(None, 50), points_said(5, 50), points_said("auto", 50)
    (50, 5, 1)
    """
    said = points if chunk is None else chunk
    return said if isinstance(said, int) and said > 0 else 1


def in_batches(function: Callable, size: int, *arrays: np.ndarray) -> Any:
    """A function of all rows of arrays, as NumPy arrays: a tuple of them if it returns several tensors.

    Args:
        function: Function of tensors with at most `size` rows.
        size: Positive integer.
        *arrays: Arrays of as many rows.

    Example:

    >>> in_batches(lambda x: 2 * x, 2, np.arange(5))
    array([0, 2, 4, 6, 8])
    """
    starts = range(0, len(arrays[0]), size)
    parts = [function(*(tf.constant(array[start : start + size]) for array in arrays)) for start in starts]
    if tf.is_tensor(parts[0]):
        return np.concatenate([part.numpy() for part in parts])
    return tuple(np.concatenate([column.numpy() for column in columns]) for columns in zip(*parts, strict=True))
