"""The smoothing block: its filter, formula and border, both data formats, derivatives, precisions, and files."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import wrapped
from scipy import ndimage

import keras_rar
from keras_rar.core.gradients import input_gradient

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 7, 6, 3)).astype("float32")


def gaussian(size, sigma):
    places = np.arange(size) - size // 2
    heights = np.exp(-(places**2) / (2 * sigma**2))
    return heights / heights.sum()


def blurred(x, weights):
    for axis in (1, 2):
        x = ndimage.correlate1d(x, weights, axis=axis, mode="mirror")  # as TensorFlow's reflection
    return x


def network(**options):
    layers = [
        keras.layers.Conv2D(4, 3, activation="softplus"),
        keras_rar.SmoothingBlock(**options),
        keras.layers.Flatten(),
        keras.layers.Dense(3),
    ]
    return keras.Sequential([keras.Input((6, 6, 1)), *layers])


@pytest.mark.parametrize(("size", "sigma", "used"), [(3, None, 0.8), (5, None, 1.1), (3, 2.0, 2.0), (7, 0.5, 0.5)])
def test_the_blur_is_that_of_scipy(size, sigma, used):
    found = keras_rar.SmoothingBlock(size, sigma, mixed=False)(X)
    np.testing.assert_allclose(found, blurred(X, gaussian(size, used)), atol=1e-6)
    assert np.abs(found - blurred(X, gaussian(size, 1.5 * used))).max() > 1e-3  # negative control


def test_a_constant_stays_and_a_chessboard_fades():
    block = keras_rar.SmoothingBlock(mixed=False)
    np.testing.assert_allclose(block(np.full((1, 5, 5, 2), 3.0, "float32")), 3.0, rtol=1e-6)
    board = (np.indices((8, 8)).sum(axis=0) % 2 * 2.0 - 1.0).astype("float32")[None, :, :, None]
    w = gaussian(3, 0.8)
    np.testing.assert_allclose(block(board), (w[1] - 2 * w[0]) ** 2 * board, atol=1e-6)


def test_mixed_it_is_the_sum_of_the_input_and_a_convolution_of_the_blur():
    block = keras_rar.SmoothingBlock()
    block(X)
    kernel, bias = RNG.normal(size=(3, 3)), RNG.normal(size=3)
    block.set_weights([kernel, bias])
    expected = X + blurred(X, gaussian(3, 0.8)) @ kernel + bias
    np.testing.assert_allclose(block(X), expected, rtol=1e-4, atol=1e-5)
    convolution = keras.layers.Conv2D(3, 1)
    convolution.build(X.shape)
    convolution.set_weights([kernel[None, None], bias])
    blur = keras_rar.SmoothingBlock(mixed=False)(X)
    np.testing.assert_allclose(block(X), X + convolution(blur), rtol=1e-4, atol=1e-5)
    assert len(block.trainable_variables) == 2
    assert not keras_rar.SmoothingBlock(mixed=False).variables


@pytest.mark.parametrize("mixed", [True, False])
def test_both_data_formats_are_alike(mixed):
    last, first = (
        keras_rar.SmoothingBlock(mixed=mixed, data_format=name) for name in ("channels_last", "channels_first")
    )
    turned = np.moveaxis(X, -1, 1)
    last(X), first(turned)
    first.set_weights(last.get_weights())
    np.testing.assert_allclose(np.moveaxis(first(turned), 1, -1), last(X), atol=1e-5)


def test_series_and_volumes_are_blurred_along_all_places():
    constant = np.ones((1, 4, 5, 6, 2), "float32")
    np.testing.assert_allclose(keras_rar.SmoothingBlock(mixed=False)(constant), constant, rtol=1e-6)
    series = RNG.normal(size=(2, 9, 3)).astype("float32")
    expected = ndimage.correlate1d(series, gaussian(3, 0.8), axis=1, mode="mirror")
    np.testing.assert_allclose(keras_rar.SmoothingBlock(mixed=False)(series), expected, atol=1e-6)


def test_any_size_of_image():
    layers = [keras_rar.SmoothingBlock(), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
    network = keras.Sequential([keras.Input((None, None, 3)), *layers])
    for size in (5, 8):
        assert network(np.zeros((2, size, size, 3), "float32")).shape == (2, 2)


@pytest.mark.parametrize("options", [{}, {"mixed": False}, {"size": 5}], ids=str)
@pytest.mark.usefixtures("in_float64")
def test_derivatives_are_exact(options):
    """Of first and second order in the input, and of a gradient in the weights, by differences."""
    model = network(**options)
    x, v = RNG.uniform(size=(2, 6, 6, 1)), RNG.normal(size=(2, 6, 6, 1))
    f = lambda z: tf.reduce_sum(tf.tanh(model(z)), axis=1)  # noqa: E731
    h = 1e-5

    def along(z):
        return tf.reduce_sum(v * input_gradient(f, tf.convert_to_tensor(z)), axis=[1, 2, 3])

    np.testing.assert_allclose(along(x), (f(x + h * v) - f(x - h * v)) / (2 * h), rtol=1e-6)
    second = tf.reduce_sum(v * input_gradient(along, tf.constant(x)), axis=[1, 2, 3])
    np.testing.assert_allclose(second, (along(x + h * v) - along(x - h * v)) / (2 * h), rtol=1e-5, atol=1e-8)
    assert np.abs(second).min() > 1e-6
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(along(x))
    start = model.get_weights()
    direction = [RNG.normal(size=value.shape) for value in start]
    gradients = tape.gradient(total, model.trainable_variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    exact = sum(np.sum(g * d) for g, d in zip(gradients, direction, strict=True))
    values = []
    for sign in (1, -1):
        model.set_weights([value + sign * h * d for value, d in zip(start, direction, strict=True)])
        values.append(float(tf.reduce_sum(along(x))))
    assert exact == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5)


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16", "float16"])
def test_it_computes_in_low_precision(dtype, mixed):
    exact, low = keras_rar.SmoothingBlock(mixed=mixed), keras_rar.SmoothingBlock(mixed=mixed, dtype=dtype)
    exact(X), low(X)
    low.set_weights(exact.get_weights())
    found = low(X)
    assert found.dtype == low.compute_dtype
    np.testing.assert_allclose(tf.cast(found, "float32"), exact(X), atol=0.1)
    with tf.GradientTape() as tape:
        x = tf.constant(X)
        tape.watch(x)
        total = tf.reduce_sum(low(x))
    assert np.isfinite(tape.gradient(total, x)).all()


@pytest.mark.slow
def test_a_network_with_it_trains_robustly_is_saved_and_compiled(tmp_path):
    base_model = network()
    model = wrapped("input_gradient", base_model, optimizer="adam", compile={"jit_compile": True})
    x, y = RNG.uniform(size=(8, 6, 6, 1)).astype("float32"), np.arange(8) % 3
    before = [value.copy() for value in base_model.layers[1].get_weights()]
    assert np.isfinite(model.fit(x, y, batch_size=8, verbose=0).history["loss"][0])
    assert all(np.abs(a - b).max() > 0 for a, b in zip(before, base_model.layers[1].get_weights(), strict=True))
    base_model.save(tmp_path / "a.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "a.keras")(x), base_model(x))
    keras_rar.export_saved_model(base_model, tmp_path / "served")
    served = tf.saved_model.load(tmp_path / "served")
    np.testing.assert_allclose(served.serve(x), base_model(x), atol=1e-5)


@pytest.mark.usefixtures("in_float64")
def test_gradients_in_front_of_a_blur_lose_their_high_frequencies():
    """Each frequency by what the filter leaves of it: of a chessboard little, of the sum all."""
    plain = network(mixed=False)
    smooth = keras.Sequential([keras.Input((6, 6, 1)), keras_rar.SmoothingBlock(mixed=False), *plain.layers])
    x = RNG.uniform(size=(3, 6, 6, 1))
    blurred_x = smooth.layers[0](x)
    gradient = input_gradient(lambda z: smooth(z)[:, 0], tf.constant(x)).numpy()
    without = input_gradient(lambda z: plain(z)[:, 0], blurred_x).numpy()
    board = (np.indices((6, 6)).sum(axis=0) % 2 * 2.0 - 1.0)[None, :, :, None]
    w = gaussian(3, 0.8)
    left = (w[1] - 2 * w[0]) ** 2
    assert left < 0.01
    components = [(g * board).sum(axis=(1, 2, 3)) for g in (gradient, without)]
    np.testing.assert_allclose(components[0], left * components[1], rtol=1e-8, atol=1e-12)
    assert np.abs(components[1]).max() > 1e-3
    np.testing.assert_allclose(gradient.sum(axis=(1, 2, 3)), without.sum(axis=(1, 2, 3)), rtol=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 4}, "`size` must be an odd integer >= 3. Received: size=4"),
        ({"size": 1}, "`size` must be an odd integer >= 3"),
        ({"size": 2.5}, "`size` must be a positive integer"),
        ({"sigma": 0.0}, "`sigma` must be a positive float"),
        ({"mixed": 1}, "`mixed` must be"),
        ({"data_format": "channels"}, r"`data_format` must be one of \['channels_last', 'channels_first'\]"),
    ],
    ids=str,
)
def test_arguments_are_validated(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        keras_rar.SmoothingBlock(**options)


@pytest.mark.parametrize("shape", [(2, 3), (2, 2, 8, 3)])
def test_inputs_without_enough_places_are_refused(shape):
    with pytest.raises(ValueError, match=r"`inputs` must be maps of more than 2 places along each axis\. Received"):
        keras_rar.SmoothingBlock(5)(np.zeros(shape, "float32"))
