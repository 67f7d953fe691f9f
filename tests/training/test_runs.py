"""A training that is kept in a folder: how it goes on, what it belongs to, and damaged files."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, dense_model, some_slow
from phased import SGD, WEIGHTS, StopAfter, X, Y, network, stopped, trained, weights

from keras_rar.training import Batches, Phase
from keras_rar.training.sources import OfDataset

# How it goes on


def random_network():
    """With seeds wherever Keras has them: dropout, noise, a nested model, augmentation."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.Sequential([keras.layers.RandomFlip(), keras.layers.RandomRotation(0.2)]),
            keras.layers.GaussianNoise(0.1),
            keras.layers.Flatten(),
            keras.layers.Dense(8, "relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3),
        ]
    )


IMAGES = batch(24, (4, 4, 1))[0]


@pytest.mark.parametrize("after", [pytest.param(0, marks=pytest.mark.slow), 1, pytest.param(3, marks=pytest.mark.slow)])
def test_random_layers_go_on_as_if_the_run_had_not_been_stopped(tmp_path, after):
    """Also where it was stopped before anything was kept, and with another seed of the layers."""
    phases = [Phase("natural", 2), Phase("natural", 2)]
    whole, _ = trained(random_network(), IMAGES, phases=phases)
    stopped(after, random_network(), x=IMAGES, phases=phases, folder=tmp_path)
    again = random_network()
    for layer in again.layers:
        if hasattr(layer, "seed_generator"):
            layer.seed_generator.state.assign([77, 7])
    trained(again, IMAGES, phases=phases, folder=tmp_path)
    np.testing.assert_array_equal(weights(again), weights(whole))


def test_the_network_that_was_stopped_goes_on_itself(tmp_path):
    """In a notebook the weights are those in the middle of an epoch: the kept ones are taken."""
    whole, result = trained(phases=[Phase("natural", 4)])
    net = network()
    stopped(2, net, phases=[Phase("natural", 4)], folder=tmp_path)
    net.set_weights([value + 1 for value in net.get_weights()])
    _, same = trained(net, phases=[Phase("natural", 4)], folder=tmp_path)
    np.testing.assert_array_equal(weights(net), weights(whole))
    assert same.history == result.history  # of both runs


def monitored(**options):
    """Callbacks that remember the best value: one lowers the rate, the other ends the phase, with the best weights."""
    monitor = {"monitor": "val_loss", "mode": "min", "min_delta": 10.0}  # never better, so that they act
    plateau = keras.callbacks.ReduceLROnPlateau(patience=2, factor=0.1, **monitor)
    stop = keras.callbacks.EarlyStopping(patience=4, restore_best_weights=True, **monitor)
    data = {"validation_data": (X, Y), "phases": [Phase("natural", 9), Phase("natural", 1)]}
    return {**SGD, **data, "callbacks": [plateau, stop, *options.pop("callbacks", [])], **options}


@pytest.mark.parametrize("after", some_slow([1, 3, 4], [1]))
def test_callbacks_go_on_as_if_the_run_had_not_been_stopped(tmp_path, after):
    whole, result = trained(**monitored())
    assert 3 < len(result.history[0]["loss"]) < 9
    assert len(set(result.history[0]["learning_rate"])) > 1
    stopped(after, network(), **monitored(folder=tmp_path))
    again, same = trained(**monitored(folder=tmp_path))
    assert same.history == result.history
    np.testing.assert_array_equal(weights(again), weights(whole))


def test_a_phase_that_a_callback_ended_is_not_gone_on_with(tmp_path, monkeypatch):
    """Killed after its last epoch was kept, before it was finished."""
    whole, result = trained(**monitored())
    finalize = keras.Model.fit

    def killed(self, *args, **options):
        finalize(self, *args, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(**monitored(folder=tmp_path))
    assert not list(tmp_path.glob("*finished*"))
    again, same = trained(**monitored(folder=tmp_path))
    assert same.history == result.history
    np.testing.assert_array_equal(weights(again), weights(whole))


def dataset(seed=None, shuffle=True, x=X):
    batches = tf.data.Dataset.from_tensor_slices((x, Y))
    return (batches.shuffle(24, seed=seed) if shuffle else batches).batch(8)


@pytest.mark.parametrize("shuffle", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_data_set_goes_on_in_its_order(tmp_path, shuffle):
    options = {"y": None, "phases": [Phase("natural", 2), Phase("natural", 2)]}
    whole, _ = trained(x=dataset(3, shuffle), **options)
    stopped(3, network(), x=dataset(3, shuffle), folder=tmp_path, **options)
    again, _ = trained(x=dataset(3, shuffle), folder=tmp_path, **options)
    np.testing.assert_array_equal(weights(again), weights(whole))


def test_each_epoch_of_a_data_set_is_passed_through_once():
    """Also if `fit` makes iterators that it does not use: a shuffle counts them."""
    source = OfDataset(dataset(3), watched=True)
    data = source.start(0)["x"]
    orders = []
    for _ in range(2):
        iter(data)
        orders.append(np.concatenate([labels.numpy() for _, labels in data]))
    expected = dataset(3)
    for order in orders:
        np.testing.assert_array_equal(order, np.concatenate([labels.numpy() for _, labels in expected]))
    assert not np.array_equal(*orders)


@pytest.mark.parametrize("other", ["order", "values"])
def test_a_data_set_that_gives_other_batches_is_refused(tmp_path, other):
    stopped(1, network(), x=dataset(3), y=None, folder=tmp_path)
    data = dataset(4) if other == "order" else dataset(3, x=X + 1)
    with pytest.raises(ValueError, match=r"`x` must give the batches that it gave .*`shuffle\(…, seed=…\)`.* epoch 1"):
        trained(x=data, y=None, folder=tmp_path)


# What the folder belongs to


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    keras.utils.set_random_seed(0)
    trained(folder=folder)
    return folder


def reseeded():
    keras.utils.set_random_seed(5)
    return dense_model()


OTHERS = {
    "other values": ({"x": X + 1}, r"data\.content\.x .*float32 \(24, 4\), content \w+.*now float32"),
    "other labels": ({"y": Y[::-1]}, r"data\.content\.y"),
    "fewer": ({"x": X[:20], "y": Y[:20]}, r"data\.rows \(then 24, now 20\)"),
    "double": ({"x": X.astype("float64")}, r"data\.content\.x .*float64"),
    "weights": ({"sample_weight": WEIGHTS}, r"data\.content\.sample_weight \(then none"),
    "batch size": ({"batch_size": 4}, r"data\.batch_size \(then 8, now 4\)"),
    "activation": ({"net": lambda: network(activation="relu")}, r"network \(then Sequential, 67 parameters, arch"),
    "width": ({"net": lambda: network(classes=4)}, r"network .*then Sequential, 67 parameters.*76 parameters"),
    "initial weights": ({"net": reseeded}, r"`network` must be the one .*other initial weights.*initial\.npz"),
    "rate": ({"learning_rate": 0.5}, r"learning_rate \(then 0\.002, now 0\.5\)"),
    "optimizer": ({"optimizer": "sgd"}, r"optimizer\[0\] \(then Adam, now SGD\)"),
    "loss": ({"loss": keras.losses.SparseCategoricalCrossentropy(True, ignore_class=None, name="x")}, None),
    "class weights": ({"class_weight": {0: 1.0, 1: 1.0, 2: 2.0}}, r"class_weight"),
    "phases": ({"phases": [Phase("natural", 3)]}, r"phases\[0\]\.epochs \(then 2, now 3\)"),
    "option": ({"phases": [Phase("natural", 2, {"bounds": (0, 2)})]}, r"phases\[0\]\.options"),
    "seed": ({"seed": 1}, r"seed \(then 0, now 1\)"),
    "names": ({"net": lambda: named()}, None),
}


def named():
    keras.utils.set_random_seed(0)
    dense_model()  # so that the layers are named otherwise
    return network()


@pytest.mark.parametrize("case", OTHERS)
def test_a_folder_knows_its_data_network_and_settings(kept, case):
    options, match = OTHERS[case]
    options = {**options, "net": options.get("net", network)()}
    if match is None:
        trained(**options, folder=kept)
        return
    with pytest.raises(ValueError, match=match) as error:
        trained(**options, folder=kept)
    assert "\n" not in str(error.value)
    assert str(kept) in str(error.value)


def test_arrays_in_options_are_told_apart_by_their_content(tmp_path):
    base = np.zeros(4)
    for value in (base, base + 1e-3):
        phases = [Phase("igr", 1, {"baseline": value, "steps": 1})]
        if value is base:
            claimed = phases
    with pytest.raises(KeyboardInterrupt):
        trained(phases=claimed, folder=tmp_path, callbacks=[StopAfter(0)])
    with pytest.raises(ValueError, match=r"phases\[0\]\.options\.baseline"):
        trained(phases=phases, folder=tmp_path)


def test_batches_of_ones_own_are_known_by_their_first_batch(tmp_path):
    def made(x):
        x = tf.constant(x)
        return Batches(24, lambda rows, number: (tf.gather(x, rows), tf.gather(tf.constant(Y), rows)), 8)

    stopped(0, network(), x=made(X), y=None, folder=tmp_path)
    stopped(0, network(), x=made(X), y=None, folder=tmp_path)
    with pytest.raises(ValueError, match=r"data\.content\[0\].*mean"):
        trained(x=made(X + 1), y=None, folder=tmp_path)


# Damaged files


@pytest.mark.parametrize(
    "name", ["training.json", "initial.npz", "phase0-finished.state.npz", "phase0-finished.weights.h5"]
)
@pytest.mark.parametrize("damage", ["truncated", "empty", "other"])
def test_a_damaged_file_is_named_in_one_line(kept, tmp_path, name, damage):
    for file in kept.iterdir():
        content = file.read_bytes()
        damaged = {"truncated": content[: len(content) // 2], "empty": b"", "other": b"[1, 2]"}[damage]
        (tmp_path / file.name).write_bytes(damaged if file.name == name else content)
    with pytest.raises(ValueError, match=f"must hold whole files. Received: .*{name}, which is damaged") as error:
        trained(folder=tmp_path)
    assert "\n" not in str(error.value)
    assert error.value.__suppress_context__
    assert "delete it" in str(error.value) or "new folder" in str(error.value)


@pytest.mark.slow
def test_a_damaged_state_may_be_deleted(tmp_path):
    """As the message says: the run goes on from the state before."""
    phases = [Phase("natural", 1), Phase("natural", 2)]
    whole, _ = trained(phases=phases)
    stopped(2, network(), phases=phases, folder=tmp_path)
    (tmp_path / "phase1-1.weights.h5").write_bytes(b"")
    with pytest.raises(ValueError, match=r"delete it and phase1-1\.state\.npz"):
        trained(phases=phases, folder=tmp_path)
    for name in ("phase1-1.weights.h5", "phase1-1.state.npz"):
        (tmp_path / name).unlink()
    again, _ = trained(phases=phases, folder=tmp_path)
    np.testing.assert_array_equal(weights(again), weights(whole))
