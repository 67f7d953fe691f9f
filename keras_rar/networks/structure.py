"""One tensor in a structure: inputs, outputs and labels as Keras users pass them, by name or in a list."""

from typing import Any

import keras


def only(name: str, value: Any, rank: int | None = None) -> Any:
    """The one leaf of a dictionary, list or tuple; anything else as it is.

    Args:
        name: What it is, for the error.
        value: An array or tensor, or a structure of one of them. A list of rows or of numbers is an array.
        rank: The rank of the array, where it is known: a list of one array of another rank is an array itself.

    Raises:
        ValueError: If a dictionary or list has several leaves, or a dictionary none.

    Example:

    >>> only("x", {"features": 1.0}), only("x", [[1.0, 2.0]])
    (1.0, [[1.0, 2.0]])
    """
    while True:
        if isinstance(value, dict):
            if len(value) != 1:
                raise ValueError(f"`{name}` must hold one array. Received: a dict of {list(value)}")
            value = next(iter(value.values()))
        elif isinstance(value, (list, tuple)) and len(value) == 1 and _is_leaf(value[0], rank):
            value = value[0]
        elif (
            isinstance(value, (list, tuple)) and len(value) > 1 and _is_leaf(value[0], rank or 2, or_more=rank is None)
        ):
            raise ValueError(f"`{name}` must hold one array. Received: a {type(value).__name__} of {len(value)}")
        else:
            return value


def _is_leaf(item: Any, rank: int | None, or_more: bool = False) -> bool:
    """Whether an item of a list is an array of its own, rather than a row of one."""
    found = len(item.shape) if hasattr(item, "shape") else 0
    return isinstance(item, dict) or (found >= (rank or 1) if or_more or rank is None else found == rank)


def like(structure: Any, leaf: Any) -> Any:
    """The leaf in a structure that has one.

    Example:

    >>> like({"features": None}, 1.0), like(None, 1.0)
    ({'features': 1.0}, 1.0)
    """
    return keras.tree.pack_sequence_as(structure, [leaf]) if isinstance(structure, (dict, list, tuple)) else leaf
