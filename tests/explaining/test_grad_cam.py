"""Grad-CAM against closed forms, a resize of TensorFlow, and differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch

import keras_rar
from keras_rar.explaining.saliency_maps import saliency_map
from keras_rar.explaining.scores import score_of
from keras_rar.networks.classifier import Classifier

X, Y = batch(3, (8, 10, 2))
L = keras.layers


def pooled(activation="relu", dtype="float32", **options):
    """A convolution, its mean over places, and a linear layer: w is known."""
    layers = [L.Conv2D(5, 3, strides=2, activation=activation, name="conv", **options), L.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input((8, 10, 2), dtype=dtype), *layers, L.Dense(3)])


def by_hand(model, x, y):
    h = model.get_layer("conv")(x).numpy()
    weights = model.layers[-1].kernel.numpy()[:, y].T / np.prod(h.shape[1:3])
    return np.maximum((h * weights[:, np.newaxis, np.newaxis]).sum(axis=-1), 0)


def test_it_is_the_weighted_sum_of_channels_resized():
    model = pooled()
    weights = model.layers[-1].get_weights()
    model.layers[-1].set_weights([weights[0] + 0.2 * np.arange(-1, 4)[:, np.newaxis], weights[1]])
    cam = by_hand(model, X, Y)
    expected = tf.image.resize(cam[..., np.newaxis], (8, 10)).numpy()[..., 0]
    found = saliency_map(model, X, Y, "grad_cam", normalize=False)
    assert found.shape == X.shape
    np.testing.assert_allclose(found.sum(axis=-1), expected, rtol=1e-4, atol=1e-6)
    assert np.any(expected > 0)
    assert np.any(cam == 0)  # so that the cut at 0 is seen
    maps, totals = saliency_map(model, X, Y, "grad_cam"), expected.sum(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(maps, 80 * expected / np.where(totals > 0, totals, 1), rtol=1e-3, atol=1e-5)


def test_a_map_larger_than_the_input_is_resized_too():
    layers = [L.UpSampling2D(3), L.Conv2D(5, 3, padding="same", activation="relu"), L.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input((8, 10, 2)), *layers, L.Dense(3)])
    h = keras.Sequential(model.layers[:2])(X).numpy()
    weights = model.layers[-1].kernel.numpy()[:, Y].T / np.prod(h.shape[1:3])
    cam = np.maximum((h * weights[:, np.newaxis, np.newaxis]).sum(axis=-1, keepdims=True), 0)
    expected = tf.image.resize(cam, (8, 10)).numpy()[..., 0]
    found = saliency_map(model, X, Y, "grad_cam", normalize=False).sum(axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def branched():
    inputs = keras.Input((8, 10, 2))
    first = L.Conv2D(4, 3, padding="same", activation="relu", name="first")(inputs)
    last = L.Conv2D(4, 3, padding="same", name="last")(first)
    x = L.ReLU(name="after")(L.BatchNormalization(name="norm")(L.Add()([first, last])))
    return keras.Model(inputs, L.Dense(3, "softmax")(L.Flatten()(L.MaxPooling2D()(x))))


def test_the_last_convolution_is_found_and_a_layer_can_be_named():
    model = branched()
    np.testing.assert_array_equal(
        saliency_map(model, X, Y, "grad_cam"), saliency_map(model, X, Y, keras_rar.GradCAM("last"))
    )
    for name in ("first", "after", "norm"):
        other = saliency_map(model, X, Y, keras_rar.GradCAM(name))
        assert np.abs(other - saliency_map(model, X, Y, "grad_cam")).max() > 0.01
    rest = keras.Model(model.get_layer("after").output, model.layers[-1].output)
    with tf.GradientTape() as tape:
        h = keras.Model(model.input, model.get_layer("after").output)(X)
        tape.watch(h)
        logits = tf.math.log(tf.gather(rest(h), Y, batch_dims=1)) - 0.0
        total = tf.reduce_sum(logits)
    weights = tf.reduce_mean(tape.gradient(total, h), [1, 2], keepdims=True)
    cam = tf.nn.relu(tf.reduce_sum(weights * h, axis=-1, keepdims=True)).numpy()[..., 0]
    found = saliency_map(model, X, Y, keras_rar.GradCAM("after"), target="loss", normalize=False)
    against = tf.nn.relu(-tf.reduce_sum(weights * h, axis=-1)).numpy()  # the loss is −log p
    np.testing.assert_allclose(found.sum(axis=-1), against, rtol=1e-3, atol=1e-6)
    assert np.abs(against - cam).max() > 1e-3


@pytest.mark.parametrize("shape", [(12, 2), (4, 5, 6, 1)])
def test_sequences_and_volumes(shape):
    x, y = batch(2, shape)
    kinds = (L.Conv1D, L.GlobalAveragePooling1D) if len(shape) == 2 else (L.Conv3D, L.GlobalAveragePooling3D)
    model = keras.Sequential([keras.Input(shape), kinds[0](4, 2, activation="relu"), kinds[1](), L.Dense(3)])
    model.layers[-1].set_weights([np.abs(w) for w in model.layers[-1].get_weights()])
    found = saliency_map(model, x, y, "grad_cam", normalize=False)
    assert found.shape == x.shape
    h = model.layers[0](x).numpy()
    weights = model.layers[-1].kernel.numpy()[:, y].T / np.prod(h.shape[1:-1])
    cam = np.maximum((h * weights.reshape(2, *[1] * (len(shape) - 1), 4)).sum(axis=-1), 0)
    assert found.sum() > 0
    assert np.abs(found.sum(axis=-1).max() - cam.max()) <= 0.5 * cam.max()


@pytest.mark.parametrize("graph", [False, True])
def test_its_derivative_is_that_of_differences(graph):
    """Of a network without a kink in float64, and through both the activations and the weights."""
    layers = [L.Conv2D(4, 3, activation="tanh"), L.Conv2D(3, 2, activation="softplus"), L.Flatten(), L.Dense(8, "tanh")]
    layers = [type(layer).from_config({**layer.get_config(), "dtype": "float64"}) for layer in [*layers, L.Dense(3)]]
    model = keras.Sequential([keras.Input((6, 6, 1), dtype="float64"), *layers])
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 6, 6, 1)))
    classifier, y = Classifier(model), tf.constant([0, 2], tf.int64)
    cotangent = tf.constant(np.random.default_rng(2).normal(size=x.shape))

    def value(x):
        saliency = keras_rar.GradCAM()
        return tf.reduce_sum(cotangent * saliency(score_of(saliency, classifier, y, "logit", None), x))

    value = tf.function(value, autograph=False) if graph else value
    h = 1e-6
    gradient = tape_gradient(value, x)
    directions = np.random.default_rng(3).normal(size=(4, *x.shape))
    slopes = [float(value(x + h * d) - value(x - h * d)) / (2 * h) for d in directions]
    np.testing.assert_allclose([np.sum(gradient * d) for d in directions], slopes, rtol=1e-5, atol=1e-9)
    assert np.abs(slopes).min() > 1e-5


def tape_gradient(value, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = value(x)
    return tape.gradient(total, x).numpy()


@pytest.mark.parametrize(
    ("model", "saliency", "message"),
    [
        (lambda: keras.Sequential([keras.Input((8, 10, 2)), L.Flatten(), L.Dense(3)]), "grad_cam", "must have a conv"),
        (branched, keras_rar.GradCAM("lost"), r"`layer` must be the name of one layer, such as .*'last'.*layer='lost'"),
        (branched, keras_rar.GradCAM("dense_of_branched"), "`layer` must be the name of one layer"),
    ],
)
def test_what_it_needs_is_said(model, saliency, message):
    with pytest.raises(ValueError, match=message):
        saliency_map(model(), X, Y, saliency)
    with pytest.raises(ValueError, match=message):
        keras_rar.attacks.TopKAttack(3, 0.1, steps=1, saliency=saliency)(model(), X, Y)


def test_other_shapes_and_functions_are_refused():
    model = branched()
    with pytest.raises(ValueError, match="`layer` must be computed once, and have an output"):
        saliency_map(model, X, Y, keras_rar.GradCAM(model.layers[-1].name))
    with pytest.raises(ValueError, match=r"`layer` must be None for Grad-CAM, whose own layer is that of GradCAM"):
        saliency_map(model, X, Y, "grad_cam", layer="first")
    with pytest.raises(TypeError, match=r"`layer` must be the name of a layer. Received: layer=3"):
        keras_rar.GradCAM(3)
    with pytest.raises(TypeError, match="`f` must be the score of a network"):
        keras_rar.GradCAM()(lambda z: z[:, 0], tf.ones([1, 2]))
