"""Where images have their channels: found in the model, told from sizes, or asked for."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import some_slow

import keras_rar
from keras_rar.core import channels
from keras_rar.core.saliency_methods import IntegratedGradients
from keras_rar.networks.channel_axis import data_format_of

L = keras.layers
X = np.random.default_rng(0).uniform(0.2, 0.8, size=(3, 6, 6, 3)).astype("float32")
FIRST = np.moveaxis(X, -1, 1)
TO_LAST = (2, 3, 1)


def model_of(shape, *layers):
    return keras.Sequential([keras.Input(shape), *layers, L.Flatten(), L.Dense(3)])


def twins():
    """A convolutional network, and the same one behind a transposition: it takes channels first."""
    layers = [L.Conv2D(4, 3, activation="relu"), L.Flatten(), L.Dense(3)]
    last = keras.Sequential([keras.Input((6, 6, 3)), *layers])
    return last, keras.Sequential([keras.Input((3, 6, 6)), L.Permute(TO_LAST), *layers])


# Sizes

SIZES = {
    (28, 28, 1): "channels_last",
    (32, 48, 3): "channels_last",
    (3, 32, 48): "channels_first",
    (1, 28, 28): "channels_first",
    (8, 8, 5): "channels_last",
    (5, 8, 8): "channels_first",
    (7, 7, 512): "channels_last",
    (4, 4, 1): "channels_last",
    (4, 4, 2): "channels_last",
    (3, 3, 4): "channels_last",
    (5, 4, 3): "channels_last",
    (20, 30, 12): "channels_last",
    (None, None, 3): "channels_last",
    (3, None, None): "channels_first",
    (1, 9, 1): "channels_last",
    (8, 8, 8, 1): "channels_last",
    (10, 32, 32, 3): "channels_last",
    (1, 8, 8, 8): "channels_first",
    (28, 28): "none",
    (3, 7): "none",
    (5,): "none",
    (8, 8, 8): None,
    (3, 8, 3): None,
    (3, 3, 3): None,
    (12, 20, 30): None,
    (None, None, None): None,
    (16, 3, 32, 32): None,
}


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_sizes_tell_or_do_not(shape):
    assert channels.of_sizes(shape) == SIZES[shape]


@pytest.mark.parametrize("shape", [(8, 8, 8), (3, 8, 3)], ids=str)
def test_what_nothing_tells_is_refused_by_a_sentence_that_says_how_to_name_it(shape):
    model, x = model_of(shape), np.zeros((1, *shape), "float32")
    message = '^`data_format` must be "channels_last", "channels_first", or "none".*Received: data_format=\'auto\''
    with pytest.raises(ValueError, match=message):
        keras_rar.saliency_map(model, x, m=1)
    shapes = {"channels_last": shape[:-1], "channels_first": shape[1:], "none": shape}
    for data_format, expected in shapes.items():
        assert keras_rar.saliency_map(model, x, m=1, data_format=data_format).shape == (1, *expected)
    assert keras_rar.saliency_map(model, x, m=1, normalize=False).shape == x.shape  # no map, so nothing to know


def test_a_wrong_name_or_one_where_there_are_no_channels_is_refused():
    with pytest.raises(ValueError, match="`data_format` must be one of"):
        keras_rar.saliency_map(model_of((6, 6, 3)), X, m=1, data_format="first")
    with pytest.raises(ValueError, match='`data_format` must be "auto" or "none" for inputs without channels'):
        keras_rar.saliency_map(model_of((6, 6)), X[..., 0], m=1, data_format="channels_last")


def test_what_keras_is_set_to_counts_where_nothing_else_tells():
    keras.config.set_image_data_format("channels_first")
    try:
        assert data_format_of(model_of((8, 8, 8)), (8, 8, 8)) == "channels_first"
        assert data_format_of(model_of((6, 6, 1)), (6, 6, 1)) == "channels_last"
    finally:
        keras.config.set_image_data_format("channels_last")


# Models


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.convolution, self.last = L.Conv2D(2, 3), L.Dense(3)

    def call(self, x):
        h = self.convolution(keras.ops.transpose(x, (0, 2, 3, 1)))
        return self.last(keras.ops.reshape(h, (-1, 2 * 36)))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 8, 8, 8), "float32"))
    return model


def functional():
    x = keras.Input((8, 8, 8))
    h = L.Conv2D(2, 3)(keras.ops.transpose(x / 2 + 1, (0, 2, 3, 1)))
    return keras.Model(x, L.Dense(3)(L.Flatten()(h)))


CUBE = (8, 8, 8)  # sizes that tell nothing
MODELS = {
    "convolution": (lambda: model_of(CUBE, L.Conv2D(2, 3)), "channels_last"),
    "pooling": (lambda: model_of(CUBE, L.MaxPooling2D(2)), "channels_last"),
    "pooling of channels first": (lambda: model_of(CUBE, L.ZeroPadding2D(1, data_format="channels_first")),
                                  "channels_first"),
    "behind a transposition": (lambda: model_of(CUBE, L.Permute(TO_LAST), L.Conv2D(2, 3)), "channels_first"),
    "behind two": (lambda: model_of(CUBE, L.Permute((3, 1, 2)), L.Rescaling(2.0), L.Permute(TO_LAST), L.Conv2D(2, 3)),
                   "channels_last"),
    "behind layers that keep axes": (lambda: model_of(CUBE, L.BatchNormalization(), L.Dropout(0.5), L.ReLU(),
                                                      L.Permute(TO_LAST), L.DepthwiseConv2D(3)), "channels_first"),
    "nested": (lambda: model_of(CUBE, L.Permute(TO_LAST), keras.Sequential([keras.Input(CUBE), L.Conv2D(2, 3)])),
               "channels_first"),
    "functional": (functional, "channels_first"),
    "subclassed": (subclassed, "channels_first"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_first_layer_with_channels_tells(name):
    make, expected = MODELS[name]
    assert data_format_of(make(), CUBE) == expected


VETOED = {
    "one channel": (lambda: model_of((1, 8, 8), L.MaxPooling2D(2, data_format="channels_first")), (1, 8, 8),
                    "channels_first"),
    "one row": (lambda: model_of((1, 8, 3), L.Conv2D(2, 1)), (1, 8, 3), "channels_last"),
    "a flat image of many channels": (lambda: model_of((3, 8, 5), L.Conv2D(2, 2)), (3, 8, 5), "channels_last"),
    "volumes": (lambda: model_of((6, 6, 6, 6), L.Permute((2, 3, 4, 1)), L.Conv3D(2, 3)), (6, 6, 6, 6),
                "channels_first"),
    "sizes that vary": (lambda: model_of((None, None, 3), L.Conv2D(2, 3), L.GlobalAveragePooling2D()), (None, None, 3),
                        "channels_last"),
}  # fmt: skip


@pytest.mark.parametrize("name", VETOED)
def test_a_layer_counts_before_sizes(name):
    make, shape, expected = VETOED[name]
    assert data_format_of(make(), shape) == expected


BETWEEN = {
    "transposed": ((3, 8, 5), lambda: L.Permute((1, 3, 2)), lambda: L.Conv2D(2, 3)),
    "after time": ((3, 3, 8, 8), lambda: L.ConvLSTM2D(2, 3, data_format="channels_first")),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_channels_between_other_axes_are_refused_whatever_sizes_say(name):
    shape, *layers = BETWEEN[name]
    assert channels.of_sizes(shape) == "channels_first"
    with pytest.raises(ValueError, match="`data_format` must be"):
        data_format_of(model_of(shape, *(layer() for layer in layers)), shape)


def test_looking_leaves_the_network_as_it_is():
    model = model_of(CUBE, L.BatchNormalization(), L.Conv2D(2, 3))
    before = [weight.numpy() for weight in model.weights], list(vars(model.layers[1]))
    data_format_of(model, CUBE)
    for weight, old in zip(model.weights, before[0], strict=True):
        np.testing.assert_array_equal(weight, old)
    assert list(vars(model.layers[1])) == before[1]


# Maps


def test_all_of_an_image_of_one_pixel_is_at_that_pixel():
    x = np.zeros((1, 3, 8, 8), "float32")
    x[0, :, 2, 5] = 1
    found = keras_rar.saliency_map(model_of((3, 8, 8), L.Permute(TO_LAST)), x, m=4)
    assert found.shape == (1, 8, 8)
    np.testing.assert_array_equal(np.argwhere(found[0] > 0), [[2, 5]])


MAPS = ["ig", "gradient", "gradient_x_input", "smoothgrad", "guided_backprop"]


@pytest.mark.parametrize(
    "method",
    some_slow(MAPS, ["ig", "guided_backprop"]),
)
def test_maps_of_channels_first_are_those_of_the_twin(method):
    last, first = twins()
    options = {"m": 4, "noise": 0.0001, "samples": 2}  # other draws for transposed inputs
    expected = keras_rar.saliency_map(last, X, [0, 1, 2], method, **options)
    found = keras_rar.saliency_map(first, FIRST, [0, 1, 2], method, **options)
    assert found.shape == (3, 6, 6)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 if method != "smoothgrad" else 0.02)


def test_volumes_lose_their_channels():
    model = model_of((4, 4, 4, 2), L.Conv3D(2, 2))
    x = np.random.default_rng(0).uniform(size=(2, 4, 4, 4, 2)).astype("float32")
    found = keras_rar.saliency_map(model, x, [0, 1], m=2)
    signed = keras_rar.saliency_map(model, x, [0, 1], m=2, normalize=False)
    expected = np.abs(signed).sum(axis=-1)
    np.testing.assert_allclose(found, 64 * expected / expected.sum(axis=(1, 2, 3), keepdims=True), rtol=1e-4)


def test_the_exported_endpoint_gives_the_maps_of_saliency_map(tmp_path):
    _, model = twins()
    keras_rar.export_saved_model(model, tmp_path / "served", m=4)
    served = tf.saved_model.load(tmp_path / "served")
    np.testing.assert_allclose(
        served.attribute(tf.constant(FIRST)), keras_rar.saliency_map(model, FIRST, m=4), rtol=1e-4, atol=1e-4
    )


def test_an_export_that_nothing_tells_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`data_format` must be"):
        keras_rar.export_saved_model(model_of(CUBE), tmp_path / "served")
    assert not (tmp_path / "served").exists()


def test_a_baseline_of_an_object_belongs_to_an_input_not_to_a_batch():
    last, _ = twins()
    for shape in [(3, 6, 6, 3), (6, 6, 2), (3, 1, 1)]:
        baseline = keras_rar.quadrature.right(2), np.zeros(shape)
        with pytest.raises(ValueError, match="`baseline` must be a float or an array that broadcasts to an input"):
            keras_rar.saliency_map(last, X, method=IntegratedGradients(*baseline))
    per_channel = IntegratedGradients(keras_rar.quadrature.right(2), np.zeros(3))
    assert keras_rar.saliency_map(last, X, method=per_channel).shape == (3, 6, 6)
