"""LRP by the ε-rule: shares written out layer by layer, conservation, gradient × input, refusals."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch

import keras_rar
from keras_rar.explaining.saliency_maps import saliency_map
from keras_rar.explaining.scores import score_of
from keras_rar.networks.classifier import Classifier

L = keras.layers
X, Y = batch(4, (8, 8, 2))
ROWS, LABELS = batch(6, 5)


def relevance(model, x=X, y=Y, epsilon=1e-6, **options):
    return saliency_map(model, x, y, keras_rar.LRP(epsilon), normalize=False, **options)


def network(kind="plain", use_bias=False, output=None):
    """Convolutions, additions, batch normalisation with known statistics, poolings and ReLUs of each kind."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8, 8, 2))
    x = L.Conv2D(4, 3, padding="same", use_bias=use_bias, activation="relu")(x)
    if kind == "residual":
        shortcut = x
        x = L.DepthwiseConv2D(3, padding="same", use_bias=use_bias)(x)
        x = L.BatchNormalization(center=use_bias)(x) if use_bias else x
        x = L.LeakyReLU(0.1)(x)
        x = L.Add()([x, shortcut])
        x = L.AveragePooling2D(2)(L.ReLU(max_value=0.3)(x))
    x = L.MaxPooling2D()(L.PReLU()(L.SeparableConv2D(6, 3, use_bias=use_bias)(L.ZeroPadding2D()(x))))
    x = L.Dense(8, "relu", use_bias=use_bias)(L.Concatenate()([L.Flatten()(x), L.GlobalAveragePooling2D()(x)]))
    model = keras.Model(inputs, L.Dense(3, output, use_bias=use_bias)(L.Dropout(0.5)(x)))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
        elif isinstance(layer, L.PReLU):
            layer.set_weights([np.full(w.shape, 0.2) for w in layer.get_weights()])
        elif use_bias and layer.get_weights():
            layer.set_weights([w if w.ndim > 1 else rng.normal(0, 0.1, w.shape) for w in layer.get_weights()])
    return model


@pytest.mark.parametrize("epsilon", [1e-6, 0.05, 1.0])
def test_the_shares_of_a_network_with_biases_by_hand(epsilon):
    model = keras.Sequential([keras.Input((5,)), L.Dense(7, "relu"), L.Dense(4), L.ReLU(), L.Dense(3)])
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    w1, b1, w2, b2, w3, b3 = (w.astype("float64") for w in model.get_weights())
    a1 = np.maximum(z1 := ROWS @ w1 + b1, 0)
    a2 = np.maximum(z2 := a1 @ w2 + b2, 0)
    z3 = a2 @ w3 + b3
    found = np.eye(3)[LABELS] * z3
    for a, w, z in ((a2, w3, z3), (a1, w2, z2), (ROWS, w1, z1)):
        found = a * ((found / (z + epsilon * np.sign(z))) @ w.T)
    np.testing.assert_allclose(relevance(model, ROWS, LABELS, epsilon), found, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["plain", "residual"])
@pytest.mark.parametrize("output", [pytest.param(None, marks=pytest.mark.slow), "softmax"])
def test_relevance_is_conserved_without_biases(kind, output):
    model = network(kind, output=output)
    logits = Classifier(model).logits(tf.constant(X)).numpy()[np.arange(4), Y]
    sums = relevance(model, epsilon=1e-9).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(sums, logits, rtol=1e-4, atol=1e-6)
    kept = relevance(model, epsilon=0.3).sum(axis=(1, 2, 3))
    assert np.all(np.abs(kept) < 0.9 * np.abs(logits))  # negative control: a large ε keeps a share
    biased = network(kind, use_bias=True)
    logits = Classifier(biased).logits(tf.constant(X)).numpy()[np.arange(4), Y]
    assert np.abs(relevance(biased).sum(axis=(1, 2, 3)) - logits).max() > 0.01  # biases keep theirs


def test_without_epsilon_it_is_gradient_times_input_on_a_relu_network():
    for use_bias in (False, True):
        model = network(use_bias=use_bias)
        expected = saliency_map(model, X, Y, "gradient_x_input", normalize=False)
        np.testing.assert_allclose(relevance(model, epsilon=0.0), expected, rtol=1e-4, atol=1e-6)
        assert np.abs(relevance(model, epsilon=0.1) - expected).max() > 0.01


def test_a_ceiling_hands_on_all_that_it_gets():
    """Gradient × input loses what lies above the ceiling; relevance does not."""
    model = keras.Sequential(
        [keras.Input((5,)), L.Dense(4, use_bias=False), L.ReLU(max_value=0.2), L.Dense(3, use_bias=False)]
    )
    logits = model(ROWS).numpy()[np.arange(6), LABELS]
    np.testing.assert_allclose(relevance(model, ROWS, LABELS, 0.0).sum(axis=1), logits, rtol=1e-4, atol=1e-6)
    gradient = saliency_map(model, ROWS, LABELS, "gradient_x_input", normalize=False).sum(axis=1)
    assert np.abs(gradient - logits).max() > 0.01


def folded(model):
    """The same network with the normalisation in the weights of the convolution before."""
    convolution, norm = model.layers[0], model.layers[1]
    gamma, beta, mean, variance = norm.get_weights()
    scale = gamma / np.sqrt(variance + norm.epsilon)
    rest = [type(layer).from_config(layer.get_config()) for layer in model.layers[2:]]
    other = keras.Sequential([keras.Input((8, 8, 2)), L.Conv2D(4, 3), *rest])
    kernel, bias = convolution.get_weights()
    other.set_weights([kernel * scale, (bias - mean) * scale + beta, *model.layers[-1].get_weights()])
    return other


@pytest.mark.parametrize("epsilon", [1e-6, 0.2])
def test_batch_normalisation_belongs_to_the_layer_before(epsilon):
    layers = [L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU(), L.Flatten(), L.Dense(3)]
    model = keras.Sequential([keras.Input((8, 8, 2)), *layers])
    rng = np.random.default_rng(0)
    model.layers[1].set_weights([rng.uniform(0.5, 1.5, 4) for _ in range(4)])
    expected = relevance(folded(model), epsilon=epsilon)
    np.testing.assert_allclose(relevance(model, epsilon=epsilon), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("graph", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("beta", [None, 5.0])
def test_its_derivative_is_that_of_differences(beta, graph):
    """In float64, away from the kinks, and of the twin that an attack follows."""
    layers = [L.Conv2D(4, 3, activation="relu"), L.MaxPooling2D(), L.Flatten(), L.Dense(6, "leaky_relu"), L.Dense(3)]
    layers = [type(layer).from_config({**layer.get_config(), "dtype": "float64"}) for layer in layers]
    model = keras.Sequential([keras.Input((8, 8, 1), dtype="float64"), *layers])
    classifier, y, saliency = Classifier(model), tf.constant([0, 2], tf.int64), keras_rar.LRP(0.1)
    rng = np.random.default_rng(0)
    x, cotangent = (tf.constant(rng.normal(size=(2, 8, 8, 1))) for _ in range(2))

    def value(x):
        return tf.reduce_sum(cotangent * saliency(score_of(saliency, classifier, y, "logit", beta), x))

    value = tf.function(value, autograph=False) if graph else value
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = value(x)
    gradient, h = tape.gradient(total, x).numpy(), 1e-6
    directions = rng.normal(size=(3, *x.shape))
    slopes = [float(value(x + h * d) - value(x - h * d)) / (2 * h) for d in directions]
    np.testing.assert_allclose([np.sum(gradient * d) for d in directions], slopes, rtol=1e-5, atol=1e-7)
    assert np.abs(slopes).min() > 1e-4


def test_the_network_is_computed_as_it_is():
    model = network("residual", use_bias=True)
    classifier, y = Classifier(model), tf.constant(Y)
    f = score_of(keras_rar.LRP(0.1), classifier, y, "logit", None)
    found = f(tf.constant(np.concatenate([X, X])))  # points, and their paths
    np.testing.assert_allclose(found, np.tile(model(X).numpy()[np.arange(4), Y], 2), rtol=1e-5, atol=1e-6)


class Own(keras.layers.Layer):
    def call(self, x):
        return 2 * x


def product():
    x = inputs = keras.Input((5,))
    return keras.Model(inputs, L.Dense(3)(L.Multiply(name="gate")([L.Dense(5)(x), x])))


REFUSED = {
    "'gate', a Multiply": product,
    "'deep', with the activation tanh": lambda: dense(L.Dense(4, "tanh", name="deep")),
    "'norm', a LayerNormalization": lambda: dense(L.LayerNormalization(name="norm")),
    "'own', a Own with code of its own": lambda: dense(Own(name="own")),
    "threshold=0.5": lambda: dense(L.ReLU(threshold=0.5)),
}


def dense(layer):
    return keras.Sequential([keras.Input((5,)), layer, L.Dense(3)])


@pytest.mark.parametrize("message", REFUSED)
def test_layers_without_a_rule_are_refused_by_name(message):
    with pytest.raises(ValueError, match=f"`model` must have .* for LRP.*{message}|LRP has a rule for.*{message}"):
        relevance(REFUSED[message](), ROWS, LABELS)
    with pytest.raises(ValueError, match=message):
        keras_rar.attacks.TopKAttack(2, 0.1, steps=1, saliency="lrp")(REFUSED[message](), ROWS, LABELS)


def test_arguments_are_validated():
    with pytest.raises(ValueError, match=r"`epsilon` must be a float >= 0. Received: epsilon=-1"):
        keras_rar.LRP(-1)
    model = dense(L.Dense(4, "relu", name="deep"))
    with pytest.raises(ValueError, match=r"`layer` must be None for LRP. Received: layer='deep'"):
        saliency_map(model, ROWS, LABELS, "lrp", layer="deep")
