"""The stem of a model, found where it is sure, and its max-pooling in another order: the same function each time."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import conv_model

from keras_rar.networks import pools, stem, surrogates
from keras_rar.networks.copies import operations
from keras_rar.networks.output import OutputHead

L = keras.layers
Model, Sequential, Input = keras.Model, keras.Sequential, keras.Input
ROUNDING = {"rtol": 1e-5, "atol": 1e-6}  # float32, sums of some tens of terms


def images(n=4, size=8, channels=1):
    return np.random.default_rng(0).normal(size=(n, size, size, channels)).astype("float32")


def points(model, n=4):
    shape = [n, *(size or 6 for size in getattr(model, "input_shape", (None, 4))[1:])]
    return tf.constant(np.random.default_rng(0).normal(size=shape).astype("float32"))


def ending(x):
    """A hidden layer and logits."""
    return L.Dense(3)(L.Dense(5, "tanh")(L.Flatten()(x)))


def functional(*layers, shape=(8, 8, 1)):
    inputs = Input(shape)
    x = inputs
    for layer in layers:
        x = layer(x)
    return Model(inputs, ending(x))


# Models with a stem, and the kinds of its layers


def dense_first():
    return Sequential([Input((4,)), L.Dense(6, "tanh"), L.Dense(3)])


def linear():
    return Sequential([Input((4,)), L.Dense(3)])


def conv_first():
    return Sequential([Input((8, 8, 1)), L.Conv2D(3, 3, 2, activation="relu"), L.Flatten(), L.Dense(3)])


def functional_conv():
    return functional(L.Conv2D(2, 3, activation="relu"))


def depthwise():
    return functional(L.DepthwiseConv2D(3, activation="relu"))


def series():
    return functional(L.ZeroPadding1D(1), L.Conv1D(2, 3, activation="relu"), shape=(6, 2))


def volumes():
    return functional(L.ZeroPadding3D(1), L.Conv3D(2, 3, activation="relu"), shape=(3, 3, 3, 1))


def rescaled():
    return functional(L.Rescaling(2.0, -1.0), L.ZeroPadding2D(1), L.Cropping2D(1), L.Conv2D(2, 3, activation="relu"))


def normalized():
    return functional(L.Normalization(mean=[0.3], variance=[2.0]), L.Conv2D(2, 3, activation="relu"))


def flattened():
    return Sequential([Input((8, 8, 1)), L.Flatten(), L.Dense(6, "relu"), L.Dense(3)])


def reshaped():
    return Sequential([Input((8,)), L.Reshape((4, 2)), L.Permute((2, 1)), L.Dense(6, "relu"), L.Flatten(), L.Dense(3)])


def nested():
    inner = Sequential([Input((8, 8, 1)), L.Rescaling(0.5), L.Conv2D(2, 3, activation="relu")], name="inner")
    return Sequential([Input((8, 8, 1)), inner, L.Flatten(), L.Dense(3)])


def functional_in_functional():
    inputs = Input((8, 8, 1))
    inner = Model(inputs, L.Conv2D(2, 3, activation="relu")(L.Rescaling(0.5)(inputs)), name="inner")
    return functional(inner)


def forked_after_the_stem():
    inputs = Input((8, 8, 1))
    h = L.Conv2D(2, 3, padding="same", activation="relu")(inputs)
    return Model(inputs, ending(L.Add()([h, L.Conv2D(2, 3, padding="same")(h)])))


def applied_as_an_operation():
    inputs = Input((4,))
    return Model(inputs, L.Dense(3)(keras.ops.relu(L.Dense(6)(inputs))))


def of_unknown_size():
    inputs = Input((None, None, 1))
    return Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D()(L.Conv2D(2, 3, activation="tanh")(inputs))))


def activated_by_a_function():
    return Sequential([Input((4,)), L.Dense(6, lambda h: h**2), L.Dense(3)])


def activated_by_a_layer():
    return Sequential([Input((4,)), L.Dense(6, L.LeakyReLU()), L.Dense(3)])


def with_dropout_and_batch_normalization():
    return functional(L.Conv2D(2, 3), L.BatchNormalization(), L.ReLU(), L.Dropout(0.5))


def dictionary_of_inputs():
    x = Input((4,), name="x")
    return Model({"x": x}, L.Dense(3)(L.Dense(4, "tanh")(x)))


def with_a_softmax():
    return Sequential([Input((4,)), L.Dense(6, "tanh"), L.Dense(3, "softmax")])


WITH_A_STEM = {
    dense_first: [L.Dense],
    linear: [L.Dense],
    conv_first: [L.Conv2D],
    conv_model: [L.Conv2D],
    functional_conv: [L.Conv2D],
    depthwise: [L.DepthwiseConv2D],
    series: [L.ZeroPadding1D, L.Conv1D],
    volumes: [L.ZeroPadding3D, L.Conv3D],
    rescaled: [L.Rescaling, L.ZeroPadding2D, L.Cropping2D, L.Conv2D],
    normalized: [L.Normalization, L.Conv2D],
    flattened: [L.Flatten, L.Dense],
    reshaped: [L.Reshape, L.Permute, L.Dense],
    nested: [L.Rescaling, L.Conv2D],
    functional_in_functional: [L.Rescaling, L.Conv2D],
    forked_after_the_stem: [L.Conv2D],
    applied_as_an_operation: [L.Dense],
    of_unknown_size: [L.Conv2D],
    activated_by_a_function: [L.Dense],
    activated_by_a_layer: [L.Dense],
    with_dropout_and_batch_normalization: [L.Conv2D],
    dictionary_of_inputs: [L.Dense],
    with_a_softmax: [L.Dense],
}


# A layer that is called again, deeper or further on: the stem is its first call


def called_in_an_inner_model_and_outside():
    shared = L.Dense(4, "tanh")
    return Sequential([Input((4,)), Sequential([Input((4,)), shared]), shared, L.Dense(3)])


def called_outside_and_in_an_inner_model():
    shared, inputs = L.Dense(4, "tanh"), Input((4,))
    inner = Sequential([Input((4,)), shared, L.Dense(4)])
    return Model(inputs, L.Dense(3)(inner(shared(inputs))))


def rescaled_again_in_an_inner_model():
    rescaling, inputs = L.Rescaling(0.5, 1.0), Input((4,))
    inner = Sequential([Input((6,)), rescaling, L.Dense(4)])
    return Model(inputs, L.Dense(3)(inner(L.Dense(6, "tanh")(rescaling(inputs)))))


CALLED_AGAIN = [
    called_in_an_inner_model_and_outside,
    called_outside_and_in_an_inner_model,
    rescaled_again_in_an_inner_model,
]


# Models without a sure stem


class OwnConv(L.Conv2D):
    def call(self, inputs):
        return super().call(inputs) ** 2


class OwnLayer(L.Layer):
    def call(self, inputs):
        return inputs**2


class OwnModel(Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.last = L.Dense(4, "tanh"), L.Dense(3)

    def call(self, inputs):
        return self.last(self.hidden(inputs) + inputs)


class OwnSequential(Sequential):
    def call(self, inputs, training=None, mask=None):
        return super().call(inputs**2)


class OwnFunctional(Model):
    def call(self, inputs, training=None, mask=None):
        return super().call(inputs**2)


def subclassed():
    model = OwnModel()
    model(np.zeros((1, 4), "float32"))
    return model


def skip_connection():
    inputs = Input((8, 8, 1))
    h = L.Conv2D(1, 3, padding="same", activation="relu")(inputs)
    return Model(inputs, ending(L.Add()([h, inputs])))


def skip_connection_after_rescaling():
    inputs = Input((8, 8, 1))
    x = L.Rescaling(0.5)(inputs)
    return Model(inputs, ending(L.Add()([L.Conv2D(1, 3, padding="same")(x), x])))


def two_first_layers():
    inputs = Input((4,))
    return Model(inputs, L.Dense(3)(L.Concatenate()([L.Dense(3, "relu")(inputs), L.Dense(2)(inputs)])))


def skip_connection_in_an_inner_model():
    inputs = Input((4,))
    inner = Model(inputs, L.Add()([L.Dense(4, "relu")(inputs), inputs]))
    return Sequential([Input((4,)), inner, L.Dense(3)])


def called_twice_in_a_row():
    shared = L.Dense(4, "tanh")
    return Sequential([Input((4,)), shared, shared, L.Dense(3)])


def called_twice():
    shared, inputs = L.Dense(4, "tanh"), Input((4,))
    return Model(inputs, L.Dense(3)(shared(shared(inputs))))


def inner_model_called_twice():
    inner, inputs = Sequential([Input((4,)), L.Dense(4, "tanh")]), Input((4,))
    return Model(inputs, L.Dense(3)(inner(inner(inputs))))


def two_inputs():
    a, b = Input((4,)), Input((4,))
    return Model([a, b], L.Dense(3)(L.Add()([L.Dense(4)(a), b])))


def an_operation_first():
    inputs = Input((4,))
    return Model(inputs, L.Dense(3)(inputs * inputs))


def quantized():
    model = Sequential([Input((4,)), L.Dense(6, "tanh"), L.Dense(3)])
    model.quantize("int8")
    return model


def own_functional():
    inputs = Input((4,))
    return OwnFunctional(inputs, L.Dense(3)(L.Dense(4, "tanh")(inputs)))


def own_sequential():
    return OwnSequential([Input((4,)), L.Dense(4, "tanh"), L.Dense(3)])


def own_sequential_inside():
    return Sequential([Input((4,)), OwnSequential([Input((4,)), L.Dense(4, "tanh")]), L.Dense(3)])


WITHOUT_A_STEM = [
    skip_connection,
    skip_connection_after_rescaling,
    skip_connection_in_an_inner_model,
    two_first_layers,
    called_twice_in_a_row,
    called_twice,
    inner_model_called_twice,
    two_inputs,
    an_operation_first,
    subclassed,
    quantized,
    own_sequential,
    own_sequential_inside,
    own_functional,
    lambda: functional(L.BatchNormalization(), L.Conv2D(2, 3)),
    lambda: functional(OwnConv(2, 3)),
    lambda: functional(OwnLayer(), L.Conv2D(2, 3)),
    lambda: functional(L.ReLU(), L.Conv2D(2, 3)),
    lambda: functional(L.Dropout(0.5), L.Conv2D(2, 3)),
    lambda: functional(L.LayerNormalization(), L.Conv2D(2, 3)),
    lambda: Sequential([Input((4,)), L.Softmax()]),
    lambda: functional(L.Rescaling(0.5), L.MaxPooling2D(2), L.Conv2D(2, 3)),
]


def scored(model, **options):
    """The second logit, as the engine computes it."""
    return OutputHead(model).scored(lambda logits: logits[:, 1], **options)


def plain(model):
    """The same by a plain call."""
    head = OutputHead(model)
    return lambda z: head.logits(z)[:, 1]


def derivatives(f, z):
    """Value, input gradient, and the derivative of a size of that."""
    with tf.GradientTape() as outer:
        outer.watch(z)
        with tf.GradientTape() as inner:
            inner.watch(z)
            value = f(z)
        slope = inner.gradient(value, z)
        size = tf.reduce_sum(tf.sin(3.0 * slope))
    return value, slope, outer.gradient(size, z, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def assert_same(f, g, z, compiled=True, **tolerance):
    found = (tf.function(derivatives, autograph=False) if compiled else derivatives)(f, z)
    for value, expected in zip(found, derivatives(g, z), strict=True):
        np.testing.assert_allclose(value, expected, **{**ROUNDING, **tolerance})


# The stem


@pytest.mark.parametrize("build", WITH_A_STEM)
def test_the_stem_is_the_layers_to_the_first_with_weights(build):
    found = stem.find(build())
    assert [type(layer) for layer in found.layers] == WITH_A_STEM[build]


@pytest.mark.parametrize("build", [*WITH_A_STEM, *CALLED_AGAIN])
def test_the_rest_of_the_stem_is_the_model(build):
    model = build()
    assert_same(scored(model), plain(model), points(model))


@pytest.mark.parametrize("build", [rescaled, flattened, nested, *CALLED_AGAIN])
def test_in_eager_mode_too(build):
    model = build()
    assert_same(scored(model), plain(model), points(model), compiled=False)


@pytest.mark.parametrize("build", [*WITH_A_STEM, *CALLED_AGAIN])
def test_the_stem_is_affine(build):
    model = build()
    x, z = points(model), points(model)[::-1]
    first = stem.find(model)
    np.testing.assert_allclose(first(0.3 * x + 0.7 * z), 0.3 * first(x) + 0.7 * first(z), **ROUNDING)
    assert np.abs(first(x) - first(z)).max() > 0.1


@pytest.mark.parametrize("build", [build for build in WITH_A_STEM if build is not linear])
def test_the_rest_depends_on_what_the_stem_returned_alone(build):
    """And not on the placeholder that the model is called on."""
    model = build()
    f, z = scored(model), points(model)
    h = tf.random.normal(tf.shape(f.stem(z)), seed=1)
    first, second = f.rest(h), f.rest(tf.identity(h))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - f.rest(f.stem(z))).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("build", WITHOUT_A_STEM)
def test_no_stem_where_it_is_not_sure(build):
    assert stem.find(build()) is None


@pytest.mark.parametrize("build", [skip_connection, called_twice, subclassed, quantized, own_sequential])
def test_without_a_stem_the_model_is_one_stage(build):
    model = build()
    f, z = scored(model), points(model)
    assert not hasattr(f, "stem")
    np.testing.assert_allclose(f(z), plain(model)(z), **ROUNDING)


def test_a_stem_can_be_declined():
    assert not hasattr(scored(dense_first(), staged=False), "stem")


def test_the_layers_of_another_model_may_be_shared():
    """A model that goes on from the middle of another, and one with the same first layer."""
    first = L.Conv2D(2, 3, padding="same", activation="relu")
    pool = L.MaxPooling2D(2)
    inputs = Input((8, 8, 1))
    one = Model(inputs, ending(pool(first(inputs))))
    two = Sequential([Input((8, 8, 1)), first, L.Flatten(), L.Dense(3)])
    three = Model(inputs, ending(first(inputs)))
    for model in (one, two, three):
        assert stem.find(model).layers == (first,)
        assert_same(scored(model), plain(model), points(model))


# The layers are left as they were


def state(model):
    layers = operations(model)
    attributes = [{name: id(value) for name, value in vars(layer).items()} for layer in layers]
    nodes = [len(getattr(layer, "_inbound_nodes", [])) for layer in layers]
    return attributes, nodes, None if isinstance(model, OwnModel) else model.get_config()


def raising(logits):
    raise RuntimeError("of the score")


@pytest.mark.parametrize("build", [conv_model, nested, rescaled, flattened, with_a_softmax])
def test_layers_are_as_before_after_use_and_after_an_exception(build, tmp_path):
    model = build()
    z = points(model)
    expected = model.predict(z, verbose=0)
    before = state(model)
    f = scored(model)
    assert_same(f, plain(model), z)
    for fails in (lambda: OutputHead(model).scored(raising)(z), lambda: f.stem(None)):
        with pytest.raises((RuntimeError, TypeError, ValueError)):
            fails()
    attributes, nodes, config = state(model)
    for now, then in zip(attributes, before[0], strict=True):
        assert now.keys() == then.keys()
        assert {k for k in now if now[k] != then[k]} == set()
    assert (nodes, config) == before[1:]
    np.testing.assert_array_equal(model.predict(z, verbose=0), expected)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(z, verbose=0), expected)


# Max-pooling


def pooled(*layers, shape=(8, 8, 1)):
    return lambda: functional(*(layer() for layer in layers), shape=shape)


def conv(activation=None, **options):
    return lambda: L.Conv2D(2, 3, padding="same", activation=activation, **options)


def pool(size=2, **options):
    return lambda: L.MaxPooling2D(size, **options)


def relu_used_twice():
    inputs = Input((8, 8, 1))
    h = L.Conv2D(2, 3, padding="same", activation="relu")(inputs)
    return Model(inputs, ending(L.Concatenate()([L.Flatten()(L.MaxPooling2D(2)(h)), L.Flatten()(h)])))


def relu_used_in_an_operation():
    inputs = Input((8, 8, 1))
    h = L.Conv2D(2, 3, padding="same", activation="relu")(inputs)
    return Model(inputs, ending(L.Concatenate()([L.Flatten()(L.MaxPooling2D(2)(h)), L.Flatten()(h - 1.0)])))


def relu_is_the_output_of_an_inner_model():
    inputs = Input((8, 8, 1))
    h = L.Conv2D(2, 3, padding="same", activation="relu")(inputs)
    inner = Model(inputs, [L.MaxPooling2D(2)(h), h])
    a, b = inner(inputs)
    return Model(inputs, ending(L.Concatenate()([L.Flatten()(a), L.Flatten()(b)])))


def convolution_called_twice():
    inputs, shared = Input((8, 8, 2)), L.Conv2D(2, 3, padding="same", activation="relu")
    return Model(inputs, ending(L.MaxPooling2D(2)(shared(L.Rescaling(-1.0)(shared(inputs))))))


def pool_called_twice():
    inputs, shared = Input((8, 8, 1)), L.MaxPooling2D(2)
    h = shared(L.Conv2D(2, 3, padding="same", activation="relu")(inputs))
    return Model(inputs, ending(shared(L.Conv2D(2, 3, padding="same")(h))))


def pool_called_in_an_inner_model_and_outside():
    inputs, shared = Input((8, 8, 1)), L.MaxPooling2D(2)
    inner = Sequential([Input((8, 8, 1)), L.Conv2D(2, 3, padding="same", activation="relu"), shared])
    return Model(inputs, ending(shared(L.Conv2D(2, 3, padding="same")(inner(inputs)))))


def convolution_in_two_inner_models():
    inputs, shared = Input((8, 8, 1)), L.Conv2D(2, 3, padding="same", activation="relu")
    one = Sequential([Input((8, 8, 1)), shared, L.MaxPooling2D(2), L.Flatten()])
    two = Sequential([Input((8, 8, 1)), shared, L.Flatten()])
    return Model(inputs, ending(L.Concatenate()([one(inputs), two(inputs)])))


class Holder(L.Layer):
    """Calls a layer that stands elsewhere too."""

    def __init__(self, held):
        super().__init__()
        self.held = held

    def call(self, inputs):
        return self.held(inputs)

    def get_config(self):
        return {"held": self.held.get_config()}


def convolution_held_by_a_layer():
    inputs, shared = Input((8, 8, 1)), L.Conv2D(2, 3, padding="same", activation="relu")
    both = [L.MaxPooling2D(2)(shared(inputs)), Holder(shared)(L.Rescaling(0.5)(inputs))]
    return Model(inputs, ending(L.Concatenate()([L.Flatten()(h) for h in both])))


class Odd(Sequential):
    """Not what its layers say."""

    def call(self, inputs, training=None, mask=None):
        convolution, pool, flatten = self.layers
        h = convolution(inputs)
        return flatten(pool(h)) * keras.ops.mean(flatten(h), axis=-1, keepdims=True)


def sequential_with_a_call_of_its_own():
    odd = Odd([Input((8, 8, 1)), L.Conv2D(2, 3, padding="same", activation="relu"), L.MaxPooling2D(2), L.Flatten()])
    return Sequential([Input((8, 8, 1)), odd, L.Dense(3)])


def recurrent_convolution():
    return functional(L.ConvLSTM2D(2, 3, padding="same", activation="relu"), L.MaxPooling2D(2), shape=(2, 2, 2, 1))


REORDERED = {
    "relu": pooled(conv("relu"), pool()),
    "twice": pooled(conv("relu"), pool(), conv("relu"), pool()),
    "activation": pooled(conv(), lambda: L.Activation("relu"), pool()),
    "normalized": pooled(conv(), L.BatchNormalization, lambda: L.Activation("relu"), pool()),
    "depthwise": pooled(lambda: L.DepthwiseConv2D(3, padding="same", activation="relu"), pool((2, 4))),
    "sequential": conv_model,
    "inner": lambda: functional(Sequential([Input((8, 8, 1)), conv("relu")(), pool()()])),
}
KEPT = {
    "overlapping": pooled(conv("relu"), pool(3, strides=2)),
    "channels": pooled(conv(), lambda: L.LeakyReLU(0.1), pool()),
    "leaky": pooled(conv("leaky_relu"), pool()),
    "relu6": pooled(conv("relu6"), pool()),
    "tanh": pooled(conv("tanh"), pool()),
    "ReLU layer": pooled(conv(), L.ReLU, pool()),
    "dropout": pooled(conv("relu"), lambda: L.Dropout(0.3), pool()),
    "own convolution": pooled(lambda: OwnConv(2, 3, padding="same", activation="relu"), pool()),
    "average": pooled(conv("relu"), lambda: L.AveragePooling2D(2)),
    "recurrent": recurrent_convolution,
    "used twice": relu_used_twice,
    "used in an operation": relu_used_in_an_operation,
    "output": relu_is_the_output_of_an_inner_model,
    "convolution called twice": convolution_called_twice,
    "pool called twice": pool_called_twice,
    "pool called in an inner model and outside": pool_called_in_an_inner_model_and_outside,
    "convolution in two inner models": convolution_in_two_inner_models,
    "convolution held by a layer": convolution_held_by_a_layer,
    "call of its own": sequential_with_a_call_of_its_own,
}
POOLED = {**REORDERED, **KEPT, "padded": pooled(conv("relu"), pool(3, padding="same"))}


def reordered(model):
    """The layers whose ReLU comes after a max-pooling instead."""
    return [layer for layer, name, _ in pools.changes(pools.find_pools(model)) if name == "activation"]


@pytest.mark.parametrize("name", REORDERED)
def test_a_relu_before_a_max_pooling_comes_after_it(name):
    assert len(reordered(REORDERED[name]())) == (2 if name == "twice" else 1)


@pytest.mark.parametrize("name", KEPT)
def test_no_other_activation_is_moved(name):
    assert reordered(KEPT[name]()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", POOLED)
def test_values_and_derivatives_with_max_pooling_are_those_of_a_plain_call(name):
    model = POOLED[name]()
    assert_same(scored(model), plain(model), points(model))


@pytest.mark.parametrize("name", ["relu", "twice", "inner"])
def test_in_one_stage_too(name):
    model = POOLED[name]()
    assert_same(scored(model, staged=False), plain(model), points(model))


def test_where_windows_tie_the_gradient_goes_where_it_did():
    """Constant patches: all entries of a window are equal, above zero and below."""
    model = POOLED["relu"]()
    x = np.repeat(np.repeat(images(size=4), 2, axis=1), 2, axis=2)
    model.layers[1].set_weights(
        [np.pad(np.ones((1, 1, 1, 2)), [(1, 1), (1, 1), (0, 0), (0, 0)]), np.array([0.1, -0.1])]
    )
    assert_same(scored(model, staged=False), plain(model), tf.constant(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("sizes", [(8, 8), (9, 8), (7, 5)])
def test_windows_that_do_not_fit_are_pooled_as_keras_does(sizes):
    model = pooled(conv("relu"), pool(), shape=(*sizes, 1))()
    assert_same(scored(model), plain(model), points(model))


def test_images_of_unknown_size():
    inputs = Input((None, None, 1))
    h = L.MaxPooling2D(2)(L.Conv2D(2, 3, padding="same", activation="relu")(inputs))
    model = Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D()(h)))
    for size in (6, 7):
        assert_same(scored(model), plain(model), tf.constant(images(size=size)))


def test_channels_first_is_left_alone():
    model = Sequential([Input((1, 8, 8)), L.MaxPooling2D(2, data_format="channels_first")])
    assert pools.find_pools(model) == []


# With other ReLUs


@pytest.mark.parametrize("name", ["relu", "twice", "activation", "leaky", "ReLU layer", "overlapping"])
@pytest.mark.parametrize("staged", [True, False])
def test_the_softplus_twin_is_still_a_softplus_twin(name, staged):
    model = POOLED[name]()
    z = points(model)
    twin = plain(surrogates.softplus_twin(model, 2.0))
    smooth = scored(model, relu=surrogates.softplus(2.0), staged=staged)
    assert_same(smooth, twin, z)
    assert np.abs(smooth(z) - plain(model)(z)).max() > 0.01  # negative control: it is another function


def test_a_twin_wrapped_as_a_model_has_no_stem_of_its_own():
    assert stem.find(surrogates.softplus_twin(dense_first())) is None
