"""Saliency methods that look into a network: at one of its layers, or by rules of their own for the way back."""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_rar.core import checks
from keras_rar.core.abstract_saliency import Saliency
from keras_rar.core.gradients import ScalarFunction, floating, input_gradient
from keras_rar.core.held import columns_of


@dataclasses.dataclass(frozen=True)
class Observed:
    """A score, and what a layer of its network computes on the way.

    Args:
        observe: Function `(n, ...) -> (n,), h`: the score, and the output h of the layer.
        axis: The axis of channels of h, 1 or −1.
        input_axis: That of the inputs, 1 or −1.
    """

    observe: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    axis: int = -1
    input_axis: int = -1

    def __call__(self, z: tf.Tensor) -> tf.Tensor:
        return self.observe(floating("z", z))[0]


@dataclasses.dataclass(frozen=True)
class GradCAM(Saliency):
    """`max(0, Σ_c w_c h_c)`, `w_c` the mean of `∂f/∂h_c` over places (Selvaraju et al. 2017).

    h is the output of a convolution, after its activation if that is a part of the layer. The map shows where the
    convolution sees what speaks for the score; what speaks against it is 0. It has the size of h and is resized to the
    input by linear interpolation; the channels of the input share it evenly.

    An attack follows the twin with softplus for ReLU. Costs one forward and one backward pass.

    Args:
        layer: Name of the layer. Defaults to `None`, the last convolution.

    Raises:
        TypeError: If `layer` is no string, or `f` not the score of a network.

    Example:

    >>> layers = [keras.layers.Conv2D(3, 3), keras.layers.Flatten(), keras.layers.Dense(2)]
    >>> model = keras.Sequential([keras.Input((6, 6, 1)), *layers])
    >>> keras_rar.saliency_map(model, np.ones([2, 6, 6, 1]), method=keras_rar.GradCAM(layers[0].name)).shape
    (2, 6, 6)
    """

    layer: str | None = None

    def __post_init__(self) -> None:
        checks.layer(self.layer)

    def __call__(self, f: ScalarFunction, x: tf.Tensor) -> tf.Tensor:
        if not isinstance(f, Observed):
            checks.fail("f", "the score of a network, as `saliency_map` makes it", f, TypeError)
        x = floating("x", x)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            score, h = f.observe(x)
        gradient = tape.gradient(score, h, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        channels, of_input = f.axis % h.shape.rank, f.input_axis % x.shape.rank
        places = [axis for axis in range(1, h.shape.rank) if axis != channels]
        weights = tf.reduce_mean(gradient, places, keepdims=True)
        seen = tf.cast(tf.nn.relu(tf.reduce_sum(weights * h, channels)), x.dtype)
        for axis, size in enumerate([tf.shape(x)[a] for a in range(1, x.shape.rank) if a != of_input], start=1):
            seen = _resized(seen, axis, size)
        return tf.expand_dims(seen, of_input) * tf.ones_like(x) / tf.cast(tf.shape(x)[of_input], x.dtype)


def _resized(values: tf.Tensor, axis: int, size: tf.Tensor) -> tf.Tensor:
    """An axis brought to another size, by linear interpolation between the centres of its entries."""
    given = tf.cast(tf.shape(values)[axis], values.dtype)
    places = (tf.range(tf.cast(size, values.dtype)) + 0.5) * given / tf.cast(size, values.dtype) - 0.5
    places = tf.clip_by_value(places, 0.0, given - 1)
    shares = tf.nn.relu(1 - tf.abs(places[:, tf.newaxis] - tf.range(given)))
    moved = tf.tensordot(values, shares, [[axis], [1]])
    order = [*range(axis), values.shape.rank - 1, *range(axis, values.shape.rank - 1)]
    return tf.transpose(moved, order)


@dataclasses.dataclass(frozen=True)
class LRP(Saliency):
    """Layer-wise relevance propagation by the ε-rule (Bach et al. 2015, eq. 58): the score is handed back by shares.

    `Rᵢ = Σⱼ aᵢ wᵢⱼ / (zⱼ + ε sign zⱼ) Rⱼ`, `zⱼ = Σᵢ aᵢ wᵢⱼ + bⱼ`, from the score to the input. A ReLU hands on what it
    gets, an addition shares by its terms, average pooling is linear, and max-pooling gives all to the largest. Batch
    normalisation belongs to the layer before it, or is a linear layer of its own.

    Relevance is conserved, `Σᵢ Rᵢ = f(x)` for a logit, as ε → 0 where no layer has a bias; biases and ε keep their
    share. With ε = 0 it is gradient × input on a ReLU network (Ancona et al. 2018). ε is in the units of the outputs of
    layers. (captum applies ε to pooling and addition too; zennit does not. Their defaults are 1e-9 and 1e-6.)

    An attack follows a twin with softplus for ReLU, in which the derivative of softplus stands for the share that a
    ReLU hands on. Costs two forward and two backward passes. Layers without a rule are refused by name.

    Args:
        epsilon: Float >= 0, ε. Defaults to `1e-6`.

    Raises:
        TypeError: If `epsilon` is not a number.
        ValueError: If `epsilon` is negative or not finite.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
    >>> x = np.float32([[0.5, 2.0]])
    >>> relevance = keras_rar.saliency_map(model, x, [0], keras_rar.LRP(0.0), normalize=False)
    >>> bool(np.isclose(relevance.sum(), model(x)[0, 0]))
    True
    """

    points = 2
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon", checks.nonnegative_float("epsilon", self.epsilon))

    def __call__(self, f: ScalarFunction, x: tf.Tensor) -> tf.Tensor:
        """Of a score with paths that follow the rule, behind all x, as `saliency_map` makes it.

        Of another score, gradient × input.
        """
        x = floating("x", x)
        return x * input_gradient(f, tf.concat([x, x], axis=0))[tf.shape(x)[0] :]


@dataclasses.dataclass(frozen=True)
class DeepLIFT(Saliency):
    """DeepLIFT by the rescale rule (Shrikumar et al. 2017): the change of the score from a baseline, by shares.

    `aᵢ = (xᵢ − bᵢ) mᵢ`. The multipliers m come back as a gradient does, but through an activation g with inputs z at x
    and z′ at b by `(g(z) − g(z′)) / (z − z′)` in place of `g′(z)`, and by `g′(z)` where z = z′. Max-pooling hands its
    change to the largest input at x where it grows, and at b where it falls, as in captum and SHAP. It adds up to the
    change: `Σᵢ aᵢ = f(x) − f(b)`, exactly, for a logit. On a linear network it is gradient × (x − b).

    An attack follows a twin with softplus for ReLU, and the multipliers of softplus. Costs three forward and
    three backward passes. Layers without a rule, such as products of two inputs, are refused by name.

    Args:
        baseline: Float or array b that broadcasts to one input; an entry `None` is the input itself, which gets no
            share. Defaults to `0.`.

    Raises:
        TypeError: If `baseline` is not a float or an array of floats.
        ValueError: If `baseline` is not finite.

    Example:

    >>> layers = [keras.layers.Dense(4, "relu"), keras.layers.Dense(2)]
    >>> model, x = keras.Sequential([keras.Input((2,)), *layers]), np.float32([[0.5, 2.0]])
    >>> shares = keras_rar.saliency_map(model, x, [0], keras_rar.DeepLIFT(0.1), normalize=False)
    >>> bool(np.isclose(shares.sum(), model(x)[0, 0] - model(0 * x + 0.1)[0, 0], atol=1e-5))
    True
    """

    points = 3
    baseline: Any = 0.0

    def __post_init__(self) -> None:
        checks.baseline("baseline", self.baseline)

    def __call__(self, f: ScalarFunction, x: tf.Tensor) -> tf.Tensor:
        """Of a score with paths that follow the rule, behind all x and all b, as `saliency_map` makes it.

        Of another score, gradient × (x − b).
        """
        x = floating("x", x)
        start = columns_of(f).start(self.baseline, x)
        multipliers = input_gradient(f, tf.concat([x, start, x], axis=0))[2 * tf.shape(x)[0] :]
        return (x - start) * multipliers
