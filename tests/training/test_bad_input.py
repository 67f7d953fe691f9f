"""Bad input gets a clear error, and nothing is lost: weights, statistics and optimizer stay bit for bit."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, dense_model, wrapped

import keras_rar

X, Y = batch(8)
ONE_HOT = np.eye(3, dtype="float32")[Y]
REGULARIZERS = list(keras_rar.METHODS.values())
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
NAN, INF = float("nan"), float("inf")
EAGERLY = {"run_eagerly": True}


def fit(model, x=X, y=Y, **options):
    return model.fit(x, y, **{"batch_size": 4, "shuffle": False, "verbose": 0, **options}).history


def state(model):
    return [v.numpy() for v in (*model.base_model.variables, *model.optimizer.variables)]


def assert_untouched(model, before):
    after = state(model)
    assert len(after) == len(before) > 4
    for actual, expected in zip(after, before, strict=True):
        np.testing.assert_array_equal(actual, expected)


def with_batch_norm():
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, "tanh"), layers.BatchNormalization(), layers.Dropout(0.2), layers.Dense(3)]
    )


@pytest.fixture(scope="module")
def model():
    """One model for all that must change nothing; momentum and statistics are there to be lost."""
    model = wrapped("madry", with_batch_norm(), optimizer="adam")
    fit(model)
    return model


def refused(model, error, match, x=X, y=Y, fit_options=None):
    """The fit raises, and changes nothing; the model can be fitted afterwards."""
    before = state(model)
    with pytest.raises(error, match=match):
        fit(model, x, y, **(fit_options or {}))
    assert_untouched(model, before)
    assert np.isfinite(fit(model)["loss"]).all()


# Options

COUNTS = ["steps", "m", "attack_m"]
WEIGHTS = {"factor": keras_rar.IGNormRegularizer, "beta": keras_rar.IGSumNormRegularizer}


def assert_argument_refused(cls, name, value, error, must_be):
    received = re.escape(f"Received: {name}={value!r}")
    with pytest.raises(error, match=rf"^`{name}` must be {must_be}\. {received}$"):
        cls(**{name: value})


@pytest.mark.parametrize("cls", REGULARIZERS)
@pytest.mark.parametrize("name", ["epsilon", "step_size"])
@pytest.mark.parametrize("value", [-1, -0.5, 0, 0.0, NAN, INF, -INF])
def test_floats_out_of_range(cls, name, value):
    assert_argument_refused(cls, name, value, ValueError, "a positive float")


@pytest.mark.parametrize("name", ["epsilon", "step_size"])
@pytest.mark.parametrize("value", ["0.1", True, {}, 1j, b"1"])
def test_floats_of_another_type(name, value):
    assert_argument_refused(keras_rar.MadryRegularizer, name, value, TypeError, "a positive float")


@pytest.mark.parametrize("cls", REGULARIZERS)
@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [-1, 0, 2.5, 3.0, NAN, INF])
def test_counts_out_of_range(cls, name, value):
    assert_argument_refused(cls, name, value, ValueError, "a positive integer")


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", ["3", True, None, [3]])
def test_counts_of_another_type(name, value):
    assert_argument_refused(keras_rar.MadryRegularizer, name, value, TypeError, "a positive integer")


@pytest.mark.parametrize("value", [0, -1, 2.5, "all"])
def test_chunk_is_a_count_or_auto_or_none(value):
    error = TypeError if isinstance(value, str) else ValueError
    assert_argument_refused(keras_rar.MadryRegularizer, "chunk", value, error, "a positive integer")


@pytest.mark.parametrize("value", [0, -1.0, NAN, INF])
def test_memory_budget_is_positive(value):
    assert_argument_refused(keras_rar.MadryRegularizer, "memory_budget", value, ValueError, "a positive float")


@pytest.mark.parametrize("value", [(), 1.0, [0.5, 0.0], [-1.0], None])
def test_powers_are_positive_and_at_least_one(value):
    with pytest.raises(
        ValueError, match=r"^`powers` must be (one or more positive floats|a positive float)\. Received"
    ):
        keras_rar.IGRRegularizer(powers=value)


@pytest.mark.parametrize(("name", "cls"), WEIGHTS.items())
@pytest.mark.parametrize("value", [-1, -1e-9, NAN, INF])
def test_weights_of_terms_out_of_range(name, cls, value):
    assert_argument_refused(cls, name, value, ValueError, "a float >= 0")


@pytest.mark.parametrize(("name", "cls"), WEIGHTS.items())
@pytest.mark.parametrize("value", ["1", None, True, [1.0]])
def test_weights_of_terms_of_another_type(name, cls, value):
    assert_argument_refused(cls, name, value, TypeError, "a float >= 0")


@pytest.mark.parametrize(("name", "cls"), WEIGHTS.items())
def test_weight_zero_is_allowed(name, cls):
    assert getattr(cls(**{name: 0}), name) == 0


def test_epsilon_may_not_be_none():
    assert_argument_refused(keras_rar.MadryRegularizer, "epsilon", None, TypeError, "a positive float")
    assert keras_rar.MadryRegularizer(step_size=None, epsilon=0.7, steps=7).step_size == pytest.approx(0.25)


def test_numpy_numbers_are_numbers():
    regularizer = keras_rar.MadryRegularizer(epsilon=np.float32(0.5), steps=np.int64(3))
    assert (regularizer.epsilon, regularizer.steps) == (0.5, 3)
    assert (type(regularizer.epsilon), type(regularizer.steps)) == (float, int)


@pytest.mark.parametrize("value", [0, 1, "yes", None])
def test_random_start_is_a_boolean(value):
    assert_argument_refused(keras_rar.MadryRegularizer, "random_start", value, TypeError, "True or False")


def test_ig_norm_without_a_random_start_is_refused():
    with pytest.raises(ValueError, match=r"`random_start` must be True for IG-NORM.*Received: random_start=False"):
        keras_rar.wrap(dense_model(), "ig_norm", random_start=False)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("method", list(keras_rar.METHODS)),
        ("rule", ["left", "right", "midpoint", "trapezoid", "gauss_legendre"]),
        ("norm", ["linf", "l2", "l1"]),
        ("on_nonfinite", ["skip", "raise"]),
    ],
)
@pytest.mark.parametrize("value", ["bogus", None, 3, ["linf"]])
def test_unknown_names_list_the_known(name, known, value):
    received = re.escape(f"`{name}` must be one of {known}. Received: {name}={value!r}")
    with pytest.raises(ValueError, match=received):
        keras_rar.wrap(dense_model(), **{name: value})


@pytest.mark.parametrize(
    ("method", "option"),
    [("ig_sum_norm", "epsilom"), ("ig_sum_norm", "factor"), ("ig_norm", "beta"), ("madry", "beta")],
)
def test_wrong_options_are_named(method, option):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{option}'"):
        keras_rar.wrap(dense_model(), method, **{option: 0.1})


def test_a_misspelt_option_gets_the_nearest_and_the_whole_list():
    match = r"for the method 'ig_topk': did you mean 'epsilon'\? Its options are ascend, attack_m, .*, k, .*steps\.$"
    with pytest.raises(TypeError, match=match):
        keras_rar.wrap(dense_model(), epsilom=0.1)


@pytest.mark.parametrize(
    "options",
    [
        {"epsilon": 1e-50},
        {"epsilon": 1e-40},  # TensorFlow takes such a number for 0
        {"step_size": 1e-50},
        {"bounds": (0, 1e300)},
        {"baseline": [0.0, 0.0, 0.0, 1e39]},
        {"method": "ig_norm", "factor": 1e60},
        {"method": "ig_sum_norm", "beta": 1e-60},
    ],
    ids=str,
)
def test_settings_that_float32_takes_for_zero_or_infinity(options):
    options = {"method": "madry", **options}
    name = list(options)[-1]
    with pytest.raises(ValueError, match=f"`{name}` must be .*, also in float32. Received: {name}="):
        keras_rar.wrap(dense_model(), **options)


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), 3])
def test_a_seed_is_any_integer(seed):
    model = keras_rar.wrap(dense_model(), "madry", seed=seed)
    assert type(model.seed) is int
    assert keras.models.model_from_json(model.to_json()).seed == 3


@pytest.mark.parametrize("seed", [0.5, "3", True, [3]])
def test_a_seed_of_another_type(seed):
    with pytest.raises((TypeError, ValueError), match=r"`seed` must be an integer\. Received: seed="):
        keras_rar.wrap(dense_model(), "madry", seed=seed)


@pytest.mark.parametrize("path", ["model.h5", "model.hdf5"])
def test_the_old_format_is_refused(path, tmp_path, model):
    with pytest.raises(ValueError, match=r"`filepath` must be a \.keras file; keras_rar\.unwrap\(model\) can be saved"):
        model.save(tmp_path / path)
    keras_rar.unwrap(model).save(tmp_path / path)


@pytest.mark.parametrize(
    "bounds", [(1, 0), (0, 0), (0, NAN), (NAN, 1), (None, 1), (-INF, 1), ([0, 0], [1, 0])], ids=str
)
def test_bounds_must_increase(bounds):
    received = re.escape(f"Received: bounds={bounds!r}")
    with pytest.raises(ValueError, match=rf"`bounds` must be None, or a pair .* with lower < upper\. {received}"):
        keras_rar.MadryRegularizer(bounds=bounds)


@pytest.mark.parametrize("bounds", [0.5, "01x", (0, 1, 2), ("a", 1), ([0, 0], [1, 1, 1])], ids=str)
def test_bounds_are_a_pair(bounds):
    with pytest.raises(TypeError, match=r"`bounds` must be None, or a pair .*Received: bounds="):
        keras_rar.MadryRegularizer(bounds=bounds)


@pytest.mark.parametrize(("baseline", "error"), [("x", TypeError), (NAN, ValueError), ([0, INF], ValueError)])
def test_baseline_is_finite(baseline, error):
    with pytest.raises(error, match=r"`baseline` must be .*Received: baseline="):
        keras_rar.MadryRegularizer(baseline=baseline)


@pytest.mark.parametrize("option", ["bounds", "baseline"])
def test_per_feature_options_must_fit_the_input(option):
    five = {"bounds": ([0.0] * 5, [1.0] * 5), "baseline": [0.0] * 5}[option]
    with pytest.raises(ValueError, match=f"`{option}` must .*input"):
        keras_rar.wrap(dense_model(features=4), "madry", **{option: five})


def test_regularizer_is_a_regularizer():
    with pytest.raises(
        TypeError, match=r"`regularizer` must be an AbstractAttributionRegularizer\. Received: regularizer="
    ):
        keras_rar.RARModel(dense_model(), "madry")


def scalar_objective(terms):
    return tf.reduce_mean(terms.clean_loss)


@pytest.mark.parametrize("objective", [scalar_objective, lambda terms: terms.clean_logits, lambda terms: None])
def test_an_objective_must_be_per_example(objective):
    class Bad(keras_rar.AbstractAttributionRegularizer):
        def objective(self, terms):
            return objective(terms)

    with pytest.raises(ValueError, match=r"must return one value per example, of shape \(batch,\)\. Received"):
        keras_rar.wrap(dense_model(), Bad())


# Base models


def fake(module):
    """An object whose class says that it comes from `module`."""
    return type("Sequential", (), {"__module__": module})()


@pytest.mark.parametrize("received", [None, "model", 3, dense_model, keras.Sequential])
def test_not_a_model(received):
    match = re.escape(f"must be a Keras 3 model (keras {keras.__version__} is installed). Received: {received!r}")
    with pytest.raises(TypeError, match=f"`base_model` {match}"):
        keras_rar.wrap(received)


@pytest.mark.parametrize(
    ("module", "named"),
    [
        ("tf_keras.src.engine.sequential", "a model of tf_keras .*, which is Keras 2"),
        ("tensorflow.python.keras.engine.sequential", "a model of the Keras 2 inside TensorFlow"),
        ("torch.nn.modules.module", "a model of torch"),
    ],
)
def test_models_of_other_libraries_are_named(module, named):
    with pytest.raises(TypeError, match=f"`base_model` must be a Keras 3 model .*Received: {named}"):
        keras_rar.wrap(fake(module))


def functional(inputs=1, outputs=1, dtype=None):
    sources = [keras.Input((4,), dtype=dtype) for _ in range(inputs)]
    merged = keras.layers.Add()(sources) if inputs > 1 else sources[0]
    return keras.Model(sources, [keras.layers.Dense(3)(merged) for _ in range(outputs)])


class TwoHeads(keras.Model):
    def __init__(self):
        super().__init__()
        self.heads = [keras.layers.Dense(3), keras.layers.Dense(2)]

    def call(self, inputs):
        return [head(inputs) for head in self.heads]

    def compute_output_shape(self, input_shape):
        return [(input_shape[0], 3), (input_shape[0], 2)]


class TwoInputs(keras.Model):
    def __init__(self):
        super().__init__()
        self.head = keras.layers.Dense(3)

    def call(self, inputs):
        return self.head(inputs[0] + inputs[1])


def called(model, *inputs):
    model(*inputs)
    return model


def images_out():
    return keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Conv2D(3, 3)])


def integers_in():
    return keras.Sequential([keras.Input((4,), dtype="int32"), keras.layers.Rescaling(1 / 255), keras.layers.Dense(3)])


@pytest.mark.parametrize(
    ("network", "match"),
    [
        (lambda: functional(inputs=2), "must have one input. Received: .* with 2"),
        (lambda: functional(outputs=2), "must have one output. Received: .* with 2"),
        (lambda: called(TwoHeads(), X), "must have one output. Received: .* with 2"),
        (lambda: called(TwoInputs(), [X, X]), "must have one input. Received: .* with 2"),
        (lambda: keras.Sequential([keras.layers.Dense(3)]), "must be built: give it a keras.Input, or call it once"),
        (TwoHeads, "must be built"),
        (integers_in, r"must take a floating-point input, or be looked at behind a layer, .*Received: dtype=int32"),
        (
            images_out,
            r"must return scores of shape \(batch, classes\). Received: .* the output shape \(None, 4, 4, 3\)",
        ),
        (lambda: keras_rar.wrap(dense_model()), r"is wrapped already: pass keras_rar.unwrap\(model\) instead"),
    ],
)
def test_models_that_are_no_classifiers_of_one_input(network, match):
    with pytest.raises(ValueError, match=f"`base_model` {match}"):
        keras_rar.wrap(network())


def test_unwrap_what_is_not_wrapped():
    with pytest.raises(TypeError, match=r"`model` must be a keras_rar\.RARModel\. Received: model=<Sequential"):
        keras_rar.unwrap(dense_model())


# Order of calls


def test_a_model_whose_weights_are_all_frozen_says_that_nothing_is_trained(recwarn):
    """Once, as Keras does; with one layer that is trained it says nothing."""
    for frozen, said in ((True, 1), (False, 0)):
        network = dense_model()
        network.layers[0].trainable = False
        network.trainable = not frozen
        model = keras_rar.wrap(network, "madry")
        model.compile("sgd", LOSS)
        recwarn.clear()
        fit(model)
        assert sum("no trainable weights" in str(one.message) for one in recwarn) == said


def test_fit_before_compile():
    with pytest.raises(ValueError, match=r"call `compile\(\)` before"):
        keras_rar.wrap(dense_model()).fit(X, Y, verbose=0)


@pytest.mark.parametrize("call", ["perturb", "attributions", "objective"])
def test_attributions_before_compile(call):
    model = keras_rar.wrap(dense_model())
    with pytest.raises(ValueError, match=r"Call `compile\(\)` first: attributions are of the compiled loss"):
        getattr(model, call)(*((X, Y) if call == "perturb" else (X, X, Y)))


def test_compile_without_a_loss():
    model = keras_rar.wrap(dense_model())
    with pytest.raises(ValueError, match=r"`compile` needs one loss, for the one output\. Received: loss=None"):
        model.compile("sgd")
    with pytest.raises(ValueError, match=r"Call `compile\(\)` first"):  # and it is not half compiled
        model.fit(X, Y, verbose=0)


# Labels


@pytest.mark.parametrize("wrong", [3, 100, -1, 0.5, NAN, INF])
@pytest.mark.parametrize("at", [0, 7], ids=["first batch", "later batch"])
def test_labels_out_of_range(wrong, at):
    """In a later batch the earlier ones have been trained on, and no more than those."""
    y = Y.astype("float32")
    y[at] = wrong
    model = wrapped("natural", optimizer="adam", compile=EAGERLY)
    fit(model)
    before = state(model)
    with pytest.raises(ValueError, match=r"`y` must hold class indices from 0 to .*Received"):
        fit(model, X, y)
    if at == 0:
        assert_untouched(model, before)
    assert all(np.isfinite(value).all() for value in state(model))


def test_labels_out_of_range_in_graph(model):
    for wrong in (3, -1):
        y = Y.copy()
        y[1] = wrong
        refused(model, ValueError, "`y` must hold class indices", y=y)


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (
            np.zeros((8, 1, 3), "float32"),
            r"`y` must have the shape .* with classes=3. Received: y.shape=\(\w+, 1, 3\)",
        ),
        (np.eye(4, dtype="float32")[Y], r"`y` must have the shape .* with classes=3. Received: y.shape=\(\w+, 4\)"),
        (ONE_HOT, r"`y` must be class indices, .* for this loss. Received: y.shape=\(\w+, 3\)"),
        (None, r"Labels are needed: pass `y`, or a data set of \(x, y\) pairs"),
    ],
    ids=["rank", "classes", "one-hot", "none"],
)
def test_labels_of_a_wrong_layout(y, match):
    model = wrapped("natural")
    before = model.base_model.get_weights()
    with pytest.raises(ValueError, match=match):
        fit(model, X, y)
    for actual, expected in zip(model.base_model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("y", [Y, Y[:, np.newaxis]])
def test_class_indices_with_a_loss_of_one_hot_labels(y):
    model = wrapped("natural", loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match=r"`y` must be one-hot, \(batch, classes\), for this loss"):
        fit(model, X, y)


@pytest.mark.parametrize("y", [Y, np.full(8, 0.5 + 1), np.full(8, -1)], ids=str)
def test_labels_of_one_output_unit(y):
    model = wrapped("natural", dense_model(classes=1, output="sigmoid"), "binary_crossentropy", compile=EAGERLY)
    with pytest.raises(ValueError, match="`y` must hold"):
        fit(model, X, np.maximum(y, 2) if y is Y else y)


def test_one_hot_labels_must_be_finite():
    y = ONE_HOT.copy()
    y[0, 0] = NAN
    model = wrapped("natural", loss=keras.losses.CategoricalCrossentropy(from_logits=True), compile=EAGERLY)
    fit(model, X, ONE_HOT)
    before = state(model)
    with pytest.raises(ValueError, match=r"`y` must hold .*finite one-hot labels"):
        fit(model, X, y)
    assert_untouched(model, before)


# Images


def data_set(x, y=Y, size=4):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(size)


def spoilt(value, at=(1, 2)):
    x = X.copy()
    x[at] = value
    return x


def test_integer_images(model):
    match = r"`x` must be floating point.*scale it to `bounds`=\(0\.0, 1\.0\)\. Received: dtype=(uint8|int64)"
    before = state(model)
    for x in (X.astype("uint8"), (255 * X).astype("int64")):
        with pytest.raises(TypeError, match=match):
            fit(model, data_set(x), None, batch_size=None)
    with pytest.raises(TypeError, match=match):
        model.perturb(X.astype("uint8"), Y)
    assert_untouched(model, before)


def test_integer_arrays(model):
    """Keras itself turns integer arrays into floats before a model sees them, unless they are of `tf.data`."""
    before = state(model)
    with pytest.raises((TypeError, ValueError), match=r"`x` must (be floating point|lie within `bounds`)"):
        fit(model, (255 * X).astype("uint8"))
    assert_untouched(model, before)


OUTSIDE = r"`x` must lie within `bounds`=\(0\.0, 1\.0\)\. Received: values from {} to {}"


@pytest.mark.parametrize(
    ("x", "seen"),
    [(255 * X, ("[0-9.]+", "[0-9.]+")), (spoilt(1.5), ("[0-9.e-]+", r"1\.5")), (spoilt(-0.25), (r"-0\.25", "[0-9.]+"))],
    ids=["0 to 255", "above", "below"],
)
@pytest.mark.parametrize("kind", ["array", pytest.param("tf.data", marks=pytest.mark.slow)])
def test_images_outside_bounds(model, x, seen, kind):
    match = OUTSIDE.format(*seen)
    if kind == "array":
        refused(model, ValueError, match, x)
    else:
        refused(model, ValueError, match, data_set(x), None, {"batch_size": None})


def test_images_that_round_to_the_bounds_are_inside(model):
    assert fit(model, np.where(X > 0.5, 1 + 1e-6, -1e-6).astype("float32"))["loss"]


def test_per_feature_bounds():
    bounds = ([0, 0, 0, 0], [1, 1, 2, 1])
    model = wrapped("madry", bounds=bounds, optimizer="adam")
    fit(model, spoilt(1.5, at=(1, 2)))
    refused(model, ValueError, r"`x` must lie within `bounds`=.*1\.5", spoilt(1.5, at=(1, 1)))


def test_without_bounds_everything_finite_is_inside():
    model = wrapped("natural", bounds=None, compile=EAGERLY)
    assert np.isfinite(fit(model, 100 * X)["loss"]).all()
    with pytest.raises(ValueError, match=r"`x` must be finite\. Received: NaN or infinite values"):
        fit(model, spoilt(INF))


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_nonfinite_images(model, value):
    refused(model, ValueError, r"`x` must be finite\. Received: NaN or infinite values", spoilt(value))


@pytest.mark.parametrize("value", [2.0, NAN], ids=["outside", "NaN"])
def test_bad_batch_after_a_good_one(value):
    """What was trained before it stays: as in a twin that is given only the good batch."""
    base_model = dense_model()
    initial, states = base_model.get_weights(), []
    for x, y in ((spoilt(value, at=(5, 2)), Y), (X[:4], Y[:4])):
        base_model.set_weights(initial)
        model = wrapped("madry", base_model, optimizer="adam", compile=EAGERLY)
        if len(x) == 8:
            with pytest.raises(ValueError, match="`x` must"):
                fit(model, x, y)
        else:
            fit(model, x, y)
        states.append(state(model))
    for actual, expected in zip(*states, strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"steps_per_execution": 2}, {"jit_compile": True}, {"run_eagerly": True}], ids=str)
def test_images_outside_bounds_however_a_step_runs(how):
    """Under `steps_per_execution` a good batch follows in the same call: nothing is trained on it either."""
    model = wrapped("madry", optimizer="adam", compile=how)
    fit(model)
    refused(model, ValueError, OUTSIDE.format("[0-9.]+", r"1\.5"), spoilt(1.5))


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"jit_compile": True}, {"steps_per_execution": 2}], ids=str)
def test_labels_out_of_range_however_a_step_runs(how):
    y = Y.copy()
    y[1] = 3
    model = wrapped("natural", optimizer="adam", compile=how)
    fit(model)
    refused(model, ValueError, "`y` must hold class indices", y=y)


def test_train_on_batch_is_checked():
    model = wrapped("natural", optimizer="adam", compile=EAGERLY)
    fit(model)
    before = state(model)
    with pytest.raises(ValueError, match="`x` must lie within"):
        model.train_on_batch(255 * X, Y)
    assert_untouched(model, before)


# Empty

EMPTY = r"`x` must hold at least one example\. Received: an empty batch"


def test_empty_arrays(model):
    refused(model, ValueError, "`x` must hold at least one example", X[:0], Y[:0])


@pytest.mark.parametrize("known", [True, False])
def test_empty_data_set(model, known):
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    data = data.take(0) if known else data.filter(lambda x, y: False)
    before = [weight.numpy() for weight in model.trainable_variables]
    with pytest.raises(ValueError, match=r"`x` must hold at least one batch\. Received: an empty data set"):
        fit(model, data, None, batch_size=None, epochs=2)
    for actual, expected in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_empty_batch_in_a_data_set(model):
    signature = (tf.TensorSpec((None, 4)), tf.TensorSpec((None,), tf.int64))
    batches = tf.data.Dataset.from_generator(lambda: iter([(X[:0], Y[:0]), (X, Y)]), output_signature=signature)
    refused(model, ValueError, EMPTY, batches, None, {"batch_size": None})


# Loss or gradient that is not finite


def poisoned(kind):
    """Cross-entropy; where the first label of a batch is 2, it or its gradient is not finite."""

    def loss(y_true, y_pred):
        values = keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
        poison = {
            "nan": lambda: values * NAN,
            "inf": lambda: values + INF,
            "gradient": lambda: values + tf.sqrt(0 * values),  # adds 0, of slope ∞ · 0
        }[kind]
        return tf.cond(tf.equal(y_true[0], 2), poison, lambda: values)

    return loss


GOOD_Y, BAD_Y = np.array([0, 1, 2, 1]), np.array([2, 1, 0, 1])


def poisoned_model(kind, method="madry", **options):
    model = wrapped(method, with_batch_norm(), poisoned(kind), "adam", random_start=method != "madry", **options)
    fit(model, X[:4], GOOD_Y)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "method"), [("nan", "madry"), ("inf", "madry"), ("gradient", "natural")])
def test_nonfinite_updates_are_skipped_and_counted(kind, method):
    """With "natural" the last has a finite loss: no x* is spoilt by the gradient."""
    model = poisoned_model(kind, method)
    assert model.skipped_updates == 0
    before = state(model)
    with pytest.warns(RuntimeWarning, match=r"was NaN or infinite: update skipped \(1 so far\)"):
        fit(model, X[4:], BAD_Y)
    assert_untouched(model, before)  # weights, batch statistics, seeds of dropout, momentum
    assert model.skipped_updates == 1
    with pytest.warns(RuntimeWarning, match=r"\(2 so far\)"):
        history = fit(model, X, np.concatenate([BAD_Y, GOOD_Y]))
    assert model.skipped_updates == 2
    assert all(np.isfinite(values).all() for values in history.values())
    assert all(np.isfinite(value).all() for value in state(model))
    assert any((a != b).any() for a, b in zip(state(model), before, strict=True))  # the good batch trained


@pytest.mark.parametrize("method", ["natural", "ig_norm", "ig_sum_norm"])
def test_nonfinite_updates_of_every_method(method):
    model = poisoned_model("nan", method, compile=EAGERLY)
    before = state(model)
    with pytest.warns(RuntimeWarning, match="update skipped"):
        history = fit(model, X[4:], BAD_Y)
    assert_untouched(model, before)
    assert all(np.isnan(values).all() for values in history.values())  # nothing was measured


def test_history_leaves_skipped_updates_out():
    """The mean is of the good batch alone."""
    model = wrapped("natural", loss=poisoned("nan"), optimizer=keras.optimizers.SGD(0.0))
    good = fit(model, X[:4], GOOD_Y)
    with pytest.warns(RuntimeWarning, match="update skipped"):
        both = fit(model, X, np.concatenate([GOOD_Y, BAD_Y]))
    assert both["loss"] == pytest.approx(good["loss"])
    assert both["clean_loss"] == pytest.approx(good["clean_loss"])


@pytest.mark.slow
@pytest.mark.parametrize("how", [{}, {"steps_per_execution": 2}], ids=str)
def test_nonfinite_updates_can_stop_the_fit(how):
    model = poisoned_model("nan", on_nonfinite="raise", compile=how)
    before = state(model)
    with pytest.raises(FloatingPointError, match="The loss or its gradient was NaN or infinite"):
        fit(model, X, np.concatenate([BAD_Y, GOOD_Y]))
    assert_untouched(model, before)


def test_unguarded_the_update_is_poisoned():
    """Negative control: plain Keras loses its weights here."""
    base_model = with_batch_norm()
    base_model.compile("adam", poisoned("nan"))
    base_model.fit(X[4:], BAD_Y, shuffle=False, verbose=0)
    assert np.isnan(base_model.get_weights()[0]).all()


# The methods themselves, called directly

CALLS = ["perturb", "attributions", "objective"]


def arguments(call, x=X, y=Y):
    return (x, y) if call == "perturb" else (x, X, y)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("x", "error", "match"),
    [
        (255 * X, ValueError, OUTSIDE.format("[0-9.]+", "[0-9.]+")),
        (spoilt(NAN), ValueError, "`x` must be finite"),
        (X[:0], ValueError, EMPTY),
        (X.astype("uint8"), TypeError, "`x` must be floating point.*Received: dtype=uint8"),
    ],
    ids=["outside", "NaN", "empty", "integer"],
)
def test_methods_refuse_bad_inputs(model, call, x, error, match):
    with pytest.raises(error, match=match):
        getattr(model, call)(*arguments(call, x=x, y=Y[: len(x)]))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("y", "match"),
    [
        (Y + 3, "`y` must hold class indices"),
        (-1 - Y, "`y` must hold class indices"),
        (ONE_HOT, "`y` must be class indices, .* for this loss"),
        (ONE_HOT[:, np.newaxis], "`y` must have the shape"),
        (None, "Labels are needed"),
        (Y[:4], "`y` must .*one label per example|`x` and `y` must have"),
    ],
    ids=["high", "negative", "one-hot", "rank", "none", "number"],
)
def test_methods_refuse_bad_labels(model, call, y, match):
    with pytest.raises(ValueError, match=match):
        getattr(model, call)(*arguments(call, y=y))


@pytest.mark.parametrize("call", ["attributions", "objective"])
@pytest.mark.parametrize("x_prime", [X[:4], X[:, :3]], ids=["examples", "features"])
def test_methods_refuse_an_x_prime_of_another_shape(model, call, x_prime):
    with pytest.raises(ValueError, match=r"`x_prime` must have the (same )?shape"):
        getattr(model, call)(X, x_prime, Y)


def test_a_term_cannot_take_the_name_of_the_whole():
    class Confusing(keras_rar.NaturalRegularizer):
        def objective(self, terms):
            return terms.report("loss", terms.clean_loss)

    with pytest.raises(ValueError, match='must not be reported as "loss"'):
        keras_rar.wrap(dense_model(), Confusing())


class TwoArguments(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, first, second):
        return self.dense(first + second)


class OneList(TwoArguments):
    def call(self, inputs):
        return self.dense(inputs[0] + inputs[1])


@pytest.mark.parametrize(("cls", "inputs"), [(TwoArguments, (X, X)), (OneList, ([X, X],))])
def test_a_subclassed_model_of_two_inputs_is_refused(cls, inputs):
    base_model = cls()
    base_model(*inputs)
    with pytest.raises(ValueError, match=r"`base_model` must have one input\. Received: .* with 2"):
        keras_rar.wrap(base_model)
