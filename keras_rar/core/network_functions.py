"""What objectives know of a network: its functions, and which of its passes comes first."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from keras_rar.core.gradients import Layered, ScalarFunction
from keras_rar.core.held import NOTHING, Columns


@dataclasses.dataclass(frozen=True)
class Network:
    """The three functions of a classifier that the mathematics needs.

    Args:
        logits: Function `(inputs, training) -> logits` of shape `(n, classes)`.
        loss: Function `(y, logits) -> (n,)`, the loss of each example.
        label_logit: Function `(y, logits) -> (n,)`, the logit of the label of each example.
        gradient_scale: Float; a score is multiplied by it before its gradient is taken, and the gradient is divided
            by it. Without it a small gradient would underflow to 0 in float16. Defaults to `1.`.
        columns: What is free of an input. Defaults to all of it.
        by_rows: Whether the maps are sums over the last axis, one value per row. Defaults to `False`.
        scored: Function `(score) -> f`, where `f(z)` is the score of the logits at z in inference mode; `f` may be
            `Staged`. Defaults to the composition of both.
        layered: Function `(score) -> f` as `scored`, where `f` is `Layered` at the layer that the IG of the loss is
            attributed to. Defaults to `None`, the input.
        stands_in: Whether it stands for another network, whose inputs may have another shape: only what is read of it
            is of interest. Defaults to `False`.
    """

    logits: Callable[[tf.Tensor, bool], tf.Tensor]
    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    label_logit: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    gradient_scale: float = 1.0
    scored: Callable[[Callable[[tf.Tensor], tf.Tensor]], ScalarFunction] | None = None
    columns: Columns = NOTHING
    by_rows: bool = False
    layered: Callable[[Callable[[tf.Tensor], tf.Tensor]], Layered] | None = None
    stands_in: bool = False


@dataclasses.dataclass(frozen=True)
class FirstPass:
    """Which logits an objective reads first, and when: those of the classification pass.

    Args:
        at_x_prime: Whether they are those at x′.
        after_others: Whether something else of the network was computed before them.
    """

    at_x_prime: bool
    after_others: bool
