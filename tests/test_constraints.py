"""The dead zone of a first layer."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_rar
from keras_rar.constraints import AtMost, UnitPositiveSum, dead_zone
from keras_rar.paper import networks

WIDTH = 0.12


def conv(width=WIDTH, **options):
    keras.utils.set_random_seed(3)
    network = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            keras.layers.Conv2D(6, 3, activation="relu", **{"padding": "same", **options}),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    if width is not None:
        dead_zone(network.layers[0], width)
    return network


def response(network, x):
    """Output of the first layer, and its derivatives in the input."""
    x = tf.convert_to_tensor(x, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = network.layers[0](x)
    return output.numpy(), tape.gradient(output, x).numpy()


def faint(shape, width, seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.uniform(0, width, shape)
    corners = width * rng.integers(0, 2, shape)
    return 0.9999 * np.concatenate([noise, corners]).astype("float32")  # a rounding below the width


def fitted(network, epochs=2, **options):
    rng = np.random.default_rng(1)
    x, y = rng.uniform(size=[32, 8, 8, 2]).astype("float32"), np.arange(32) % 3
    model = keras_rar.wrap(network, "igr", epsilon=0.1, steps=1, m=1, seed=0)
    model.compile(keras.optimizers.Adam(0.005, **options), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, batch_size=8, epochs=epochs, verbose=0)
    return model


@pytest.mark.parametrize("options", [{}, {"padding": "valid"}, {"strides": 2}, {"dilation_rate": 2}])
def test_nothing_within_the_zone_is_seen(options):
    network = conv(**options)
    output, gradient = response(network, faint([20, 8, 8, 2], WIDTH))
    assert not output.any()
    assert not gradient.any()


def test_without_it_or_beyond_it_something_is():
    x = faint([20, 8, 8, 2], WIDTH)
    output, gradient = response(conv(width=None), x)
    assert output.any()
    assert gradient.any()
    output, _ = response(conv(), np.maximum(x, 0) * 10)
    assert output.any()


def test_the_zone_is_no_wider_than_said():
    """A unit turns on just beyond it, where its positive weights all see the same."""
    network = conv()
    kernel = network.layers[0].kernel.numpy()
    patches = np.where(kernel > 0, 1.01 * WIDTH, 0).transpose(3, 0, 1, 2)
    output = tf.nn.conv2d(patches, kernel, 1, "VALID").numpy()[:, 0, 0] + network.layers[0].bias.numpy()
    np.testing.assert_allclose(np.diag(output), 0.01 * WIDTH, rtol=1e-3)


@pytest.mark.parametrize("options", [{}, {"use_ema": True}])
def test_it_holds_after_training_and_learning_goes_on(options):
    network = conv()
    before = [w.numpy() for w in network.layers[0].weights]
    fitted(network, **options)
    assert not response(network, faint([20, 8, 8, 2], WIDTH))[0].any()
    for old, new in zip(before, network.layers[0].weights, strict=True):
        assert np.abs(old - new.numpy()).max() > 1e-3


def test_training_without_it_does_not_find_it():
    """So that the test above can fail."""
    network = conv(width=None)
    fitted(network)
    assert response(network, faint([20, 8, 8, 2], WIDTH))[0].any()


def test_an_attack_on_the_background_changes_nothing():
    """With IG at every node, since the path from a baseline of 0 stays in the zone."""
    network = conv()
    x = faint([4, 8, 8, 2], 0.1)
    maps = keras_rar.saliency_map(network, x, np.zeros(8, int), normalize=False)
    assert not np.any(maps)
    np.testing.assert_array_equal(network(x), network(np.zeros_like(x)))


def test_in_bfloat16_the_result_in_float32_has_it():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = conv()
        fitted(network)
    finally:
        keras.config.set_dtype_policy("float32")
    plain = conv(width=None)
    plain.set_weights(network.get_weights())
    assert not response(plain, faint([20, 8, 8, 2], WIDTH))[0].any()


@pytest.mark.parametrize("shape", [(6,), (9, 2), (6, 6, 1), (4, 4, 4, 1)])
def test_dense_and_convolutions_of_every_rank(shape):
    kind = {1: keras.layers.Dense, 2: keras.layers.Conv1D, 3: keras.layers.Conv2D, 4: keras.layers.Conv3D}[len(shape)]
    layer = kind(5, activation="relu") if len(shape) == 1 else kind(5, 3, activation="relu")
    network = keras.Sequential([keras.Input(shape), layer])
    dead_zone(layer, 0.3)
    assert not response(network, faint([10, *shape], 0.3))[0].any()
    assert response(network, np.ones([1, *shape]))[0].shape[-1] == 5


def test_it_is_saved_and_goes_on(tmp_path):
    network = conv()
    network.save(tmp_path / "a.keras")
    again = keras.saving.load_model(tmp_path / "a.keras")
    assert isinstance(again.layers[0].kernel.constraint, UnitPositiveSum)
    assert again.layers[0].bias.constraint.limit == -WIDTH
    fitted(again)
    assert not response(again, faint([20, 8, 8, 2], WIDTH))[0].any()


def test_lifted_nothing_of_this_package_is_saved():
    network = conv()
    weights = network.get_weights()
    dead_zone(network.layers[0], None)
    assert "keras_rar" not in str(network.get_config())
    for old, new in zip(weights, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_units_without_positive_weights():
    """Stay finite, and as silent as they were."""
    kernel = -np.ones([3, 2], "float32")
    assert np.all(np.isfinite(UnitPositiveSum()(kernel)))
    assert np.all(UnitPositiveSum()(kernel).numpy() < 0)


def test_at_most():
    np.testing.assert_allclose(AtMost(-0.5)(np.array([0.0, -0.7, -0.5])), [-0.5, -0.7, -0.5])


def test_the_network_of_the_paper_takes_it():
    network = networks.cnn(initializer="glorot_uniform", dead_zone=0.12)
    assert not response(network, faint([2, 28, 28, 1], 0.12))[0].any()
    assert network.count_params() == 3274634
    assert networks.cnn().layers[0].kernel.constraint is None


@pytest.mark.parametrize("width", [0, -0.1, float("nan"), "wide", True])
def test_the_width_is_validated(width):
    with pytest.raises((TypeError, ValueError), match="`width` must be a positive float"):
        dead_zone(conv().layers[0], width)


@pytest.mark.parametrize(
    "layer",
    [keras.layers.Dense(2), keras.layers.ReLU(), keras.layers.Conv2DTranspose(2, 3), "conv"],
    ids=["unbuilt", "relu", "transpose", "string"],
)
def test_other_layers_are_refused(layer):
    with pytest.raises(ValueError, match="`layer` must be a built Dense"):
        dead_zone(layer, 0.1)


def test_a_layer_without_bias_is_refused():
    layer = keras.layers.Dense(2, use_bias=False)
    layer.build((None, 3))
    with pytest.raises(ValueError, match="with a bias"):
        dead_zone(layer, 0.1)


@pytest.mark.parametrize("limit", [float("inf"), None, "a"])
def test_the_limit_is_validated(limit):
    with pytest.raises((TypeError, ValueError), match="`limit` must be a finite float"):
        AtMost(limit)
