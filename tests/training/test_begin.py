"""`begin`: adversarial training first, at its cost, then the attribution term, within one `fit`."""

import json
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, dense_model, some_slow, wrapped

import keras_rar

X, Y = batch(8)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
EAGERLY = {"run_eagerly": True}


class Noted(keras_rar.IGTopKRegularizer):
    """Writes down each evaluation of the objective in an update: the training step of the optimizer."""

    def objective(self, terms):
        self.seen.append(int(terms.step))
        return super().objective(terms)


def noted(begin, **options):
    """A model whose regularizer writes down the steps that the attribution term took part in."""
    Noted.seen = []
    regularizer = Noted(begin=begin, steps=1, ascend="loss", random_start=False)
    model = keras_rar.wrap(dense_model(), regularizer)
    Noted.seen.clear()  # of the probe
    model.compile("sgd", LOSS, **{"run_eagerly": True, **options})
    return model


def fit(model, *data, **options):
    return model.fit(*(data or (X, Y)), **{"batch_size": 4, "shuffle": False, "verbose": 0, **options}).history


def steps(begin, *data, **options):
    model = noted(begin)
    fit(model, *data, **options)
    return Noted.seen


@pytest.fixture(scope="module")
def runs():
    """Two epochs before the term and one with it; the same by two models, one after the other."""
    keras.utils.set_random_seed(0)
    first = dense_model()
    second = keras.models.clone_model(first)
    second.set_weights(first.get_weights())
    whole = wrapped("ig_topk", first, begin=2, compile={"metrics": ["accuracy"]})
    history = fit(whole, epochs=3)
    madry = wrapped("madry", second, m=3, compile={"metrics": ["accuracy"]})
    before = fit(madry, epochs=2)
    after = wrapped("ig_topk", second, compile={"metrics": ["accuracy"]})
    after.seed_generator.state.assign(madry.seed_generator.state)
    return whole, history, after, before, fit(after)


def test_before_begin_as_madry_and_then_as_the_method(runs):
    whole, history, after, before, then = runs
    for name in ("loss", "perturbed_loss", "accuracy"):
        np.testing.assert_allclose(history[name], before[name] + then[name], rtol=1e-6)  # compiled apart
    for actual, expected in zip(whole.get_weights(), after.get_weights(), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-7)
    assert then["map_distance"][0] > 0


def test_a_term_that_was_not_measured_is_nan_under_the_same_key(runs):
    history = runs[1]
    assert set(history) == {"loss", "perturbed_loss", "map_distance", "accuracy"}
    assert {len(values) for values in history.values()} == {3}
    np.testing.assert_array_equal(np.isnan(history["map_distance"]), [True, True, False])
    assert np.isfinite([history["loss"], history["perturbed_loss"]]).all()


@pytest.mark.parametrize(
    ("begin", "options", "expected"),
    [
        (0, {"epochs": 2}, [0, 1, 2, 3]),
        (1, {"epochs": 2}, [2, 3]),
        (2, {"epochs": 2}, []),
        (np.int64(1), {"epochs": 2}, [2, 3]),
        (0.5, {"epochs": 1}, [1]),
        (0.5, {"epochs": 3}, [3, 4, 5]),
        (0.34, {"epochs": 3}, [3, 4, 5]),  # step 2.04 of 6
        (0.75, {"epochs": 2, "batch_size": 2}, [6, 7]),
        (3, {"epochs": 4, "initial_epoch": 3}, [0, 1]),
        (0.75, {"epochs": 4, "initial_epoch": 2}, [2, 3]),  # epochs 2 and 3 are run
        (1, {"epochs": 2, "steps_per_epoch": 1}, [1]),
    ],
    ids=str,
)
def test_the_steps_that_the_term_takes_part_in(begin, options, expected):
    assert steps(begin, **options) == expected


def test_a_share_of_data_of_unknown_length_begins_with_an_epoch():
    signature = (tf.TensorSpec((None, 4)), tf.TensorSpec((None,), tf.int64))
    data = tf.data.Dataset.from_generator(lambda: iter([(X, Y), (X, Y)]), output_signature=signature)
    assert steps(0.4, data, batch_size=None, epochs=3) == [4, 5]  # 1.2 epochs


def test_resumed_after_an_interruption_it_begins_where_it_would_have(tmp_path):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise InterruptedError

    model = noted(3)
    with pytest.raises(InterruptedError):
        fit(model, epochs=4, callbacks=[keras.callbacks.BackupAndRestore(tmp_path), Interrupt()])
    assert Noted.seen == []
    fit(noted(3), epochs=4, callbacks=[keras.callbacks.BackupAndRestore(tmp_path)])
    assert Noted.seen == [6, 7]


def test_a_step_outside_fit_is_of_the_whole_objective():
    model = noted(5)
    logs = model.train_on_batch(X, Y, return_dict=True)
    assert Noted.seen == [0]
    assert np.isfinite(logs["map_distance"])


@pytest.mark.slow
def test_several_steps_per_call():
    """The term begins with a call: that of the steps 2 and 3 for a beginning at step 1."""
    model = wrapped("ig_topk", begin=0.25, compile={"steps_per_execution": 2}, steps=1)
    history = fit(model, batch_size=2)
    assert np.isfinite(history["map_distance"]).all()
    assert fit(wrapped("ig_topk", begin=0.99, compile={**EAGERLY}, steps=1), batch_size=8)["map_distance"] == [
        pytest.approx(np.nan, nan_ok=True)
    ]


@pytest.mark.slow
def test_nothing_is_traced_again():
    traces = []

    class Traced(keras.layers.Layer):
        def call(self, inputs):
            traces.append(1)
            return inputs

    base_model = keras.Sequential([keras.Input((4,)), Traced(), keras.layers.Dense(3)])
    model = wrapped("ig_topk", base_model, begin=1, k=2, steps=1)
    fit(model, epochs=2)
    first = len(traces)
    fit(model, epochs=4)
    assert len(traces) == first


def test_validation_and_evaluation_do_not_depend_on_it():
    model = noted(1)
    history = fit(model, epochs=2, validation_data=(X, Y))
    assert {"val_loss"} == {name for name in history if name.startswith("val_")}
    assert history["val_loss"][-1] == pytest.approx(model.evaluate(X, Y, verbose=0))


def test_it_is_kept_in_a_file(tmp_path):
    model = wrapped("ig_norm", begin=0.5, compile=EAGERLY)
    fit(model, epochs=2)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.regularizer.begin == 0.5
    histories = [fit(each, epochs=2) for each in (model, loaded)]
    assert histories[0].keys() == histories[1].keys() == {"loss", "clean_loss", "perturbed_loss", "ig_l1"}
    for name in histories[0]:
        np.testing.assert_allclose(*(history[name] for history in histories), rtol=1e-6)
    assert json.loads(json.dumps(model.regularizer.get_config()))["begin"] == 0.5


# Callbacks


@pytest.mark.parametrize("in_list", [False, True])
def test_the_best_epoch_is_one_with_the_term(in_list, tmp_path):
    """The loss rises by the term when it begins: an epoch before would count as the best."""
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.weights.h5", "loss", save_best_only=True, save_weights_only=True
    )
    stop = keras.callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)
    model = wrapped("ig_topk", begin=2, factor=100.0, optimizer=keras.optimizers.SGD(0.0), compile=EAGERLY)
    callbacks = [best, stop]
    if in_list:
        callbacks = keras.callbacks.CallbackList(callbacks, add_history=True, model=model, epochs=4, steps=2)
    history = model.fit(X, Y, batch_size=4, epochs=4, verbose=0, callbacks=callbacks).history
    assert history["loss"][0] < min(history["loss"][2:])  # negative control
    assert best.best == pytest.approx(min(history["loss"][2:]))
    assert stop.best == pytest.approx(min(history["loss"][2:]))
    if in_list:
        assert len(callbacks.callbacks) == 3


def test_a_term_that_is_watched_is_not_nan_for_ever():
    stop = keras.callbacks.EarlyStopping("map_distance", mode="min", patience=5)
    model = wrapped("ig_topk", begin=1, compile=EAGERLY)
    history = fit(model, epochs=3, callbacks=[stop])
    assert stop.best == pytest.approx(min(history["map_distance"][1:]))


# What is refused


@pytest.mark.parametrize("method", ["natural", "madry"])
@pytest.mark.parametrize("begin", [2, 0.5])
def test_a_method_without_an_attribution_term_has_no_begin(method, begin):
    with pytest.raises(
        ValueError, match=f"`begin` must be 0 for a method without an attribution term. .*begin={begin}"
    ):
        keras_rar.wrap(dense_model(), method, begin=begin)


@pytest.mark.parametrize("begin", [-1, 1.0, 0.0, 1.5, float("nan"), float("inf")])
def test_begin_out_of_range(begin):
    with pytest.raises(ValueError, match=r"`begin` must be a number of epochs, an integer >= 0, or a share .*Received"):
        keras_rar.IGTopKRegularizer(begin=begin)


@pytest.mark.parametrize("begin", ["half", True, None, [1]])
def test_begin_of_another_type(begin):
    with pytest.raises(TypeError, match=r"`begin` must be a number of epochs.*Received"):
        keras_rar.IGTopKRegularizer(begin=begin)


@pytest.mark.parametrize(("begin", "epochs"), some_slow([(2, 2), (0.5, 1)], [(2, 2)]))
def test_a_training_that_ends_before_the_term_says_so(begin, epochs):
    """It was trained as by another method; the same with an epoch or a step more says nothing."""
    with pytest.warns(RuntimeWarning, match=r"The attribution term never began in this `fit`: begin="):
        fit(wrapped("ig_topk", begin=begin, k=1), epochs=epochs, batch_size=12)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        fit(wrapped("ig_topk", begin=begin, k=1), epochs=epochs + 1, batch_size=12)
        fit(wrapped("ig_topk", k=1))
