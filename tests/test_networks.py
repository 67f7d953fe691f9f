"""The paper's network, and the soft threshold that it may begin with."""

import keras
import numpy as np
import pytest

import keras_rar
from keras_rar.paper import networks

WIDTH = 0.102


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(3)
    return networks.cnn(initializer="glorot_uniform", threshold=WIDTH)


def faint(n=4):
    """Images that an attack with epsilon 0.1 may make of an empty one."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.uniform(0, 0.1, [n, 28, 28, 1]), 0.1 * rng.integers(0, 2, [n, 28, 28, 1])]).astype("f4")


def test_by_default_it_is_the_network_of_the_paper():
    assert [type(layer).__name__ for layer in networks.cnn().layers][:2] == ["Conv2D", "MaxPooling2D"]
    assert networks.cnn().count_params() == 3_274_634


def test_it_is_the_plain_network_of_what_exceeds_the_threshold(network):
    x = np.random.default_rng(1).uniform(size=[4, 28, 28, 1]).astype("float32")
    plain = networks.cnn(initializer="glorot_uniform")
    plain.set_weights(network.get_weights())
    np.testing.assert_allclose(network(x), plain(np.maximum(x - np.float32(WIDTH), 0)), rtol=1e-5, atol=1e-6)
    assert np.abs(network(x) - plain(x)).max() > 1e-3


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_nothing_on_an_empty_background_is_seen(network, policy):
    keras.config.set_dtype_policy(policy)
    try:
        other = networks.cnn(initializer="glorot_uniform", threshold=WIDTH)
    finally:
        keras.config.set_dtype_policy("float32")
    other.set_weights(network.get_weights())
    logits = np.asarray(other(faint()), "float32")
    np.testing.assert_array_equal(logits, np.broadcast_to(np.asarray(other(np.zeros([1, 28, 28, 1])), "f4"), [8, 10]))


def test_an_attack_there_leaves_the_map_as_it_is(network):
    """Whereas without a threshold it does not."""
    image, attacked = np.zeros([1, 28, 28, 1], "float32"), faint(1)[:1]
    image[:, 8:20, 8:20], attacked[:, 8:20, 8:20] = 0.7, 0.7
    plain = networks.cnn(initializer="glorot_uniform")
    plain.set_weights(network.get_weights())
    before, after = (keras_rar.saliency_map(network, x, np.zeros(1, int), m=5) for x in (image, attacked))
    np.testing.assert_array_equal(before, after)
    before, after = (keras_rar.saliency_map(plain, x, np.zeros(1, int), m=5) for x in (image, attacked))
    assert np.abs(before - after).max() > 1e-3


def test_it_is_loaded_without_this_package(network):
    assert "keras_rar" not in str(network.get_config())


@pytest.mark.parametrize("threshold", [0, -0.1, float("nan"), "wide", True])
def test_the_threshold_is_validated(threshold):
    with pytest.raises((TypeError, ValueError), match="`threshold` must be a positive float"):
        networks.cnn(threshold=threshold)
