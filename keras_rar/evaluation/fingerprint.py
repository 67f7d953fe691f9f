"""What the numbers of an evaluation depend on: weights, data and settings, versions."""

import hashlib
import importlib.metadata
import json
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def fingerprint_of(models: list[Any], x: np.ndarray, y: np.ndarray, settings: dict[str, Any]) -> str:
    """A hash of all that the numbers depend on."""
    architectures = [_architecture(model) for model in models]
    digest = hashlib.sha256(json.dumps([settings, architectures], sort_keys=True, default=str).encode())
    for array in (*(weight for model in models if model is not None for weight in model.get_weights()), x, y):
        digest.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _architecture(layer: Any) -> Any:
    """Layers by class and plain settings; their names differ from one building of a model to the next."""
    if layer is None or isinstance(layer, keras.Model):
        return [_architecture(inner) for inner in getattr(layer, "layers", [])]
    try:
        settings = layer.get_config()
    except Exception:  # a layer of the user's, or with a function of the user's
        settings = {}
    simple = {name: value for name, value in settings.items() if isinstance(value, (str, int, float, tuple, list))}
    return [type(layer).__name__, {**simple, "name": None}]


def versions() -> dict[str, str]:
    """The versions of the libraries by name, and the device."""
    try:
        version = importlib.metadata.version("keras_rar")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    gpus = tf.config.get_visible_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus]
    found = {"keras_rar": version, "keras": keras.__version__, "tensorflow": tf.__version__, "numpy": np.__version__}
    return {**found, "device": ", ".join(names) or "CPU"}
