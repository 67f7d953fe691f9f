"""Deletion, insertion and infidelity at a layer: row by row, and of words alone."""

import keras
import numpy as np
import pytest
from conftest import batch, dense_model
from texts import LENGTH, WIDTH, text_network, texts

import keras_rar
from keras_rar import metrics

X, Y = texts()  # the first has two words, the second four, the others five
AT = {"layer": "embedding"}
MEASURES = ("deletion", "insertion", "infidelity")


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return text_network(activation="relu")


@pytest.fixture(scope="module")
def maps(network):
    return keras_rar.saliency_map(network, X, Y, **AT)


def longer(network):
    """The same network of texts of twice the length, padded."""
    other = text_network(activation="relu", length=2 * LENGTH)
    other.set_weights(network.get_weights())
    return other


def test_padding_changes_no_measure(network, maps):
    """Counted, it would let a random map look for words among padding, and any map be better than random."""
    signed = keras_rar.saliency_map(network, X, Y, normalize=False, **AT).sum(axis=-1)
    padded = [np.pad(array, [(0, 0), (0, LENGTH)]) for array in (X, maps, signed)]
    points = {"points": LENGTH}
    found = metrics.faithfulness(network, X, maps, Y, attributions=signed, **points, **AT)
    of_longer = metrics.faithfulness(longer(network), padded[0], padded[1], Y, attributions=padded[2], **points, **AT)
    for name in ("map", "input"):
        for measure in MEASURES[:2]:
            np.testing.assert_allclose(of_longer[name][measure], found[name][measure], atol=1e-5)
    shares = [metrics.deletion(*given, Y, return_curve=True, **points, **AT)[1].scores for given in (
        (network, X, maps), (longer(network), padded[0], padded[1]))]  # fmt: skip
    np.testing.assert_allclose(shares[1], shares[0], atol=1e-5)


def test_a_random_map_is_one_of_the_words(network):
    """Of two words it is the map or its mirror, so that its area is that of one of these."""
    maps = np.zeros((1, LENGTH))
    maps[0, :2] = [1.0, 0.5]
    mirrored = maps.copy()
    mirrored[0, :2] = maps[0, 1::-1]
    known = [metrics.deletion(network, X[:1], m, Y[:1], **AT)[0] for m in (maps, mirrored)]
    for seed in range(6):
        found = metrics.faithfulness(network, X[:1], maps, Y[:1], seed=seed, **AT)["random"]["deletion"][0]
        assert min(abs(found - area) for area in known) < 1e-6


def test_one_word_says_nothing(network):
    x = X[:1].copy()
    x[0, 1] = 0
    assert np.isnan(metrics.deletion(network, x, (x != 0).astype("float32"), Y[:1], **AT)).all()


def test_attributions_of_the_width_are_summed(network, maps):
    signed = keras_rar.saliency_map(network, X, Y, normalize=False, **AT)
    assert signed.shape == (*X.shape, WIDTH)
    found, expected = (metrics.infidelity(network, X, a, Y, **AT) for a in (signed, signed.sum(axis=-1)))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.mean() < metrics.infidelity(network, X, -signed, Y, **AT).mean()  # negative control
    with pytest.raises(ValueError, match=r"^`attributions` must be an array of numbers of the shape \(8, 5\)"):
        metrics.infidelity(network, X, signed[..., :2], Y, **AT)


def test_at_a_layer_that_changes_nothing_they_are_those_of_the_input():
    inputs = keras.Input((4,))
    same = keras.layers.Identity(name="same")(inputs)
    network = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dense(8, "tanh")(same)))
    x, y = batch(5)
    maps = keras_rar.saliency_map(network, x, y)
    for measure in (metrics.deletion, metrics.insertion, metrics.infidelity):
        np.testing.assert_array_equal(measure(network, x, maps, y, layer="same"), measure(network, x, maps, y))
    assert keras_rar.baseline_report(network, 0.5, layer="same") == keras_rar.baseline_report(network, 0.5)


def test_the_baseline_report_is_of_what_is_behind_the_layer(network):
    model = dense_model()
    hidden = model.layers[0].name
    bias = np.float32([3.0, 0.0, 0.0])
    model.layers[1].set_weights([model.layers[1].get_weights()[0], bias])
    found = keras_rar.baseline_report(model, 0.0, layer=hidden)
    assert (found.predicted, found.probability) == (0, pytest.approx(np.exp(3) / (np.exp(3) + 2), rel=1e-5))
    with pytest.raises(ValueError, match=r"^`layer` must be one that no mask and no input passes by"):
        keras_rar.baseline_report(network, **AT)
