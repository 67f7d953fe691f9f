"""One tensor in a structure: inputs, outputs and labels as Keras users pass them, by name or in a list."""

from typing import Any

import keras


def only(name: str, value: Any) -> Any:
    """The one leaf of a dictionary, list or tuple; anything else as it is.

    Args:
        name: What it is, for the error.
        value: An array or tensor, or a structure of one of them. A list of numbers is an array.

    Raises:
        ValueError: If the structure has several leaves, or none.

    Example:

    >>> only("x", {"features": 1.0}), only("x", [[1.0, 2.0]])
    (1.0, [[1.0, 2.0]])
    """
    while isinstance(value, dict) or (isinstance(value, (list, tuple)) and _holds_arrays(value)):
        leaves = list(value.values()) if isinstance(value, dict) else list(value)
        if len(leaves) != 1:
            names = list(value) if isinstance(value, dict) else len(leaves)
            raise ValueError(f"`{name}` must hold one array. Received: a {type(value).__name__} of {names}")
        value = leaves[0]
    return value


def _holds_arrays(value: list[Any] | tuple[Any, ...]) -> bool:
    """Whether the items are arrays, and not the numbers of one array."""
    return bool(value) and all(isinstance(item, dict) or len(getattr(item, "shape", ())) > 0 for item in value)


def like(structure: Any, leaf: Any) -> Any:
    """The leaf in a structure that has one.

    Example:

    >>> like({"features": None}, 1.0), like(None, 1.0)
    ({'features': 1.0}, 1.0)
    """
    return keras.tree.pack_sequence_as(structure, [leaf]) if isinstance(structure, (dict, list, tuple)) else leaf
