"""Layers without the derivatives that are taken: refused by name before anything begins, or known to have them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, conv_model, dense_model

import keras_rar
from keras_rar import attacks
from keras_rar.networks import differentiable

IMAGE = (8, 8, 3)
LAYERS = keras.layers


def network(*layers, shape=IMAGE):
    return keras.Sequential([keras.Input(shape), *layers, keras.layers.Flatten(), keras.layers.Dense(3)])


def of_function(function, shape=None, **options):
    return LAYERS.Lambda(function, output_shape=shape, name="mine", **options)


class Bicubic(keras.layers.Layer):
    def call(self, x):
        return tf.image.resize(x, [6, 6], method="bicubic")


class Block(keras.layers.Layer):
    """A layer that holds another."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inner, self.convolution = Bicubic(name="mine"), LAYERS.Conv2D(2, 3)

    def build(self, input_shape):
        self.convolution.build((None, 6, 6, input_shape[-1]))

    def call(self, x):
        return self.convolution(self.inner(x))


class Constant(keras.layers.Layer):
    """Its derivative, a constant, is not differentiated: that is an error of whoever wrote it, and silent."""

    def call(self, x):
        return tf.custom_gradient(lambda x: (2 * x, lambda dy: 2 * tf.stop_gradient(dy)))(x)


class InCall(keras.Model):
    """A subclassed model whose own code resizes."""

    def __init__(self, **options):
        super().__init__(**options)
        self.flat, self.dense = LAYERS.Flatten(), LAYERS.Dense(3)

    def call(self, x):
        return self.dense(self.flat(tf.image.resize(x, [6, 6], method="bicubic")))


def subclassed():
    model = InCall(name="mine")
    model(np.zeros((1, *IMAGE), "float32"))
    return model


NO_FIRST = {
    "area": (lambda: network(LAYERS.Resizing(6, 6, interpolation="area", name="mine")), "ResizeArea"),
    "contrast": (lambda: network(of_function(lambda x: tf.image.adjust_contrast(x, 2.0))), "AdjustContrastv2"),
}
NO_SECOND = {
    "lambda": (lambda: network(of_function(Bicubic().call, (6, 6, 3))), "ResizeBicubicGrad"),
    "layer": (lambda: network(Bicubic(name="mine")), "ResizeBicubicGrad"),
    "held": (lambda: network(Block(name="outer")), "ResizeBicubicGrad"),
    "nested": (lambda: network(network(Bicubic(name="mine")), shape=IMAGE), "ResizeBicubicGrad"),
    "subclassed": (subclassed, "ResizeBicubicGrad"),
    "response": (lambda: network(of_function(tf.nn.local_response_normalization)), "LRNGrad"),
    "morphology": (
        lambda: network(
            of_function(lambda x: tf.nn.dilation2d(x, tf.zeros([3, 3, 3]), [1] * 4, "SAME", "NHWC", [1] * 4))
        ),
        "Dilation2DBackpropInput",
    ),
    "argmax": (
        lambda: network(of_function(lambda x: tf.nn.max_pool_with_argmax(x, 2, 2, "SAME")[0], (4, 4, 3))),
        "MaxPoolGradWithArgmax",
    ),
    "constant": (lambda: network(Constant(name="mine")), "zero where its first is not"),
}
HAS_BOTH = {
    "patches": lambda: network(
        of_function(lambda x: tf.image.extract_patches(x, [1, 2, 2, 1], [1, 2, 2, 1], [1] * 4, "VALID"), (4, 4, 12))
    ),
    "hue": lambda: network(of_function(tf.image.rgb_to_hsv)),
    "fourier": lambda: network(of_function(lambda x: tf.abs(tf.signal.rfft(x)), (3,)), shape=(4,)),
    "sorted": lambda: network(of_function(tf.sort), shape=(4,)),
    "affine, at a point with no curvature": lambda: network(of_function(lambda x: tf.sqrt(x)), shape=(4,)),
    "constant": lambda: network(of_function(tf.round), shape=(4,)),
    "unknown": lambda: network(of_function(lambda x: tf.numpy_function(np.sin, [x], x.dtype), (4,)), shape=(4,)),
    "resized": lambda: network(LAYERS.Resizing(6, 6, interpolation="bicubic"), LAYERS.UpSampling2D(2)),
    "convolution": conv_model,
}


def refused(model, order):
    with pytest.raises(ValueError, match=r"^`base_model` must have ") as error:
        differentiable.check_trained(model, order)
    return str(error.value)


@pytest.mark.parametrize("name", NO_SECOND)
def test_a_layer_without_a_second_derivative_is_named(name):
    make, what = NO_SECOND[name]
    model = make()
    differentiable.check_trained(model, 1)
    message = refused(model, 2)
    assert message.startswith("`base_model` must have second derivatives in its input. Received: the layer 'mine' (")
    assert what in message
    assert message.count("the layer") == 1
    assert message.endswith('or train with method="madry", which takes first derivatives alone')


@pytest.mark.parametrize("name", NO_FIRST)
@pytest.mark.parametrize("order", [1, 2])
def test_a_layer_without_a_derivative_is_named(name, order):
    make, what = NO_FIRST[name]
    message = refused(make(), order)
    assert message.startswith("`base_model` must have derivatives in its input. Received: the layer 'mine' (")
    assert what in message
    assert message.endswith('or train with method="natural", which takes none in the input')


@pytest.mark.parametrize("name", HAS_BOTH)
def test_what_has_them_is_not_refused(name):
    differentiable.check_trained(HAS_BOTH[name](), 2)


def test_all_layers_are_named_in_their_order_and_each_kind_is_tried_once(monkeypatch):
    tried, fault = [], differentiable._fault
    monkeypatch.setattr(differentiable, "_fault", lambda *given: tried.append(given) or fault(*given))
    model = network(Bicubic(name="a"), LAYERS.Conv2D(3, 1), Bicubic(name="b"), Bicubic(name="c"))
    message = refused(model, 2)
    assert [message.find(f"'{name}'") for name in "abc"] == sorted(message.find(f"'{name}'") for name in "abc")
    assert message.find("'a'") > 0
    assert len(tried) == 2 * 2  # of two shapes, first and second derivatives
    refused(model, 2)
    assert len(tried) == 2 * 2  # kept with the model


def test_layers_of_keras_are_not_tried(monkeypatch):
    """It costs nothing where nothing is in doubt."""
    monkeypatch.setattr(differentiable, "_fault", None)
    differentiable.check_trained(conv_model(), 2)
    differentiable.check_trained(dense_model(), 2)
    with pytest.raises(TypeError):
        differentiable.check_trained(network(Bicubic()), 2)


def test_code_that_is_in_no_module_is_tried():
    """Such as what `exec` runs: its functions have the module `None`."""
    names = {"Layer": LAYERS.Layer, "tf": tf}
    code = "class Mine(Layer):\n    def call(self, x):\n        return tf.nn.local_response_normalization(x)"
    exec(code, names)  # noqa: S102
    assert "LRNGrad" in refused(network(names["Mine"](name="mine")), 2)


# Where it is asked

X, Y = batch(4, IMAGE)


def test_wrapping_refuses_what_a_method_differentiates_and_no_more():
    for method in ("ig_topk", "ig_sum_norm", "ig_norm", "igr"):
        with pytest.raises(ValueError, match=r"second derivatives in its input. Received: the layer 'mine'"):
            keras_rar.wrap(network(Bicubic(name="mine")), method)
    keras_rar.wrap(network(Bicubic()), "madry")
    with pytest.raises(ValueError, match="must have derivatives"):
        keras_rar.wrap(NO_FIRST["area"][0](), "madry")
    keras_rar.wrap(NO_FIRST["area"][0](), "natural")


def test_attacks_refuse_what_they_differentiate_and_no_more():
    model = network(Bicubic(name="mine"))
    attack = attacks.TopKAttack(3, 0.1, steps=1, m=2, softplus_beta=None)
    with pytest.raises(ValueError, match=r"^`model` must have second derivatives .* the layer 'mine'"):
        attack(model, X)
    with pytest.raises(ValueError, match=r"^`gradient_model` must have second derivatives .* the layer 'mine'"):
        attack(network(), X, gradient_model=model)
    with pytest.raises(ValueError, match=r"^`model` must have second derivatives .* the layer 'mine'"):
        keras_rar.evaluate_robustness(model, X, Y, epsilon=0.1, progress=False)


@pytest.mark.slow
def test_what_takes_first_derivatives_goes_on_working():
    model = network(Bicubic())
    attacks.RandomAttack(0.1, steps=1, m=2)(model, X)
    attacks.PGDAttack(0.1, steps=1)(model, X, Y)
    assert np.all(np.isfinite(keras_rar.saliency_map(model, X, m=2)))


@pytest.mark.slow
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_images_that_keras_resizes_can_be_trained_and_attacked(interpolation):
    """TensorFlow has no derivative of the derivative of resizing: that of bilinear resizing it took for zero."""
    base_model = network(LAYERS.Resizing(6, 6, interpolation=interpolation), LAYERS.Conv2D(2, 3, activation="tanh"))
    model = keras_rar.wrap(base_model, "ig_topk", steps=1, seed=0)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"]).all()
    options = {"steps": 10, "m": 3, "saliency": "gradient", "softplus_beta": None}
    found = attacks.TopKAttack(8, 0.05, **options)(base_model, X)
    noise = attacks.RandomAttack(0.05, k_report=8, **options)(base_model, X)
    assert found.scores["topk_intersection"].mean() < noise.scores["topk_intersection"].mean()


# Words that are taken for floats


class Subclassed(keras.Model):
    """Keras knows no dtype of its input."""

    def __init__(self):
        super().__init__()
        self.embedding = keras.layers.Embedding(9, 3, name="embedding")
        self.pool, self.scores = keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(2)

    def call(self, words):
        return self.scores(self.pool(self.embedding(words)))


def of_words(kind):
    if kind == "subclassed":
        model = Subclassed()
        model(np.array([[1, 2, 3, 0]]))
        return model
    words = keras.Input((4,))  # a float, unless told
    rows = keras.layers.Embedding(9, 3, name="embedding")(words)
    hidden = keras.layers.GlobalAveragePooling1D()(rows)
    if kind == "beside":
        hidden = keras.layers.Concatenate()([hidden, words])
    return keras.Model(words, keras.layers.Dense(2)(hidden))


@pytest.mark.parametrize("kind", ["float", "subclassed"])
def test_words_that_are_taken_for_floats_are_refused_and_explained_at_a_layer(kind):
    """Their maps would be 0, and each attack would fail: all scores would be 1."""
    model, x = of_words(kind), np.array([[1, 2, 3, 0], [4, 5, 6, 7]])
    for call in (
        lambda: keras_rar.saliency_map(model, x),
        lambda: keras_rar.attacks.PGDAttack(0.1, bounds=None)(model, x, [0, 1]),
        lambda: keras_rar.wrap(model, "igr", bounds=None),
    ):
        with pytest.raises(ValueError, match=r"^`model` must have a gradient in its input, or be .*layer='embedding'"):
            call()
    assert np.all(keras_rar.saliency_map(model, x, layer="embedding", m=1) > 0)
    assert keras_rar.wrap(model, "igr", layer="embedding").layer == "embedding"
    assert keras_rar.wrap(of_words(kind), "natural", bounds=None)  # takes no gradient in the input


def test_words_beside_numbers_are_not_refused():
    assert np.any(keras_rar.saliency_map(of_words("beside"), np.ones([1, 4]), m=1))
