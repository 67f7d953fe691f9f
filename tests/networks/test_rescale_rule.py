"""DeepLIFT by the rescale rule: summation to delta, linear networks, max-pooling, shares by hand, refusals."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch
from test_epsilon_rule import LABELS, ROWS, L, Own, X, Y, dense, network, product

import keras_rar
from keras_rar.explaining.saliency_maps import saliency_map
from keras_rar.explaining.scores import score_of
from keras_rar.networks.classifier import Classifier


def shares(model, x=X, y=Y, baseline=0.3, **options):
    return saliency_map(model, x, y, keras_rar.DeepLIFT(baseline), normalize=False, **options)


def change(model, x, y, baseline):
    logits = Classifier(model).logits
    rows = np.arange(len(x))
    start = np.broadcast_to(np.float32(baseline), x.shape)
    return logits(tf.constant(x)).numpy()[rows, y] - logits(tf.constant(start)).numpy()[rows, y]


@pytest.mark.parametrize(
    "baseline", [pytest.param(0.0, marks=pytest.mark.slow), 0.4, pytest.param("noise", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_it_sums_to_the_change_of_the_score(kind, baseline):
    """With biases, normalisation, poolings, additions, and ReLUs with slopes and ceilings."""
    baseline = np.random.default_rng(3).uniform(size=(8, 8, 2)) if baseline == "noise" else baseline
    model = network(kind, use_bias=True, output="softmax")
    found = shares(model, baseline=baseline).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(found, change(model, X, Y, baseline), rtol=1e-4, atol=1e-5)
    gradient = saliency_map(model, X, Y, "gradient", normalize=False) * (X - baseline)
    assert np.abs(gradient.sum(axis=(1, 2, 3)) - change(model, X, Y, baseline)).max() > 0.01  # negative control


SLOWER = ("sigmoid", "softplus", "elu", "selu", "silu", "leaky_relu")


@pytest.mark.parametrize(
    "activation",
    ["tanh", "gelu", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOWER)],
)
def test_it_sums_to_the_change_through_other_activations(activation):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((5,)), L.Dense(7, activation), L.Dense(6), L.Activation(activation), L.Dense(3)]
    )
    for baseline in (0.0, 0.5, ROWS[0] + 1e-3):
        found = shares(model, ROWS, LABELS, baseline).sum(axis=1)
        np.testing.assert_allclose(found, change(model, ROWS, LABELS, baseline), rtol=1e-3, atol=2e-5)


def test_of_a_linear_network_it_is_gradient_times_the_difference():
    model = keras.Sequential([keras.Input((8, 8, 2)), L.Conv2D(4, 3), L.AveragePooling2D(2), L.Flatten(), L.Dense(3)])
    expected = saliency_map(model, X, Y, "gradient", normalize=False) * (X - 0.3)
    np.testing.assert_allclose(shares(model), expected, rtol=1e-4, atol=1e-6)


def test_the_multipliers_of_a_network_by_hand():
    model = keras.Sequential([keras.Input((5,)), L.Dense(7, "relu"), L.Dense(4, "tanh"), L.Dense(3)])
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    w1, b1, w2, b2, w3, _ = (w.astype("float64") for w in model.get_weights())
    start = np.full(ROWS.shape, 0.3)

    def layers(x):
        z1 = x @ w1 + b1
        return z1, np.maximum(z1, 0) @ w2 + b2

    (z1, z2), (s1, s2) = layers(ROWS.astype("float64")), layers(start)
    m = w3.T[LABELS] * (np.tanh(z2) - np.tanh(s2)) / (z2 - s2)
    m = (m @ w2.T) * (np.maximum(z1, 0) - np.maximum(s1, 0)) / (z1 - s1)
    np.testing.assert_allclose(shares(model, ROWS, LABELS), (ROWS - start) * (m @ w1.T), rtol=1e-3, atol=1e-5)


def test_max_pooling_shares_as_captum_does():
    """Windows of two entries: what grows comes from the largest at x, what falls from the largest at the baseline."""
    x = np.array([[[1.0], [3.0], [0.5], [0.2], [2.0], [2.0]]], "float32")
    baseline = np.array([[2.0], [0.0], [1.5], [0.1], [2.0], [1.0]])
    model = keras.Sequential([keras.Input((6, 1)), L.MaxPooling1D(2), L.Flatten(), L.Dense(2, use_bias=False)])
    model.set_weights([np.array([[1.0, 0.0], [10.0, 0.0], [100.0, 0.0]])])
    found = shares(model, x, [0], baseline)[0, :, 0]
    np.testing.assert_allclose(found, [0.0, 1.0, -10.0, 0.0, 0.0, 0.0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "pool", [L.MaxPooling2D(2, strides=1, padding="same"), L.MaxPooling2D(3, 2), L.GlobalMaxPooling2D()]
)
def test_windows_that_overlap(pool):
    keras.utils.set_random_seed(0)
    pool = type(pool).from_config(pool.get_config())
    model = keras.Sequential([keras.Input((8, 8, 2)), L.Conv2D(4, 3), pool, L.Flatten(), L.Dense(3)])
    np.testing.assert_allclose(shares(model).sum(axis=(1, 2, 3)), change(model, X, Y, 0.3), rtol=1e-4, atol=1e-5)


def test_an_entry_that_is_the_input_itself_gets_no_share():
    model = dense(L.Dense(6, "relu"))
    found = shares(model, ROWS, LABELS, [0.1, None, 0.1, 0.1, 0.1])
    assert np.all(found[:, 1] == 0)
    start = np.where(np.arange(5) == 1, ROWS, np.float32(0.1))
    logits = model(ROWS).numpy() - model(start).numpy()
    np.testing.assert_allclose(found.sum(axis=1), logits[np.arange(6), LABELS], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("graph", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("beta", [None, 5.0])
@pytest.mark.parametrize("target", ["logit", pytest.param("loss", marks=pytest.mark.slow)])
def test_its_derivative_is_that_of_differences(target, beta, graph):
    layers = [L.Conv2D(4, 3, activation="relu"), L.MaxPooling2D(), L.Flatten(), L.Dense(6, "leaky_relu")]
    layers = [*layers, L.Dense(5, "tanh"), L.ReLU(max_value=0.3), L.Dense(3)]
    layers = [type(layer).from_config({**layer.get_config(), "dtype": "float64"}) for layer in layers]
    model = keras.Sequential([keras.Input((8, 8, 1), dtype="float64"), *layers])
    classifier, y, saliency = Classifier(model), tf.constant([0, 2], tf.int64), keras_rar.DeepLIFT(0.2)
    rng = np.random.default_rng(0)
    x, cotangent = (tf.constant(rng.normal(size=(2, 8, 8, 1))) for _ in range(2))

    def value(x):
        return tf.reduce_sum(cotangent * saliency(score_of(saliency, classifier, y, target, beta), x))

    value = tf.function(value, autograph=False) if graph else value
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = value(x)
    gradient, h = tape.gradient(total, x).numpy(), 1e-6
    directions = rng.normal(size=(3, *x.shape))
    slopes = [float(value(x + h * d) - value(x - h * d)) / (2 * h) for d in directions]
    np.testing.assert_allclose([np.sum(gradient * d) for d in directions], slopes, rtol=1e-5, atol=1e-7)
    assert np.abs(slopes).min() > 1e-5


def test_the_twin_tends_to_the_network():
    model, y, saliency = network("residual", use_bias=True), tf.constant(Y), keras_rar.DeepLIFT(0.3)
    exact = shares(model)
    errors = []
    for beta in (10.0, 1e4):
        f = score_of(saliency, Classifier(model), y, "logit", beta)
        errors.append(np.abs(saliency(f, tf.constant(X)) - exact).max() / np.abs(exact).max())
    assert errors[1] < 0.01 < errors[0]


REFUSED = {
    "'gate', a Multiply": product,
    "'deep', with the activation softmax": lambda: dense(L.Dense(4, "softmax", name="deep")),
    "'norm', a LayerNormalization": lambda: dense(L.LayerNormalization(name="norm")),
    "'own', a Own with code of its own": lambda: dense(Own(name="own")),
    "threshold=0.5": lambda: dense(L.ReLU(threshold=0.5)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_layers_without_a_rule_are_refused_by_name(message):
    for method in ("deeplift", keras_rar.DeepLIFT(0.2)):
        with pytest.raises(ValueError, match=f"`model` must have .* for DeepLIFT.*{message}|DeepLIFT has.*{message}"):
            saliency_map(REFUSED[message](), ROWS, LABELS, method)
    with pytest.raises(ValueError, match=message):
        keras_rar.attacks.TopKAttack(2, 0.1, steps=1, saliency="deeplift")(REFUSED[message](), ROWS, LABELS)


def test_arguments_are_validated():
    with pytest.raises(ValueError, match="`baseline` must be finite"):
        keras_rar.DeepLIFT(np.nan)
    model, x, y = dense(L.Dense(4, "relu", name="deep")), *batch(3, 5)
    with pytest.raises(ValueError, match="`baseline` must be a float or an array that broadcasts to an input"):
        saliency_map(model, x, y, "deeplift", baseline=np.zeros([3, 5]))
    with pytest.raises(ValueError, match=r"`layer` must be None for DeepLIFT. Received: layer='deep'"):
        saliency_map(model, x, y, "deeplift", layer="deep")
