"""The layer that cuts one row of numbers into the inputs of a network."""

import itertools
import math
from typing import Any

import keras
import numpy as np


@keras.saving.register_keras_serializable("keras_rar")
class RowParts(keras.layers.Layer):
    """A row of numbers cut into arrays, one after the other, each of a shape and a dtype of its own.

    Integers are rounded to the nearest, and have no gradient.

    Args:
        shapes: The shapes, without the batch.
        dtypes: The names of their dtypes.
        **options: As for any layer.
    """

    def __init__(self, shapes: Any, dtypes: Any, **options: Any):
        super().__init__(**{**options, "autocast": False})  # float16 holds few integers
        self.shapes = [tuple(int(size) for size in shape) for shape in shapes]
        self.dtypes = list(dtypes)

    def call(self, row: Any) -> list[Any]:
        found = []
        for (start, stop), shape, dtype in zip(self._ends(), self.shapes, self.dtypes, strict=True):
            part = keras.ops.reshape(row[:, start:stop], (-1, *shape))
            found.append(keras.ops.cast(part if "float" in dtype else keras.ops.round(part), dtype))
        return found

    def integer_columns(self) -> np.ndarray:
        """Which entries of a row are integers: booleans, `(entries,)`."""
        sizes = [math.prod(shape) for shape in self.shapes]
        return np.repeat(["float" not in dtype for dtype in self.dtypes], sizes)

    def _ends(self) -> Any:
        return itertools.pairwise([0, *itertools.accumulate(math.prod(shape) for shape in self.shapes)])

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "shapes": [list(shape) for shape in self.shapes], "dtypes": self.dtypes}
        config.pop("autocast", None)
        return config


def integer_columns(model: Any) -> np.ndarray | bool:
    """Which entries of an input are integers that a network casts back: booleans, or `False` of none.

    Args:
        model: Any Keras model.
    """
    layers = getattr(model, "layers", [])
    return next((layer.integer_columns() for layer in layers if isinstance(layer, RowParts)), False)
