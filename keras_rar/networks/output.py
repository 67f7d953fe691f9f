"""The output of a classifier, resolved: its logits, and scores of them in the form that is fastest to differentiate.

Keras clips probabilities at 1e-7 inside its losses, which silently zeroes gradients where a model is sure
and makes attacks look weak. So a softmax or sigmoid at the end of the model is taken off, in a twin of it, and a loss
that expects probabilities is replaced by the same loss on logits; what cannot be resolved is refused.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_rar.core.gradients import Layered, ScalarFunction, Staged
from keras_rar.core.memory import bytes_per_point
from keras_rar.networks import (
    batch_statistics,
    endings,
    grouped,
    hidden_relus,
    lean,
    pools,
    relus,
    second_orders,
    stem,
    structure,
)
from keras_rar.networks.base_model import check_base_model, input_structure
from keras_rar.networks.copies import Change, copy_with
from keras_rar.networks.graph import calls_of
from keras_rar.networks.kept import Kept, kept_with
from keras_rar.networks.relus import Replacement
from keras_rar.networks.rules import Rule
from keras_rar.networks.shared_variables import SharedVariables
from keras_rar.networks.squashing import Unsquashed


def head_of(model: keras.Model) -> "OutputHead":
    """The `OutputHead` of a model as it is: made once, and again when the model gets another layer or activation."""
    return kept_with(model).get("head", lambda: OutputHead(model))


class OutputHead:
    """A model seen as its logits. All that it calls are twins, which share the variables; never the model itself.

    Args:
        model: A built Keras model with one input and one output.

    Raises:
        ValueError: If the model ends in a softmax over one unit.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self.inputs = input_structure(model)
        self.classes = classes = check_base_model(model)[1]
        twin = isinstance(model, SharedVariables) and model.same_inputs
        seen = model.network if twin else model  # of a twin of the user's: both end alike
        ending = list(_ending(seen.network if isinstance(seen, SharedVariables) else seen))  # that of the whole network
        once = not any(_may_be_called_twice(last, outer) for outer, last in ending if last)
        self.squashing = endings.find(seen, self.inputs, ending[-1][1] if once else None, classes)
        self.activation = self.squashing.kind
        if self.activation == "softmax" and classes == 1:
            raise ValueError(
                "`model` must not end in a softmax over one unit, which is 1 whatever the input: use a sigmoid, or "
                f"two units. Received: {model.name!r}"
            )
        self.gradient_scale = 1024.0 if _uses_float16(model) else 1.0  # keeps small gradients from underflowing
        self._twins = Kept(None)

    @functools.cached_property
    def _stem(self) -> stem.Stem | None:
        return None if self.squashing.in_graph else stem.find(self.model)  # the stem is fed outside of that graph

    @functools.cached_property
    def _pools(self) -> list[tuple[Any, Any]]:
        return pools.find_pools(self.model)

    def twin(
        self,
        relu: Replacement | None = None,
        *,
        fast: bool = False,
        rest: bool = False,
        training: bool = False,
        frozen: bool = False,
    ) -> Callable:
        """A copy of the model that returns logits.

        Args:
            relu: What stands for its ReLUs; `None` for themselves.
            fast: Whether layers have second derivatives of their own, fast and right ones.
            rest: Whether it goes on from what the stem is fed.
            training: Whether it is the one for training passes, whose losses of layers nothing else touches.
            frozen: Whether batch normalisation leaves its moving statistics as they are.
        """

        def make() -> Any:
            changes: list[Change] = []
            rule = relu if isinstance(relu, Rule) else None
            if relu is not None and (rule is None or rule.replaces_relus):
                self._twins.get("checked", lambda: hidden_relus.checked(self.model))
                changes += relus.changes(self.model, relu)
            changes += lean.changes(self.model, activations=rule is None)
            if fast:
                changes += second_orders.changes(self.model)
                changes += pools.changes(self._pools, relu is not None)
            if frozen:
                changes += batch_statistics.changes(self.model)
            changes += grouped.changes(self.model)
            changes += self.squashing.change()
            if rest and self._stem is not None:
                changes.append(self._stem.change())
            if rule is not None:
                changes += rule.changes(self.model, changes)
            copied = copy_with(self.model, changes)
            return Unsquashed(copied, str(self.activation)) if self.squashing.in_graph else copied

        return self._twins.get((relu, fast, rest, training, frozen), make)

    def logits(self, x: tf.Tensor) -> tf.Tensor:
        """The model's output before its softmax or sigmoid in inference mode, at least in float32."""
        return self._logits(self.twin(), x)

    def classified(self, x: tf.Tensor, frozen: bool) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The logits in training mode, and the losses of layers, such as weight decay, of that pass alone.

        Args:
            x: Inputs.
            frozen: Whether batch normalisation leaves its moving statistics as they are.
        """
        twin = self.twin(training=True, frozen=frozen)
        return self._logits(twin, x, True), twin.losses  # type: ignore[attr-defined]

    def _logits(self, twin: Callable, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        scores = structure.only("output", twin(structure.like(self.inputs, x), training=training))
        return tf.cast(scores, "float64" if scores.dtype == tf.float64 else "float32")

    def scored(
        self, score: Callable[[tf.Tensor], tf.Tensor], relu: Replacement | None = None, staged: bool = True
    ) -> ScalarFunction:
        """`z -> score(logits(z))` in inference mode, in the form that is fastest to differentiate twice.

        Args:
            score: Function `(n, classes) -> (n,)` of logits.
            relu: What stands for the model's ReLUs; `None` for themselves.
            staged: Whether the first layers may be a stage of their own: faster, but rounded differently.

        Raises:
            ValueError: If `relu` is given and a ReLU of the model is out of reach.
        """
        first = self._stem if staged else None
        twin = self.twin(relu, fast=True, rest=first is not None)
        if first is None:
            return lambda z: score(self._logits(twin, z))

        def rest(h: tf.Tensor) -> tf.Tensor:
            with first.feed(h):
                return score(self._logits(twin, first.placeholder(h)))

        return Staged(first, rest)

    def layered(self, score: Callable[[tf.Tensor], tf.Tensor]) -> Layered:
        """`scored` of the whole network, in two stages: what the layer returns, and what follows it.

        The model is a `keras_rar.networks.tail.Tail`, of which nothing is held.

        Args:
            score: Function `(n, classes) -> (n,)` of logits.
        """

        def make() -> Any:
            changes = [*second_orders.changes(self.model), *lean.changes(self.model)]
            changes += pools.changes(self._pools, relus_are_replaced=True)
            return copy_with(self.model, [*changes, *grouped.changes(self.model)])

        rest = self.twin(fast=True)
        return Layered(self._twins.get("front", make).entered, lambda h: score(self._logits(rest, h)))

    def bytes_per_point(self, input_shape: tuple[int | None, ...], staged: bool = True) -> float:
        """Memory of all that `scored` computes at one input of a shape; without the stem, if that is a stage."""
        f = self.scored(lambda logits: logits[:, 0], staged=staged)
        z = tf.TensorSpec([1, *(size or 1 for size in input_shape)], self.model.variable_dtype)
        if isinstance(f, Staged):
            h = tf.function(f.stem, autograph=False).get_concrete_function(z).structured_outputs
            return bytes_per_point(f.rest, h.shape[1:], h.dtype)
        return bytes_per_point(f, z.shape[1:], z.dtype)

    def activate(self, logits: tf.Tensor) -> tf.Tensor:
        """What the model outputs for these logits."""
        return logits if self.activation is None else getattr(keras.activations, self.activation)(logits)


def _ending(model: Any) -> Iterator[tuple[keras.Model, Any]]:
    """A model and its last layer, then that layer and its own if it is a model, and so on inwards.

    The layer is `None` where the model does not say: a subclassed one, or one that ends in an operation, such as
    `keras.ops.add`.
    """
    while isinstance(model, keras.Model):
        if isinstance(model, keras.Sequential):
            last = model.layers[-1]
        elif getattr(model, "output_names", None):
            last = next((layer for layer in model.layers if layer.name == model.output_names[0]), None)
        else:
            last = None
        yield model, last
        model = last


def _uses_float16(layer: keras.layers.Layer) -> bool:
    return layer.compute_dtype == "float16" or any(_uses_float16(inner) for inner in getattr(layer, "layers", []))


def _may_be_called_twice(layer: keras.layers.Layer, model: keras.Model) -> bool:
    """Whether a layer stands at two places of a Functional model, or its config does not say.

    That of a class with a `get_config` of its own, as those of KerasHub, has no layers.
    """
    if not getattr(model, "output_names", None):
        return False
    calls = {entry["name"]: len(entry["inbound_nodes"]) for entry in calls_of(model)}
    return calls.get(layer.name) != 1
