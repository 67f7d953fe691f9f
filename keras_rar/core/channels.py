"""Where images have their channels, told from sizes alone, and the shape of their maps."""

from typing import Any, Literal, TypeAlias

from keras_rar.core import checks

DataFormat: TypeAlias = Literal["auto", "channels_last", "channels_first", "none", "rows"]

DATA_FORMATS = ("channels_last", "channels_first", "none", "rows")
"""Keras's two, `"none"` for inputs of which each entry is one of the map, and `"rows"` for words and the like."""

_USUAL = (1, 3, 4)  # grey, red-green-blue, and with transparency


def of_sizes(shape: tuple[int | None, ...]) -> DataFormat | None:
    """Where inputs of this shape have their channels, or `None` where sizes do not tell.

    Inputs of rank 1 and 2 have none: features, time × features, height × width. From rank 3 on (images, volumes) the
    first or the last axis holds them: the one of 1, 3 or 4 entries, if the other has another number; the first only if
    no axis is smaller. Else it is the one without which all sizes are equal, as the last of 8 × 8 × 5, or the last if
    it is the smallest.

    Args:
        shape: The shape of one input; `None` for sizes that vary, which are no numbers of channels.

    Example:

    >>> of_sizes((28, 28, 1)), of_sizes((3, 32, 32)), of_sizes((7, 7, 512)), of_sizes((8, 8, 8)), of_sizes((28, 28))
    ('channels_last', 'channels_first', 'channels_last', None, 'none')
    """
    if len(shape) < 3:
        return "none"
    first, last = shape[0], shape[-1]
    sizes = [size for size in shape if size is not None]
    if first == 1 and last == 1:
        return "channels_last"  # either way each other entry is one of the map
    may_be_first = first in _USUAL and first == min(sizes)
    if may_be_first != (last in _USUAL):
        return "channels_first" if may_be_first else "channels_last"
    without_last, without_first = (len(set(others)) == 1 for others in (shape[:-1], shape[1:]))
    if without_last != without_first:
        return "channels_last" if without_last else "channels_first"
    others = [size for size in shape[:-1] if size is not None]
    return "channels_last" if last is not None and last not in _USUAL and all(last < size for size in others) else None


def map_shape(shape: tuple[int | None, ...], data_format: str) -> tuple[Any, ...]:
    """The shape of the map of one input: without its channels.

    Args:
        shape: The shape of one input.
        data_format: One of `DATA_FORMATS`.

    Example:

    >>> map_shape((3, 32, 32), "channels_first"), map_shape((7, 7, 512), "channels_last"), map_shape((5,), "none")
    ((32, 32), (7, 7), (5,))
    """
    checks.one_of("data_format", data_format, DATA_FORMATS)
    without = {"channels_last": shape[:-1], "rows": shape[:-1], "channels_first": shape[1:]}
    return tuple(without.get(data_format, shape))
