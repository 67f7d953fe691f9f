"""Layers in fewer operations compute what those of Keras do, and so do their derivatives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_rar.core.gradients import input_gradient
from keras_rar.networks.copies import copy_with
from keras_rar.networks.lean import changes
from keras_rar.networks.output import head_of

ROWS = (4, 6)
LAYERS = keras.layers


class Approximate(LAYERS.Layer):
    """Code of a user's, with an activation that is not known."""

    def call(self, x):
        return keras.activations.gelu(x, approximate=True)


def networks():
    """Name -> a function that makes a network, and whether there is anything to be lean about."""
    einsum = LAYERS.EinsumDense
    return {
        "swish": (lambda x: LAYERS.Dense(3, "swish")(x), True),
        "gelu": (lambda x: LAYERS.Activation("gelu")(x), True),
        "silu as an operation": (lambda x: keras.ops.silu(LAYERS.Dense(3, dtype="float64")(x)), True),
        "gelu as an operation": (lambda x: keras.ops.gelu(x, approximate=False), True),
        "an approximate gelu": (lambda x: keras.ops.gelu(x), False),
        "an approximate gelu of a user's": (lambda x: Approximate(dtype="float64")(x), False),
        "normalised": (lambda x: LAYERS.BatchNormalization(axis=2)(x), True),
        "normalised, without scale": (lambda x: LAYERS.BatchNormalization(axis=2, scale=False, center=False)(x), True),
        "normalised over the first axis": (lambda x: LAYERS.BatchNormalization(axis=1)(x), True),
        "a product": (lambda x: LAYERS.Dense(3, use_bias=False)(x), True),
        "a product of einsum": (lambda x: einsum("abc,cde->abde", (None, 2, 3), bias_axes="de")(x), True),
        "over two axes": (lambda x: einsum("abc,bcd->ad", 5, activation="tanh")(x), True),
        "another equation": (lambda x: einsum("abc,bd->adc", (3, 6))(x), False),
        "attention": (lambda x: LAYERS.MultiHeadAttention(2, 3)(x, x), True),
    }


def network(name, shape=ROWS):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape)
    x = networks()[name][0](LAYERS.Activation("tanh")(inputs))
    x = LAYERS.GlobalAveragePooling1D()(LAYERS.Reshape((-1, x.shape[-1]))(x)) if x.shape.count(None) > 1 else x
    model = keras.Model(inputs, LAYERS.Dense(2)(LAYERS.Flatten()(x)))
    for weights in model.weights:
        weights.assign(np.random.default_rng(len(weights.path)).uniform(0.5, 1.5, size=weights.shape))
    return model


def derivatives(model, x, v):
    """Of the first logit: its gradient, and the derivatives of `⟨v, gradient²⟩` in the input and in the weights."""
    variables = model.trainable_variables

    def gradient(z):
        return input_gradient(lambda u: model(u, training=False)[:, 0], z)

    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(v * gradient(x) ** 2)
    zero = tf.UnconnectedGradients.ZERO
    return gradient(x), *tape.gradient(
        total, [x, *(variable.value for variable in variables)], unconnected_gradients=zero
    )


@pytest.fixture
def double(policy):
    """Rounding hides nothing in float64."""
    policy("float64")


def inputs(shape=ROWS):
    return (tf.constant(value) for value in np.random.default_rng(0).uniform(0.1, 0.9, size=(2, 3, *shape)))


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("name", networks())
def test_outputs_and_derivatives_are_those_of_keras(double, name, graph):
    model, (x, v) = network(name), inputs()
    twin = copy_with(model, changes(model))
    rounded = 1e-6 if "gelu" in name else 1e-12  # TensorFlow's gelu has its √2 in float32
    np.testing.assert_allclose(twin(x), model(x), rtol=rounded)

    compiled = tf.function(derivatives, autograph=False) if graph else derivatives
    for found, expected in zip(compiled(twin, x, v), compiled(model, x, v), strict=True):
        np.testing.assert_allclose(found, expected, rtol=10 * rounded, atol=1e-8)


@pytest.mark.parametrize("name", networks())
def test_there_are_fewer_operations(double, name):
    """Negative control: something is changed where it says so, and nothing is where it does not."""
    model, (x, v) = network(name), inputs()
    twin = copy_with(model, changes(model))

    def operations(called):
        traced = tf.function(lambda x: derivatives(called, x, v)[1:], autograph=False)
        spec = tf.TensorSpec([None, *x.shape[1:]], x.dtype)
        return len(traced.get_concrete_function(spec).graph.get_operations())

    changed = {id(operation) for operation, _, _ in changes(model)}
    last = model.layers[-1]
    assert (changed != {id(last)}) == networks()[name][1]
    if name not in ("normalised over the first axis", "over two axes"):
        assert operations(twin) <= operations(model) - 5 * networks()[name][1]


def test_of_an_unknown_number_of_rows(double):
    model, (x, v) = network("attention", (None, 6)), inputs()
    twin = copy_with(model, changes(model))
    for found, expected in zip(derivatives(twin, x, v), derivatives(model, x, v), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-8)


def test_the_logits_are_those_of_the_model_in_half_precision(policy):
    policy("mixed_bfloat16")
    model = network("attention")
    x = np.random.default_rng(0).uniform(size=(3, *ROWS)).astype("float32")
    np.testing.assert_allclose(head_of(model).logits(x), tf.cast(model(x), "float32"), rtol=0.02, atol=0.02)


def test_batch_statistics_move_in_training_mode(double):
    model, (x, _) = network("normalised"), inputs()
    twin, layer = copy_with(model, changes(model)), model.layers[2]
    assert isinstance(layer, LAYERS.BatchNormalization)
    before = layer.moving_mean.numpy()
    found = twin(x, training=True)
    assert np.abs(layer.moving_mean.numpy() - before).max() > 1e-4
    layer.moving_mean.assign(before)
    np.testing.assert_allclose(found, model(x, training=True), rtol=1e-12)


def test_a_layer_of_a_users_own_is_left_alone():
    class Dense(LAYERS.Dense):
        def call(self, x):
            return 2 * super().call(x)

    model = keras.Sequential([keras.Input((3, 4)), Dense(2), LAYERS.Flatten()])
    assert not list(changes(model))
