"""A network of several inputs and outputs, seen as one of a single row of numbers and a single output."""

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.networks.row_parts import RowParts

_WIDE = 1e30
"""The bounds of what has none, in place of infinity, of which JSON has no word."""


class OneInput:
    """A view of a network with several inputs, or several outputs: one row of numbers in, one of its outputs out.

    `view.model` is a Keras model of the same layers, so training it trains the network. A row holds the entries of all
    inputs one after the other; integers, such as indices of categories or words, are cast back to what they were, and
    are fed to the network as they are at every point of a segment or a ball. Everything in this package takes
    `view.model` with `view.rows(x)`, and `view.ball(…)` says what may change, by how much.

    Args:
        model: A built Functional Keras model (`keras.Model(inputs, outputs)`) with inputs of known shapes; a `RARModel`
            is made of the view afterwards.
        perturbed: Names of the inputs that may change, which have floating-point numbers. Defaults to all of these.
        output: Name or number of the output that is explained; to be given if there are several.

    Attributes:
        model: The view, a Keras model.
        shapes: The shapes of the inputs by name, in the order that they have in a row.

    Raises:
        TypeError: If `model` is not a Keras model.
        ValueError: If it is not a Functional one, a shape is not known, or a name or dtype is wrong.

    Example:

    >>> inputs = {"measured": keras.Input((3,), name="measured"), "sex": keras.Input((), dtype="int32", name="sex")}
    >>> embedded = keras.layers.Embedding(2, 2)(inputs["sex"])
    >>> joined = keras.layers.Concatenate()([inputs["measured"], embedded])
    >>> view = keras_rar.OneInput(keras.Model(inputs, keras.layers.Dense(2)(joined)))
    >>> x = view.rows({"measured": np.full((1, 3), 0.5), "sex": np.array([1])})
    >>> maps = keras_rar.saliency_map(view.model, x, baseline=view.ball(0.1)["baseline"], m=5)
    >>> {name: part.shape for name, part in view.parts(maps).items()}
    {'measured': (1, 3), 'sex': (1,)}
    >>> view.ball({"measured": [0.1, 0.2, 0.0]})["epsilon"]
    [0.1, 0.2, 0.0, 0.0]
    """

    def __init__(self, model: keras.Model, *, perturbed: Iterable[str] | None = None, output: str | int | None = None):
        if not isinstance(model, keras.Model):
            checks.fail("model", "a Keras 3 model", model, TypeError)
        if not getattr(model, "inputs", None) or isinstance(model, keras.Sequential):
            checks.fail("model", "a Functional model, keras.Model(inputs, outputs)", model)
        inputs = _by_name(model)
        self.shapes = {name: tuple(tensor.shape[1:]) for name, tensor in inputs.items()}
        self._dtypes = {name: keras.backend.standardize_dtype(tensor.dtype) for name, tensor in inputs.items()}
        for name, shape in self.shapes.items():
            if None in shape or self._dtypes[name] == "string":
                received = f"{self._dtypes[name]} of shape {shape}"
                raise ValueError(
                    f"`model` must have inputs of numbers, of known shapes. Received: {name!r}, {received}"
                )
        self._floating = [name for name, dtype in self._dtypes.items() if "float" in dtype]
        self._perturbed = self._checked_names(perturbed)
        self._dtype = "float64" if "float64" in self._dtypes.values() else "float32"
        stops = list(itertools.accumulate(math.prod(shape) for shape in self.shapes.values()))
        self._places = {n: slice(*ends) for n, ends in zip(self.shapes, itertools.pairwise([0, *stops]), strict=True)}
        self.model = self._viewed(model, output)

    @tf.autograph.experimental.do_not_convert
    def rows(self, x: Any) -> Any:
        """Inputs as rows.

        Args:
            x: Dictionary from name to an array `(n, ...)`, or list of the arrays in the order of `shapes`; or the same
                of tensors, as in a function for `dataset.map`.

        Returns:
            Array `(n, entries)` of floats, or a tensor of tensors.

        Raises:
            ValueError: If an input is missing or has a wrong shape, or an integer is too large for a float.
        """
        given = self._given(x)
        if any(tf.is_tensor(part) for part in given.values()):
            flat = [
                tf.reshape(tf.cast(part, self._dtype), [-1, math.prod(self.shapes[n])]) for n, part in given.items()
            ]
            return tf.concat(flat, axis=1)
        arrays = {name: np.asarray(part) for name, part in given.items()}
        sizes = {len(part) for part in arrays.values()}
        if len(sizes) != 1:
            raise ValueError(f"`x` must hold as many examples of each input. Received: {sorted(sizes)}")
        flat = [part.reshape(len(part), -1).astype(self._dtype) for part in arrays.values()]
        for (name, part), values in zip(arrays.items(), flat, strict=True):
            whole = np.round(part.astype("float64")).reshape(values.shape)
            if name not in self._floating and np.any(values != whole):
                raise ValueError(
                    f"`x` must hold whole numbers that {self._dtype} holds too. Received: others in {name!r}"
                )
        return np.concatenate(flat, axis=1)

    def parts(self, rows: Any) -> dict[str, np.ndarray]:
        """Rows, or maps of them, by the names of the inputs.

        Args:
            rows: Array `(n, entries)`, such as a saliency map.

        Returns:
            Dictionary from name to an array of the shape of that input, `(n, ...)`.

        Raises:
            ValueError: If rows have another number of entries.
        """
        rows, entries = np.asarray(rows), sum(math.prod(shape) for shape in self.shapes.values())
        if rows.ndim != 2 or rows.shape[1] != entries:
            raise ValueError(f"`rows` must be an array of shape (n, {entries}). Received: shape {rows.shape}")
        return {name: rows[:, place].reshape(-1, *self.shapes[name]) for name, place in self._places.items()}

    def ball(self, epsilon: Any, bounds: Any = (0.0, 1.0), baseline: Any = 0.0) -> dict[str, Any]:
        """The settings `epsilon`, `bounds` and `baseline`, one entry per entry of a row, for everything that has them.

        What is not perturbed has ε = 0, no bounds, and itself as its baseline, `None`: it gets no share.

        Args:
            epsilon: Float > 0, or dictionary from the name of each perturbed input to a float or an array.
            bounds: Pair `(lower, upper)` for all perturbed inputs, or dictionary from name to a pair of floats or
                arrays; `None` for no bounds. Defaults to `(0., 1.)`.
            baseline: Float for all perturbed inputs, or dictionary from name to a float or an array, also of inputs
                that are floating point and not perturbed; `None` for the input itself. Defaults to `0.`.

        Returns:
            Dictionary of `epsilon`, `bounds` and `baseline`, for `keras_rar.wrap(view.model, **view.ball(0.1))`.

        Raises:
            ValueError: If a name is wrong or missing, or an array does not broadcast to its input.
        """
        radii = self._filled("epsilon", epsilon, 0.0, self._perturbed)
        pairs = bounds if isinstance(bounds, Mapping) else dict.fromkeys(self._perturbed, bounds)
        self._refuse("bounds", pairs, self._perturbed)
        lower, upper = ({}, {})
        for name, pair in pairs.items():
            if (found := checks.increasing_bounds("bounds", pair)) is not None:
                lower[name], upper[name] = found
        ends = tuple(self._filled("bounds", end, wide, list(end)) for end, wide in ((lower, -_WIDE), (upper, _WIDE)))
        names = list(baseline) if isinstance(baseline, Mapping) else self._perturbed
        self._refuse("baseline", names, self._floating)
        return {"epsilon": radii, "bounds": ends, "baseline": self._filled("baseline", baseline, None, names)}

    def _viewed(self, model: keras.Model, output: Any) -> keras.Model:
        """The layers of a model behind one that cuts a row into its inputs."""
        outputs = keras.tree.flatten(model.output)
        if len(outputs) != 1:
            model = keras.Model(model.input, outputs[_place(model, output)], name=model.name)
        elif output is not None:
            _place(model, output)
        row = keras.Input((sum(math.prod(shape) for shape in self.shapes.values()),), dtype=self._dtype, name="row")
        cut = RowParts(list(self.shapes.values()), list(self._dtypes.values()), dtype=self._dtype, name="row_parts")
        parts = dict(zip(self.shapes, cut(row), strict=True))
        structure = (
            parts if isinstance(model.input, dict) else keras.tree.pack_sequence_as(model.input, [*parts.values()])
        )
        return keras.Model(row, model(structure), name=f"{model.name}_of_one_input")

    def _given(self, x: Any) -> dict[str, Any]:
        if isinstance(x, (list, tuple)) and len(x) == len(self.shapes):
            x = dict(zip(self.shapes, x, strict=True))
        if not isinstance(x, Mapping) or not set(self.shapes) <= set(x):
            what = f"a dictionary of {list(x)}" if isinstance(x, Mapping) else type(x).__name__
            raise ValueError(f"`x` must be a dictionary of {list(self.shapes)}, or a list of these. Received: {what}")
        given = {name: x[name] for name in self.shapes}
        for name, part in given.items():
            shape = tuple(np.shape(part) if not tf.is_tensor(part) else part.shape)
            if len(shape) != len(self.shapes[name]) + 1 or shape[1:] != self.shapes[name]:
                raise ValueError(
                    f"`x` must hold {name!r} of shape {('n', *self.shapes[name])}. Received: shape {shape}"
                )
        return given

    def _checked_names(self, perturbed: Iterable[str] | None) -> list[str]:
        names = self._floating if perturbed is None else [perturbed] if isinstance(perturbed, str) else list(perturbed)
        self._refuse("perturbed", names, self._floating)
        if not names:
            checks.fail("perturbed", f"one or more of {self._floating}", perturbed)
        return names

    def _refuse(self, setting: str, names: Iterable[str], known: list[str]) -> None:
        for name in names:
            if name not in known:
                checks.fail(setting, f"of inputs among {known}, the floating-point ones that it may be of", name)

    def _filled(self, setting: str, value: Any, otherwise: Any, names: list[str]) -> list[Any]:
        """One value for each entry of a row: those given by name, or one of all these names, and else another."""
        given = dict(value) if isinstance(value, Mapping) else dict.fromkeys(names, value)
        if setting == "epsilon":
            self._refuse(setting, given, names)
            if missing := [name for name in names if name not in given]:
                checks.fail(setting, f"given for each input that is perturbed, {names}", f"none for {missing}")
        row: list[Any] = []
        for name, shape in self.shapes.items():
            part = np.array(given.get(name, otherwise), object)
            checks.broadcasts(setting, part, shape)
            row += [item if item is None else float(item) for item in np.broadcast_to(part, shape).ravel()]
        return row


def _by_name(model: Any) -> dict[str, Any]:
    """The inputs of a Functional model by their names, in the order in which Keras flattens them."""
    if isinstance(model.input, dict):
        return dict(sorted(model.input.items()))
    tensors = keras.tree.flatten(model.input)
    return {tensor.name: tensor for tensor in tensors}


def _place(model: Any, output: Any) -> int:
    """The number of an output, by its name or number."""
    names = sorted(model.output) if isinstance(model.output, dict) else list(model.output_names)
    known = [*names, *range(len(names))]
    if output is None:
        checks.fail("output", f"given where there are several, one of {known}", None)
    place = checks.one_of("output", output, known)
    return names.index(place) if isinstance(place, str) else int(place)
