"""A network from one of its layers on: what takes the output of that layer, a float, in place of the network's inputs.

So a network of texts is explained and attacked at its embedding, and any network at a layer within it. Nothing is cut:
a copy of the whole network runs, in which the layer returns what it is fed. What passes by the layer, such as masks and
shortcuts, is computed from the inputs, which stand in columns of their own behind the output of the layer.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rar.core import checks
from keras_rar.core.held import NOTHING, Columns
from keras_rar.networks import at_once
from keras_rar.networks.base_model import check_base_model, is_wrapped
from keras_rar.networks.fed import FedNetwork
from keras_rar.networks.kept import compiled, kept_with
from keras_rar.networks.named import layer_named
from keras_rar.networks.structure import only

_ROWS = 256


def tail_of(model: keras.Model, layer: str) -> "Tail":
    """The network from a layer on, made once for a network as it is.

    Args:
        model: A built Keras classifier, or a `RARModel`.
        layer: Name of a layer, also of one within a model within it.

    Raises:
        TypeError: If `model` is not a Keras 3 model, or `layer` no string.
        ValueError: If the model is not built, has no such layer, or cannot be looked at from there on.
    """
    network = model.base_model if is_wrapped(model) else model
    if isinstance(network, Tail):
        return network
    if not isinstance(network, keras.Model) or not network.built:
        check_base_model(network)  # which says what is wrong
    layer = checks.layer(layer) or ""
    return kept_with(network).get(("tail", layer), lambda: Tail(network, layer_named(network, layer)))


def at_layer(model: Any, layer: str | None, x: Any) -> tuple[Any, Any]:
    """The network from a layer on and what it takes there, for inputs; both as they are for `layer=None`.

    Args:
        model: A built Keras classifier, or a `RARModel`.
        layer: Name of a layer, or `None`.
        x: Inputs of the network.

    Raises:
        TypeError: As for `tail_of`.
        ValueError: As for `tail_of`, or if the inputs do not fit.

    Example:

    >>> layers = [keras.layers.Embedding(9, 2, name="words"), keras.layers.Flatten(), keras.layers.Dense(3)]
    >>> model = keras.Sequential([keras.Input((4,), dtype="int32"), *layers])
    >>> tail, h = at_layer(model, "words", [[1, 2, 3, 0]])
    >>> h.shape, bool(np.all(tail(h) == model(np.array([[1, 2, 3, 0]]))))
    ((1, 4, 2), True)
    """
    if layer is None or isinstance(model, Tail):
        return model, x
    tail = tail_of(model, layer)
    return tail, tail.entered_arrays(x)


class Tail(FedNetwork):
    """A network from a layer on. It shares the variables of the network, and is not to be saved.

    Args:
        network: A built Keras model.
        layer: One of its layers, called once.

    Attributes:
        columns: Which columns of its input are the output of the layer; the rest are held.
        by_rows: Whether a map has one value for each row of the output, the sum over its width: of a layer that
            returns rows, such as an embedding.

    Raises:
        ValueError: If the layer is not called once, or returns no floats, or if what passes by it does not fit beside
            its output.
    """

    def __init__(self, network: keras.Model, layer: Any):
        super().__init__(network, layer)
        leaves = keras.tree.flatten(self._structure)
        if any(keras.backend.standardize_dtype(leaf.dtype) == "string" for leaf in leaves):
            raise ValueError("`layer` must be one of a network that takes numbers. Received: a network of strings")
        h, masked = self.traced_front()
        if h is None or not h.dtype.is_floating or h.shape.rank is None or h.shape.rank < 2:
            raise ValueError(
                f"`layer` must be called once, and return one tensor of floats. Received: layer={layer.name!r}"
            )
        self.__dict__.update(shape=tuple(h.shape[1:]), by_rows=h.shape.rank == 3, columns=NOTHING)
        if masked or self.is_passed_by(h):
            self._check_beside(leaves)
            self.__dict__["columns"] = Columns(int(h.shape[-1]), masked)
        widths = [1 if len(leaf.shape) == h.shape.rank - 1 else leaf.shape[-1] for leaf in leaves]
        self.__dict__["_widths"] = widths if self.columns.holds else []

    columns: Columns
    shape: tuple[int | None, ...]
    by_rows: bool

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return self(inputs, training=training)

    def __call__(self, z: Any, training: bool | None = None, mask: Any = None) -> Any:  # the network is the outermost
        z = tf.convert_to_tensor(z)
        free = self.columns.is_free(z) if self.columns.masked else None
        return self.feed(self._inputs_beside(z), self.columns.free(z), free, training)

    def entered(self, x: Any) -> tf.Tensor:
        """What it takes for inputs of the network, differentiable in the variables in front of the layer."""
        h, mask = self.front(self._as_inputs(x))
        h = tf.cast(h, self.inputs[0].dtype)
        if not self.columns.holds:
            return h
        beside = [] if mask is None else [tf.cast(mask, h.dtype)[..., tf.newaxis]]
        for leaf in keras.tree.flatten(self._as_inputs(x)):
            leaf = tf.cast(leaf, h.dtype)
            beside.append(leaf[..., tf.newaxis] if leaf.shape.rank == h.shape.rank - 1 else leaf)
        return tf.concat([h, *beside], axis=-1)

    def entered_arrays(self, x: Any) -> np.ndarray:
        """`entered` of arrays, in batches.

        Raises:
            TypeError: If the inputs are not numbers.
            ValueError: If their shapes or values do not fit the network.
        """
        x = self._as_inputs(x, np.asarray)
        leaves, specs = keras.tree.flatten(x), keras.tree.flatten(self._structure)
        for array, spec in zip(leaves, specs, strict=True):
            if array.dtype.kind not in "fiub":
                raise TypeError(f"`x` must be an array of numbers. Received: dtype={array.dtype.name}")
            fits = array.ndim == len(spec.shape) and all(
                size in (None, given) for size, given in zip(spec.shape[1:], array.shape[1:], strict=True)
            )
            if not fits or not len(array):
                expected = ", ".join(str(size) for size in ("n", *spec.shape[1:]))
                raise ValueError(f"`x` must have the shape ({expected}) with n > 0. Received: x.shape={array.shape}")
            if not np.all(np.isfinite(array)):
                raise ValueError("`x` must be finite. Received: NaN or infinite values")
            most = 2**24 if self.columns.holds else np.inf  # beside the output of the layer they are floats
            if isinstance(self.layer, keras.layers.Embedding) and len(leaves) == 1:
                most = min(most, self.layer.input_dim - 1)
                if array.min() < 0:
                    checks.fail("x", f"indices from 0 to {most}", array.min())
            if np.abs(array).max(initial=0) > most:
                checks.fail("x", f"indices from 0 to {most}", array.max())
        arrays = [array.astype(spec.dtype) for array, spec in zip(leaves, specs, strict=True)]
        function = compiled(self.network, ("entered", self.layer.name), self._entered_rows)
        return at_once.in_batches(function, _ROWS, *arrays)

    def _entered_rows(self, *leaves: tf.Tensor) -> tf.Tensor:
        return self.entered(keras.tree.pack_sequence_as(self._structure, leaves))

    # How it looks to code that measures a model

    @property
    def inputs(self) -> list[Any]:
        width = self.columns.width
        shape = self.shape if width is None else (*self.shape[:-1], width + self.columns.masked + sum(self._widths))
        dtype = "float64" if self.network.variable_dtype == "float64" else "float32"
        return [keras.KerasTensor((None, *shape), dtype, name="h")]

    @property
    def input(self) -> Any:
        return self.inputs[0]

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        return tuple(self.input.shape)

    @property
    def outputs(self) -> list[Any]:
        known = getattr(self.network, "outputs", None)
        return known or keras.tree.flatten(self.network.compute_output_spec(self._structure))

    @property
    def layers(self) -> list[Any]:
        return [self.layer, *self.network.layers]

    def _check_beside(self, leaves: list[Any]) -> None:
        """Refuse inputs that pass by the layer and do not fit beside its output."""
        rows = self.shape[:-1]
        for leaf in leaves:
            sizes = tuple(leaf.shape[1:])
            fits = any(
                len(given) == len(rows)
                and all(a is None or b is None or a == b for a, b in zip(given, rows, strict=True))
                for given in (sizes, sizes[:-1])
            )
            if not fits or not self.shape[-1]:
                raise ValueError(
                    "`layer` must be one that the inputs do not pass by, or its rows must be those of the inputs. "
                    f"Received: layer={self.layer.name!r} of shape {self.shape} for inputs of shape {sizes}"
                )

    def _inputs_beside(self, z: tf.Tensor) -> Any:
        """The inputs of the network: those beside the output of the layer, or zeros that nothing is computed from."""
        specs, made = keras.tree.flatten(self._structure), []
        first = (self.columns.width or 0) + self.columns.masked
        for index, spec in enumerate(specs):
            if not self.columns.holds:
                sizes = tf.constant([size or 1 for size in spec.shape[1:]], tf.int32)
                made.append(tf.zeros(tf.concat([tf.shape(z)[:1], sizes], 0), spec.dtype))
                continue
            part = z[..., first : first + self._widths[index]]
            first += self._widths[index]
            part = part[..., 0] if len(spec.shape) == len(self.shape) else part
            made.append(part if tf.as_dtype(spec.dtype).is_floating else tf.cast(tf.round(part), spec.dtype))
        return keras.tree.pack_sequence_as(self._structure, made)

    def _as_inputs(self, x: Any, convert: Any = tf.convert_to_tensor) -> Any:
        """Inputs in the structure of the network; one input may come in a dictionary or list of one."""
        specs, names = keras.tree.flatten(self._structure), None
        if len(specs) == 1:
            leaves = [only("x", x, len(specs[0].shape))]
        elif isinstance(self._structure, dict):
            names = sorted(self._structure)
            leaves = [x[name] for name in names] if isinstance(x, dict) and set(names) <= set(x) else []
        else:
            leaves = list(x) if isinstance(x, (list, tuple)) else []
        if len(leaves) != len(specs):
            what = f"a dictionary of {names}" if names else f"a list of {len(specs)} arrays"
            raise ValueError(f"`x` must be {what}, as the inputs of the network. Received: {type(x).__name__}")
        return keras.tree.pack_sequence_as(self._structure, [convert(leaf) for leaf in leaves])
