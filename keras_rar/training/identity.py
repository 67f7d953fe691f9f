"""What a training belongs to: its data, its network and its settings, in words that can be compared."""

import hashlib
import json
from typing import Any

import keras
import numpy as np


def of_arrays(structure: Any) -> Any:
    """Arrays in words, in the structure that they have: dtype, shape and a hash of the content."""
    return keras.tree.map_structure(_of_array, structure)


def _of_array(array: Any) -> str:
    values = np.asarray(array)
    content = values.tolist() if values.dtype == object else np.ascontiguousarray(values)
    digest = hashlib.sha256(repr(content).encode() if isinstance(content, list) else content.tobytes())
    return f"{values.dtype} {tuple(values.shape)}, content {digest.hexdigest()[:16]}"


def about_arrays(structure: Any) -> Any:
    """Arrays in words that do not change with the rounding of another processor: floats by mean and deviation."""

    def about(array: Any) -> str:
        values = np.asarray(array)
        if values.dtype.kind != "f":
            return _of_array(values)
        mean, deviation = values.mean(dtype="float64"), values.std(dtype="float64")
        return f"{values.dtype} {tuple(values.shape)}, mean {mean:.3g}, deviation {deviation:.3g}"

    return keras.tree.map_structure(about, structure)


def of_network(network: keras.Model) -> str:
    """A network in words: class, parameters and a hash of its architecture; names of layers do not count."""
    try:
        config = network.get_config()
    except Exception:  # a layer or a model of the user's without a config
        config = {}
    shapes = [(tuple(weight.shape), str(weight.dtype)) for weight in network.weights]
    plain = _without_names(config, _names(config))
    content = json.dumps([plain, shapes], sort_keys=True, default=in_words)
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    return f"{type(network).__name__}, {network.count_params()} parameters, architecture {digest}"


def _names(config: Any) -> dict[str, str]:
    """The names of layers in a config, with what stands for each: its number in the order of appearance."""
    names: dict[str, str] = {}

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            if "class_name" in value and isinstance(name := (value.get("config") or {}).get("name"), str):
                names.setdefault(name, f"#{len(names)}")
            for item in value.values():
                collect(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                collect(item)

    collect(config)
    return names


def _without_names(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        left_out = ("name", "build_config", "compile_config", "shared_object_id")
        return {key: _without_names(item, names) for key, item in value.items() if key not in left_out}
    if isinstance(value, (list, tuple)):
        return [_without_names(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


def in_words(value: Any) -> Any:
    """What JSON has no word for: arrays by their content, objects by their config."""
    if isinstance(value, (np.bool_, np.number)):
        return value.item()
    if isinstance(value, np.ndarray) or keras.ops.is_tensor(value):
        return of_arrays(value)
    if hasattr(value, "get_config"):
        config = value.get_config()
        return [type(value).__name__, {key: item for key, item in config.items() if key != "name"}]
    if callable(value):  # without its address
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__name__)}"
    return str(value)


def differences(theirs: Any, ours: Any) -> list[str]:
    """What differs between two contents of JSON files, each as `name (then, now)`."""
    then, now = flat(theirs), flat(ours)
    missing = "none"
    return [
        f"{name} (then {then.get(name, missing)}, now {now.get(name, missing)})"
        for name in [*then, *(name for name in now if name not in then)]
        if then.get(name, missing) != now.get(name, missing)
    ]


def flat(content: Any, name: str = "") -> dict[str, Any]:
    """The single values of nested dictionaries and lists by their path, such as `phases[0].epochs`."""
    if isinstance(content, dict) and content:
        items = [(f"{name}.{key}" if name else str(key), item) for key, item in content.items()]
    elif isinstance(content, list) and content:
        items = [(f"{name}[{number}]", item) for number, item in enumerate(content)]
    else:
        return {name: content}
    return {path: value for key, item in items for path, value in flat(item, key).items()}
