"""A network from a layer on: exactly what the network computes, whatever passes by the layer."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, conv_model, dense_model
from texts import LENGTH, WIDTH, WORDS, text_network, texts

import keras_rar
from keras_rar.networks.classifier import Classifier
from keras_rar.networks.tail import Tail, at_layer, tail_of

pytestmark = pytest.mark.filterwarnings("ignore:.*does not support masking")  # a convolution of padded rows
X, _ = texts()
EVERY = [("pool", True), ("pool", False), ("lstm", True), ("convolution", True), ("attention", True)]


@pytest.mark.parametrize(("kind", "masked"), EVERY)
def test_a_network_of_texts_from_its_embedding_on_computes_the_same(kind, masked):
    network = text_network(kind, masked)
    tail, h = at_layer(network, "embedding", X)
    np.testing.assert_array_equal(tail(h), network(X))
    assert tail.columns.masked == masked
    assert tail.columns.holds == (masked or kind == "attention")
    np.testing.assert_array_equal(tail.columns.free(h), network.get_layer("embedding")(X))
    assert tail.variables is not network.variables
    assert all(mine is its for mine, its in zip(tail.variables, network.variables, strict=True))


@pytest.mark.parametrize("kind", ["pool", "convolution", "attention"])
def test_a_row_that_is_padding_is_that_of_the_network_whatever_is_fed(kind):
    """Negative control: another row is what is fed."""
    tail, h = at_layer(text_network(kind), "embedding", X)
    other = h.copy()
    other[0, 2:, :WIDTH] = 9
    np.testing.assert_array_equal(tail(other), tail(h))
    other[0, 0, :WIDTH] = 9
    assert np.abs(tail(other) - tail(h))[0].max() > 1e-3


def test_any_network_at_any_layer():
    network, (x, _) = conv_model(6), batch(4, (6, 6, 1))
    for layer in network.layers:
        tail, h = at_layer(network, layer.name, x)
        np.testing.assert_array_equal(tail(h), network(x))
        assert not tail.columns.holds  # nothing passes by


def test_a_network_within_a_network_and_one_of_several_inputs():
    inner = keras.Sequential([keras.Input((LENGTH,), dtype="int32"), keras.layers.Embedding(WORDS, 2, name="words")])
    tokens, kinds = keras.Input((LENGTH,), dtype="int32", name="tokens"), keras.Input((LENGTH,), name="kinds")
    rows = keras.layers.Concatenate()([inner(tokens), keras.layers.Reshape((LENGTH, 1))(kinds)])
    network = keras.Model({"tokens": tokens, "kinds": kinds}, keras.layers.Dense(3)(keras.layers.Flatten()(rows)))
    given = {"kinds": np.random.default_rng(0).normal(size=X.shape).astype("float32"), "tokens": X}
    tail, h = at_layer(network, "words", given)
    np.testing.assert_array_equal(tail(h), network(given))
    assert h.shape == (*X.shape, 4)  # two of the words, and both inputs beside them, of which one passes by
    with pytest.raises(ValueError, match=r"^`x` must be a dictionary of \['kinds', 'tokens'\], as the inputs"):
        at_layer(network, "words", X)
    np.testing.assert_array_equal(keras_rar.saliency_map(network, given, layer="words", m=2).shape, X.shape)


def test_one_input_by_name():
    tokens = keras.Input((LENGTH,), dtype="int32", name="tokens")
    rows = keras.layers.Embedding(WORDS, 2, mask_zero=True, name="words")(tokens)
    network = keras.Model({"tokens": tokens}, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(rows)))
    for given in (X, {"tokens": X}):
        tail, h = at_layer(network, "words", given)
        np.testing.assert_array_equal(tail(h), network({"tokens": X}))


def test_a_shortcut_past_a_layer_is_exact():
    """Where the layer is the only way the inputs need no column; where it is not, they have theirs."""
    inputs = keras.Input((4,))
    same = keras.layers.Identity(name="same")(inputs)
    hidden = keras.layers.Dense(5, "tanh")(same)
    x, _ = batch(3)
    for other, past in ((same, False), (inputs, True)):
        network = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Concatenate()([hidden, other])))
        tail, h = at_layer(network, "same", x)
        assert h.shape == (3, 8 if past else 4)
        np.testing.assert_array_equal(tail(h), network(x))


def test_a_tail_is_made_anew_when_its_network_changes():
    network = dense_model()
    name = network.layers[0].name
    before = tail_of(network, name)
    assert tail_of(network, name) is before
    network.layers[1].activation = keras.activations.tanh
    x, _ = batch(3)
    tail, h = at_layer(network, name, x)
    assert tail is not before
    np.testing.assert_allclose(tail(h), network(x), atol=1e-6)


def test_a_softmax_is_taken_off_and_losses_are_those_of_the_network():
    tokens = keras.Input((LENGTH,), dtype="int32")
    rows = keras.layers.Embedding(WORDS, WIDTH, embeddings_regularizer="l2", activity_regularizer="l1", name="e")(
        tokens
    )
    network = keras.Model(tokens, keras.layers.Dense(3, "softmax")(keras.layers.Flatten()(rows)))
    tail, h = at_layer(network, "e", X)
    classifier = Classifier(tail)
    assert classifier.head.activation == "softmax"
    np.testing.assert_allclose(tf.nn.softmax(classifier.logits(h)), network(X), rtol=1e-6)
    for _ in range(2):  # they are of the last pass
        tail(h, training=True)
        network(X, training=True)
        np.testing.assert_allclose(np.sort(tail.losses), np.sort(network.losses), rtol=1e-6)


def test_keras_notes_masks_where_they_are_looked_for():
    """A private name of Keras."""
    assert keras.layers.Embedding(3, 2, mask_zero=True)(np.array([[0, 1]]))._keras_mask.numpy().tolist() == [
        [False, True]
    ]


def network_past(shape):
    """A layer that returns this shape, and inputs that pass by it."""
    inputs = keras.Input((4,))
    shaped = keras.layers.Flatten()(keras.layers.Reshape(shape, name="shaped")(inputs))
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Concatenate()([shaped, inputs])))


def network_twice():
    layer = keras.layers.Dense(4, name="twice")
    return keras.Sequential([keras.Input((4,)), layer, layer, keras.layers.Dense(2)])


@pytest.mark.parametrize(
    ("network", "layer", "message"),
    [
        (
            dense_model,
            "dence",
            r"the name of one layer of 'sequential\w*', such as 'dense\w*', 'dense\w*'\. Received: ",
        ),
        (network_twice, "twice", r"called once, and return one tensor of floats\. Received: layer='twice'"),
        (lambda: network_past((2, 2)), "shaped", r"layer='shaped' of shape \(2, 2\) for inputs of shape \(4,\)"),
    ],
)
def test_what_cannot_be_looked_at_is_refused_by_name(network, layer, message):
    with pytest.raises(ValueError, match=message):
        tail_of(network(), layer)


def test_rows_of_the_inputs_may_pass_by():
    """The negative control of the last refusal."""
    assert tail_of(network_past((4, 1)), "shaped").columns.width == 1


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (X + WORDS, ValueError, r"^`x` must be indices from 0 to 11\. Received: x="),
        (-X, ValueError, r"^`x` must be indices from 0 to 11\. Received: x="),
        (X[:, :2], ValueError, r"^`x` must have the shape \(n, 5\) with n > 0\. Received: x.shape=\(8, 2\)"),
        (X[:0], ValueError, r"^`x` must have the shape"),
        (np.full(X.shape, np.nan), ValueError, r"^`x` must be finite\."),
        (X.astype(str), TypeError, r"^`x` must be an array of numbers\."),
    ],
)
def test_bad_texts_are_refused(x, error, message):
    with pytest.raises(error, match=message):
        at_layer(text_network(), "embedding", x)


def test_integers_without_a_layer_are_refused_with_what_to_do():
    with pytest.raises(
        ValueError, match=r"floating-point input, or be looked at behind a layer, as by layer='embedding'"
    ):
        keras_rar.saliency_map(text_network(), X)
    with pytest.raises(TypeError, match=r"^`layer` must be the name of a layer\. Received: layer=0"):
        keras_rar.saliency_map(text_network(), X, layer=0)
    assert isinstance(tail_of(text_network(), "embedding"), Tail)
