"""One input and one output, as an array or in a dictionary or list of one, wherever Keras takes it so."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, some_slow

import keras_rar

X, Y = batch(8)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
KERNEL = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


def functional(form="plain"):
    """Of one input, `features`, and one output, `scores`; in a dictionary or a list of one, if told."""
    inputs = keras.Input((4,), name="features")
    outputs = keras.layers.Dense(3, name="scores")(inputs)
    forms = {
        "plain": (inputs, outputs),
        "dictionaries": ({"features": inputs}, {"scores": outputs}),
        "lists": ([inputs], [outputs]),
        "dictionary in": ({"features": inputs}, outputs),
        "dictionary out": (inputs, {"scores": outputs}),
    }
    model = keras.Model(*forms[form])
    model.set_weights([KERNEL, np.zeros(3, "float32")])
    return model


FORMS = ["plain", "dictionaries", "lists", "dictionary in", "dictionary out"]
ARRAYS = {
    "arrays": (X, Y),
    "by name": ({"features": X}, Y),
    "both by name": ({"features": X}, {"scores": Y}),
    "lists": ([X], [Y]),
}


def compiled(form="plain", method="ig_sum_norm", loss=LOSS, **options):
    model = keras_rar.wrap(functional(form), method, steps=1, m=2, random_start=False)
    model.compile(keras.optimizers.SGD(0.5), loss, **{"metrics": ["accuracy"], "run_eagerly": True, **options})
    return model


def fit(model, x, y=None, **options):
    return model.fit(
        x, y, **{"batch_size": None if y is None else 4, "shuffle": False, "verbose": 0, **options}
    ).history


@pytest.fixture(scope="module")
def expected():
    model = compiled()
    return fit(model, X, Y, validation_data=(X, Y)), model.get_weights()


def assert_as_expected(model, history, expected):
    assert set(history) == set(expected[0])
    for name, values in history.items():
        np.testing.assert_allclose(values, expected[0][name], rtol=1e-5)
    for actual, weight in zip(model.get_weights(), expected[1], strict=True):
        np.testing.assert_allclose(actual, weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("data", ARRAYS)
def test_fit_takes_one_array_in_a_structure(data, expected):
    model = compiled()
    assert_as_expected(model, fit(model, *ARRAYS[data], validation_data=ARRAYS[data]), expected)


@pytest.mark.parametrize("form", FORMS)
def test_fit_of_a_model_whose_structure_is_one_of_one(form, expected):
    model = compiled(form)
    assert_as_expected(model, fit(model, X, Y, validation_data=(X, Y)), expected)


def test_fit_takes_a_data_set_of_structures_in_a_graph(expected):
    model = compiled("dictionaries", run_eagerly=False)
    data = tf.data.Dataset.from_tensor_slices(({"features": X}, {"scores": Y})).batch(4)
    assert_as_expected(model, fit(model, data, validation_data=data), expected)


@pytest.mark.parametrize("weights", [{"scores": np.arange(8.0)}, [np.arange(8.0)]], ids=["by name", "list"])
def test_fit_takes_weights_in_a_structure(weights):
    plain, model = compiled(), compiled()
    fit(plain, X, Y, sample_weight=np.arange(8.0))
    fit(model, {"features": X}, {"scores": Y}, sample_weight=weights)
    np.testing.assert_allclose(model.get_weights()[0], plain.get_weights()[0], rtol=1e-5)


def test_losses_and_metrics_by_the_name_of_the_output(expected):
    model = compiled(loss={"scores": LOSS}, metrics={"scores": ["accuracy"]})
    assert_as_expected(model, fit(model, X, {"scores": Y}, validation_data=(X, {"scores": Y})), expected)


def test_class_weights_with_labels_by_name():
    plain, model = compiled(), compiled()
    weights = {0: 0.5, 1: 1.0, 2: 3.0}
    fit(plain, X, Y, class_weight=weights)
    fit(model, X, {"scores": Y}, class_weight=weights)
    np.testing.assert_allclose(model.get_weights()[0], plain.get_weights()[0], rtol=1e-5)


@pytest.mark.parametrize("form", some_slow(FORMS, ["plain", "dictionaries", "lists"]))
def test_evaluate_and_predict_are_those_of_the_model(form):
    model = compiled(form)
    base_model = functional()
    base_model.compile("sgd", LOSS, metrics=["accuracy"])
    expected = base_model.evaluate(X, Y, verbose=0)
    np.testing.assert_allclose(model.evaluate(X, Y, verbose=0), expected, rtol=1e-5)
    np.testing.assert_allclose(model.evaluate({"features": X}, {"scores": Y}, verbose=0), expected, rtol=1e-5)
    scores = model.predict(X, verbose=0)
    assert type(scores) is type(functional(form).predict(X, verbose=0))
    np.testing.assert_allclose(keras.tree.flatten(scores)[0], X @ KERNEL, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_computed_comes_in_the_structure_of_x(form):
    model, plain = compiled(form), compiled()
    named = {"features": X}, {"scores": Y}
    x_star = model.perturb(*named)
    assert set(x_star) == {"features"}
    np.testing.assert_allclose(x_star["features"], plain.perturb(X, Y), rtol=1e-6)
    attributions = model.attributions(named[0], x_star, named[1])
    np.testing.assert_allclose(attributions["features"], plain.attributions(X, x_star["features"], Y), rtol=1e-5)
    objective = model.objective(named[0], x_star, named[1])
    np.testing.assert_allclose(objective, plain.objective(X, x_star["features"], Y), rtol=1e-5)
    assert tf.is_tensor(model.perturb(X, Y))


@pytest.mark.parametrize("form", ["dictionaries", "lists"])
def test_a_file_keeps_the_structure(form, tmp_path):
    model = compiled(form)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.objective([X], [X], [Y]), model.objective(X, X, Y), rtol=1e-6)


@pytest.mark.parametrize(("x", "y"), [({"features": X, "more": X}, Y), (X, {"scores": Y, "more": Y}), ([X, X], Y)])
def test_several_arrays_are_refused(x, y):
    with pytest.raises(ValueError, match=r"`[xy]` must hold one array\. Received: a (dict|list) of"):
        compiled().perturb(x, y)
