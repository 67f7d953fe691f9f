"""Twins: what they compute, against closed forms and networks built that way; what they leave as it was."""

import functools
import io
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, conv_model, dense_model, wrapped
from keras import layers, ops

from keras_rar.networks import surrogates
from keras_rar.networks.copies import operations
from keras_rar.networks.output import OutputHead

RELU = keras.activations.relu
LEAKY = keras.activations.leaky_relu
BETAS = [1.0, 4.0]
# Both sides of every kink below (0, ±0.5, 1, 1.5, 3, 6), none closer than 0.04.
POINTS = np.array([-7.3, -2.1, -0.9, -0.45, -0.07, 0.11, 0.46, 0.83, 1.2, 1.7, 2.4, 3.3, 5.1, 6.2, 9.0])


def one_layer(layer):
    return keras.Sequential([keras.Input((1,), dtype="float64"), layer])


def layer(name, *args, **kwargs):
    return lambda: one_layer(getattr(layers, name)(*args, dtype="float64", **kwargs))


def activation(function):
    return layer("Activation", function)


def dense(function):
    return layer("Dense", 1, activation=function, kernel_initializer="ones")


def operation(function):
    def build():
        inputs = keras.Input((1,), dtype="float64")
        return keras.Model(inputs, function(inputs))

    return build


def prelu():
    return one_layer(layers.PReLU(alpha_initializer=keras.initializers.Constant(0.25), dtype="float64"))


def s(x, beta):
    return np.logaddexp(0, beta * x) / beta


def leaky(a):
    """As the paper writes it."""
    return lambda x, beta: a * x + (1 - a) * s(x, beta)


def step(x, beta):
    return 1 / (1 + np.exp(-beta * x))


RELU6 = lambda x, beta: s(x, beta) - s(x - 6, beta)  # noqa: E731
# What is built -> its twin.
CASES = {
    "Activation relu": (activation("relu"), s),
    "Activation relu6": (activation("relu6"), RELU6),
    "Activation leaky_relu": (activation("leaky_relu"), leaky(0.2)),
    "Dense relu": (dense("relu"), s),
    "Dense function": (dense(RELU), s),
    "Dense leaky_relu": (dense("leaky_relu"), leaky(0.2)),
    "Dense layer": (lambda: dense(layers.LeakyReLU(0.1, dtype="float64"))(), leaky(0.1)),
    "Dense keras.ops": (dense(ops.relu6), RELU6),
    "Dense tf.nn": (dense(tf.nn.leaky_relu), leaky(0.2)),
    "Dense partial": (dense(functools.partial(LEAKY, negative_slope=0.1)), leaky(0.1)),
    "ReLU": (layer("ReLU"), s),
    "ReLU slope": (layer("ReLU", negative_slope=0.1), leaky(0.1)),
    "ReLU max": (layer("ReLU", max_value=3.0), lambda x, b: s(x, b) - s(x - 3, b)),
    "ReLU max 6": (layer("ReLU", 6.0), RELU6),
    "ReLU threshold": (layer("ReLU", threshold=0.5), lambda x, b: s(x - 0.5, b) + 0.5 * step(x - 0.5, b)),
    "relu threshold < 0": (
        operation(functools.partial(RELU, threshold=-0.5)),
        lambda x, b: s(x + 0.5, b) - 0.5 * step(x + 0.5, b),
    ),
    "ReLU slope threshold max": (
        layer("ReLU", 3.0, negative_slope=0.1, threshold=0.5),
        lambda x, b: s(x - 0.5, b) - s(x - 3, b) + 0.5 * step(x - 0.5, b) - 0.1 * s(0.5 - x, b),
    ),
    "relu max threshold < 0": (
        operation(functools.partial(RELU, max_value=3.0, threshold=-0.5)),
        lambda x, b: s(x, b) - s(x - 3, b),
    ),
    "ReLU max < threshold": (layer("ReLU", 1.0, threshold=1.5), lambda x, b: step(x - 1.5, b)),
    "LeakyReLU": (layer("LeakyReLU", 0.1), leaky(0.1)),
    "PReLU": (prelu, leaky(0.25)),
    "TimeDistributed": (
        lambda: keras.Sequential(
            [
                keras.Input((1,), dtype="float64"),
                layers.Reshape((1, 1), dtype="float64"),
                layers.TimeDistributed(layers.ReLU(dtype="float64"), dtype="float64"),
                layers.Flatten(dtype="float64"),
            ]
        ),
        s,
    ),
    "ops.relu": (operation(ops.relu), s),
    "ops.relu6": (operation(ops.relu6), RELU6),
    "ops.leaky_relu": (operation(functools.partial(ops.leaky_relu, negative_slope=0.1)), leaky(0.1)),
    "ops.maximum": (operation(lambda x: ops.maximum(0, x)), s),
    "activations.relu": (operation(functools.partial(RELU, negative_slope=0.1)), leaky(0.1)),
    "activations.leaky_relu": (operation(LEAKY), leaky(0.2)),
}
every_case = pytest.mark.parametrize("case", CASES)


def derivatives(model, points=POINTS):
    """Value, first and second derivative of a model of one number, at each point."""
    x = tf.constant(points[:, np.newaxis])
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = model(x)
        first = inner.gradient(y, x)
    second = outer.gradient(first, x, unconnected_gradients="zero")
    return [value.numpy().ravel() for value in (y, first, second)]


# What a twin computes


@pytest.mark.parametrize("beta", BETAS)
@every_case
def test_twin_and_its_derivatives_are_the_closed_form(case, beta):
    build, twin = CASES[case]
    value, first, second = derivatives(surrogates.softplus_twin(build(), beta))
    left, middle, right = (twin(POINTS + h, beta) for h in (-1e-4, 0.0, 1e-4))
    np.testing.assert_allclose(value, middle, rtol=1e-12, atol=1e-14)  # rounding of float64
    np.testing.assert_allclose(first, (right - left) / 2e-4, atol=1e-6)  # central: h²/6 β³ and 1e-16/h
    np.testing.assert_allclose(second, (right - 2 * middle + left) / 1e-8, atol=1e-5)  # h²/12 β⁴ and 1e-15/h²
    assert np.max(np.abs(second)) > 0.01


@every_case
def test_twin_tends_to_the_model(case):
    model = CASES[case][0]()
    twin = surrogates.softplus_twin(model, beta=1e4)
    for actual, expected in zip(derivatives(twin), derivatives(model), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-10)  # e^-400 at the nearest kink; rounding
    distance = np.abs(twin(POINTS[:, np.newaxis]) - surrogates.softplus_twin(model)(POINTS[:, np.newaxis]))
    assert np.max(distance) > 0.05  # negative control: β is felt


@every_case
def test_the_second_derivative_of_the_model_is_zero(case):
    """Negative control of the closed form: it is the twin that curves."""
    assert np.all(derivatives(CASES[case][0]())[2] == 0)


@every_case
def test_a_replacement_gets_the_settings_of_the_relu(case):
    model = CASES[case][0]()
    x = np.concatenate([POINTS, [0.0, 0.5, -0.5, 1.5, 3.0, 6.0]])[:, np.newaxis]
    expected = model(x)
    np.testing.assert_array_equal(surrogates.replaced_relus(model, surrogates.relu)(x), expected)
    sevens = surrogates.replaced_relus(model, lambda x, *settings: 7 * tf.ones_like(x))
    np.testing.assert_array_equal(sevens(x), np.full_like(x, 7))


@pytest.mark.parametrize("function", ["tanh", "gelu", "softplus", "sigmoid", "softmax", "hard_sigmoid", "elu", None])
def test_other_activations_are_kept(function):
    model = dense_model(activation=function)
    x, _ = batch()
    np.testing.assert_array_equal(surrogates.softplus_twin(model)(x), model(x))


@pytest.mark.parametrize("function", [lambda x: ops.maximum(x, 0.5), lambda x: ops.maximum(x, -x)])
def test_another_maximum_is_kept(function):
    model = operation(function)()
    np.testing.assert_array_equal(surrogates.softplus_twin(model)(POINTS), model(POINTS))


# Networks: the twin is the network built with softplus


def sequential(relu):
    return keras.Sequential([keras.Input((4,)), layers.Dense(5, relu), layers.Dense(3, "softmax")])


def convolutional(relu):
    return conv_model(activation=relu)


def residual(relu):
    """A layer called twice, two branches, batch normalisation, dropout, a nested model."""
    inputs = keras.Input((4,))
    shared = layers.Dense(4, relu)
    x = layers.BatchNormalization()(shared(shared(inputs)))
    x = layers.Add()([layers.Activation(relu)(x), inputs])
    nested = keras.Sequential([keras.Input((4,)), layers.Dense(4, relu), layers.Dropout(0.5)], name="nested")
    inner = keras.Input((4,))
    functional = keras.Model(inner, layers.Activation(relu)(nested(inner)), name="functional")
    return keras.Model(inputs, layers.Dense(3)(functional(x) + nested(x)))


def recurrent(relu):
    inputs = keras.Input((4,))
    x = layers.TimeDistributed(layers.Dense(2, relu))(layers.Reshape((2, 2))(inputs))
    x = layers.Bidirectional(layers.SimpleRNN(2, relu))(x)
    return keras.Model(inputs, layers.Dense(3)(x))


class Block(layers.Layer):
    """A layer of the user's, whose ReLUs are all layers and attributes."""

    def __init__(self, relu):
        super().__init__()
        self.blocks = [layers.Dense(4, relu), {"inner": layers.Activation(relu)}]
        self.function = keras.activations.get(relu)

    def call(self, x, training=None):
        x = self.blocks[1]["inner"](self.blocks[0](x) + 0.5)
        return x - self.function(1 - x) * (2.0 if training else 1.0)


def own_layer(relu):
    return keras.Sequential([keras.Input((4,)), Block(relu), layers.Dense(3)])


NETWORKS = {f.__name__: f for f in (sequential, convolutional, residual, recurrent, own_layer)}
every_network = pytest.mark.parametrize("name", NETWORKS)


def network(name, relu="relu"):
    """A network with random weights, so that no bias, mean or variance is trivial."""
    model = NETWORKS[name](relu)
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.2, 1, w.shape) * rng.choice([-1, 1], w.shape) for w in model.weights])
    for inner in model.layers:
        if isinstance(inner, layers.BatchNormalization):
            inner.moving_variance.assign(np.abs(inner.moving_variance))
    return model


def inputs_of(model, n=6):
    return batch(n, model.input_shape[1:])[0] - np.float32(0.4)


@every_network
def test_twin_is_the_network_built_with_softplus(name):
    model, smooth = network(name), network(name, "softplus")
    x = inputs_of(model)
    twin = surrogates.softplus_twin(model)
    np.testing.assert_allclose(twin(x), smooth(x), rtol=1e-5, atol=1e-6)  # rounding of float32
    assert np.max(np.abs(model(x) - smooth(x))) > 0.01  # negative control


def curvature(model, x, jit_compile=None):
    """`∂/∂x Σ |∂/∂x Σ logits²|²`, as an attack on a gradient map takes it."""

    def second(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = tf.reduce_sum(model(x, training=False) ** 2)
            size = tf.reduce_sum(inner.gradient(y, x) ** 2)
        return outer.gradient(size, x)

    if jit_compile is not None:
        second = tf.function(second, autograph=False, jit_compile=jit_compile)
    return second(tf.constant(x)).numpy()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "jit_compile"), [*((name, None) for name in NETWORKS), ("residual", True), ("convolutional", True)]
)
def test_second_derivatives_are_those_of_the_network_built_with_softplus(name, jit_compile):
    model, smooth = network(name), network(name, "softplus")
    x = inputs_of(model)
    expected = curvature(smooth, x, jit_compile)
    actual = curvature(surrogates.softplus_twin(model), x, jit_compile)
    assert np.max(np.abs(expected)) > 1e-3
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())  # float32, four passes


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_traced_twin_and_the_traced_model_keep_what_they_are(jit_compile):
    model = network("residual")
    x, twin = inputs_of(model), surrogates.softplus_twin(model)
    smooth = twin(x)
    for _ in range(2):  # one does not change what the other has traced
        for f, expected in ((twin, smooth), (model, model(x))):
            for traced in (tf.function(f, jit_compile=jit_compile), functools.partial(f.predict, verbose=0)):
                np.testing.assert_allclose(traced(x), expected, rtol=1e-5, atol=1e-6)  # rounding of float32


@pytest.mark.parametrize("name", ["own_layer", "convolutional"])
def test_training_mode_is_passed_on(name):
    model, smooth = network(name), network(name, "softplus")
    x, twin = inputs_of(model), surrogates.softplus_twin(model)
    np.testing.assert_allclose(twin(x, training=True), smooth(x, training=True), rtol=1e-5, atol=1e-6)
    assert np.allclose(twin(x), twin(x, training=True)) == (name == "convolutional")


def test_several_inputs_in_a_dict_and_several_outputs():
    inputs = {name: keras.Input((2,), name=name) for name in "ab"}
    model = keras.Model(inputs, [ops.relu(inputs["a"]), Block("relu")(layers.Dense(4)(inputs["b"]))])
    x = {name: np.ones((1, 2), "float32") for name in "ab"}
    first, second = surrogates.softplus_twin(model)(x)
    np.testing.assert_allclose(first, np.log1p(np.exp(x["a"])), rtol=1e-6)
    assert np.max(np.abs(second - model(x)[1])) > 0.01


@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_float16", 2**-10), ("mixed_bfloat16", 2**-7)])
def test_mixed_precision(policy, tolerance):
    """To some units of the 11 and 8 bits that a float16 and a bfloat16 keep of each value."""
    x, _ = batch()
    weights = dense_model().get_weights()
    models = []
    for function, precision in (("relu", policy), ("softplus", "float32")):
        hidden = [layers.Dense(8, function, dtype=precision), layers.Dense(3, dtype=precision)]
        models.append(keras.Sequential([keras.Input((4,)), *hidden]))
        models[-1].set_weights(weights)
    twin = surrogates.softplus_twin(models[0])
    assert twin(x).dtype == models[0](x).dtype == policy.removeprefix("mixed_")
    expected = models[1](x).numpy()
    np.testing.assert_allclose(tf.cast(twin(x), "float32"), expected, atol=4 * tolerance * np.abs(expected).max())


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_sharp_twin_does_not_overflow_in_half_precision(policy):
    """β x = 3e5, and a float16 ends at 65,504."""
    layer = layers.PReLU(alpha_initializer="ones", dtype=policy)
    twin = surrogates.softplus_twin(keras.Sequential([keras.Input((1,)), layer]), beta=1000)
    np.testing.assert_array_equal(tf.cast(twin(np.float32([[300], [-300]])), "float32"), [[300], [-300]])


@pytest.fixture
def float64():
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy("float32")


def test_a_twin_of_a_float64_model_computes_in_float64(float64):
    model = one_layer(layers.ReLU())
    keras.config.set_dtype_policy("float32")
    twin = surrogates.softplus_twin(model)
    assert twin.compute_dtype == twin.variable_dtype == "float64"
    assert twin(np.array([[1e-12]])).numpy() == np.logaddexp(0, 1e-12)  # log 2 in a float32


# Nothing is copied, nothing is left behind


@pytest.mark.slow
@every_network
def test_twin_has_the_very_variables(name):
    model = network(name)
    x, twin = inputs_of(model), surrogates.softplus_twin(model)
    assert len(twin.variables) == len(model.variables)
    assert all(a is b for a, b in zip(twin.variables, model.variables, strict=True))
    assert [v.path for v in twin.trainable_variables] == [v.path for v in model.trainable_variables]
    before = twin(x).numpy()
    model.compile("sgd", "mse")
    model.fit(x, np.zeros(model(x).shape), verbose=0)
    assert np.max(np.abs(twin(x) - before)) > 1e-4
    np.testing.assert_array_equal(twin(x), surrogates.softplus_twin(model)(x))


def state(model, x, path):
    """All that can be seen of a model: config, summary, file, attributes of every layer, output."""
    text = io.StringIO()
    model.summary(print_fn=lambda line: text.write(line), expand_nested=True)
    seen = {"json": model.to_json(), "summary": text.getvalue(), "output": model(x).numpy().tobytes()}
    model.save(path)
    with zipfile.ZipFile(path) as file:
        seen["file"] = file.read("config.json")
    for part in operations(model):
        seen[part.name] = sorted(vars(part)), getattr(part, "activation", None), id(type(part).call)
    return seen


@pytest.mark.parametrize("twin", [surrogates.softplus_twin, surrogates.guided_backprop_twin])
@pytest.mark.parametrize("name", ["sequential", "convolutional", "residual", "recurrent"])
def test_the_model_is_left_as_it_was(name, twin, tmp_path):
    model = network(name)
    x = inputs_of(model)
    before = state(model, x, tmp_path / "model.keras")
    made = twin(model)
    for function in (made, tf.function(made)):
        function(x)
    curvature(made, x)
    with pytest.raises(ZeroDivisionError):
        surrogates.replaced_relus(model, lambda *arguments: 1 / 0)(x)
    assert state(model, x, tmp_path / "model.keras") == before


def test_the_model_is_restored_when_a_call_fails():
    broken = []

    def fails(x):
        if broken:
            raise RuntimeError("broken")
        return x

    model = keras.Sequential([keras.Input((1,)), layers.ReLU(), layers.Activation("relu"), layers.Lambda(fails)])
    twin = surrogates.softplus_twin(model)
    broken.append(True)
    with pytest.raises(RuntimeError, match="broken"):
        twin(np.float32([[-1]]))
    broken.clear()
    assert model(np.float32([[-1]])).numpy() == 0
    assert "call" not in vars(model.layers[0])
    assert model.layers[1].activation is RELU


@every_case
def test_twins_of_one_model_leave_each_other_alone(case):
    model = CASES[case][0]()
    x, twin = POINTS[:, np.newaxis], surrogates.softplus_twin(model)
    expected, smooth = model(x), twin(x)
    sevens = surrogates.replaced_relus(model, lambda x, *settings: 7 * tf.ones_like(x))
    for _ in range(2):
        np.testing.assert_array_equal(sevens(x), np.full_like(x, 7))
        np.testing.assert_array_equal(surrogates.replaced_relus(model, surrogates.softplus(1.0))(x), smooth)
        np.testing.assert_array_equal(twin(x), smooth)
        np.testing.assert_array_equal(model(x), expected)


def test_a_network_s_logits_with_another_relu_are_the_twin_s():
    model, smooth = network("sequential"), network("sequential", "softplus")
    x = inputs_of(model)
    head = OutputHead(model)
    logits = head.twin(surrogates.softplus(1.0))(x)
    np.testing.assert_allclose(logits, OutputHead(smooth).logits(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(surrogates.softplus_twin(model)(x), tf.nn.softmax(logits), rtol=1e-5)


def test_a_layer_added_later_is_replaced_too():
    model = keras.Sequential([keras.Input((1,))])
    model.add(layers.ReLU())
    twin = surrogates.softplus_twin(model)
    model.add(layers.Dense(1, "relu", kernel_initializer="ones"))
    once = np.log1p(np.exp(0.5))
    np.testing.assert_allclose(twin(np.float32([[0.5]])), [[np.log1p(np.exp(once))]], rtol=1e-6)


# Guided backpropagation and deconvolution


def backward(model, x, dy):
    """`dx` for `dy`, and the derivative of Σ dx in dy."""
    x, dy = tf.constant(x), tf.constant(dy)
    with tf.GradientTape() as outer:
        outer.watch(dy)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = model(x)
        dx = inner.gradient(y, x, output_gradients=dy)
    return dx.numpy(), outer.gradient(dx, dy, unconnected_gradients="zero").numpy()


SIGNS = np.where(np.arange(len(POINTS)) % 2, -2.0, 3.0)[:, np.newaxis]  # dy > 0 and < 0 on both sides of each kink


@every_case
def test_guided_backpropagation_passes_what_is_positive_through_the_derivative(case):
    model = CASES[case][0]()
    x, (_, slope, _) = POINTS[:, np.newaxis], derivatives(model)
    for dy in (SIGNS, -SIGNS):
        dx, ddx = backward(surrogates.guided_backprop_twin(model), x, dy)
        np.testing.assert_allclose(dx, slope[:, np.newaxis] * np.maximum(dy, 0), rtol=1e-12)
        np.testing.assert_allclose(ddx, slope[:, np.newaxis] * (dy > 0), rtol=1e-12)


@every_case
def test_deconvolution_passes_what_is_positive(case):
    model = CASES[case][0]()
    for dy in (SIGNS, -SIGNS):
        dx, ddx = backward(surrogates.deconvolution_twin(model), POINTS[:, np.newaxis], dy)
        np.testing.assert_array_equal(dx, np.maximum(dy, 0))
        np.testing.assert_array_equal(ddx, dy > 0)


def test_guided_and_deconvolution_of_a_relu_are_those_of_the_papers():
    """Springenberg et al. 2015, figure 1: the forward mask, the backward mask, and both."""
    model = one_layer(layers.ReLU(dtype="float64"))
    x, dy = POINTS[:, np.newaxis], SIGNS
    masks = {surrogates.guided_backprop_twin: (x > 0) & (dy > 0), surrogates.deconvolution_twin: dy > 0}
    for twin, mask in masks.items():
        np.testing.assert_array_equal(backward(twin(model), x, dy)[0], dy * mask)
    np.testing.assert_array_equal(backward(model, x, dy)[0], dy * (x > 0))


@pytest.mark.parametrize("twin", [surrogates.guided_backprop_twin, surrogates.deconvolution_twin])
@every_network
def test_other_backward_passes_leave_the_output_to_the_bit(name, twin):
    model = network(name)
    x, made = tf.constant(inputs_of(model)), twin(model)
    np.testing.assert_array_equal(made(x), model(x))
    dx, plain = (backward(f, x, np.float32([[1, -1, 1]] * len(x)))[0] for f in (made, model))
    assert np.max(np.abs(dx - plain)) > 0.01


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("twin", [surrogates.guided_backprop_twin, surrogates.deconvolution_twin])
def test_other_backward_passes_are_traced_and_compiled(twin, jit_compile):
    model = network("residual")
    x, dy = tf.constant(inputs_of(model)), tf.constant([[1.0, -1.0, 1.0]] * 6)
    made = twin(model)

    @functools.partial(tf.function, autograph=False, jit_compile=jit_compile)
    def traced(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = made(x)
        return tape.gradient(y, x, output_gradients=dy)

    np.testing.assert_allclose(traced(x, dy), backward(made, x, dy)[0], rtol=1e-5, atol=1e-5)  # rounding


# What is refused


class Hidden(layers.Layer):
    """A layer that applies a function of its own."""

    def __init__(self, function):
        super().__init__()
        self.functions = [function]

    def call(self, x):
        return self.functions[0](x)


class Cell(layers.Layer):
    """A cell of the user's: it runs in a loop."""

    state_size = output_size = 2

    def call(self, x, states):
        return tf.nn.relu(states[0] + x[:, :2]), states


class Compiled(layers.Layer):
    """The method is compiled, once per layer: a copy compiles its own."""

    def __init__(self, function=tf.identity):
        super().__init__()
        self.inner, self.code = layers.Activation("relu"), function

    @tf.function
    def call(self, x):
        return self.inner(2.0 * x) + (0.0 if self.code is tf.identity else tf.nn.relu(x))


class CompiledOnce(layers.Layer):
    """What is compiled closes over the layer itself, so that a copy would call the original."""

    def __init__(self):
        super().__init__()
        inner = layers.Activation("relu")
        self.compiled = tf.function(lambda x: inner(x))

    def call(self, x):
        return self.compiled(x)


class Subclassed(keras.Model):
    def __init__(self, function=tf.identity):
        super().__init__(name="subclassed")
        self.dense, self.code = layers.Dense(4, "relu"), [function]

    def call(self, x):
        return self.dense(self.code[0](x))


class FunctionalWithCall(keras.Model):
    def call(self, x, training=None, mask=None):
        return tf.nn.relu(super().call(x))


class FunctionalWithStep(keras.Model):
    """Functional: it has another training step, and no call."""

    def train_step(self, data):
        return {}


def of(layer):
    inputs = keras.Input((4,))
    return keras.Model(inputs, layer(inputs))


def functional(cls):
    inputs = keras.Input((4,))
    return cls(inputs, layers.Dense(4, "relu")(inputs))


def built(model):
    model(np.zeros((1, 4), "float32"))
    return model


REFUSED = {
    "subclassed": (lambda: built(Subclassed(tf.nn.relu)), "'subclassed', a model whose own code applies a ReLU"),
    "subclassed inside": (lambda: of(Subclassed(tf.nn.relu)), "'subclassed', a model whose own code"),
    "functional with a call": (lambda: functional(FunctionalWithCall), "a model whose own code applies a ReLU"),
    "tf.function": (lambda: of(Compiled(tf.nn.relu)), r"'compiled\w*', a layer whose own code applies a ReLU"),
    "tf.function as activation": (lambda: of(layers.Dense(4, tf.function(tf.nn.relu))), "own code applies a ReLU"),
    "tf.function of its own": (lambda: of(CompiledOnce()), r"'compiled_once\w*', a layer whose own code applies"),
    "hidden relu": (lambda: of(Hidden(tf.nn.relu)), r"'hidden\w*', a layer whose own code applies a ReLU"),
    "hidden relu of Keras": (lambda: of(Hidden(RELU)), "own code applies a ReLU"),
    "hidden leaky_relu": (lambda: of(Hidden(LEAKY)), "own code applies a ReLU .LeakyRelu"),
    "hidden relu6": (lambda: of(Hidden(ops.relu6)), "own code applies a ReLU .Relu6"),
    "hidden maximum": (lambda: of(Hidden(lambda x: tf.maximum(0.0, x))), "own code applies a ReLU .Maximum"),
    "hidden in a branch": (
        lambda: of(Hidden(lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: tf.nn.relu(x), lambda: x))),
        "own code applies a ReLU",
    ),
    "hidden in a Lambda": (
        lambda: of(layers.Lambda(tf.nn.crelu)),
        r"'lambda\w*', a layer whose own code applies a ReLU",
    ),
    "hidden in an activation": (
        lambda: of(layers.Dense(4, lambda x: 2 * tf.nn.relu(x))),
        r"'dense\w*', a layer whose own",
    ),
    "hidden in a partial": (
        lambda: of(layers.Dense(4, functools.partial(tf.nn.leaky_relu, alpha=0.1))),
        "own code applies a ReLU .LeakyRelu",
    ),
    "hidden inside": (
        lambda: keras.Sequential([keras.Input((4,)), layers.Reshape((2, 2)), layers.RNN(Cell())]),
        "own code applies a ReLU",
    ),
    "not built": (lambda: keras.Sequential([layers.Dense(3)]), "`model` must be built"),
    "wrapped": (lambda: wrapped(), "`model` is wrapped: pass keras_rar.unwrap"),
}


@pytest.mark.parametrize("make", [surrogates.softplus_twin, surrogates.guided_backprop_twin])
@pytest.mark.parametrize("case", REFUSED)
def test_a_model_that_hides_a_relu_is_refused(case, make):
    build, message = REFUSED[case]
    model = build()
    with pytest.raises(ValueError, match=message):
        make(model)
    with pytest.raises(ValueError, match=message):
        surrogates.replaced_relus(model, surrogates.relu)


@pytest.mark.parametrize("twin", [surrogates.softplus_twin, surrogates.guided_backprop_twin])
@pytest.mark.parametrize(
    "layer",
    [
        lambda: Hidden(tf.tanh),
        lambda: layers.Lambda(lambda x: tf.maximum(x, 0.1)),
        lambda: layers.Dense(4, tf.nn.gelu),
        lambda: Block("relu"),
    ],
    ids=["own", "lambda", "activation", "block"],
)
def test_layers_of_the_user_without_a_hidden_relu_are_accepted(layer, twin):
    model = of(layer())
    assert twin(model)(np.ones((1, 4), "float32")).shape == (1, 4)


@pytest.mark.parametrize("build", [lambda: built(Subclassed()), lambda: of(Subclassed())], ids=["alone", "inside"])
def test_a_subclassed_model_whose_relus_are_attributes_is_accepted(build):
    model = build()
    x, _ = batch()
    kernel = next(v for v in model.weights if v.name == "kernel")
    np.testing.assert_allclose(surrogates.softplus_twin(model)(x), np.log1p(np.exp(x @ kernel.numpy())), rtol=1e-5)


def test_a_layer_whose_call_is_a_tf_function_is_accepted():
    model = of(Compiled())
    x, _ = batch()
    np.testing.assert_allclose(model(x), 2 * x)
    np.testing.assert_allclose(surrogates.softplus_twin(model)(x), np.log1p(np.exp(2 * x)), rtol=1e-5)
    np.testing.assert_allclose(model(x), 2 * x)


def test_a_functional_model_with_a_train_step_of_its_own_is_accepted():
    model = functional(FunctionalWithStep)
    x, _ = batch()
    expected = tf.math.softplus(model.layers[-1].kernel.numpy().T @ x[..., np.newaxis])[..., 0]
    np.testing.assert_allclose(surrogates.softplus_twin(model)(x), expected, rtol=1e-5)


@pytest.mark.parametrize("endpoint", ["serve", pytest.param("serving_default", marks=pytest.mark.slow)])
def test_a_saved_model_inside_is_refused(endpoint, tmp_path):
    dense_model(activation="relu").export(tmp_path / "saved", verbose=False)
    layer = layers.TFSMLayer(tmp_path / "saved", call_endpoint=endpoint)
    with pytest.raises(ValueError, match=r"with a tf.function of its own|own code applies a ReLU"):
        surrogates.softplus_twin(of(layer))


@pytest.mark.parametrize("beta", [0, -1.0, np.inf, np.nan])
def test_beta_must_be_positive(beta):
    with pytest.raises(ValueError, match=r"`beta` must be a positive float. Received: beta="):
        surrogates.softplus_twin(dense_model(), beta)


@pytest.mark.parametrize("model", [None, "relu", layers.ReLU()], ids=["none", "name", "layer"])
def test_what_is_not_a_model_is_a_type_error(model):
    with pytest.raises(TypeError, match=r"`model` must be a Keras 3 model. Received: model="):
        surrogates.softplus_twin(model)
