"""Training in phases: one learning rate, averaged weights, and going on where a run was stopped."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import some_slow

from keras_rar.paper import published_fit
from keras_rar.training import Batches, Phase, shuffled, train

PHASES = [Phase("madry", 2), Phase("igr", 2, {"steps": 1})]
RNG = np.random.default_rng(0)
X, Y = RNG.uniform(size=(24, 4)).astype("float32"), np.arange(24) % 3


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])


def trained(monkeypatch, phases=PHASES, watch=None, **options):
    """A network after training; `watch(model, logs)` is called after each epoch."""
    fit = keras.Model.fit
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: watch(callback.model, epoch))

    def watched_fit(self, *args, callbacks=(), **kwargs):
        return fit(self, *args, callbacks=[*callbacks, *([callback] if watch else [])], **kwargs)

    net = network()
    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", watched_fit)
        result = train(net, X, Y, phases, batch_size=8, verbose=0, **options)
    return net, result.seconds


def weights(net):
    return np.concatenate([value.ravel() for value in net.get_weights()])


def test_the_rate_rises_and_falls_once_over_all_phases(monkeypatch):
    rates = []
    watch = lambda model, epoch: rates.append(float(model.optimizer.learning_rate))  # noqa: E731
    trained(monkeypatch, watch=watch, schedule="one_cycle")
    assert len(rates) == 4
    assert np.argmax(rates) == 0  # the rise took the first of twelve updates
    assert np.all(np.diff(rates) < 0)
    assert rates[-1] == pytest.approx(2e-3 / 50, rel=1e-3)


def test_the_rate_rises_and_falls_in_every_phase(monkeypatch):
    """And each phase begins with a new optimizer, from averages."""
    rates, seen = [], []

    def watch(model, epoch):
        rates.append(float(model.optimizer.learning_rate))
        seen.append((int(model.optimizer.iterations), model.optimizer))

    trained(monkeypatch, watch=watch)
    assert [rates[1], rates[3]] == pytest.approx([2e-3 / 50] * 2, rel=1e-3)
    assert min(rates[0], rates[2]) > 1e-3
    assert [iterations for iterations, _ in seen] == [3, 6, 3, 6]
    assert seen[1][1] is not seen[2][1]


@pytest.mark.parametrize("schedule", ["one_cycle", "cycles"])
def test_which_phases_end_in_averages(monkeypatch, schedule):
    used = []
    trained(monkeypatch, watch=lambda model, epoch: used.append(model.optimizer.use_ema), schedule=schedule)
    assert used == [schedule == "cycles"] * 2 + [True] * 2


def test_the_weights_of_the_last_phase_are_averages(monkeypatch):
    """Found again by hand from the weights after each update; they are not the last ones."""
    steps, phases = [], [Phase("natural", 1), Phase("natural", 20)]
    update = keras.optimizers.Adam.apply

    def watched(self, gradients, variables=None):
        update(self, gradients, variables)
        tf.py_function(lambda *now: steps.append(np.concatenate([np.ravel(v) for v in now])), list(variables), [])

    monkeypatch.setattr(keras.optimizers.Adam, "apply", watched)
    net, _ = trained(monkeypatch, phases=phases, schedule="one_cycle")
    averaged = 60 // 20
    expected = steps[3]
    for now in steps[3:]:
        expected = (1 - 1 / averaged) * expected + now / averaged
    np.testing.assert_allclose(weights(net), expected, rtol=1e-5, atol=1e-7)
    assert np.abs(expected - steps[-1]).max() > 1e-6


def test_the_rate_may_be_constant(monkeypatch):
    rates = []
    watch = lambda model, epoch: rates.append(float(model.optimizer.learning_rate))  # noqa: E731
    trained(monkeypatch, watch=watch, schedule="constant", learning_rate=0.01)
    np.testing.assert_allclose(rates, 0.01, rtol=1e-6)


def test_without_averages_the_weights_are_those_of_the_last_update(monkeypatch):
    last = {}
    update = keras.optimizers.Adam.apply

    def watched(self, gradients, variables=None):
        update(self, gradients, variables)
        tf.py_function(lambda *now: last.update(weights=np.concatenate([np.ravel(v) for v in now])), variables, [])

    monkeypatch.setattr(keras.optimizers.Adam, "apply", watched)
    net, _ = trained(monkeypatch, phases=[Phase("natural", 20)], average=False)
    np.testing.assert_array_equal(weights(net), last["weights"])
    net, _ = trained(monkeypatch, phases=[Phase("natural", 20)])
    assert np.abs(weights(net) - last["weights"]).max() > 1e-6


@pytest.mark.parametrize("option", [{"schedule": "linear"}, {"average": 1}, {"batch_size": 0}])
def test_options_are_validated(option):
    with pytest.raises((TypeError, ValueError), match=f"`{next(iter(option))}` must be"):
        train(network(), X, Y, PHASES, **option)


@pytest.mark.parametrize(
    ("schedule", "stop"),
    [
        pytest.param("cycles", ("MadryRegularizer", 0), marks=pytest.mark.slow),
        pytest.param("cycles", ("MadryRegularizer", 1), marks=pytest.mark.slow),
        ("cycles", ("IGRRegularizer", 0)),
        pytest.param("one_cycle", ("IGRRegularizer", 0), marks=pytest.mark.slow),
        pytest.param("constant", ("MadryRegularizer", 0), marks=pytest.mark.slow),
        pytest.param("constant", ("IGRRegularizer", 0), marks=pytest.mark.slow),
    ],
)
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(monkeypatch, tmp_path, stop, schedule):
    whole, _ = trained(monkeypatch, folder=tmp_path / "whole", schedule=schedule)

    def interrupt(model, epoch):
        if (type(model.regularizer).__name__, epoch) == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(monkeypatch, folder=tmp_path / "parts", watch=interrupt, schedule=schedule)
    epochs, watch = [], lambda model, epoch: epochs.append(epoch)
    resumed, _ = trained(monkeypatch, folder=tmp_path / "parts", watch=watch, schedule=schedule)
    assert 0 < len(epochs) < 4  # not from the beginning
    np.testing.assert_array_equal(weights(resumed), weights(whole))
    assert np.abs(weights(whole) - weights(network())).max() > 1e-3  # it did train


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again_and_keeps_its_seconds(monkeypatch, tmp_path):
    net, seconds = trained(monkeypatch, folder=tmp_path)
    epochs = []
    again, same = trained(monkeypatch, folder=tmp_path, watch=lambda model, epoch: epochs.append(epoch))
    assert epochs == []
    assert seconds == same > 0
    np.testing.assert_array_equal(weights(again), weights(net))


def test_epochs_are_counted():
    with pytest.raises(ValueError, match="`epochs` must be a positive integer"):
        Phase("igr", 0)


def published(tmp_path, stop=None, updates=12):
    """Weights after training as published, and the labels that each update saw; ended after so many epochs."""
    net, seen = network(), []

    def make(rows, number):
        labels = tf.gather(tf.constant(Y), rows)
        tf.py_function(lambda now: seen.append(now.numpy().tolist()), [labels], [])
        return tf.gather(tf.constant(X), rows), labels

    fit = keras.Model.fit

    def stopped_fit(self, *args, epochs, **kwargs):
        fit(self, *args, epochs=min(epochs, stop or epochs), **kwargs)
        if stop is not None:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published_fit, "_KEPT_EVERY", 4)
        patch.setattr(keras.Model, "fit", stopped_fit)
        batches = Batches(24, make, 4, content=lambda: "rows")  # or the first batch would be made twice, to describe it
        options = {"updates": updates, "folder": tmp_path, "verbose": 0}
        try:
            published_fit.train_as_published(net, batches, "madry", "mnist", **options)
        except KeyboardInterrupt:
            assert stop is not None
    return weights(net), seen


@pytest.mark.parametrize("stop", some_slow([1, 2], [1]))
def test_the_papers_recipe_goes_on_in_the_middle_of_the_data(tmp_path, stop):
    """Kept every 4 updates of data that have 6 batches an epoch."""
    whole, seen = published(tmp_path / "whole")
    published(tmp_path / "parts", stop)
    resumed, rest = published(tmp_path / "parts")
    np.testing.assert_array_equal(resumed, whole)
    assert rest[: 12 - 4 * stop] == seen[4 * stop : 12]
    assert sorted(np.concatenate(seen[:6])) == sorted(Y)


def test_the_papers_recipe_is_trained_for_the_updates_it_is_told(tmp_path):
    updates = []
    update = keras.optimizers.Adam.apply
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published_fit, "_KEPT_EVERY", 4)
        with pytest.raises(ValueError, match="`updates` must be a multiple of 4, or less"):
            published_fit.train_as_published(network(), shuffled(X, Y, 8), "madry", "mnist", updates=6)

        def counted(self, *arguments):
            update(self, *arguments)
            tf.py_function(lambda: updates.append(1), [], [])

        patch.setattr(keras.optimizers.Adam, "apply", counted)
        published_fit.train_as_published(network(), shuffled(X, Y, 8), "madry", "mnist", updates=8, verbose=0)
    assert len(updates) == 8


def test_a_folder_of_other_settings_is_refused(monkeypatch, tmp_path):
    trained(monkeypatch, folder=tmp_path, phases=[Phase("natural", 1)])
    for changed in ({"learning_rate": 1e-3}, {"seed": 1}, {"phases": [Phase("natural", 2)]}, {"average": False}):
        with pytest.raises(ValueError, match="must be new, or of a run with the same settings"):
            trained(monkeypatch, folder=tmp_path, **{"phases": [Phase("natural", 1)], **changed})


def test_a_file_that_was_being_written_does_no_harm(monkeypatch, tmp_path):
    """Killed while it wrote, a run leaves a part, which the next one does not take for weights."""

    def killed(self, path, **options):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "save_weights", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(monkeypatch, folder=tmp_path)
    whole, _ = trained(monkeypatch)
    resumed, _ = trained(monkeypatch, folder=tmp_path)
    np.testing.assert_array_equal(weights(resumed), weights(whole))
    assert {path.name for path in tmp_path.glob("*.h5")} == {"phase0-finished.weights.h5", "phase1-finished.weights.h5"}
