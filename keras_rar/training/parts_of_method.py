"""What a compiled model computes of its method by itself: the inner maximum, attributions and the objective."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_rar.networks.structure import like, only
from keras_rar.training.fitting import MinMaxModel
from keras_rar.training.functions import Functions


class MethodModel(MinMaxModel):
    """A model with the parts of its method as functions of batches."""

    _functions: Functions

    def perturb(self, x: Any, y: Any, seed: int | None = None) -> tf.Tensor:
        """The inner maximum: x* in N(x, ε), by projected ascent. Changes no weight and no statistic.

        Args:
            x: Tensor of shape `(batch, ...)`, in the units of `bounds`.
            y: Labels, as for `fit`.
            seed: Integer seed of the random start. Defaults to the next one of `seed_generator`.

        Returns:
            Tensor of the shape of `x`, or of what `layer` returns, in a dictionary or list if `x` came in one; `x`
            itself without an inner maximum. Where ε follows a schedule it is that of the present step.
        """
        given, (x, y) = x, self._check_arguments(x, y)
        state = self._next_seed() if seed is None else tf.constant([seed, 0], tf.int64)
        return like(given, self._function(self._compiled.perturbed, x)(x, y, state))

    def attributions(self, x: Any, x_prime: Any, y: Any) -> tf.Tensor:
        """`IG(x, x′)` of the compiled loss, by the quadrature rule of the regularizer.

        Args:
            x: Tensor of shape `(batch, ...)`, the start of the segment.
            x_prime: Tensor of the shape of `x`, its end.
            y: Labels, as for `fit`.

        Returns:
            Tensor of the shape of `x`, in a dictionary or list if `x` came in one, in units of the loss; of the shape
            of what `attribution_layer` returns, if it was given.
        """
        segment = self._check_segment(x, x_prime, y)
        return like(x, self._function(self._compiled.attributions, segment[0])(*segment))

    def objective(self, x: Any, x_prime: Any, y: Any) -> tf.Tensor:
        """The objective of each example, every term in inference mode.

        Args:
            x: Tensor of shape `(batch, ...)`, the clean input.
            x_prime: Tensor of the shape of `x`, the perturbed input.
            y: Labels, as for `fit`.

        Returns:
            Tensor of shape `(batch,)`.
        """
        segment = self._check_segment(x, x_prime, y)
        return self._function(self._compiled.objective, segment[0])(*segment)

    def _function(self, method: Callable, x: tf.Tensor) -> Callable:
        return method if self.run_eagerly else self._functions.compiled(method, x)

    def _check_arguments(self, x: Any, y: Any) -> tuple[tf.Tensor, tf.Tensor]:
        self._refresh()
        x, y = self._check_batch(x, y)
        if tf.executing_eagerly():
            self._guard.check(x, y, self._bounded(x))
        return x, y

    def _check_segment(self, x: Any, x_prime: Any, y: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        x, y = self._check_arguments(x, y)
        tail = self._compiled.tail
        shape = x.shape if tail is None else [x.shape[0], *tail.shape]
        x_prime = tf.cast(only("x_prime", x_prime), self.variable_dtype)
        if not x_prime.shape.is_compatible_with(shape):
            of = "of `x`" if tail is None else f"that {tail.layer.name!r} returns"
            raise ValueError(f"`x_prime` must have the shape {of}, {tuple(shape)}. Received: {tuple(x_prime.shape)}")
        return x, x_prime, y

    def _next_seed(self) -> tf.Tensor:
        """A new seed, another one on each replica."""
        replica = tf.distribute.get_replica_context()
        offset = 0 if replica is None else replica.replica_id_in_sync_group
        return tf.cast(self.seed_generator.next(), tf.int64) + tf.cast(tf.stack([offset, 0]), tf.int64)
