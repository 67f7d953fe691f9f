"""Keyword arguments that do not exist: an error that names the nearest one and lists them all."""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


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
    TypeError: `Protocol` has no argument `epsilom`; did you mean `epsilon`? It has epsilon, norm. Received: epsilom=0.1
    """
    known = list(known)
    for name, value in arguments.items():
        if name in known:
            continue
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean `{near[0]}`?" if near else "."
        raise TypeError(f"`{of}` has no argument `{name}`{hint} It has {', '.join(known)}. Received: {name}={value!r}")


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """A function with the error of `refuse` for a keyword argument that does not exist.

    Args:
        function: A function with named arguments, or an `__init__`, whose class is then named in the error.

    Example:

    >>> checked(lambda epsilon: epsilon)(epsilon=0.1)
    0.1
    """
    known = [name for name in inspect.signature(function).parameters if name != "self"]

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        of = type(args[0]).__name__ if function.__name__ == "__init__" else function.__name__
        refuse(kwargs, known, of)
        return function(*args, **kwargs)

    return call
