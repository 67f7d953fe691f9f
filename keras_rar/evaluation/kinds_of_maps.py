"""Which kinds of map a report covers besides the one that is attacked, and what their columns are called."""

import re
from collections.abc import Sequence
from typing import Any

from keras_rar.core import checks
from keras_rar.core.saliency_methods import METHODS, IntegratedGradients, Saliency


def other_saliencies(given: Sequence[Any] | None, saliency: Any) -> dict[str, Any]:
    """The attribution methods to attack besides, by the name of their columns.

    Args:
        given: Methods; `None` for the gradient, or IG where `saliency` is something else.
        saliency: The attribution method of the evaluation.

    Raises:
        TypeError: If `given` is no sequence, or holds what is no attribution method.
        ValueError: If a method is unknown.

    Example:

    >>> list(other_saliencies(None, "ig")), list(other_saliencies(["gradient", "smoothgrad"], "ig"))
    (['gradient'], ['gradient', 'smoothgrad'])
    """
    if given is None:
        given = ("gradient",) if saliency == "ig" or isinstance(saliency, IntegratedGradients) else ("ig",)
    if isinstance(given, (str, Saliency)) or not isinstance(given, Sequence):
        raise TypeError(f"`other_maps` must be a sequence of attribution methods. Received: other_maps={given!r}")
    found: dict[str, Any] = {}
    for method in given:
        if not callable(method):
            checks.one_of("other_maps", method, METHODS)
        name, number = name_of(method), 2
        while name in found or (name == name_of(saliency) and method is not saliency):
            name, number = f"{name_of(method)}_{number}", number + 1
        found[name] = method
    return found


def name_of(saliency: Any) -> str:
    """What a kind of map is called in tables and columns: letters, digits and underscores.

    Args:
        saliency: A name, a `Saliency` or a function.

    Example:

    >>> name_of(IntegratedGradients())
    'ig'
    """
    if isinstance(saliency, str):
        return saliency
    for name, kind in METHODS.items():
        if type(saliency) is kind:
            return name
    text = getattr(saliency, "__name__", type(saliency).__name__)
    return re.sub(r"\W+", "_", text).strip("_") or "map"
