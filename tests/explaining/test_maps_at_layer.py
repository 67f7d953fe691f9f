"""Saliency maps at a layer: complete there, equal to those of the input where the layer changes nothing."""

import keras
import numpy as np
import pytest
from conftest import batch
from texts import WIDTH, text_network, texts

import keras_rar

X, Y = texts()
RIGHT = {"layer": "embedding", "normalize": False}


@pytest.mark.parametrize(("kind", "masked"), [("pool", True), ("attention", True), ("pool", False)])
def test_ig_is_complete_at_the_layer_and_padding_has_none(kind, masked):
    options = {"rule": "gauss_legendre", "m": 12, "return_completeness": True, **RIGHT}
    found, completeness = keras_rar.saliency_map(text_network(kind, masked), X, Y, **options)
    assert found.shape == (*X.shape, WIDTH)
    np.testing.assert_allclose(completeness.gap, 0, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=(1, 2)) - completeness.gap, found.sum(axis=(1, 2)), atol=1e-5)
    padding = (X == 0) & masked
    assert not found[padding].any()
    assert np.all(np.abs(found[~padding]).max(axis=-1) > 0)


def test_ig_of_a_linear_network_of_words_is_known():
    """`IG_jc = (E_jc − b_c) w_c / n` for the mean of n words, with a baseline of its own for each coordinate."""
    network, baseline = text_network("linear"), np.array([0.5, -1.0, 2.0])
    found = keras_rar.saliency_map(network, X, Y, baseline=baseline, m=2, **RIGHT)
    rows, (w, _) = network.get_layer("embedding")(X).numpy(), network.layers[-1].get_weights()
    words = (X > 0)[..., None]
    expected = words * (rows - baseline) * w.T[Y][:, None] / words.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("method", ["ig", "gradient_x_input", "smoothgrad", "guided_backprop"])
def test_a_map_has_one_value_per_word(method):
    """`|Σ_c a_jc|`, of mean 1, and nothing for padding."""
    network = text_network(activation="relu")
    signed = keras_rar.saliency_map(network, X, Y, method, m=5, samples=5, **RIGHT).sum(axis=-1)
    found = keras_rar.saliency_map(network, X, Y, method, m=5, samples=5, layer="embedding")
    size = np.abs(signed)
    np.testing.assert_allclose(found, X.shape[1] * size / size.sum(axis=1, keepdims=True), rtol=1e-5)
    assert not found[X == 0].any()


def test_at_a_layer_that_changes_nothing_maps_are_those_of_the_input():
    """And at one that doubles they are not."""
    inputs = keras.Input((4,))
    same = keras.layers.Identity(name="same")(inputs)
    double = keras.layers.Rescaling(2.0, name="double")(same)
    hidden = keras.layers.Dense(8, "relu")(double)
    network = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Concatenate()([hidden, double])))
    x, y = batch()
    at = {name: keras_rar.saliency_map(network, x, y, layer=name, normalize=False) for name in (None, "same", "double")}
    np.testing.assert_array_equal(at["same"], at[None])
    gradients = [keras_rar.saliency_map(network, x, y, "gradient", layer=n, normalize=False) for n in (None, "double")]
    np.testing.assert_allclose(gradients[0], 2 * gradients[1], rtol=1e-6)


def test_maps_at_a_convolution_are_those_of_images():
    layers = [keras.layers.Conv2D(4, 3, activation="relu", name="first"), keras.layers.Conv2D(2, 3)]
    network = keras.Sequential([keras.Input((8, 8, 1)), *layers, keras.layers.Flatten(), keras.layers.Dense(3)])
    x, y = batch(3, (8, 8, 1))
    signed = keras_rar.saliency_map(network, x, y, m=5, layer="first", normalize=False)
    assert signed.shape == (3, 6, 6, 4)
    size = np.abs(signed).sum(axis=-1)
    expected = 36 * size / size.sum(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(keras_rar.saliency_map(network, x, y, m=5, layer="first"), expected, rtol=1e-5)


def test_a_function_of_the_users_is_refused_where_padding_passes_by():
    """Where nothing passes by, it gets the network from the layer on."""
    with pytest.raises(
        ValueError, match=r"^`method` must be one of \['ig', .* at a layer that masks or inputs pass by"
    ):
        keras_rar.saliency_map(text_network(), X, Y, lambda model, x, y: x, layer="embedding")
    network = text_network(masked=False)
    found = keras_rar.saliency_map(network, X, Y, lambda model, x, y: x, **RIGHT)
    np.testing.assert_array_equal(found, network.get_layer("embedding")(X))
