"""Two replicas train as one does: `tf.distribute.MirroredStrategy` on two logical CPUs, in a process of its own.

One script computes everything once; each test reads its part.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import batch

import keras_rar

METHODS = ["natural", "madry", "ig_sum_norm"]
LONGER = sorted(set(keras_rar.METHODS) - set(METHODS))
X, Y = batch(8)
MANY_X, MANY_Y = batch(13)  # in batches of 5 one replica gets 3 and the other 2, and of the last 3 the other gets none
UNEVEN = ["normalized", "weighted", "by weight", "sum", "by nodes", "by examples", "l2", "adam"]

HEAD = """
import json
import sys
import warnings

import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import numpy as np

import keras_rar

warnings.simplefilter("always")
data = np.load(sys.argv[1])
x, y, many_x, many_y = (data[name] for name in ("x", "y", "many_x", "many_y"))
one, two = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
results = {}


def compiled(strategy, method="madry", normalized=False, frozen=False, reduction="mean", optimizer="sgd", **options):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(8, "tanh", kernel_regularizer="l2")]
        layers += [keras.layers.BatchNormalization(synchronized=True)] * normalized
        base_model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(3)])
        layers[0].trainable = not frozen
        options = {"steps": 2, "m": 3, "attack_m": 2, **options}
        model = keras_rar.wrap(base_model, method, seed=0, **options)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
        optimizer = keras.optimizers.SGD(0.05) if optimizer == "sgd" else keras.optimizers.Adam(0.01)
        model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def run(name, model, x=x, y=y, batch_size=8, epochs=1, **options):
    # Fit, and note all that can be seen of it.
    before = [weights.tolist() for weights in model.get_weights()]
    error, history = None, {}
    with warnings.catch_warnings(record=True) as caught:
        try:
            fitted = model.fit(x, y, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0, **options)
            history = fitted.history
        except Exception as raised:
            error = [type(raised).__name__, str(raised)]
    after = [weights.tolist() for weights in model.get_weights()]
    warned = [str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)]
    skipped = model.skipped_updates
    results[name] = dict(before=before, after=after, history=history, error=error, warned=warned, skipped=skipped)
"""
METHODS_AND_FAULTS = """
models = {}
for method in ("natural", "madry", "ig_sum_norm"):
    for name, strategy in (("one", one), ("two", two)):
        models[method, name] = model = compiled(strategy, method)
        run(method + " " + name, model, many_x, many_y, batch_size=5, epochs=4)
        if method == "madry":
            results["evaluation " + name] = model.evaluate(many_x, many_y, batch_size=5, verbose=0, return_dict=True)
            results["predictions " + name] = model.predict(x, verbose=0).tolist()

for name, strategy in (("one", one), ("two", two)):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        model.compile(keras.optimizers.SGD(0.5), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.skipped_updates = 0
    run("keras " + name, model, x[:5], y[:5], batch_size=4)

outside = x.copy()
outside[7, 0] = 3
run("outside", models["madry", "two"], outside)
run("tail", models["madry", "two"], x[:5], y[:5], batch_size=4)  # of the last batch a replica gets no example

model = compiled(two, normalized=True)
for case, bad in (("last", [7]), ("both", [0, 7])):
    weights = np.ones(8, "float32")
    weights[bad] = np.inf
    run("nonfinite " + case, model, sample_weight=weights)
run("normalized", model)
model = compiled(two, "natural", frozen=True)
run("frozen nonfinite", model, sample_weight=weights)
run("frozen", model)

model = models["madry", "two"]
x_star = model.perturb(x, y).numpy()
results["perturb"] = [bool(np.all(np.abs(x_star - x) <= 0.1 + 1e-6)), bool(np.any(x_star != x))]
starts = two.experimental_local_results(two.run(lambda: model.perturb(x[:4], y[:4])))
results["starts"] = [start.numpy().tolist() for start in starts]
"""
SETTINGS = """
uneven = {
    "normalized": {"method": "ig_sum_norm", "normalized": True},
    "weighted": {"method": "ig_sum_norm"},
    "by weight": {"reduction": "mean_with_sample_weight"},
    "sum": {"reduction": "sum"},
    "by nodes": {"method": "ig_sum_norm", "chunk": 1, "normalized": True},
    "by examples": {"method": "igr", "memory_budget": 1e-9},
    "l2": {"norm": "l2"},
    "adam": {"method": "ig_norm", "optimizer": "adam"},
}
for method in sorted(set(keras_rar.METHODS) - {"natural", "madry", "ig_sum_norm"}):
    uneven[method] = {"method": method}
weights = np.arange(13, dtype="float32") // 3
for case, options in uneven.items():
    for name, strategy in (("one", one), ("two", two)):
        weighted = {"sample_weight": weights} if "weight" in case else {}
        run(case + " " + name, compiled(strategy, **options), many_x, many_y, batch_size=5, epochs=4, **weighted)
"""
TAIL = """
with open(sys.argv[2], "w") as file:
    json.dump(results, file, default=lambda value: np.asarray(value).tolist())
"""


def computed(script, folder):
    np.savez(folder / "data.npz", x=X, y=Y, many_x=MANY_X, many_y=MANY_Y)
    environment = {**os.environ, "PYTHONPATH": str(Path(keras_rar.__file__).parents[1]), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", HEAD + script + TAIL, str(folder / "data.npz"), str(folder / "results.json")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return computed(METHODS_AND_FAULTS, tmp_path_factory.mktemp("distribution"))


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return computed(SETTINGS, tmp_path_factory.mktemp("settings"))


def pair(case, request):
    """What one replica and what two did."""
    found = request.getfixturevalue("results" if case in METHODS else "settings")
    return found[f"{case} one"], found[f"{case} two"]


def assert_near(actual, expected, atol=1e-6):
    """Sums over a few examples for one over all: float32 rounding of numbers of size 1."""
    assert len(actual) == len(expected) > 0
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def moved(result):
    return [not np.array_equal(a, b) for a, b in zip(result["before"], result["after"], strict=True)]


every_case = pytest.mark.parametrize(
    "case", [*METHODS, *(pytest.param(case, marks=pytest.mark.slow) for case in [*LONGER, *UNEVEN])]
)


@every_case
def test_two_replicas_take_the_steps_of_one(case, request):
    """Twelve steps on batches that do not divide evenly, from the same random starts."""
    one, two = pair(case, request)
    assert one["error"] is None
    assert two["error"] is None
    assert_near(two["before"], one["before"])
    assert_near(two["after"], one["after"], 1e-5)
    assert all(moved(two))


@every_case
def test_two_replicas_have_the_history_of_one(case, request):
    one, two = (result["history"] for result in pair(case, request))
    assert one.keys() == two.keys() >= {"loss", "accuracy"}
    assert_near(two.values(), one.values(), 1e-5)


def test_keras_alone_counts_an_example_more_where_there_are_fewer(results):
    """Negative control: it takes the mean of the replicas' means."""
    one, two = results["keras one"], results["keras two"]
    assert two["error"] is None
    with pytest.raises(AssertionError):
        assert_near(two["after"], one["after"], 1e-3)


def test_evaluate_and_predict_see_the_whole_batch(results):
    one, two = results["evaluation one"], results["evaluation two"]
    assert one.keys() == two.keys()
    assert_near(two.values(), one.values())
    assert_near(results["predictions two"], results["predictions one"])


@pytest.mark.parametrize("case", ["last", "both"])
def test_a_loss_that_is_not_finite_on_a_replica_skips_the_update_on_all(case, results):
    """Weights and batch statistics stay, and it is one skipped step wherever it was seen."""
    result = results[f"nonfinite {case}"]
    assert result["error"] is None
    assert not any(moved(result))
    count = {"last": 1, "both": 2}[case]  # one after the other
    assert result["skipped"] == count
    assert result["warned"] == [f"The loss or its gradient was NaN or infinite: update skipped ({count} so far)."]
    assert all(np.isnan(values).all() for values in result["history"].values())  # nothing was measured


def test_batch_normalisation_trains_also_after_a_skipped_step(results):
    result = results["normalized"]
    assert result["error"] is None
    assert all(moved(result))
    assert all(np.all(np.isfinite(weights)) for weights in result["after"])


def test_frozen_layers_stay_whether_a_step_is_skipped_or_not(results):
    assert results["frozen nonfinite"]["error"] is None
    assert not any(moved(results["frozen nonfinite"]))
    assert results["frozen"]["error"] is None
    assert moved(results["frozen"]) == [False, False, True, True]


def test_a_batch_outside_the_bounds_on_a_replica_is_refused(results):
    kind, message = results["outside"]["error"]
    assert kind == "ValueError"
    assert f"Received: values from {X.min():g} to 3" in message  # of the whole batch
    assert not any(moved(results["outside"]))


def test_a_replica_without_an_example_is_not_an_empty_batch(results):
    assert results["tail"]["error"] is None
    assert all(moved(results["tail"]))
    assert all(np.all(np.isfinite(weights)) for weights in results["tail"]["after"])


def test_replicas_start_at_different_points(results):
    assert results["perturb"] == [True, True]
    first, second = results["starts"]
    assert not np.allclose(first, second, atol=1e-3)
