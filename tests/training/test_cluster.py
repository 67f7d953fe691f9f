"""Two processes train and evaluate as one does: `MultiWorkerMirroredStrategy` on the loopback interface."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import batch

import keras_rar

pytestmark = pytest.mark.slow
ROOT = Path(keras_rar.__file__).parents[1]
METHODS = sorted(keras_rar.METHODS)
SECONDS = 1800  # on a busy machine; minutes on a quiet one

TRAINING = """
import sys

import tensorflow as tf

devices = int(sys.argv[3])
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
both = tf.distribute.MultiWorkerMirroredStrategy()
import json
import keras
import numpy as np

import keras_rar

data = np.load(sys.argv[1])
x, y = data["x"], data["y"]
alone, results = tf.distribute.get_strategy(), {}


def compiled(strategy, method):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(8, "relu", use_bias=False, kernel_regularizer="l2")]
        layers += [keras.layers.BatchNormalization(synchronized=True)]
        base_model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(3)])
        model = keras_rar.wrap(base_model, method, seed=0, steps=2, m=3, attack_m=2)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return model


for method in sys.argv[4:]:
    for name, strategy in (("one", alone), ("both", both)):
        model = compiled(strategy, method)
        fitted = model.fit(x, y, batch_size=4, epochs=3, shuffle=False, verbose=0)
        results[method + " " + name] = [*model.get_weights(), *fitted.history.values()]
        results["evaluated " + name] = model.evaluate(x, y, batch_size=4, verbose=0)
"""
MEASURING = """
outside = x.copy()
outside[4, 0] = 3  # the second worker's
try:
    model.fit(outside[:6], y[:6], batch_size=6, verbose=0)
except ValueError as error:
    results["outside"] = str(error)

weights = model.get_weights()
settings = {"steps": 3, "m": 3, "pgd_steps": 3, "noise": 3, "other_maps": ["gradient"], "faithful": 3}
for name, strategy in (("one", alone), ("both", both)):
    model = compiled(strategy, method)
    model.set_weights(weights)
    path = sys.argv[2] + ".npz" if name == "one" else data["folder"].item() + "/both.npz"
    options = {"batch_size": 2, "path": path, "progress": False}
    report = keras_rar.evaluate_robustness(model, x, y, **settings, **options)
    table = {column: values.tolist() for column, values in report.per_example.items()}
    results[f"report {name}"] = [table, report.findings]

if both.cluster_resolver.task_id == 1:
    with both.scope():
        model.base_model.layers[0].kernel.assign(model.base_model.layers[0].kernel * 2)
for name, size in (("unlike", 4), ("uneven", 5)):
    try:
        model.fit(x, y, batch_size=size, verbose=0)
    except ValueError as error:
        results[name] = str(error)
"""
TAIL = """
with open(sys.argv[2], "w") as file:
    json.dump(results, file, default=lambda value: np.asarray(value).tolist())
"""


def started(arguments, folder):
    """Two workers, each with its `TF_CONFIG`."""
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    workers = []
    for index in range(2):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        own = {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "TF_CONFIG": json.dumps(config)}
        command = [sys.executable, *(part.format(index=index) for part in arguments)]
        with (folder / f"log{index}").open("w") as log:
            workers.append(subprocess.Popen(command, env={**os.environ, **own}, stdout=log, stderr=log, cwd=folder))
    return workers


def ended(workers, folder):
    try:
        codes = [worker.wait(SECONDS) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert codes == [0, 0], [(folder / f"log{index}").read_text()[-3000:] for index in range(2)]


def computed(folder, devices, methods, script=""):
    x, y = batch(13)  # in batches of 4 each worker gets 2, and of the last 1 the second gets none
    np.savez(folder / "data.npz", x=x, y=y, folder=str(folder))
    (folder / "script.py").write_text(TRAINING + script + TAIL)
    files = [str(folder / "script.py"), str(folder / "data.npz"), str(folder / "results{index}")]
    ended(started([*files, str(devices), *methods], folder), folder)
    return [json.loads((folder / f"results{index}").read_text()) for index in range(2)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return computed(tmp_path_factory.mktemp("trained"), 1, METHODS)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    return computed(tmp_path_factory.mktemp("measured"), 1, ["madry"], MEASURING)


def assert_near(actual, expected):
    assert len(actual) == len(expected) > 0
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_two_workers_take_the_steps_of_one_device(method, trained):
    """Weights and history after twelve steps, from the same random starts; the last batch does not divide evenly."""
    for result in trained:
        assert_near(result[f"{method} both"], result[f"{method} one"])
    assert trained[0][f"{method} both"] == trained[1][f"{method} both"]


def test_two_workers_of_two_devices_take_the_steps_of_one_device(tmp_path):
    """TensorFlow deals the parts of a batch out in another order than that of the replicas."""
    for result in computed(tmp_path, 2, ["ig_norm"]):
        assert_near(result["ig_norm both"], result["ig_norm one"])


def test_two_workers_evaluate_as_one_does(measured):
    for result in measured:
        assert_near([result["evaluated both"]], [result["evaluated one"]])


def test_a_batch_outside_the_bounds_is_refused_on_both(measured):
    for result in measured:
        assert "`x` must lie within `bounds`" in result["outside"]
        assert " to 3 " in result["outside"]


def test_workers_that_begin_from_other_weights_are_refused(measured):
    for result in measured:
        assert result["unlike"].startswith("All workers must begin from the same weights")


def test_batches_that_do_not_divide_evenly_are_refused(measured):
    """TensorFlow would deal some of their examples out twice."""
    message = "`batch_size` must be a multiple of the number of replicas, 2, where there are several workers. "
    for result in measured:
        assert result["uneven"] == message + "Received: batch_size=5"


def test_two_workers_report_what_one_does(measured):
    """Each attacks half of the batches, and both know all."""
    for result in measured:
        (table, findings), (expected, expected_findings) = result["report both"], result["report one"]
        assert table.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(table[name], values, rtol=0, atol=1e-5, err_msg=name)
        assert findings.keys() == expected_findings.keys()


def all_values(path):
    """Everything that a weights file holds, by name: weights, seeds, the state of the optimizer."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def test_a_worker_that_is_killed_costs_no_more_than_an_epoch(tmp_path):
    """SIGKILL in the middle of the training; all are started again, and end where those end that were not disturbed."""
    script = [str(ROOT / "examples/cluster.py"), "--epochs", "8", "--examples", "300", "--method", "ig_norm"]
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, killed):
        folder.mkdir()
    ended(started([*script, str(undisturbed)], undisturbed), undisturbed)

    workers, backup = started([*script, str(killed)], killed), killed / "backup" / "training_metadata.json"
    until = time.monotonic() + SECONDS
    while not (backup.exists() and '"epoch": 2' in backup.read_text()):
        assert time.monotonic() < until
        assert [worker.poll() for worker in workers] == [None, None], (killed / "log0").read_text()[-3000:]
        time.sleep(0.01)
    workers[1].send_signal(signal.SIGKILL)
    try:
        assert workers[0].wait(SECONDS) != 0  # its error ends the other one too
    finally:
        workers[0].kill()
    assert not (killed / "scores.npz").exists()
    assert backup.exists()

    ended(started([*script, str(killed)], killed), killed)
    assert "Epoch 1/8" not in (killed / "log0").read_text()  # it went on
    assert "Epoch 8/8" in (killed / "log0").read_text()
    actual, expected = (all_values(folder / "model.weights.h5") for folder in (killed, undisturbed))
    assert actual.keys() == expected.keys()
    assert any("optimizer" in name for name in expected)
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=0, atol=1e-5, err_msg=name)
    tables = [dict(np.load(folder / "scores.npz")) for folder in (killed, undisturbed)]
    for name, values in tables[1].items():
        np.testing.assert_allclose(tables[0][name], values, rtol=0, atol=1e-3, err_msg=name)
