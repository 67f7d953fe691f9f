"""The threshold that a network may begin with: what it is, and what is not seen through it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_rar
from keras_rar.paper import networks

WIDTH = 0.102


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(3)
    return networks.cnn(initializer="glorot_uniform", threshold=WIDTH)


def without(network):
    """The same network of the same weights, but for the threshold."""
    plain = networks.cnn(initializer="glorot_uniform")
    plain.set_weights(network.get_weights())
    return plain


def faint(n=4):
    """Images that an attack with epsilon 0.1 may make of an empty one."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.uniform(0, 0.1, [n, 28, 28, 1]), 0.1 * rng.integers(0, 2, [n, 28, 28, 1])]).astype("f4")


def firm(x, width=WIDTH):
    return np.where(x <= width, 0, np.where(x <= 2 * width, 2 * (x - width), x))


def test_firm_shrinkage_and_its_derivative():
    x = tf.constant(np.linspace(0.001, 1, 500)[:, None], tf.float32)
    layers = keras_rar.firm_threshold(WIDTH)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layers(x)
    np.testing.assert_allclose(y, firm(x.numpy()), atol=1e-6)
    slopes = np.where(x < WIDTH, 0.0, np.where(x < 2 * WIDTH, 2.0, 1.0))
    np.testing.assert_allclose(tape.gradient(y, x), slopes, atol=1e-6)


def test_nothing_up_to_the_width_is_exactly_nothing():
    x = np.linspace(0, WIDTH, 1001).astype("float32")[:, None]
    assert not np.any(keras_rar.firm_threshold(WIDTH)(x))


def test_by_default_the_network_is_that_of_the_paper():
    assert [type(layer).__name__ for layer in networks.cnn().layers][:2] == ["Conv2D", "MaxPooling2D"]
    assert networks.cnn().count_params() == networks.cnn(threshold=WIDTH).count_params() == 3_274_634


def test_the_network_is_the_plain_one_of_what_is_left(network):
    x = np.random.default_rng(1).uniform(size=[4, 28, 28, 1]).astype("float32")
    plain = without(network)
    np.testing.assert_allclose(network(x), plain(firm(x)), rtol=1e-4, atol=1e-5)
    assert np.abs(network(x) - plain(x)).max() > 1e-3


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_nothing_on_an_empty_background_is_seen(network, policy):
    keras.config.set_dtype_policy(policy)
    try:
        other = networks.cnn(initializer="glorot_uniform", threshold=WIDTH)
    finally:
        keras.config.set_dtype_policy("float32")
    other.set_weights(network.get_weights())
    logits, empty = (np.asarray(other(x), "float32") for x in (faint(), np.zeros([1, 28, 28, 1], "float32")))
    np.testing.assert_array_equal(logits, np.broadcast_to(empty, logits.shape))


@pytest.mark.parametrize("is_seen", [False, True])
def test_an_attack_on_the_background_leaves_the_map_as_it_is(network, is_seen):
    """Whereas without a threshold it does not."""
    model = without(network) if is_seen else network
    image, attacked = np.zeros([1, 28, 28, 1], "float32"), faint(1)[:1]
    image[:, 8:20, 8:20], attacked[:, 8:20, 8:20] = 0.7, 0.7
    before, after = (keras_rar.saliency_map(model, x, np.zeros(1, int), m=5) for x in (image, attacked))
    assert (np.abs(before - after).max() > 1e-3) == is_seen


def test_the_softplus_twin_sees_what_the_network_does_not(network):
    """So that attacks on attributions have a gradient everywhere."""
    x = tf.constant(faint(1)[:1])
    with tf.GradientTape() as tape:
        tape.watch(x)
        score = keras_rar.softplus_twin(network, 10.0)(x)[0, 0]
    assert np.all(tape.gradient(score, x).numpy() != 0)


@pytest.mark.slow
def test_it_trains_is_saved_and_loaded_without_this_package(tmp_path):
    network = keras.Sequential([keras.Input((4,)), keras_rar.firm_threshold(WIDTH), keras.layers.Dense(3)])
    model = keras_rar.wrap(network, "igr", epsilon=0.1, steps=1, m=1, baseline=WIDTH, seed=0)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(1).uniform(size=[8, 4]).astype("float32")
    assert np.isfinite(model.fit(x, np.arange(8) % 3, verbose=0).history["loss"][0])
    assert "keras_rar" not in str(network.get_config())
    network.save(tmp_path / "a.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "a.keras")(x), network(x))


@pytest.mark.parametrize("width", [0, -0.1, float("nan"), "wide", True])
def test_the_width_is_validated(width):
    with pytest.raises((TypeError, ValueError), match="`width` must be a positive float"):
        networks.cnn(threshold=width)
