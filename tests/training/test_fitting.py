"""Training: what Keras's `fit` takes, what the history says, and that "natural" is Keras's own `fit`.

Tolerances: `close` allows 1e-5, some tens of float32 roundings, since compiled graphs add in another order.
"""

import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, conv_model, dense_model, some_slow, wrapped

import keras_rar

X, Y = batch(12)
ONE_HOT = np.eye(3, dtype="float32")[Y]
METHODS = ["natural", "madry", "ig_norm", "ig_sum_norm"]
TERMS = {
    "natural": {"clean_loss"},
    "madry": {"perturbed_loss"},
    "ig_norm": {"clean_loss", "ig_l1"},
    "ig_sum_norm": {"perturbed_loss", "ig_l1"},
}


def from_logits(**options):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, **options)


def close(actual, expected, tolerance=1e-5):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def differ(actual, expected):
    return any(np.abs(a - b).max() > 1e-4 for a, b in zip(actual, expected, strict=True))


def fit(model, *data, **options):
    return model.fit(*data, **{"batch_size": 4, "shuffle": False, "verbose": 0, **options}).history


def fitted_weights(*data, method="ig_sum_norm", base_model=None, fit_options=None, **options):
    """Weights of the same network after the same fit, of two epochs unless told."""
    keras.utils.set_random_seed(1)
    model = wrapped(method, base_model and base_model(), **options)
    fit(model, *data, **{"epochs": 2, **(fit_options or {})})
    return model.base_model.get_weights()


EAGERLY = {"compile": {"run_eagerly": True}}  # saves the tracing; tested below to be the same


@pytest.fixture(scope="module")
def reference():
    """Weights after a fit with arrays, batches of four in order."""
    return fitted_weights(X, Y)


# Data


def pairs(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays or (X, Y)).batch(4)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return X[4 * index : 4 * index + 4], Y[4 * index : 4 * index + 4]


@pytest.mark.parametrize(
    "data",
    [pairs, lambda: tf.data.Dataset.from_tensor_slices((X, Y)).batch(4, drop_remainder=True), Batches],
    ids=["tf.data", "tf.data of known batch size", "PyDataset"],
)
def test_every_kind_of_data_trains_as_arrays_do(data, reference):
    close(fitted_weights(data(), fit_options={"batch_size": None}), reference)


def test_tf_data_of_unknown_batch_size(reference):
    signature = (tf.TensorSpec((None, 4)), tf.TensorSpec((None,), tf.int64))
    data = tf.data.Dataset.from_generator(
        lambda: ((X[i : i + 4], Y[i : i + 4]) for i in (0, 4, 8)), output_signature=signature
    )
    close(fitted_weights(data, fit_options={"batch_size": None}), reference)


def test_batches_of_different_sizes_train():
    model = wrapped()
    assert np.isfinite(fit(model, X, Y, batch_size=5)["loss"]).all()  # 5, 5 and 2


def test_evaluate_and_predict_are_the_base_model_s_for_every_kind_of_data():
    model = wrapped(compile={"metrics": ["accuracy"]})
    model.base_model.compile("sgd", from_logits(), metrics=["accuracy"])
    expected = model.base_model.evaluate(X, Y, batch_size=4, verbose=0)
    close(model.evaluate(X, Y, batch_size=4, verbose=0), expected)
    for data in (pairs(), Batches()):
        close(model.evaluate(data, verbose=0), expected)
        np.testing.assert_array_equal(model.predict(data, verbose=0), model.base_model.predict(X, 4, verbose=0))
    assert set(model.evaluate(X, Y, verbose=0, return_dict=True)) == {"loss", "accuracy"}


@pytest.mark.parametrize("labels", [Y[:, np.newaxis], Y.astype("uint8"), Y.astype("float32")])
def test_layouts_and_dtypes_of_class_indices(labels, reference):
    close(fitted_weights(X, labels, **EAGERLY), reference)


def test_one_hot_labels_equal_sparse_ones(reference):
    close(fitted_weights(X, ONE_HOT, loss=keras.losses.CategoricalCrossentropy(from_logits=True), **EAGERLY), reference)


def test_float64_images_equal_float32_ones(reference):
    close(fitted_weights(pairs(X.astype("float64"), Y), fit_options={"batch_size": None}, **EAGERLY), reference)


# The update, by hand


@pytest.mark.parametrize("method", METHODS)
def test_loss_of_a_step_is_the_mean_objective_at_the_inner_maximum(method):
    """Twins of one seed: `perturb` is the inner maximum of the training step."""
    base_model = dense_model()
    model = wrapped(method, base_model, optimizer=keras.optimizers.SGD(0.0))
    twin = wrapped(method, base_model, **EAGERLY)
    history = fit(model, X, Y, batch_size=12)
    objective = twin.objective(X, twin.perturb(X, Y), Y).numpy()
    close(history["loss"], [objective.mean()])
    assert differ([twin.objective(X, X, Y)], [objective]) == (method != "natural")


def hand_weighted_step(weights, fit_options, labels=Y, loss=None):
    """Weights after a fit of one batch by SGD, and by hand: `θ − 0.5 ∇ mean(weights · objective)`."""
    base_model = dense_model()
    model = wrapped("ig_sum_norm", base_model, loss, optimizer=keras.optimizers.SGD(0.5))
    twin = wrapped("ig_sum_norm", base_model, loss, **EAGERLY)
    x_star = twin.perturb(X, labels)
    with tf.GradientTape() as tape:
        objective = tf.reduce_mean(weights * twin.objective(X, x_star, labels))
    variables = base_model.trainable_variables
    gradients = tape.gradient(objective, variables)
    by_hand = [v.numpy() - 0.5 * g.numpy() for v, g in zip(variables, gradients, strict=True)]
    history = fit(model, X, labels, batch_size=12, **fit_options)
    close(history["loss"], [objective])
    return base_model.get_weights(), by_hand


WEIGHTS = np.linspace(0, 2, 12).astype("float32")


@pytest.mark.parametrize(
    ("weights", "options"),
    [
        (np.ones(12), {}),
        (WEIGHTS, {"sample_weight": WEIGHTS}),
        (WEIGHTS, {"sample_weight": WEIGHTS[:, np.newaxis]}),
        (np.array([0.5, 1.0, 3.0])[Y], {"class_weight": {0: 0.5, 1: 1.0, 2: 3.0}}),
    ],
    ids=["none", "sample_weight", "sample_weight of shape (n, 1)", "class_weight"],
)
def test_step_descends_the_weighted_objective(weights, options):
    close(*hand_weighted_step(weights.astype("float32"), options))


def test_class_weight_with_one_hot_labels():
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    weights = np.array([0.5, 1.0, 3.0], "float32")
    close(*hand_weighted_step(weights[Y], {"class_weight": dict(enumerate(weights))}, labels=ONE_HOT, loss=loss))


def test_sample_weights_in_a_data_set(reference):
    in_arrays = fitted_weights(X, Y, fit_options={"sample_weight": WEIGHTS})
    close(fitted_weights(pairs(X, Y, WEIGHTS), fit_options={"batch_size": None}), in_arrays)
    assert differ(in_arrays, reference)


@pytest.mark.parametrize("method", METHODS)
def test_weight_zero_removes_an_example_exactly(method):
    weights = np.ones(12, "float32")
    weights[5] = 0
    x, y = X.copy(), Y.copy()
    x[5], y[5] = 1 - x[5], (y[5] + 1) % 3
    options = {"method": method, **EAGERLY}
    plain = {"batch_size": 12, "epochs": 1}
    weighted = {"sample_weight": weights, **plain}
    expected = fitted_weights(X, Y, fit_options=weighted, **options)
    for actual, weight in zip(fitted_weights(x, y, fit_options=weighted, **options), expected, strict=True):
        np.testing.assert_array_equal(actual, weight)
    assert differ(fitted_weights(x, y, fit_options=plain, **options), expected)  # without weights it matters


# How a step runs


@pytest.mark.parametrize("how", [{"steps_per_execution": 3}, {"run_eagerly": True}], ids=str)
def test_how_a_step_runs_changes_nothing(how, reference):
    close(fitted_weights(X, Y, compile=how), reference)


@pytest.mark.slow
def test_jit_compile_changes_nothing():
    """But for random starts, since TensorFlow draws other numbers under XLA from the same seed."""
    x, y = batch(8, (6, 6, 1))
    weights = [
        fitted_weights(x, y, base_model=conv_model, random_start=False, compile=how)
        for how in ({"jit_compile": True}, {"run_eagerly": True})
    ]
    close(*weights, tolerance=1e-4)  # XLA fuses the sums of a convolution in another order


def test_train_on_batch_is_a_step_of_fit(reference):
    keras.utils.set_random_seed(1)
    model = wrapped()
    for start in (0, 4, 8) * 2:
        logs = model.train_on_batch(X[start : start + 4], Y[start : start + 4], return_dict=True)
    close(model.base_model.get_weights(), reference)
    assert set(logs) == {"loss", "perturbed_loss", "ig_l1"}


@pytest.mark.parametrize("method", some_slow(METHODS, ["madry", "ig_sum_norm"]))
def test_same_seed_gives_the_same_fit(method):
    def weights(seed):
        keras.utils.set_random_seed(1)
        model = keras_rar.wrap(dense_model(), method, steps=2, m=3, attack_m=2, seed=seed)
        model.compile(keras.optimizers.SGD(0.5), from_logits(), run_eagerly=True)
        fit(model, X, Y, batch_size=6)
        return model.base_model.get_weights()

    first = weights(3)
    for actual, expected in zip(weights(3), first, strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert differ(weights(4), first) == (method != "natural")


# Natural training is Keras's


def regularized(**options):
    l2 = keras.regularizers.L2(0.05)
    return dense_model(kernel_regularizer=l2, **options)


def activity_regularized():
    return dense_model(activity_regularizer=keras.regularizers.L2(0.05))


def with_batch_norm():
    return keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8), keras.layers.BatchNormalization(), keras.layers.Dense(3)]
    )


OPTIMIZERS = {
    "AdamW": lambda: keras.optimizers.AdamW(0.02, weight_decay=0.1),
    "clipnorm": lambda: keras.optimizers.SGD(0.5, global_clipnorm=0.1),
    "accumulation": lambda: keras.optimizers.Adam(0.02, gradient_accumulation_steps=2),
    "ema": lambda: keras.optimizers.SGD(0.5, use_ema=True, ema_overwrite_frequency=2),
}


PLAIN = {"SGD": lambda: keras.optimizers.SGD(0.5, momentum=0.9), "Adam": lambda: keras.optimizers.Adam(0.02)}


def natural_and_keras(network, labels=Y, loss=None, optimizer="SGD", eagerly=True, epochs=2, **options):
    """Compare "natural" and the same network fitted by Keras, from the same weights."""
    initial, results = None, []
    for natural in (True, False):
        base_model = network()
        initial = initial or base_model.get_weights()
        base_model.set_weights(initial)
        model = keras_rar.wrap(base_model, "natural") if natural else base_model
        model.compile(
            {**PLAIN, **OPTIMIZERS}[optimizer](), loss or from_logits(), metrics=["accuracy"], run_eagerly=eagerly
        )
        history = fit(model, X, labels, epochs=epochs, **options)
        results.append((base_model.get_weights(), history))
    (weights, history), (keras_weights, keras_history) = results
    assert differ(weights, initial)
    close(weights, keras_weights)
    assert set(history) - set(keras_history) == {"clean_loss"}
    close([history[name] for name in keras_history], keras_history.values())


@pytest.mark.parametrize("optimizer", PLAIN)
def test_natural_equals_keras_step_for_step(optimizer):
    natural_and_keras(regularized, optimizer=optimizer, eagerly=False)


@pytest.mark.parametrize("optimizer", some_slow(OPTIMIZERS, ["AdamW", "accumulation"]))
def test_natural_equals_keras_with_options_of_the_optimizer(optimizer):
    natural_and_keras(dense_model, optimizer=optimizer, eagerly=optimizer != "accumulation")


@pytest.mark.parametrize("network", [activity_regularized, with_batch_norm])
def test_natural_equals_keras_with_layer_losses_and_statistics(network):
    natural_and_keras(network)


def test_natural_equals_keras_with_weights():
    natural_and_keras(dense_model, sample_weight=WEIGHTS)
    natural_and_keras(dense_model, class_weight={0: 0.5, 1: 1.0, 2: 3.0})


def test_regularizers_cannot_pass_unseen():
    """Negative control of the two tests above: each of the losses changes the fit."""
    plain = fitted_weights(X, Y, method="natural", **EAGERLY)
    for network in (regularized, activity_regularized):
        assert differ(fitted_weights(X, Y, method="natural", base_model=network, **EAGERLY), plain)


def plain_crossentropy(y_true, y_pred):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(y_true, tf.int32), y_pred)


def softmax_model():
    return dense_model(output="softmax")


def one_unit(output="sigmoid"):
    return dense_model(classes=1, output=output)


BINARY = (Y > 0).astype("float32")


@pytest.mark.parametrize(
    ("network", "labels", "loss"),
    [
        (softmax_model, Y, "sparse_categorical_crossentropy"),
        (softmax_model, Y, "crossentropy"),
        (softmax_model, ONE_HOT, "crossentropy"),
        (softmax_model, Y, keras.losses.sparse_categorical_crossentropy),
        (softmax_model, ONE_HOT, "categorical_crossentropy"),
        (softmax_model, ONE_HOT, keras.losses.CategoricalCrossentropy(label_smoothing=0.1)),
        (softmax_model, ONE_HOT, "mse"),
        (dense_model, ONE_HOT, keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)),
        (dense_model, ONE_HOT, "categorical_hinge"),
        (dense_model, Y, plain_crossentropy),
        (dense_model, Y, from_logits(reduction="sum")),
        (one_unit, BINARY, "binary_crossentropy"),
        (one_unit, BINARY[:, np.newaxis], "crossentropy"),
        (one_unit, BINARY, keras.losses.BinaryCrossentropy(label_smoothing=0.1)),
        (lambda: one_unit(None), BINARY, keras.losses.BinaryCrossentropy(from_logits=True)),
    ],
    ids=lambda value: getattr(value, "name", None) or getattr(value, "__name__", None) or str(value)[:24],
)
def test_natural_equals_keras_for_every_form_of_loss(network, labels, loss):
    natural_and_keras(network, labels, loss, epochs=1)


# Optimizer options and layers, for the methods


@pytest.mark.parametrize("method", METHODS)
def test_loss_is_the_terms_plus_the_regularization(method):
    """`loss` − objective = Σ L2 + activity, the latter of the classification pass alone."""
    base_model = dense_model(
        kernel_regularizer=keras.regularizers.L2(0.05), activity_regularizer=keras.regularizers.L1(0.1)
    )
    model = wrapped(method, base_model, optimizer=keras.optimizers.SGD(0.0))
    twin = wrapped(method, base_model, **EAGERLY)
    x_star = twin.perturb(X, Y)
    history = fit(model, X, Y, batch_size=12)
    classified = X if "clean_loss" in history else x_star
    base_model(classified)
    regularization = float(sum(base_model.losses))
    objective = twin.objective(X, x_star, Y).numpy().mean()
    assert regularization > 0.1
    close(history["loss"], [objective + regularization])


def objective_of(method, history):
    ig_l1 = np.asarray(history.get("ig_l1", 0))
    weight = {"ig_norm": 1.0, "ig_sum_norm": 0.1}.get(method, 0)
    return np.asarray(history.get("clean_loss") or history["perturbed_loss"]) + weight * ig_l1


@pytest.mark.parametrize("method", METHODS)
def test_global_clipnorm_bounds_the_step(method):
    model = wrapped(method, optimizer=keras.optimizers.SGD(1.0, global_clipnorm=1e-2), **EAGERLY)
    before = model.base_model.get_weights()
    fit(model, X, Y, batch_size=12)
    squares = [np.sum((a - b) ** 2) for a, b in zip(model.base_model.get_weights(), before, strict=True)]
    # float32 weights near 1 move in steps of 1e-7, of 1e-2
    np.testing.assert_allclose(np.sqrt(np.sum(squares)), 1e-2, rtol=1e-3)


def test_accumulated_half_batches_are_a_batch():
    options = {"method": "ig_sum_norm", "random_start": False}  # random starts differ between the two
    halves = fitted_weights(X, Y, optimizer=keras.optimizers.SGD(0.5, gradient_accumulation_steps=3), **options)
    whole = fitted_weights(X, Y, optimizer=keras.optimizers.SGD(0.5), fit_options={"batch_size": 12}, **options)
    close(halves, whole)


@pytest.mark.parametrize("method", METHODS)
def test_frozen_layers_stay(method):
    base_model = dense_model()
    base_model.layers[0].trainable = False
    model = wrapped(method, base_model, optimizer="adam", **EAGERLY)
    frozen, free = (layer.get_weights() for layer in base_model.layers)
    fit(model, X, Y)
    for actual, expected in zip(base_model.layers[0].get_weights(), frozen, strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert differ(base_model.layers[1].get_weights(), free)


def test_model_frozen_as_a_whole_does_not_crash():
    base_model = dense_model()
    base_model.trainable = False
    before = base_model.get_weights()
    history = fit(wrapped(base_model=base_model), X, Y)
    assert np.isfinite(history["loss"]).all()
    for actual, expected in zip(base_model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(actual, expected)


# History


@pytest.mark.parametrize("method", METHODS)
def test_history_shows_loss_terms_and_metrics(method):
    model = wrapped(method, compile={"metrics": ["accuracy"]})
    history = fit(model, X, Y, epochs=3, validation_data=(X, Y))
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"} | TERMS[method]
    assert {len(values) for values in history.values()} == {3}
    close([history["loss"]], [objective_of(method, history)])  # the terms add up
    close([history["val_loss"][-1], history["val_accuracy"][-1]], model.evaluate(X, Y, verbose=0))


@pytest.mark.parametrize("weight", [None, WEIGHTS])
def test_terms_add_up_over_batches_of_different_sizes_and_weights(weight):
    model = wrapped("ig_norm", factor=0.3)
    history = fit(model, X, Y, batch_size=5, sample_weight=weight)
    close(history["loss"], [history["clean_loss"][0] + 0.3 * history["ig_l1"][0]])


def test_metrics_are_of_the_clean_batch():
    """At a zero learning rate they are those of `evaluate`, and not those at x*."""
    metrics = ["accuracy", keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="ce")]
    model = wrapped("madry", optimizer=keras.optimizers.SGD(0.0), epsilon=0.5, steps=5, compile={"metrics": metrics})
    history = fit(model, X, Y)
    evaluated = model.evaluate(X, Y, verbose=0, return_dict=True)
    close([history["ce"][0], history["accuracy"][0]], [evaluated["ce"], evaluated["accuracy"]])
    assert history["perturbed_loss"][0] > history["ce"][0] + 0.1


def test_weighted_metrics_are_weighted():
    model = wrapped("madry", optimizer=keras.optimizers.SGD(0.0), compile={"weighted_metrics": ["accuracy"]})
    history = fit(model, X, Y, sample_weight=WEIGHTS)
    right = model.predict(X, verbose=0).argmax(1) == Y
    close(history["accuracy"], [np.average(right, weights=WEIGHTS)])


def test_validation_split_holds_out_the_last_examples():
    history = fit(wrapped(**EAGERLY), X, Y, validation_split=1 / 3)
    keras.utils.set_random_seed(0)  # as conftest does before a test
    model = wrapped(**EAGERLY)
    fit(model, X[:8], Y[:8])
    close(history["val_loss"], [model.evaluate(X[8:], Y[8:], verbose=0)])


def test_validation_data_with_sample_weights():
    model = wrapped("natural", compile={"weighted_metrics": [], "run_eagerly": True})
    history = fit(model, X, Y, validation_data=(X, Y, WEIGHTS))
    close(history["val_loss"], [model.evaluate(X, Y, sample_weight=WEIGHTS, verbose=0)])


# Base models


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.scores = keras.layers.Dense(8, "tanh"), keras.layers.Dense(3)

    def call(self, inputs, training=None):
        return self.scores(self.hidden(inputs))


def subclassed():
    model = Subclassed()
    model(X)
    return model


def branches():
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(8, "relu")(inputs)
    both = keras.layers.Concatenate()([hidden, keras.layers.Dense(4, "tanh")(inputs)])
    return keras.Model(inputs, keras.layers.Dense(3)(both))


def nested():
    return keras.Sequential([keras.Input((4,)), dense_model(classes=5), dense_model(features=5)])


def ending_in_an_operation():
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(3)(inputs) / 0.5)


class Scaled(keras.layers.Layer):
    """A layer that cannot be saved."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def call(self, inputs):
        return self.scale(inputs)

    def get_config(self):
        raise NotImplementedError


def without_a_config():
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(3, "softmax")(Scaled(lambda x: 2 * x)(inputs)))


NETWORKS = [subclassed, branches, nested, ending_in_an_operation]  # of logits


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_of_every_kind_train_as_in_keras(network):
    natural_and_keras(network)


def test_a_network_that_cannot_be_saved_trains_as_in_keras():
    natural_and_keras(without_a_config, loss="sparse_categorical_crossentropy")


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_of_every_kind_learn(network):
    x, y = batch(64)
    y = x[:, :3].argmax(axis=1)
    model = wrapped(base_model=network(), optimizer=keras.optimizers.Adam(0.1), epsilon=0.02, **EAGERLY)
    loss = fit(model, x, y, epochs=6, batch_size=64)["loss"]
    assert loss[-1] < 0.8 * loss[0]


# A method of one's own


@keras.saving.register_keras_serializable("tests")
class MapCosine(keras_rar.AbstractAttributionRegularizer):
    """`ℓ(x*) + weight (1 − cos(IG₀(x), IG₀(x*)))`, x* ascending ℓ (Wang & Kong 2022)."""

    def __init__(self, weight=1.0, names=("map_distance",), **kwargs):
        super().__init__(**kwargs)
        self.weight, self.names = weight, tuple(names)

    def objective(self, terms):
        distance = 1 + keras.losses.cosine_similarity(terms.clean_map, terms.perturbed_map)
        return terms.perturbed_loss + self.weight * terms.report(self.names[0], distance)

    def ascended(self, terms):
        return terms.perturbed_loss


def map_cosine(weight, compile=None, **options):
    regularizer = MapCosine(weight, **{"epsilon": 0.2, "steps": 2, "m": 3, "attack_m": 1, **options})
    return wrapped(regularizer, optimizer=keras.optimizers.Adam(0.02), compile=compile)


@pytest.mark.slow
def test_a_regularizer_of_one_s_own_lowers_its_term():
    history = fit(map_cosine(5.0), X, Y, epochs=40, batch_size=12)
    assert set(history) == {"loss", "perturbed_loss", "map_distance"}
    close([history["loss"]], [np.add(history["perturbed_loss"], np.multiply(5.0, history["map_distance"]))])
    keras.utils.set_random_seed(0)
    control = fit(map_cosine(0.0), X, Y, epochs=40, batch_size=12)  # the term is reported, and trains nothing
    assert history["map_distance"][-1] < 0.5 * history["map_distance"][0]
    assert history["map_distance"][-1] < 0.5 * control["map_distance"][-1]


def test_a_regularizer_of_one_s_own_is_saved_with_its_arguments(tmp_path):
    model = map_cosine(2.0, bounds=(0, 2), **EAGERLY)
    fit(model, X, Y)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.regularizer, MapCosine)
    assert loaded.regularizer.get_config() == model.regularizer.get_config()
    assert loaded.regularizer.weight == 2.0
    assert loaded.regularizer.bounds == (0.0, 2.0)
    histories = [fit(each, X, Y) for each in (model, loaded)]
    close(*(history.values() for history in histories))


def test_methods_are_open_to_a_new_name(monkeypatch):
    monkeypatch.setitem(keras_rar.METHODS, "map_cosine", MapCosine)
    model = keras_rar.wrap(dense_model(), "map_cosine", weight=3.0, epsilon=0.2)
    assert isinstance(model.regularizer, MapCosine)
    assert (model.regularizer.weight, model.regularizer.epsilon) == (3.0, 0.2)


def test_terms_are_computed_only_when_read():
    """A method that reads no map takes no gradient in the input, so its cost is that of plain training."""

    class Natural(keras_rar.AbstractAttributionRegularizer):
        def objective(self, terms):
            seen.append(set(vars(terms)) & {"attributions", "clean_map", "perturbed_map", "perturbed_logits"})
            return terms.clean_loss

    seen = []
    fit(wrapped(Natural(), **EAGERLY), X, Y)
    assert seen
    assert not set().union(*seen)


# Wrap and unwrap


def test_unwrap_is_the_very_base_model_with_the_trained_weights():
    base_model = dense_model()
    before = base_model.get_weights()
    model = wrapped(base_model=base_model)
    fit(model, X, Y)
    assert keras_rar.unwrap(model) is base_model
    assert differ(base_model.get_weights(), before)
    np.testing.assert_array_equal(base_model.predict(X, verbose=0), model.predict(X, verbose=0))


def test_wrap_takes_a_regularizer_object_and_no_options_with_it():
    regularizer = keras_rar.MadryRegularizer(epsilon=0.2)
    assert keras_rar.wrap(dense_model(), regularizer).regularizer is regularizer
    with pytest.raises(TypeError, match=r"no other options. Received: \['epsilon'\]"):
        keras_rar.wrap(dense_model(), regularizer, epsilon=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_options_reach_the_regularizer(method):
    model = keras_rar.wrap(dense_model(), method, epsilon=0.3, steps=4, bounds=(0, 255), m=6, norm="l2")
    assert type(model.regularizer) is keras_rar.METHODS[method]
    config = model.regularizer.get_config()
    assert [config[name] for name in ("epsilon", "steps", "m", "norm")] == [0.3, 4, 6, "l2"]


# Ctrl-C


class InterruptedOnce(keras.layers.Layer):
    """Ctrl-C in the middle of a forward pass."""

    armed = False

    def call(self, inputs):
        if InterruptedOnce.armed:  # of the class: a twin is a layer of its own
            InterruptedOnce.armed = False
            raise KeyboardInterrupt
        return inputs


def raised():
    raise KeyboardInterrupt


def signalled():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("interrupt", "event"),
    [(raised, "on_train_batch_end"), (signalled, "on_train_batch_begin"), (signalled, "on_epoch_end")],
)
def test_ctrl_c_leaves_a_usable_model(interrupt, event):
    base_model = dense_model(output="softmax")
    model = wrapped("madry", base_model, "sparse_categorical_crossentropy", optimizer="adam")
    callback = keras.callbacks.Callback()
    setattr(callback, event, lambda at, logs=None: interrupt() if at == int(event != "on_epoch_end") else None)
    with pytest.raises(KeyboardInterrupt):
        fit(model, X, Y, callbacks=[callback])
    assert_usable(model)


def test_ctrl_c_in_a_forward_pass_leaves_the_output_activation(monkeypatch):
    stop = InterruptedOnce()
    base_model = keras.Sequential([keras.Input((4,)), stop, keras.layers.Dense(3, "softmax")])
    model = wrapped(base_model=base_model, loss="sparse_categorical_crossentropy", compile={"run_eagerly": True})
    monkeypatch.setattr(InterruptedOnce, "armed", True)
    with pytest.raises(KeyboardInterrupt):
        model.objective(X, X, Y)
    assert_usable(model)


def assert_usable(model):
    base_model = model.base_model
    assert base_model.layers[-1].activation is keras.activations.softmax
    np.testing.assert_allclose(model.predict(X, verbose=0).sum(axis=1), 1, rtol=1e-6)
    before = base_model.get_weights()
    assert np.isfinite(fit(model, X, Y)["loss"]).all()
    assert differ(base_model.get_weights(), before)
    assert model.skipped_updates == 0
