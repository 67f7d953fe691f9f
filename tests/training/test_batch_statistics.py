"""Batch normalisation while maps are compared: its statistics are those of the network that is deployed."""

import warnings

import keras
import numpy as np
import pytest
from conftest import batch, dense_model, wrapped

import keras_rar
from keras_rar.networks.batch_statistics import are_there
from keras_rar.networks.output import head_of
from keras_rar.training import Phase, train

X, Y = batch(24)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
INTEGRATING = ["ig_norm", "ig_sum_norm", "ig_topk", "igr"]


def normalized(measured=True, dropout=0.0, kind=keras.layers.BatchNormalization):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(8), kind(name="bn", momentum=0.5), keras.layers.ReLU(), keras.layers.Dropout(dropout)]
    network = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(3)])
    if measured:
        network(X[:12] * 3, training=True)
    return network


def model_of(network, method="ig_topk", **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of statistics that were never measured
        return wrapped(method, network, keras.losses.SparseCategoricalCrossentropy(from_logits=True), **options)


def statistics(model):
    layer = keras_rar.unwrap(model).get_layer("bn")
    return np.stack([layer.moving_mean.numpy(), layer.moving_variance.numpy()])


def fit(model, **options):
    return model.fit(X, Y, **{"batch_size": 24, "shuffle": False, "verbose": 0, **options}).history


@pytest.mark.parametrize("method", INTEGRATING)
def test_frozen_after_a_training(method):
    model = model_of(normalized(), method)
    before, gamma = statistics(model), keras_rar.unwrap(model).get_layer("bn").gamma.numpy()
    fit(model)
    assert model.batch_statistics == "frozen"
    np.testing.assert_array_equal(statistics(model), before)
    assert np.any(gamma != keras_rar.unwrap(model).get_layer("bn").gamma)  # the scale is trained


def test_the_loss_is_that_of_the_deployed_network():
    """And, the negative control, it is not where statistics are updated."""
    for setting, same in (("frozen", True), ("updated", False)):
        model = model_of(normalized(), random_start=False, batch_statistics=setting)
        expected = np.mean(model.objective(X, model.perturb(X, Y), Y))
        assert np.isclose(fit(model)["loss"][0], expected, rtol=1e-4) == same


@pytest.mark.parametrize("chunk", [1, None])
@pytest.mark.slow
def test_the_same_update_in_parts(chunk):
    found = []
    for options in ({}, {"chunk": chunk}):
        model = model_of(normalized(), random_start=False, **options)
        fit(model)
        found.append(model.get_weights())
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["natural", "madry"])
def test_updated_where_no_map_is_trained(method):
    model = model_of(normalized(), method)
    before = statistics(model)
    fit(model)
    assert np.all(statistics(model) != before)


def test_updated_before_begin_and_frozen_after():
    model, seen = model_of(normalized(measured=False), begin=2), []
    fit(
        model,
        epochs=4,
        callbacks=keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: seen.append(statistics(model))),
    )
    assert np.all(seen[0] != seen[1])
    np.testing.assert_array_equal(seen[1], seen[3])


def test_from_the_start_on_a_network_that_was_never_trained():
    with pytest.warns(RuntimeWarning, match="never measured.*begin=0.8"):
        model = wrapped("ig_topk", normalized(measured=False))
    before = statistics(model)
    fit(model)
    assert model.batch_statistics == "updated"
    assert np.all(statistics(model) != before)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("network", [dense_model, normalized])
def test_no_warning_without_a_reason(network):
    wrapped("ig_topk", network())
    wrapped("madry", network())


def test_dropout_stays_as_it_is():
    model = model_of(normalized(dropout=0.5))
    head = head_of(model.base_model)
    passes = [head.classified(X, True)[0] for _ in range(2)]
    assert not np.allclose(*passes, atol=0.01)
    np.testing.assert_array_equal(statistics(model), statistics(model_of(model.base_model)))


def test_layers_that_the_user_froze_stay_so():
    network = normalized()
    network.get_layer("bn").trainable = False
    assert not are_there(network)
    model = model_of(network, batch_statistics="updated")
    before = statistics(model)
    fit(model)
    np.testing.assert_array_equal(statistics(model), before)


@keras.saving.register_keras_serializable("tests")
class WithPosition(keras.layers.BatchNormalization):
    """A subclass whose statistics are those of its base."""

    def call(self, inputs, training=None, mask=None):
        return 2 * super().call(inputs, training=training, mask=mask)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.bn, self.last = keras.layers.Dense(8), WithPosition(name="bn"), keras.layers.Dense(3)

    def call(self, inputs, training=None):
        return self.last(keras.ops.relu(self.bn(self.first(inputs), training=training)))

    def get_layer(self, name):
        return self.bn


@pytest.mark.parametrize("network", [Subclassed, lambda: normalized(kind=WithPosition), lambda: nested()])
def test_subclasses_and_models_within(network):
    network = network()
    network(X, training=True)
    model = model_of(network)
    before = statistics(model)
    fit(model)
    np.testing.assert_array_equal(statistics(model), before)


def nested():
    inner = normalized(measured=False)
    outer = keras.Sequential([keras.Input((4,)), inner, keras.layers.Dense(3)])
    outer.get_layer = inner.get_layer
    return outer


def test_the_decision_is_saved(tmp_path):
    """A file of a training from the start goes on as that would, though statistics were measured in the meantime."""
    for measured, expected in ((False, "updated"), (True, "frozen")):
        model = model_of(normalized(measured))
        fit(model)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        loaded.compile("sgd", LOSS)
        assert model.batch_statistics == loaded.batch_statistics == expected


@pytest.mark.slow
def test_phases_and_a_run_that_goes_on(tmp_path):
    """Statistics of the second phase are those that the first left, also where a run goes on within it."""
    ball = {"epsilon": 0.1, "steps": 1, "m": 2}
    phases = [Phase("madry", 1, ball), Phase("ig_topk", 3, {**ball, "k": 2})]
    seen = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: seen.append(moving(network)))

    def moving(network):
        return network.get_layer("bn").moving_mean.numpy()

    def stop(epoch, logs):
        if epoch == 1:
            raise InterruptedError

    options = {"batch_size": 8, "verbose": 0}
    network = normalized(measured=False)
    train(network, X, Y, phases, callbacks=[note], folder=tmp_path / "whole", **options)
    assert np.any(seen[0])
    np.testing.assert_array_equal(seen[0], seen[-1])
    whole = network.get_weights()

    network, breaker = normalized(measured=False), keras.callbacks.LambdaCallback(on_epoch_end=stop)
    with pytest.raises(InterruptedError):
        train(network, X, Y, phases, callbacks=[breaker], folder=tmp_path / "stopped", **options)
    network = normalized(measured=False)
    train(network, X, Y, phases, callbacks=[note], folder=tmp_path / "stopped", **options)
    for a, b in zip(network.get_weights(), whole, strict=True):
        np.testing.assert_array_equal(a, b)


def test_unknown_settings():
    with pytest.raises(ValueError, match=r"batch_statistics.*auto.*frozen.*updated"):
        keras_rar.wrap(dense_model(), batch_statistics="frosen")
