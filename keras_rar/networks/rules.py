"""What stands for parts of a network in a twin that computes a map, beside its ReLUs."""

import abc
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from keras_rar.networks.copies import Change


class Rule(abc.ABC):
    """A replacement of ReLUs, `(x, negative_slope, max_value, threshold) -> tensor`, with more changes of a network.

    Rules that are equal make equal twins, which are made once.
    """

    replaces_relus = True
    """Whether a twin needs the ReLUs to be found."""

    @abc.abstractmethod
    def __call__(self, x: tf.Tensor, negative_slope: Any, max_value: float | None, threshold: float) -> tf.Tensor:
        """What stands for a ReLU."""

    @abc.abstractmethod
    def changes(self, model: Any, made: Sequence[Change]) -> Iterable[Change]:
        """More changes of a copy.

        Args:
            model: The network.
            made: The changes so far; a later one of the same attribute takes the place of an earlier one.

        Raises:
            ValueError: If the network has not what the rule needs.
        """


def now(made: Sequence[Change], operation: Any, name: str) -> Any:
    """What an attribute of a layer is in a copy with these changes; a `call` takes the layer as first argument."""
    found: Iterator[Any] = (value for other, changed, value in reversed(made) if other is operation and changed == name)
    return next(found, type(operation).call if name == "call" else vars(operation).get(name))


def led(function: Callable, moved: Callable, parts: int) -> Callable:
    """A function of a batch that holds points and then, in its last part, the points again: those of a path.

    `path → g(z) + M (path − z)`, z the first part. A path is where the network itself is, but its derivative is M, as a
    rule says. So the gradient of a score in the path is the multiplier of the rule; and since nothing but numbers that
    are computed says so, a derivative of that gradient, as an attack follows, is exact. (Of a `tf.custom_gradient` it
    would not be: an outer tape takes the derivative of the rule for that of the network.)

    Args:
        function: The function g of all parts but the last.
        moved: Function `(change, *parts)` that returns `M change`, for a change of the first part.
        parts: How many parts a batch has.
    """

    def call(x: tf.Tensor) -> tf.Tensor:
        x = tf.convert_to_tensor(x)
        n = tf.shape(x)[0] // parts
        points, path = [x[k * n : (k + 1) * n] for k in range(parts - 1)], x[(parts - 1) * n :]
        y = function(x[: (parts - 1) * n])
        return tf.concat([y, y[:n] + moved(path - points[0], *points)], axis=0)

    return call
