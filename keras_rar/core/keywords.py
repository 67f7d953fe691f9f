"""Keyword arguments that do not exist: an error that names the nearest one and lists them all."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


def refuse(arguments: Mapping[str, Any], known: Iterable[str], of: str) -> None:
    """Refuse keyword arguments that do not exist.

    Args:
        arguments: Arguments by name.
        known: The names that exist.
        of: Whose arguments they are, for the error.

    Raises:
        TypeError: If there is an unknown argument.

    Example:

    >>> refuse({"epsilom": 0.1}, ["epsilon", "norm"], "Protocol")
    Traceback (most recent call last):
        ...
    TypeError: `Protocol` has no argument `epsilom`; did you mean `epsilon`? It has ['epsilon', 'norm']. \
Received: epsilom=0.1
    """
    known = list(known)
    for name, value in arguments.items():
        if name in known:
            continue
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean `{near[0]}`?" if near else "."
        raise TypeError(f"`{of}` has no argument `{name}`{hint} It has {known}. Received: {name}={value!r}")
