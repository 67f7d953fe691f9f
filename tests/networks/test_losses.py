"""Losses and outputs: probabilities train and attribute as logits do, and what cannot be resolved is refused.

A pair of twins shares its weights: one ends in a softmax or sigmoid and takes a loss of probabilities, the other
ends in logits and takes the same loss with `from_logits=True`. Keras clips probabilities at 1e-7.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, dense_model, wrapped

import keras_rar
from keras_rar.networks.output import OutputHead

L = keras.losses
X, Y = batch(8)
ONE_HOT = np.eye(3, dtype="float32")[Y]
BINARY = (Y > 0).astype("float32")
EAGERLY = {"run_eagerly": True}

# name: (loss class, its options, activation of the probabilities, labels, output units)
LOSSES = {
    "sparse": (L.SparseCategoricalCrossentropy, {}, "softmax", Y, 3),
    "categorical": (L.CategoricalCrossentropy, {}, "softmax", ONE_HOT, 3),
    "smoothed": (L.CategoricalCrossentropy, {"label_smoothing": 0.1}, "softmax", ONE_HOT, 3),
    "focal": (L.CategoricalFocalCrossentropy, {"gamma": 1.5, "alpha": 1.0}, "softmax", ONE_HOT, 3),
    "binary": (L.BinaryCrossentropy, {}, "sigmoid", BINARY, 1),
    "binary smoothed": (L.BinaryCrossentropy, {"label_smoothing": 0.1}, "sigmoid", BINARY, 1),
    "binary of many labels": (L.BinaryCrossentropy, {}, "sigmoid", ONE_HOT, 3),
    "binary focal": (L.BinaryFocalCrossentropy, {"gamma": 1.5}, "sigmoid", BINARY, 1),
}
loss_cases = pytest.mark.parametrize("case", LOSSES.values(), ids=LOSSES)


def activated(activation):
    return lambda units: [keras.layers.Dense(units, activation)]


def in_a_layer(units):
    return [keras.layers.Dense(units), keras.layers.Activation("softmax")]


def softmax_layer(units):
    return [keras.layers.Dense(units), keras.layers.Softmax()]


def nested_sequential(units):
    return [keras.Sequential([keras.Input((5,)), keras.layers.Dense(units, "softmax")])]


def nested_functional(units):
    inputs = keras.Input((5,))
    return [keras.Model(inputs, keras.layers.Softmax()(keras.layers.Dense(units)(inputs)))]


ENDINGS = {
    "Dense": activated("softmax"),
    "Activation": in_a_layer,
    "Softmax": softmax_layer,
    "nested Sequential": nested_sequential,
    "nested functional": nested_functional,
}


def sequential(ending, units=3):
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, "tanh"), *ending(units)])


def functional(ending, units=3):
    inputs = outputs = keras.Input((4,))
    for layer in [keras.layers.Dense(5, "tanh"), *ending(units)]:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def twins(probabilities, loss, logits_loss, scale=1.0, **options):
    """Two wrapped models of the same weights: of probabilities and of logits."""
    units = probabilities.output_shape[-1]
    logits = sequential(activated(None), units)
    probabilities.set_weights([scale * w for w in probabilities.get_weights()])
    logits.set_weights(probabilities.get_weights())
    options = {"compile": EAGERLY, **options}
    return wrapped("ig_sum_norm", probabilities, loss, **options), wrapped(
        "ig_sum_norm", logits, logits_loss, **options
    )


def assert_same_gradients(model, twin, y):
    """The same operations on the same numbers, so far tighter than float32's 1e-7 would ask for."""
    attributions = model.attributions(X, X[::-1].copy(), y).numpy()
    np.testing.assert_allclose(attributions, twin.attributions(X, X[::-1].copy(), y), rtol=1e-6)
    np.testing.assert_allclose(model.perturb(X, y, seed=5), twin.perturb(X, y, seed=5), rtol=1e-6)
    assert (np.abs(attributions).max(axis=1) > 0).all()


# Probabilities as logits


@loss_cases
@pytest.mark.parametrize("scale", [1.0, 8.0], ids=["ordinary", "sure"])
def test_probabilities_have_the_gradients_of_logits(case, scale):
    loss, options, activation, y, units = case
    model, twin = twins(
        sequential(activated(activation), units), loss(**options), loss(from_logits=True, **options), scale
    )
    assert_same_gradients(model, twin, y)


@pytest.mark.parametrize("network", [sequential, functional])
@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_every_ending_in_a_softmax_has_the_gradients_of_logits(network, ending):
    loss = L.SparseCategoricalCrossentropy
    assert_same_gradients(*twins(network(ending), loss(), loss(from_logits=True), scale=4.0), Y)


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        ("sparse_categorical_crossentropy", Y),
        ("SparseCategoricalCrossentropy", Y),
        ("crossentropy", Y),
        (L.sparse_categorical_crossentropy, Y),
        ([L.SparseCategoricalCrossentropy()], Y),
        ("categorical_crossentropy", ONE_HOT),
        ("crossentropy", ONE_HOT),
    ],
)
def test_names_and_functions_are_resolved_as_objects_are(loss, y):
    logits_loss = (L.SparseCategoricalCrossentropy if y is Y else L.CategoricalCrossentropy)(from_logits=True)
    assert_same_gradients(*twins(sequential(softmax_layer), loss, logits_loss), y)


@pytest.mark.parametrize("loss", ["crossentropy", "binary_crossentropy", "BinaryCrossentropy", L.binary_crossentropy])
def test_names_of_binary_losses(loss):
    probabilities = sequential(activated("sigmoid"), 1)
    assert_same_gradients(*twins(probabilities, loss, L.BinaryCrossentropy(from_logits=True)), BINARY)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_twins_train_to_the_same_weights_and_predict_probabilities(ending):
    loss = L.SparseCategoricalCrossentropy
    model, twin = twins(functional(ending), loss(), loss(from_logits=True), optimizer="sgd")
    before = model.base_model.get_weights()[0]
    for each in (model, twin):
        each.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
    for actual, expected in zip(model.base_model.get_weights(), twin.base_model.get_weights(), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(model.base_model.get_weights()[0] - before).max() > 1e-3
    for predicted in (model.predict(X, verbose=0), model.base_model.predict(X, verbose=0)):
        np.testing.assert_allclose(predicted, tf.nn.softmax(twin.predict(X, verbose=0)), rtol=1e-4)


# Saturation: logits of ±30

Z = np.full((1, 2), 0.5, "float32")
KERNEL = np.array([[31.0, -28.0, 3.0], [33.0, -28.0, 1.0]], "float32")


def saturated(activation, units):
    """A linear classifier that is sure of class 0 at Z, where its logits are (32, −28, 2); or its first unit."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(units, activation, use_bias=False)])
    model.set_weights([KERNEL[:, :units]])
    return model


def wrong_label(loss, units):
    """Class 1, which has a probability of 1e-26; or 0 where the one unit is sure of 1."""
    y = np.eye(3, dtype="float32")[[1]] if units == 3 else np.zeros((1, 1), "float32")
    return y, (np.array([1]) if loss is L.SparseCategoricalCrossentropy else y)


@loss_cases
def test_gradients_of_a_saturated_model_do_not_vanish(case):
    """`∂ℓ/∂logits = p − y`, the label smoothed; over the units for binary losses, of which ℓ is the mean."""
    loss, options, activation, _, units = case
    y, labels = wrong_label(loss, units)
    smoothing = options.get("label_smoothing", 0)
    logits = (Z @ KERNEL[:, :units]).astype("float64")
    if activation == "softmax":
        slopes = tf.nn.softmax(logits).numpy() - (1 - smoothing) * y - smoothing / 3
    else:
        slopes = (tf.sigmoid(logits).numpy() - (1 - smoothing) * y - smoothing / 2) / units
    model = wrapped("ig_sum_norm", saturated(activation, units), loss(**options), bounds=None, rule="left", m=1)
    attributions = model.attributions(Z, Z + 1, labels).numpy()
    # The focal factor (1 − p)^γ is 1 to 1e-13; what is left is float32.
    np.testing.assert_allclose(attributions, slopes @ KERNEL[:, :units].T, rtol=1e-5)


@loss_cases
def test_clipped_probabilities_would_have_none_there(case):
    """Negative control: Keras's loss of the same probabilities, when it cannot see where they come from."""
    loss, options, activation, _, units = case
    base_model, z = saturated(activation, units), tf.constant(Z)
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = loss(**options)(wrong_label(loss, units)[1], tf.identity(base_model(z)))
    # Above, the gradients are near 30 or 60. Of three binary losses one, at the logit 2, is not clipped.
    assert np.abs(tape.gradient(value, z)).max() < 1.5


# Refused

OBJECT = L.SparseCategoricalCrossentropy


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_from_logits_on_probabilities_is_refused(ending):
    with pytest.raises(ValueError, match="has from_logits=True, but the model ends in a softmax"):
        wrapped(base_model=sequential(ending), loss=OBJECT(from_logits=True))


@pytest.mark.parametrize(
    ("activation", "loss", "expected"),
    [
        (None, "sparse_categorical_crossentropy", "softmax"),
        (None, "categorical_crossentropy", "softmax"),
        (None, L.CategoricalFocalCrossentropy(), "softmax"),
        (None, "binary_crossentropy", "sigmoid"),
        ("sigmoid", OBJECT(), "softmax"),
        ("sigmoid", "categorical_crossentropy", "softmax"),
        ("softmax", "binary_crossentropy", "sigmoid"),
        ("relu", OBJECT(), "softmax"),
    ],
)
def test_a_loss_of_other_probabilities_is_refused(activation, loss, expected):
    with pytest.raises(ValueError, match=f"expects the probabilities of a {expected}, and no {expected} was found"):
        wrapped(base_model=dense_model(output=activation), loss=loss)


def test_crossentropy_on_logits_is_refused():
    """By name it is decided at the first labels."""
    with pytest.raises(ValueError, match="expects the probabilities of a softmax"):
        wrapped(loss="crossentropy", compile=EAGERLY).fit(X, Y, verbose=0)


@pytest.mark.parametrize("loss", [None, [], ["mse", "mse"], {"a": "mse", "b": "mse"}], ids=str)
def test_no_loss_and_several_losses_are_refused(loss):
    model = keras_rar.wrap(dense_model())
    with pytest.raises(ValueError, match="one loss"):
        model.compile("sgd", loss)


@pytest.mark.parametrize("reduction", [None, "none"])
def test_a_loss_that_is_not_reduced_is_refused(reduction):
    with pytest.raises(ValueError, match=r"reduced over the batch\. Received: reduction=None"):
        wrapped(loss=OBJECT(from_logits=True, reduction=reduction))


def scalar(y_true, y_pred):
    return tf.reduce_mean(y_pred)


class Scalar(L.Loss):
    def call(self, y_true, y_pred):
        return tf.reduce_mean(y_pred)


@pytest.mark.parametrize("loss", [scalar, Scalar()], ids=["function", "object"])
def test_a_scalar_loss_is_refused(loss):
    with pytest.raises(ValueError, match=r"one value per example.*Received: a scalar"):
        wrapped(loss=loss, compile=EAGERLY).fit(X, Y, verbose=0)


def test_loss_weights_are_refused():
    """There is one output; ignored they would make `loss` and `val_loss` differ in scale."""
    with pytest.raises(ValueError, match="loss_weights"):
        wrapped(compile={"loss_weights": [5.0]})


def test_ignore_class_is_refused():
    """Keras would divide by the number of the other examples."""
    with pytest.raises(ValueError, match="ignore_class"):
        wrapped(loss=OBJECT(from_logits=True, ignore_class=1))


def last_layer_twice():
    softmax = keras.layers.Softmax()
    inputs = keras.Input((4,))
    return keras.Model(inputs, softmax(keras.layers.Dense(3)(softmax(keras.layers.Dense(3)(inputs)))))


def last_model_twice():
    nested = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, "softmax")])
    inputs = keras.Input((3,))
    return keras.Model(inputs, nested(nested(inputs)))


def layer_twice_in_the_last_model():
    softmax = keras.layers.Softmax()
    inner = keras.Input((3,))
    nested = keras.Model(inner, softmax(keras.layers.Dense(3)(softmax(inner))))
    return keras.Sequential([keras.Input((3,)), nested])


@pytest.mark.parametrize("build", [last_layer_twice, last_model_twice, layer_twice_in_the_last_model])
def test_a_softmax_used_twice_is_taken_off_at_the_end_alone(build):
    """The softmax at the end is the one in the middle, too, and taking it off there would make another network."""
    model = build()
    x = tf.constant(X[:, : model.input_shape[1]])
    head = OutputHead(model)
    logits = head.logits(x)
    np.testing.assert_allclose(head.activate(logits), model(x), rtol=1e-5)
    assert np.abs(tf.reduce_sum(logits, axis=1) - 1).max() > 0.01
    trained = wrapped(base_model=model, loss=L.SparseCategoricalCrossentropy(), compile=EAGERLY)
    assert np.isfinite(trained.fit(x, Y, verbose=0).history["loss"]).all()


# A loss of one's own


@pytest.mark.parametrize("activation", [None, "softmax", "sigmoid"])
def test_a_function_gets_what_the_model_outputs(activation):
    seen = []

    def squared_error(y_true, y_pred):
        seen.append((y_true, y_pred))
        return tf.reduce_mean((y_true - y_pred) ** 2, axis=-1)

    base_model = dense_model(output=activation)
    model = wrapped("natural", base_model, squared_error, compile=EAGERLY)
    outputs = base_model(X).numpy()
    expected = np.mean((ONE_HOT - outputs) ** 2, axis=-1)
    np.testing.assert_allclose(model.objective(X, X, ONE_HOT), expected, rtol=1e-5)
    np.testing.assert_allclose(seen[-1][1], outputs, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(seen[-1][0], ONE_HOT)


@pytest.mark.parametrize("method", ["natural", "ig_sum_norm"])
def test_reduction_sum_sums_loss_and_terms(method):
    """Of n examples the sum is n times the mean, of everything, and so is an SGD step."""
    base_model = dense_model()
    initial, results = base_model.get_weights(), []
    for reduction, rate in (("sum", 0.1), ("sum_over_batch_size", 0.8)):
        base_model.set_weights(initial)
        loss = OBJECT(from_logits=True, reduction=reduction)
        model = wrapped(method, base_model, loss, keras.optimizers.SGD(rate), compile=EAGERLY)
        results.append((model.fit(X, Y, verbose=0).history, base_model.get_weights()))
    (summed, weights), (mean, expected) = results
    assert set(summed) == set(mean)
    for name, values in mean.items():
        np.testing.assert_allclose(summed[name], np.multiply(8, values), rtol=1e-5)
    for actual, weight in zip(weights, expected, strict=True):
        np.testing.assert_allclose(actual, weight, rtol=1e-5, atol=1e-6)


@loss_cases
def test_moderate_losses_are_those_of_keras(case):
    """Where nothing is clipped, Keras's own loss of the model's probabilities is the reference, to float32."""
    loss, options, activation, labels, units = case
    base_model = dense_model(classes=units, output=activation)
    y = tf.reshape(tf.constant(labels, tf.float32), (8, -1) if units == 1 else labels.shape)
    expected = loss(**options).call(y, tf.identity(base_model(X)))
    model = wrapped("natural", base_model, loss(**options))
    np.testing.assert_allclose(model.objective(X, X, labels), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "loss", [L.KLDivergence(), L.kl_divergence, "kl_divergence"], ids=["object", "function", "name"]
)
def test_kl_divergence_is_refused_for_its_clipping(loss):
    with pytest.raises(ValueError, match="use CategoricalCrossentropy"):
        wrapped(base_model=dense_model(output="softmax"), loss=loss)
