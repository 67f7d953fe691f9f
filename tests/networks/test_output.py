"""The softmax or sigmoid at the end of a network is found however it is spelt, or what looks squashed is refused."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, dense_model

import keras_rar
from keras_rar.attacks import PGDAttack
from keras_rar.core.gradients import input_gradient
from keras_rar.networks.classifier import Classifier
from keras_rar.networks.output import OutputHead, head_of
from keras_rar.networks.squashing import kind_of

layers, ops = keras.layers, keras.ops
X, Y = batch(8)


def by_hand(z):
    odds = tf.exp(z - tf.reduce_max(z, axis=-1, keepdims=True))
    return odds / tf.reduce_sum(odds, axis=-1, keepdims=True)


def sigmoid_by_hand(z):
    return 1 / (1 + tf.exp(-z))


class OwnLayer(layers.Layer):
    """A layer of the user's that computes a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


# A function of all scores, as it may be spelt
FUNCTIONS = {
    "softmax": {
        "name": "softmax",
        "keras.activations": keras.activations.softmax,
        "keras.ops": ops.softmax,
        "keras.ops.nn": ops.nn.softmax,
        "tf.nn": tf.nn.softmax,
        "tf.keras": tf.keras.activations.softmax,
        "partial": functools.partial(tf.nn.softmax, axis=-1),
        "lambda": lambda z: tf.nn.softmax(z),
        "axis 1": lambda z: ops.softmax(z, axis=1),
        "cast": lambda z: tf.cast(tf.nn.softmax(tf.cast(z, "float64")), "float32"),
        "by hand": by_hand,
        "layer": layers.Softmax(),
        "tf.function": tf.function(by_hand),
    },
    "sigmoid": {
        "name": "sigmoid",
        "keras.activations": keras.activations.sigmoid,
        "keras.ops": ops.sigmoid,
        "tf.nn": tf.nn.sigmoid,
        "tf.math": tf.math.sigmoid,
        "tf": tf.sigmoid,
        "lambda": lambda z: tf.sigmoid(z),
        "by hand": sigmoid_by_hand,
        "half a tanh": lambda z: 0.5 * (1 + tf.tanh(z / 2)),
    },
}
SPELT = {f"{kind}, {name}": (kind, f) for kind, group in FUNCTIONS.items() for name, f in group.items()}
every_spelling = pytest.mark.parametrize(("kind", "function"), SPELT.values(), ids=SPELT)


def sequential(*ending, units=3, hidden="tanh"):
    """A network, and one of the same weights that ends in logits."""
    twin = dense_model(hidden=8, activation=hidden, classes=units)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, hidden), *ending])
    weights = [2 * w for w in twin.get_weights()]
    twin.set_weights(weights)
    model.set_weights(weights)
    return model, twin


def assert_logits(model, twin, kind, scale=1.0):
    """The logits are those of the twin, also where gradients are taken, and squashed they are the model's scores."""
    head = OutputHead(model)
    assert head.activation == kind
    expected = scale * twin(X)
    np.testing.assert_allclose(head.logits(tf.constant(X)), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(head.activate(head.logits(tf.constant(X))), model(X), rtol=1e-5, atol=1e-6)
    gradient, expected = (
        input_gradient(OutputHead(each).scored(lambda logits: logits[:, 0], staged=False), X) for each in (model, twin)
    )
    np.testing.assert_allclose(gradient, scale * expected, rtol=1e-5, atol=1e-6)
    assert np.abs(gradient).max() > 0.01


@every_spelling
def test_as_an_activation(kind, function):
    assert_logits(*sequential(layers.Dense(3, activation=function)), kind)


@every_spelling
def test_as_a_layer(kind, function):
    called = keras.activations.get(function)
    for layer in (layers.Activation(function), layers.Lambda(called), OwnLayer(called)):
        assert_logits(*sequential(layers.Dense(3), layer), kind)


AFTER = {
    "identity": lambda: [layers.Identity()],
    "linear": lambda: [layers.Activation("linear")],
    "dropout": lambda: [layers.Dropout(0.5)],
    "flatten": lambda: [layers.Flatten()],
    "reshape": lambda: [layers.Reshape((3, 1)), layers.Reshape((3,))],
    "noise": lambda: [layers.GaussianNoise(0.1), layers.Dropout(0.1)],
    "float64": lambda: [layers.Activation("linear", dtype="float64"), layers.Activation("linear", dtype="float32")],
    "cast": lambda: [layers.Lambda(lambda z: tf.cast(tf.cast(z, "float64"), "float32"))],
}


@pytest.mark.parametrize("more", AFTER.values(), ids=AFTER)
@pytest.mark.parametrize("function", ["softmax", tf.nn.sigmoid], ids=["softmax", "sigmoid"])
def test_behind_layers_that_leave_scores_as_they_are(more, function):
    kind = function if function == "softmax" else "sigmoid"
    assert_logits(*sequential(layers.Dense(3, activation=function), *more()), kind)
    assert_logits(*sequential(layers.Dense(3), OwnLayer(keras.activations.get(function)), *more()), kind)


TEMPERATURES = {
    "Rescaling": ([layers.Rescaling(0.5), layers.Softmax()], 0.5),
    "within": ([layers.Activation(lambda z: tf.nn.softmax(z / 4))], 0.25),
    "Lambda": ([layers.Lambda(lambda z: z / 4), layers.Activation("sigmoid")], 0.25),
    "sigmoid within": ([OwnLayer(lambda z: tf.sigmoid(3.0 * z))], 3.0),
}


@pytest.mark.parametrize(("ending", "scale"), TEMPERATURES.values(), ids=TEMPERATURES)
def test_a_temperature_belongs_to_the_logits(ending, scale):
    model, twin = sequential(layers.Dense(3), *ending)
    assert_logits(model, twin, OutputHead(model).activation, scale)
    assert OutputHead(model).activation is not None


def functional(outputs_of):
    twin = dense_model()
    inputs = keras.Input((4,))
    model = keras.Model(inputs, outputs_of(layers.Dense(3)(layers.Dense(8, "tanh")(inputs))))
    model.set_weights(twin.get_weights())
    return model, twin


OPERATIONS = {
    "softmax": (ops.softmax, "softmax", 1.0),
    "sigmoid": (ops.sigmoid, "sigmoid", 1.0),
    "temperature": (lambda z: ops.softmax(z / 2.0), "softmax", 0.5),
    "multiplied": (lambda z: ops.nn.softmax(ops.multiply(z, 2.0)), "softmax", 2.0),
    "cast": (lambda z: ops.cast(ops.softmax(ops.cast(z, "float64")), "float32"), "softmax", 1.0),
    "reshaped": (lambda z: ops.reshape(ops.sigmoid(ops.reshape(z, (-1, 3, 1))), (-1, 3)), "sigmoid", 1.0),
    "squeezed": (lambda z: ops.squeeze(ops.softmax(ops.expand_dims(z, 1)), 1), "softmax", 1.0),
    "identity": (lambda z: layers.Identity(name="probabilities")(ops.softmax(z)), "softmax", 1.0),
}


@pytest.mark.parametrize(("outputs_of", "kind", "scale"), OPERATIONS.values(), ids=OPERATIONS)
def test_as_an_operation_of_a_functional_model(outputs_of, kind, scale):
    assert_logits(*functional(outputs_of), kind, scale)


class Own(keras.Model):
    """A model whose own code ends in a function."""

    def __init__(self, function):
        super().__init__()
        self.first, self.last, self.function = layers.Dense(8, "tanh"), layers.Dense(3), function

    def call(self, x, training=False):
        return self.function(self.last(self.first(x)))


def subclassed(function):
    twin, model = dense_model(), Own(function)
    model(X)
    model.set_weights(twin.get_weights())
    return model, twin


OWN = {
    "tf.nn.softmax": (tf.nn.softmax, "softmax", 1.0),
    "keras.ops.sigmoid": (ops.sigmoid, "sigmoid", 1.0),
    "temperature": (lambda z: tf.identity(tf.nn.softmax(z / 2)), "softmax", 0.5),
    "cast": (lambda z: tf.cast(tf.sigmoid(tf.cast(z, "float64")), "float32"), "sigmoid", 1.0),
    "reshaped": (lambda z: tf.reshape(tf.nn.softmax(z[:, None, None]), (-1, 3)), "softmax", 1.0),
}


@pytest.mark.parametrize(("function", "kind", "scale"), OWN.values(), ids=OWN)
def test_in_the_code_of_a_subclassed_model(function, kind, scale):
    model, twin = subclassed(function)
    head = OutputHead(model)
    assert head.activation == kind
    x = tf.constant(X)
    compiled = tf.function(head.logits, autograph=False)
    for logits in (head.logits(x), compiled(x), head.classified(x, False)[0]):
        np.testing.assert_allclose(logits, scale * twin(X), rtol=1e-6, atol=1e-6)
    found, expected = (keras_rar.saliency_map(m, X, Y, "gradient", normalize=False) for m in (model, twin))
    np.testing.assert_allclose(found, scale * expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("eagerly", [False, True])
def test_a_subclassed_model_that_squashes_itself_is_trained(eagerly):
    (model, twin), loss = subclassed(tf.nn.softmax), keras.losses.SparseCategoricalCrossentropy
    trained = [keras_rar.wrap(m, "ig_sum_norm", steps=1, m=2, attack_m=2, seed=0) for m in (model, twin)]
    for each, from_logits in zip(trained, (False, True), strict=True):
        each.compile("sgd", loss(from_logits=from_logits), run_eagerly=eagerly)
        each.fit(X, Y, verbose=0)
    for found, expected in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_log_probabilities_are_logits():
    model, twin = sequential(layers.Dense(3, activation="log_softmax"))
    x = tf.constant(X)
    assert OutputHead(model).activation is None
    np.testing.assert_allclose(tf.nn.softmax(Classifier(model).logits(x)), tf.nn.softmax(twin(X)), rtol=1e-5)
    assert PGDAttack(0.1, steps=1)(model, X, Y).robust.shape == (8,)


def test_a_network_inside_that_ends_otherwise_hides_no_softmax():
    """Whatever a model calls what it is made of: its own code comes last."""

    class Classifier(keras.Model):
        def __init__(self):
            super().__init__()
            self.network = self.original = keras.Sequential([layers.Dense(3)])

        def call(self, x):
            return ops.softmax(self.network(x))

    model = Classifier()
    model(X)
    assert OutputHead(model).activation == "softmax"


# What looks squashed, and what does not


def in_a_function(z):
    return tf.function(tf.nn.softmax)(z)


REFUSED = {
    "softmax of the first axis": (lambda z: tf.nn.softmax(z, axis=0), "between 0 and 1"),
    "softmax in a function": (in_a_function, "sum to 1"),
    "sigmoid in a function": (lambda z: tf.function(tf.sigmoid)(z), "between 0 and 1"),
    "clipped softmax": (lambda z: tf.clip_by_value(tf.nn.softmax(z), 1e-7, 1.0), "sum to 1"),
    "clipped sigmoid": (lambda z: tf.clip_by_value(tf.sigmoid(z), 1e-3, 0.999), "between 0 and 1"),
    "hard sigmoid": (ops.hard_sigmoid, "between 0 and 1"),
    "tanh": (tf.tanh, "between -1 and 1"),
    "softsign": (ops.softsign, "between -1 and 1"),
    "squared sigmoid": (lambda z: tf.sigmoid(z) ** 2, "between 0 and 1"),
    "percent": (lambda z: 100 * tf.nn.softmax(z), "always sum to 100"),
    "log of softmax": (lambda z: tf.math.log(tf.nn.softmax(z)), "logarithms of probabilities"),
    "log of softmax and a floor": (lambda z: tf.math.log(tf.nn.softmax(z) + 1e-3), "logarithms of probabilities"),
    "mean of two": (lambda z: (tf.nn.softmax(z) + tf.nn.softmax(2 * z)) / 2, "sum to 1"),
}


@pytest.mark.parametrize(("function", "what"), REFUSED.values(), ids=REFUSED)
def test_what_looks_squashed_is_refused(function, what):
    model, _ = subclassed(function)
    for measure in (keras_rar.saliency_map, PGDAttack(0.1, steps=1)):
        with pytest.raises(
            ValueError, match=rf"^`model` must return logits, or end in .*Received: scores that .*{what}"
        ):
            measure(model, X, Y)


ACCEPTED = {
    "relu": tf.nn.relu,
    "softplus": tf.nn.softplus,
    "relu6": tf.nn.relu6,
    "swish": tf.nn.swish,
    "capped": lambda z: 30 * tf.tanh(z / 30),
    "cosine": lambda z: tf.linalg.l2_normalize(z, axis=-1),
    "small": lambda z: 0.1 * z + 0.5,
    "gated": lambda z: z * tf.sigmoid(z),
    "divided": lambda z: 0.5 + z / 20,
    "log softmax": tf.nn.log_softmax,
}


@pytest.mark.parametrize("function", ACCEPTED.values(), ids=ACCEPTED)
def test_scores_without_bounds_are_logits(function):
    """Also where they happen to lie within 0 and 1 for the data."""
    model, _ = subclassed(function)
    np.testing.assert_array_equal(Classifier(model).check_inputs(X), X)
    assert OutputHead(model).activation is None


def test_one_unit_that_is_never_negative_is_refused():
    """Its sign, which would be the prediction, says nothing."""
    model, _ = sequential(layers.Dense(1, "sigmoid"), layers.Rescaling(5.0), units=1)
    with pytest.raises(ValueError, match="Received: the score of one unit, which is never negative"):
        keras_rar.saliency_map(model, X)


def test_logits_within_0_and_1_are_logits():
    """A dense layer has no bounds, whatever it says of the data, or of probabilities within."""
    for last in ([layers.Dense(3)], [layers.Dense(3, "sigmoid"), layers.Dense(3)]):
        model = keras.Sequential([keras.Input((4,)), *last])
        model.layers[-1].set_weights([0.01 * np.ones(model.layers[-1].kernel.shape), 0.1 + 0.3 * np.arange(3)])
        assert np.all((model(X) >= 0) & (model(X) <= 1))
        Classifier(model).check_inputs(X)
        assert not OutputHead(model).squashing.hidden


def test_a_softmax_over_one_unit_is_refused():
    for last in ([layers.Dense(1, "softmax")], [layers.Dense(1), layers.Activation(tf.nn.softmax), layers.Flatten()]):
        model = keras.Sequential([keras.Input((4,)), *last])
        for use in (keras_rar.wrap, lambda m: keras_rar.saliency_map(m, X)):
            with pytest.raises(ValueError, match="must not end in a softmax over one unit, which is 1 whatever"):
                use(model)


@pytest.mark.parametrize("function", ["sigmoid", tf.nn.sigmoid, lambda z: tf.sigmoid(z)])
def test_one_unit_is_binary_however_its_sigmoid_is_spelt(function):
    """Taken for a logit, a probability is never below 0: half of the examples would count as wrong."""
    model, twin = sequential(layers.Dense(1, activation=function), units=1)
    y = (twin(X).numpy()[:, 0] > np.median(twin(X))).astype(int)
    bias = model.layers[-1].bias
    bias.assign(bias - np.median(twin(X)))
    found = PGDAttack(0.01, steps=1)(model, X, y)
    np.testing.assert_array_equal(found.correct, True)
    assert set(found.predicted) == {0, 1}
    assert not Classifier(model).multilabel


def test_what_is_found_is_kept():
    model, _ = subclassed(tf.nn.softmax)
    assert head_of(model) is head_of(model)
    traces = []
    probed, _ = subclassed(lambda z: traces.append(0) or tf.minimum(z, 9.0))
    keras_rar.saliency_map(probed, X, Y, "gradient")
    once = len(traces)
    keras_rar.saliency_map(probed, X, Y, "gradient")
    assert len(traces) <= once + 4  # of calls for values, not of traces


def test_a_layer_that_is_called_twice_keeps_its_first_softmax():
    """The softmax at the end is the one in the middle, too: it is taken off where it is the end alone."""
    softmax = layers.Softmax()
    inputs = keras.Input((4,))
    first, last = layers.Dense(3), layers.Dense(3)
    model = keras.Model(inputs, softmax(last(softmax(first(inputs)))))
    twin = keras.Model(inputs, last(layers.Softmax()(first(inputs))))
    assert_logits(model, twin, "softmax")


class Task(keras.Model):
    """A Functional model with arguments and a config of its own, as those of KerasHub."""

    def __init__(self, twice, **options):
        inputs = keras.Input((4,))
        softmax, hidden = layers.Softmax(), layers.Dense(3)(inputs)
        scores = layers.Dense(3)(softmax(hidden) if twice else hidden)
        super().__init__(inputs, softmax(scores), **options)
        self.given, self.scores = inputs, scores

    def get_config(self):
        return {"twice": False}


@pytest.mark.parametrize("twice", [False, True])
def test_a_functional_model_with_a_config_of_its_own(twice):
    model = Task(twice)
    assert head_of(model).activation == "softmax"
    np.testing.assert_allclose(head_of(model).logits(X), keras.Model(model.given, model.scores)(X), rtol=1e-6)


@pytest.mark.parametrize("scale", [np.nan, 0.0])
def test_scores_that_say_nothing_are_refused_before_work_begins(scale):
    model = dense_model()
    model.set_weights([scale * w for w in model.get_weights()])
    with pytest.raises(ValueError, match=r"`model` must return (finite scores\. Received: NaN|scores that depend on)"):
        keras_rar.evaluate_robustness(model, X, Y, epsilon=0.1, progress=False)


def test_a_callable_is_known_by_what_it_computes():
    assert kind_of(layers.Softmax()) == kind_of(by_hand) == kind_of(tf.nn.softmax) == "softmax"
    assert kind_of(sigmoid_by_hand) == "sigmoid"
    for other in (tf.tanh, tf.nn.relu, "softmax", lambda z: tf.nn.softmax(z, axis=0), lambda z: 1 / 0, lambda: None):
        assert kind_of(other) is None
