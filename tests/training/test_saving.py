"""Saving: what is written comes back, trains on as if nothing had happened, and is plain Keras when unwrapped.

Where two runs of one computation are compared, both do the same float32 operations in the same order, but may be
compiled apart: `rtol=1e-6, atol=1e-7` is some rounding errors of a weight of size 1.
"""

import copy
import inspect
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import batch, dense_model, wrapped

import keras_rar

METHODS = sorted(keras_rar.METHODS)
X, Y = batch()


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, hidden=8, **kwargs):
        super().__init__(**kwargs)
        self.hidden = hidden
        self.first = keras.layers.Dense(hidden, "tanh")
        self.last = keras.layers.Dense(3)

    def call(self, inputs):
        return self.last(self.first(inputs))

    def get_config(self):
        return {**super().get_config(), "hidden": self.hidden}


def functional_model():
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(8, "tanh")(inputs)
    both = keras.layers.Concatenate()([hidden, inputs])
    return keras.Model(inputs, keras.layers.Dense(3)(both))


def nested_model():
    return keras.Sequential([keras.Input((4,)), dense_model(classes=5), dense_model(features=5, output="softmax")])


def subclassed_model():
    model = Subclassed()
    model(X)
    return model


def fitted(method="natural", epochs=2, **options):
    """A trained model; `"natural"`, the fastest to compile, where the method does not matter."""
    model = wrapped(method, **{"optimizer": keras.optimizers.Adam(0.05), **options})
    continued(model, epochs)
    return model


def continued(model, epochs=2):
    model.fit(X, Y, batch_size=4, epochs=epochs, shuffle=False, verbose=0)
    return model.get_weights()


def predict(model):
    return model.predict(X, verbose=0)


def plain(config):
    """A config as JSON has it, which does not tell tuples from lists."""
    return json.loads(json.dumps(config))


def save_and_load(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)


def run_python(code, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(Path(keras_rar.__file__).parents[1]), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def assert_equal_arrays(actual, expected):
    assert len(actual) == len(expected) > 0
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def assert_same_run(actual, expected):
    assert len(actual) == len(expected) > 0
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


# The wrapped model, whole

SMALL = {"step_size": 0.01}  # too small to reach the end of the ball: x* depends on the random start
OPTIONS = {**dict.fromkeys(METHODS, SMALL), "ig_sum_norm": {"random_start": False}}
FAST = {"natural", "madry", "ig_norm", "ig_sum_norm", "ig_topk"}  # those of the paper, and the default


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[pytest.mark.slow] * (name not in FAST)) for name in METHODS]
)
def trained(request, tmp_path_factory):
    """A model of each method as it was saved, the file, and the weights after it trained on."""
    keras.utils.set_random_seed(0)
    model = fitted(request.param, compile={"metrics": ["accuracy"]}, **OPTIONS[request.param])
    path = tmp_path_factory.mktemp(request.param) / "model.keras"
    model.save(path)
    saved = observed(model)
    return saved, path, continued(model)


@pytest.fixture(scope="module")
def loaded(trained):
    """The same, as it comes back."""
    model = keras.saving.load_model(trained[1], safe_mode=True)
    assert type(model) is keras_rar.RARModel
    return observed(model)


def observed(model):
    end = np.clip(X + 0.1, 0, 1)
    return {
        "class": type(model.regularizer),
        "config": plain(model.get_config()),
        "compile config": plain(model.get_compile_config()),
        "predictions": predict(model),
        "evaluation": model.evaluate(X, Y, verbose=0, return_dict=True),
        "x_star": model.perturb(X, Y, seed=5).numpy(),
        "attributions": model.attributions(X, end, Y).numpy(),
        "optimizer": [variable.numpy() for variable in model.optimizer.variables],
        "seed": np.asarray(model.seed_generator.state),
        "weights": model.get_weights(),
    }


@pytest.mark.parametrize("what", ["class", "config", "compile config", "evaluation"])
def test_round_trip_keeps_the_description(what, trained, loaded):
    assert loaded[what] == trained[0][what]


@pytest.mark.parametrize("what", ["predictions", "x_star", "attributions"])
def test_round_trip_keeps_the_functions(what, trained, loaded):
    np.testing.assert_array_equal(loaded[what], trained[0][what])


def test_round_trip_keeps_the_optimizer(trained, loaded):
    assert_equal_arrays(loaded["optimizer"], trained[0]["optimizer"])
    iterations, _, *moments = loaded["optimizer"]
    assert iterations == 4
    assert len(moments) == 2 * len(loaded["weights"])
    assert all(np.any(moment) for moment in moments)


def test_round_trip_keeps_the_state_of_the_random_starts(trained, loaded):
    """The same seed gives the same fit: also across a file."""
    np.testing.assert_array_equal(loaded["seed"], trained[0]["seed"])
    assert np.any(trained[0]["seed"])


def test_continued_fit_equals_a_fit_without_saving(trained):
    saved, path, weights = trained
    assert_same_run(continued(keras.saving.load_model(path)), weights)
    assert not np.allclose(saved["weights"][0], weights[0], atol=1e-3)


@pytest.mark.parametrize("trained", ["natural"], indirect=True)
def test_continued_fit_needs_the_optimizer_state(trained):
    """Negative control of the test above."""
    model = keras.saving.load_model(trained[1])
    model.compile(keras.optimizers.Adam(0.05), model.loss)
    assert not np.allclose(continued(model)[0], trained[2][0], atol=1e-3)


@pytest.mark.parametrize("trained", ["ig_norm"], indirect=True)
def test_continued_fit_needs_the_state_of_the_random_starts(trained):
    """Negative control of the test above."""
    model = keras.saving.load_model(trained[1])
    model.seed_generator.state.assign([7, 7])
    assert not np.allclose(continued(model)[0], trained[2][0], atol=1e-5)


LOAD_AND_TRAIN = """
import sys
import keras
import keras_rar
import numpy as np

data = np.load(sys.argv[1])
results = {}
for path in sys.argv[3:]:
    model = keras.saving.load_model(path)  # safe_mode=True is the default
    results[path] = model.predict(data["x"], verbose=0)
before = model.get_weights()[0]
model.fit(data["x"], data["y"], verbose=0)
assert not np.array_equal(model.get_weights()[0], before)
np.savez(sys.argv[2], **results)
"""


def test_a_fresh_process_loads_every_method_and_trains(tmp_path):
    models = {str(tmp_path / f"{method}.keras"): wrapped(method, optimizer="adam") for method in METHODS}
    for path, model in models.items():
        model.save(path)
    np.savez(tmp_path / "data.npz", x=X, y=Y)
    run_python(LOAD_AND_TRAIN, tmp_path / "data.npz", tmp_path / "results.npz", *models)
    results = np.load(tmp_path / "results.npz")
    for path, model in models.items():
        np.testing.assert_allclose(results[path], predict(model), rtol=1e-6, atol=1e-6)  # another process


@pytest.mark.parametrize(
    "base",
    [
        functional_model,
        *(pytest.param(base, marks=pytest.mark.slow) for base in (dense_model, nested_model)),
        subclassed_model,
    ],
)
def test_every_kind_of_base_model_round_trips(base, tmp_path):
    base_model = base()
    loss = None if base is not nested_model else "sparse_categorical_crossentropy"
    model = fitted("madry", base_model=base_model, loss=loss, random_start=False, steps=1)
    loaded = save_and_load(model, tmp_path)
    assert type(loaded.base_model) is type(base_model)
    np.testing.assert_array_equal(predict(loaded), predict(model))
    assert_same_run(continued(loaded), continued(model))


class SaveInTheMiddle(keras.callbacks.Callback):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_train_batch_end(self, batch, logs=None):
        self.model.save(self.path)
        self.expected = predict(self.model)


@pytest.mark.parametrize("end", ["activation", "layer"])
def test_softmax_is_in_a_file_saved_in_the_middle_of_training(end, tmp_path):
    """Training works on logits, by taking the softmax off for the time of a call."""
    layers = [keras.layers.Softmax()] if end == "layer" else [keras.layers.Activation("softmax")]
    base_model = dense_model(output="softmax") if end == "activation" else keras.Sequential([dense_model(), *layers])
    model = wrapped("madry", base_model=base_model, loss="sparse_categorical_crossentropy", steps=1)
    saved = SaveInTheMiddle(tmp_path / "model.keras")
    model.fit(X, Y, batch_size=4, verbose=0, callbacks=[saved])
    with zipfile.ZipFile(saved.path) as archive:
        assert "softmax" in archive.read("config.json").decode().lower()
    loaded = keras.saving.load_model(saved.path)
    np.testing.assert_array_equal(predict(loaded), saved.expected)
    np.testing.assert_allclose(predict(loaded).sum(axis=1), 1, rtol=1e-6)  # rounding of three terms


def test_summary_names_the_base_model():
    lines = []
    wrapped().summary(print_fn=lambda line, **_: lines.append(line))
    assert "sequential" in "\n".join(lines).lower()


# Weights alone, callbacks, copies


def test_weights_alone_make_another_model_equal(tmp_path):
    model, other = fitted(), wrapped("natural", optimizer=keras.optimizers.Adam())
    assert not np.allclose(predict(other), predict(model), atol=1e-3)
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(predict(other), predict(model))


def test_model_checkpoint_keeps_the_best(tmp_path):
    path = tmp_path / "best.keras"
    best = keras.callbacks.ModelCheckpoint(path, monitor="val_loss", save_best_only=True)
    worsens = keras.callbacks.LearningRateScheduler(lambda epoch: [0.1, 100.0, 100.0][epoch])
    model = wrapped("natural", compile={"metrics": ["accuracy"]})
    losses = model.fit(X, Y, epochs=3, validation_data=(X, Y), verbose=0, callbacks=[best, worsens]).history["val_loss"]
    loaded = keras.saving.load_model(path)
    assert losses[0] < min(losses[1:])
    assert isinstance(loaded, keras_rar.RARModel)
    np.testing.assert_allclose(loaded.evaluate(X, Y, verbose=0)[0], losses[0], rtol=1e-6)


def test_model_checkpoint_of_weights(tmp_path):
    predictions = []
    model = wrapped("natural", optimizer=keras.optimizers.SGD(1.0))
    save = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True)
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: predictions.append(predict(model)))
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[save, note])
    assert not np.allclose(*predictions, atol=1e-3)
    other = wrapped("natural")
    for epoch, expected in enumerate(predictions, start=1):
        other.load_weights(tmp_path / f"{epoch}.weights.h5")
        np.testing.assert_array_equal(predict(other), expected)


class Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise InterruptedError


@pytest.mark.parametrize("method", ["natural", "ig_norm"])
def test_backup_and_restore_resumes_an_interrupted_fit(method, tmp_path):
    def fit(model, *callbacks):
        return model.fit(X, Y, epochs=2, shuffle=False, verbose=0, callbacks=list(callbacks)).epoch

    initial = dense_model().get_weights()

    def model():
        model = wrapped(method, optimizer=keras.optimizers.SGD(1.0), **OPTIONS[method])
        model.set_weights(initial)
        return model

    uninterrupted, interrupted, resumed = model(), model(), model()
    fit(uninterrupted)
    with pytest.raises(InterruptedError):
        fit(interrupted, keras.callbacks.BackupAndRestore(tmp_path), Interrupt())
    assert fit(resumed, keras.callbacks.BackupAndRestore(tmp_path)) == [1]
    assert_same_run(resumed.get_weights(), uninterrupted.get_weights())


def test_clone_has_the_config_and_weights_of_its_own():
    model = fitted()
    clone = keras.models.clone_model(model)
    assert type(clone) is keras_rar.RARModel
    assert plain(clone.get_config()) == plain(model.get_config())
    clone.set_weights(model.get_weights())
    before = predict(model)
    np.testing.assert_array_equal(predict(clone), before)
    clone.compile(keras.optimizers.SGD(1.0), model.loss)
    continued(clone)
    np.testing.assert_array_equal(predict(model), before)
    assert not np.allclose(predict(clone), before, atol=1e-3)


def pickled(model):
    return pickle.loads(pickle.dumps(model))  # noqa: S301


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled])
def test_a_copy_is_independent_and_continues_alike(duplicate):
    model = fitted()
    other, before = duplicate(model), predict(model)
    np.testing.assert_array_equal(predict(other), before)
    weights = continued(other)
    np.testing.assert_array_equal(predict(model), before)
    assert_same_run(weights, continued(model))


# Configs


def test_model_from_json_and_from_config():
    model = wrapped("ig_norm", factor=0.5, epsilon=0.2)
    for other in (
        keras.models.model_from_json(model.to_json()),
        keras_rar.RARModel.from_config(plain(model.get_config())),
    ):
        assert type(other) is keras_rar.RARModel
        assert plain(other.get_config()) == plain(model.get_config())
        assert other.regularizer.factor == 0.5


INNER = {
    "epsilon": 0.25,
    "norm": "l2",
    "bounds": (np.zeros(4), np.array([1.0, 2.0, 3.0, 4.0])),
    "steps": 3,
    "step_size": 0.125,
    "rule": "gauss_legendre",
    "m": 5,
    "attack_m": 2,
    "baseline": np.arange(4) / 10,
    "chunk": 2,
    "memory_budget": 0.25,
    "begin": 2,
}
BALL = {"epsilon": 0.25, "bounds": (np.zeros((2, 1)), np.ones((2, 3)))}
OF_GRADIENTS = {**INNER, "factor": 0.5, "random_start": False, "maps": ("gradient",)}
CASES = {  # every public class with a config: arguments that all differ from the defaults
    "NaturalRegularizer": {**INNER, "random_start": False},
    "MadryRegularizer": {**INNER, "random_start": False},
    "IGNormRegularizer": {**INNER, "factor": 0.5},
    "IGSumNormRegularizer": {**INNER, "random_start": False, "beta": 0.5},
    "IGTopKRegularizer": {**OF_GRADIENTS, "k": 3, "sharpness": 2.0, "ascend": "loss"},
    "IGRRegularizer": {**OF_GRADIENTS, "powers": (1.0, 0.5), "ascend": "objective"},
    "LossChangeRegularizer": {**INNER, "factor": 0.5},
    "InputGradientRegularizer": {**INNER, "factor": 0.5, "q": 1.5, "random_start": False},
    "R2ETRegularizer": {**INNER, "factor": 0.5, "k": 3, "pairs": 2, "random_start": False},
    "PearsonRegularizer": {**OF_GRADIENTS, "ascend": "loss"},
    "KendallRegularizer": {**OF_GRADIENTS, "temperature": 0.5, "shifts": 3, "ascend": "loss"},
    "LGARegularizer": {**INNER, "factor": 0.5, "l2": 0.5},
    "TRADESRegularizer": {**INNER, "beta": 0.5},
    "MARTRegularizer": {**INNER, "factor": 0.5, "random_start": False},
    "CURERegularizer": {**INNER, "factor": 0.5, "h": 0.5, "random_start": False},
    "HessianRegularizer": {**INNER, "factor": 0.5, "h": 0.5, "random_start": False},
    "ARTRegularizer": {**INNER, "factor": 0.25, "random_start": False},
    "SSRRegularizer": {**INNER, "factor": 0.5, "iterations": 2, "h": 0.5, "random_start": False},
    "AttributionalContrastRegularizer": {**INNER, "factor": 0.5, "random_start": False},
    "AttributionPriorRegularizer": {
        **INNER,
        "factor": 0.5,
        "prior": "gini",
        "background": np.arange(8.0).reshape(2, 4) / 8,
        "samples": 3,
        "random_start": False,
    },
    "SumOfRegularizers": {
        "regularizers": [keras_rar.MadryRegularizer(**INNER), keras_rar.R2ETRegularizer(k=3, **INNER)],
        "weights": [0.5, 2.0],
    },
    "LinfBall": BALL,
    "L1Ball": BALL,
    "L2Ball": BALL,
    "WassersteinPrice": {"gamma": 3.0, "cost": "linf"},
    "L0Ball": {**BALL, "epsilon": 2},
    "QuadratureRule": {"nodes": np.array([0.0, 0.5, 1.0]), "weights": np.array([1, 4, 1]) / 6},
    "SmoothingBlock": {
        "size": 5,
        "sigma": 2.0,
        "mixed": False,
        "data_format": "channels_first",
        "name": "mine",
        "trainable": False,
    },
    "RARModel": {"on_nonfinite": "raise", "seed": 3, "name": "mine", "trainable": False},
}


AT_RANDOM = {"IGNormRegularizer", "LossChangeRegularizer", "LGARegularizer", "TRADESRegularizer"}
"""Those that have no other `random_start`."""


def instance(name):
    if name == "RARModel":
        regularizer = keras_rar.IGSumNormRegularizer(**CASES["IGSumNormRegularizer"])
        return keras_rar.RARModel(dense_model(), regularizer, **CASES[name])
    return getattr(keras_rar, name)(**CASES[name])


def test_the_table_of_configs_is_complete():
    public = {name: getattr(keras_rar, name) for name in keras_rar.__all__}
    configured = {
        name
        for name, value in public.items()
        if inspect.isclass(value) and hasattr(value, "get_config") and not inspect.isabstract(value)
    }
    assert set(CASES) == configured


@pytest.mark.parametrize("name", sorted(CASES))
def test_config_survives_json(name):
    original = instance(name)
    config = original.get_config()
    text = json.dumps(config, allow_nan=False)
    assert plain(type(original).from_config(json.loads(text)).get_config()) == json.loads(text)
    if name != "RARModel":  # Keras's own config of the base model holds tuples
        assert json.loads(text) == config


@pytest.mark.parametrize("name", sorted(CASES))
def test_serialized_object_survives_json_in_safe_mode(name):
    original = instance(name)
    assert keras.saving.get_registered_name(type(original)) == f"keras_rar>{name}"
    text = json.dumps(keras.saving.serialize_keras_object(original), allow_nan=False)
    loaded = keras.saving.deserialize_keras_object(json.loads(text), safe_mode=True)
    assert type(loaded) is type(original)
    assert plain(loaded.get_config()) == plain(original.get_config())


@pytest.mark.parametrize("name", sorted(CASES))
def test_config_holds_every_argument_given(name):
    config = instance(name).get_config()
    assert set(config) >= set(CASES[name])
    for argument, value in CASES[name].items():
        given = [np.asarray(part).tolist() for part in value] if argument == "bounds" else np.asarray(value).tolist()
        if argument == "regularizers":
            given = [keras.saving.serialize_keras_object(one) for one in value]
        assert config[argument] == given


def test_the_cases_differ_from_the_defaults():
    for name in set(CASES) - {"QuadratureRule", "RARModel", "SmoothingBlock", "SumOfRegularizers"}:
        needed = {"epsilon": 1} if "Ball" in name else {"gamma": 1.0} if name == "WassersteinPrice" else {}
        default = getattr(keras_rar, name)(**needed).get_config()
        same = {
            argument for argument, value in plain(instance(name).get_config()).items() if default[argument] == value
        }
        assert same <= ({"price", "random_start"} if name in AT_RANDOM else {"price"})  # its class has a case


@pytest.mark.parametrize("name", ["LinfBall", "L2Ball"])
def test_a_ball_without_a_box_survives(name):
    ball = getattr(keras_rar, name)(0.5, bounds=None)
    assert type(ball).from_config(plain(ball.get_config())).bounds is None


# Unwrapped


def test_unwrap_is_the_very_model_and_shares_its_weights():
    base_model = dense_model()
    model = wrapped("natural", base_model=base_model)
    before = base_model.get_weights()
    continued(model)
    assert keras_rar.unwrap(model) is base_model
    assert all(a is b for a, b in zip(base_model.trainable_variables, model.trainable_variables, strict=True))
    assert not np.array_equal(base_model.get_weights()[0], before[0])
    np.testing.assert_array_equal(predict(base_model), predict(model))


def test_unwrap_of_a_loaded_model_is_the_trained_base_model(tmp_path):
    model = fitted()
    np.testing.assert_array_equal(predict(keras_rar.unwrap(save_and_load(model, tmp_path))), predict(model))


PREDICT_WITHOUT = """
import sys

sys.modules["keras_rar"] = None  # as if it were not installed
import keras
import numpy as np

data = np.load(sys.argv[1])
np.save(sys.argv[2], keras.saving.load_model(sys.argv[3]).predict(data["x"], verbose=0))
try:
    keras.saving.load_model(sys.argv[4])
except TypeError as error:
    assert "keras_rar" in str(error)
else:
    raise SystemExit("the wrapped model loaded: keras_rar was not blocked")
"""


def test_unwrapped_file_needs_nothing_of_keras_rar(tmp_path):
    model = fitted(base_model=dense_model(output="softmax"), loss="sparse_categorical_crossentropy")
    keras_rar.unwrap(model).save(tmp_path / "plain.keras")
    model.save(tmp_path / "wrapped.keras")
    np.savez(tmp_path / "data.npz", x=X)
    names = ("data.npz", "predictions.npy", "plain.keras", "wrapped.keras")
    run_python(PREDICT_WITHOUT, *(tmp_path / name for name in names))
    predictions = np.load(tmp_path / "predictions.npy")
    np.testing.assert_allclose(predictions, predict(model), rtol=1e-6, atol=1e-6)  # another process
