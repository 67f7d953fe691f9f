"""Occlusion: what a score loses where a part of the input is covered."""

import dataclasses
import functools
import itertools
from typing import Any

import numpy as np
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.core.abstract_saliency import Saliency, chunk_size
from keras_rar.core.accumulation import summed
from keras_rar.core.channels import DATA_FORMATS
from keras_rar.core.gradients import ScalarFunction, floating
from keras_rar.core.held import columns_of
from keras_rar.core.segment_starts import is_itself

Sizes = int | list[int] | tuple[int, ...] | None


@dataclasses.dataclass(frozen=True)
class Occlusion(Saliency):
    """`aᵢ = mean over the windows S with i in S of f(x) − f(x with b in S)` (Zeiler & Fergus 2014).

    A window moves over the axes of an image, a volume or a sequence of words, with all channels at once, which share
    the difference evenly, and over the single features of a table. A window of one feature, `f(x) − f(x without i)`, is
    exact on a linear score: `wᵢ (xᵢ − bᵢ)`. The last window of an axis lies at its end, so that each covers as much and
    no entry is left out. (Of windows that overlap captum takes the mean too, and Xplique the sum.)

    It needs no gradient, and is differentiable in x: an attack follows the gradients of the differences. It costs one
    forward pass per window and example.

    Args:
        window: Positive integer, or one per axis: size of the window. `None` for 1 in a table, and a seventh of each
            axis otherwise. Defaults to `None`.
        stride: Positive integer, or one per axis, at most as large as the window: how far it moves. Defaults to
            `None`, half of the window.
        baseline: Float or array that broadcasts to one input: what covers a window. An entry `None` is the input
            itself, which is never covered. Defaults to `0.`.
        data_format: Where images have their channels, as for `saliency_map`, which finds it for `"auto"`; alone,
            `"auto"` is the last axis of images and volumes. Defaults to `"auto"`.
        chunk: How many windows to evaluate at once: a positive integer, `None` for all, or `"auto"`. Defaults to
            `"auto"`.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range.

    Example:

    >>> f = lambda z: 2.0 * z[:, 0] - z[:, 1]
    >>> keras_rar.Occlusion()(f, tf.constant([[1.0, 3.0]])).numpy()
    array([[ 2., -3.]], dtype=float32)
    """

    window: Sizes = None
    stride: Sizes = None
    baseline: Any = 0.0
    data_format: str = "auto"
    chunk: int | str | None = "auto"

    def __post_init__(self) -> None:
        for name in ("window", "stride"):
            sizes = getattr(self, name)
            if sizes is not None:
                for size in sizes if isinstance(sizes, (list, tuple)) else [sizes]:
                    checks.positive_int(name, size)
        if self.window is not None and self.stride is not None:
            window, stride = np.array(self.window), np.array(self.stride)
            if window.ndim and stride.ndim and len(window) != len(stride):
                checks.fail("stride", f"an integer, or as many as the window has, {len(window)}", self.stride)
            self._check_stride(window, stride)
        checks.baseline("baseline", self.baseline)
        checks.one_of("data_format", self.data_format, ["auto", *DATA_FORMATS])
        checks.chunk(self.chunk)

    def __call__(self, f: ScalarFunction, x: tf.Tensor) -> tf.Tensor:
        x = floating("x", x)
        columns = columns_of(f)
        shape = tuple(columns.free(x).shape[1:])
        if None in shape:
            raise ValueError(f"`x` must have known sizes to be occluded. Received: inputs of shape {shape}")
        windows = self._windows(shape)
        shares = windows / windows.sum(axis=0)
        count = len(windows)
        at_once = chunk_size(self.chunk, x) or count
        rounds = -(-count // at_once)
        size = -(-count // rounds)  # every round has the same size: the last window is repeated without a share
        indices = tf.constant(np.minimum(np.arange(rounds * size), count - 1).reshape(rounds, size))
        counts = tf.constant((np.arange(rounds * size) < count).reshape(rounds, size))
        itself = is_itself(self.baseline)
        channels = int(np.prod(shape)) // windows[0].size
        masks, parts = tf.constant(windows), tf.constant(shares, x.dtype)

        def part(k, x):
            free, batch = columns.free(x), tf.shape(x)[0]
            mask = tf.gather(masks, indices[k])[:, tf.newaxis]  # an axis for the batch
            covered = columns.joined(tf.where(mask, columns.free(columns.start(self.baseline, x)), free), x)
            scores = f(tf.reshape(covered, tf.concat([[-1], tf.shape(x)[1:]], 0)))
            lost = f(x) - tf.reshape(scores, [size, batch])
            lost = tf.where(counts[k][:, tf.newaxis], tf.cast(lost, x.dtype), tf.zeros([], x.dtype))
            found = tf.tensordot(lost, tf.gather(parts, indices[k]), [[0], [0]])
            found = tf.where(itself, tf.zeros([], x.dtype), found * tf.ones_like(free) / channels)
            if not columns.holds:
                return found
            found = tf.where(columns.is_free(x), found, tf.zeros([], x.dtype))
            return tf.concat([found, tf.zeros_like(x[..., shape[-1] :])], axis=-1)

        return part(0, x) if rounds == 1 else summed(part, (x,), rounds, variables=False)

    def _windows(self, shape: tuple[int, ...]) -> np.ndarray:
        """Which entries each window covers, `(windows, ...)` booleans, of size 1 along the axis of channels."""
        axes = list(range(len(shape)))
        whole = {"channels_first": 0, "channels_last": len(shape) - 1, "rows": len(shape) - 1}
        if self.data_format in whole or (self.data_format == "auto" and len(shape) >= 3):
            axes.remove(whole.get(self.data_format, len(shape) - 1))
        sizes = [1 if len(shape) == 1 else -(-shape[axis] // 7) for axis in axes]
        sizes = _per_axis("window", self.window, sizes)
        sizes = [min(size, shape[axis]) for size, axis in zip(sizes, axes, strict=True)]
        strides = _per_axis("stride", self.stride, [-(-size // 2) for size in sizes])
        if self.stride is not None and self.window is None:
            self._check_stride(np.array(sizes), np.array(strides))
        covered = []
        for axis, size, stride in zip(axes, sizes, strides, strict=True):
            n = shape[axis]
            starts = np.array([*range(0, n - size, stride), n - size])[:, np.newaxis]
            places = np.arange(n)
            covered.append((places >= starts) & (places < starts + size))
        kept = [shape[axis] if axis in axes else 1 for axis in range(len(shape))]
        windows = [functools.reduce(np.logical_and.outer, rows).reshape(kept) for rows in itertools.product(*covered)]
        return np.array(windows)

    def _check_stride(self, window: np.ndarray, stride: np.ndarray) -> None:
        if np.any(stride > window):
            checks.fail("stride", "at most as large as the window, or entries are left out", self.stride)


def _per_axis(name: str, given: Sizes, otherwise: list[int]) -> list[int]:
    """One size per axis."""
    if given is None:
        return otherwise
    sizes = list(given) if isinstance(given, (list, tuple)) else [given] * len(otherwise)
    if len(sizes) != len(otherwise):
        checks.fail(name, f"an integer, or {len(otherwise)} of them, one per axis without channels", given)
    return [int(size) for size in sizes]
