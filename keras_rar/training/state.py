"""State that Keras does not write into a weights file: the seeds of random layers, and counts of the training.

A model that is loaded goes on exactly as the saved one would only if every seed generator goes on too: those of
`Dropout`, of noise and augmentation layers, and of layers that users wrote.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType, MethodType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

_GENERATORS = (keras.random.SeedGenerator, tf.random.Generator)
_SEARCHED = (keras.Layer, keras.initializers.Initializer, keras.regularizers.Regularizer)
"""Kinds of Keras objects that may hold a generator; graphs of nodes and tensors lead to other models."""


def random_states(*roots: Any) -> list[Any]:
    """The state variables of all seed generators that objects hold, directly or through what they hold.

    Args:
        *roots: Models, layers or other objects.

    Returns:
        List of variables, each once; in the same order for every model that is built in the same way.

    Example:

    >>> network = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.GaussianNoise(0.1)])
    >>> len(random_states(network))
    2
    """
    found = {id(generator): generator.state for root in roots for generator in _generators(root)}
    variables = [variable for root in roots if isinstance(root, keras.Layer) for variable in root.variables]
    position = {id(variable): number for number, variable in reversed([*enumerate(variables)])}
    # Keras's own order first: it does not depend on names of attributes.
    return sorted(found.values(), key=lambda state: position.get(id(state), len(position)))


def values_of(variables: Iterable[Any]) -> list[np.ndarray]:
    """The values of variables, as NumPy arrays."""
    return [tf.convert_to_tensor(variable).numpy() for variable in variables]


def save_state(model: Any, store: Any) -> None:
    """Put the state of a `RARModel` that Keras does not save into the entry of its weights file."""
    store["seed_state"] = values_of([model.seed_generator.state])[0]
    store["skipped_updates"] = np.int64(model.skipped_updates)
    for number, value in enumerate(values_of(random_states(model.base_model, model.regularizer))):
        store[f"random_state_{number}"] = value


def load_state(model: Any, store: Any) -> int:
    """Take the state from the entry of a weights file; returns the number of skipped updates.

    A file of version 0.1.0 holds the seed of the random starts alone. The seeds of layers are taken if the file has
    one for each generator: a file may also be loaded into a network with other random layers.
    """
    of_base_model = {id(variable) for variable in model.base_model.weights}
    own = [variable for variable in model.weights if id(variable) not in of_base_model]
    held = set(store.keys())  # the entries of older versions of Keras have no `in`
    for number, variable in enumerate(own):
        if str(number) in held:
            variable.assign(store[str(number)])
    model.seed_generator.state.assign(store["seed_state"])
    states = random_states(model.base_model, model.regularizer)
    names = [f"random_state_{number}" for number in range(len(states))]
    if all(name in held for name in names) and f"random_state_{len(states)}" not in held:
        for name, variable in zip(names, states, strict=True):
            variable.assign(np.asarray(store[name]))
    return int(np.asarray(store["skipped_updates"])) if "skipped_updates" in held else 0


def _generators(root: Any) -> Iterator[Any]:
    """All seed generators below an object, found by walking through attributes and containers."""
    seen: dict[int, Any] = {}  # holds what it saw, so that no id is given twice
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, _GENERATORS):
            yield value
        else:
            waiting.extend(reversed(list(_held_by(value))))


def _held_by(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from value
    elif isinstance(value, (FunctionType, MethodType)):
        yield from _used_by(value)
    elif isinstance(value, _SEARCHED) or _is_of_users(type(value)):
        attributes = getattr(value, "__dict__", {})
        yield from (attributes[name] for name in sorted(attributes))
        for cls in type(value).__mro__:
            if _is_of_users(cls):
                shared = (item for item in vars(cls).values() if isinstance(item, (*_GENERATORS, FunctionType)))
                yield from shared


def _used_by(function: Any) -> Iterator[Any]:
    """The generators that a function uses without holding them: of its closure and of its module."""
    try:
        used = inspect.getclosurevars(function)
    except (TypeError, ValueError):  # no Python code, or a variable that is not set
        return
    for value in (*used.nonlocals.values(), *used.globals.values()):
        if isinstance(value, _GENERATORS):
            yield value


def _is_of_users(cls: type) -> bool:
    """Whether a class is of the user's code, rather than of a library that is not to be searched."""
    if issubclass(cls, type) or cls.__module__ == "builtins":
        return False
    return cls.__module__.split(".")[0] not in ("tensorflow", "keras", "numpy", "keras_rar", "wrapt", "functools")
