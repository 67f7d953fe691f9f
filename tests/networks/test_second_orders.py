"""Layers whose second derivatives TensorFlow lacks or gets wrong: in `scored` they are those of finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_rar.core.affine_maps import with_derivatives
from keras_rar.core.gradients import input_gradient
from keras_rar.networks.output import head_of
from keras_rar.networks.surrogates import softplus, softplus_twin

IMAGE = (6, 5, 2)
ROUNDED = {"Resizing", "UpSampling2D"}
"""TensorFlow resizes in float32."""


def layers():
    made = keras.layers
    yield made.Resizing(4, 4, interpolation="nearest", dtype="float32")
    yield made.Resizing(4, 4, dtype="float32")
    yield made.Resizing(4, 4, interpolation="bicubic", dtype="float32")
    yield made.Resizing(4, 4, antialias=True, dtype="float32")
    yield made.Resizing(4, 4, pad_to_aspect_ratio=True, fill_value=0.3, dtype="float32")
    yield made.Resizing(4, 4, crop_to_aspect_ratio=True, interpolation="lanczos3", dtype="float32")
    yield made.UpSampling2D(2, interpolation="bilinear", dtype="float32")
    yield made.UpSampling2D(2, interpolation="bicubic", dtype="float32")
    yield made.LayerNormalization()
    yield made.LayerNormalization(axis=[1, 2, 3], center=False)
    yield made.LayerNormalization(axis=1, scale=False)
    yield made.GroupNormalization(2)
    yield made.MaxPooling2D(2, strides=1, padding="same")
    yield made.MaxPooling2D((3, 2), strides=1, padding="same")


def network(layer, before=None):
    """Smooth but for the layer, so that finite differences are the derivative."""
    before = keras.layers.Conv2D(4, 2, activation="tanh", dtype="float64") if before is None else before
    after = [keras.layers.Activation("tanh"), keras.layers.Flatten(), keras.layers.Dense(2)]
    return keras.Sequential([keras.Input(IMAGE, dtype="float64"), before, layer, *after])


@pytest.fixture
def double(policy):
    """Finite differences are exact enough in float64."""
    policy("float64")


def error(f, step):
    """How far a second derivative, in a graph, is from finite differences of the first, as a share."""
    rng = np.random.default_rng(0)
    x, v = (tf.constant(rng.uniform(0.1, 0.9, size=(2, *IMAGE))) for _ in range(2))
    axes = list(range(1, len(x.shape)))
    gradient = tf.function(lambda z: input_gradient(f, z), autograph=False)
    along = lambda z: tf.reduce_sum(v * input_gradient(f, z), axes)  # noqa: E731
    second = tf.function(lambda z: input_gradient(along, z), autograph=False)(x)
    differences = (gradient(x + step * v) - gradient(x - step * v)) / (2 * step)
    return np.abs(second - differences).max() / np.abs(differences).max()


@pytest.mark.parametrize("number", range(14))
def test_second_derivatives_are_those_of_finite_differences(double, number):
    layer = [*layers()][number]
    model, (step, tolerance) = network(layer), (1e-3, 5e-3) if type(layer).__name__ in ROUNDED else (1e-6, 1e-4)
    score = lambda logits: logits[:, 0]  # noqa: E731
    f = head_of(model).scored(score, staged=False)
    x = np.random.default_rng(1).uniform(size=(2, *IMAGE))
    np.testing.assert_allclose(f(tf.constant(x)), model(x)[:, 0], atol=1e-12)
    assert error(f, step) < tolerance
    try:
        plain = error(lambda z: model(z)[:, 0], step)
    except LookupError:
        return
    assert plain > 2 * tolerance  # negative control: without the changes it is another one


def test_operations_of_functional_models_too(double):
    inputs = keras.Input(IMAGE, dtype="float64")
    resized = keras.ops.image.resize(inputs, (4, 4), interpolation="bicubic")
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(keras.ops.tanh(resized)))
    f = head_of(keras.Model(inputs, outputs)).scored(lambda logits: logits[:, 0], staged=False)
    assert error(f, 1e-3) < 5e-3


def test_of_smooth_twins_too(double):
    """Those that attacks follow, of scores and of functions of the user's."""
    model = network(keras.layers.LayerNormalization(), keras.layers.Conv2D(4, 2, activation="relu", dtype="float64"))
    f = head_of(model).scored(lambda logits: logits[:, 0], softplus(3.0), staged=False)
    assert error(f, 1e-6) < 1e-4
    twin = softplus_twin(model, 3.0)
    assert error(lambda z: twin(z)[:, 0], 1e-6) < 1e-4


def test_the_normalisation_of_half_precision_is_that_of_keras(policy):
    policy("mixed_bfloat16")
    model = keras.Sequential([keras.Input((8,)), keras.layers.LayerNormalization(), keras.layers.Dense(2)])
    x = np.random.default_rng(0).uniform(size=(4, 8)).astype("float32")
    f = head_of(model).scored(lambda logits: logits[:, 0], staged=False)
    np.testing.assert_allclose(f(tf.constant(x)), tf.cast(model(x)[:, 0], "float32"), rtol=0.02, atol=0.02)


def test_an_affine_map_has_derivatives_of_all_orders():
    """`f = (A x + b)³` summed: the third derivative along v is `6 (A v)³`."""
    matrix, offset = np.random.default_rng(0).normal(size=(2, 3, 3))
    x, v = (tf.constant(value) for value in np.random.default_rng(1).normal(size=(2, 1, 3)))
    mapped = with_derivatives(lambda z: z @ matrix + offset[0], linear=False)

    def along(f):
        return lambda z: tf.reduce_sum(v * input_gradient(f, z), axis=1)

    third = along(along(along(lambda z: tf.reduce_sum(mapped(z) ** 3, axis=1))))(x)
    np.testing.assert_allclose(third, [6 * np.sum((v @ matrix) ** 3)], rtol=1e-10)
