"""What an attribution method is, and how many points of it to evaluate at once."""

import abc
import math
from collections.abc import Iterable

import tensorflow as tf

from keras_rar.core.gradients import ScalarFunction


class Saliency(abc.ABC):
    """An attribution method: a function of a score and an input, differentiable in the input.

    Subclass it to add a method of your own. If it is made of TensorFlow operations, attacks can follow its gradient.
    """

    points = 1
    """Number of points per example at which the score is evaluated: the memory of a batch grows with it."""

    @abc.abstractmethod
    def __call__(self, f: ScalarFunction, x: tf.Tensor) -> tf.Tensor:
        """The attributions of `f(x)`, in the shape of `x`.

        Args:
            f: Function `(n, ...) -> (n,)`, the score; `n` may be any multiple of the batch, and row `i` belongs to
                example `i % batch`.
            x: Tensor of shape `(batch, ...)`.

        Returns:
            Tensor of the shape of `x`.
        """


AT_ONCE = 400_000  # entries of all points evaluated at once: 500 images of 28 × 28 keep two cores busy


def points_at_once(shape: Iterable[int | None]) -> int:
    """How many points per example keep a machine busy.

    Args:
        shape: Shape of a batch of inputs; 32 stands for a size that is not known.

    Example:

    >>> points_at_once((5, 28, 28, 1))
    102
    """
    return max(1, AT_ONCE // max(math.prod(size or 32 for size in shape), 1))


def chunk_size(chunk: int | str | None, x: tf.Tensor) -> int | None:
    """How many points to evaluate at once, as `chunk` says: an integer, `None` for all, or `"auto"`."""
    return points_at_once(x.shape) if isinstance(chunk, str) else chunk
