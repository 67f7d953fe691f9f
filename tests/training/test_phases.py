"""`train` as a Keras user would expect it: what it takes, what it shows and what it returns."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import some_slow
from phased import NATURAL, ONE_HOT, SGD, WEIGHTS, X, Y, network, trained, weights

import keras_rar
from keras_rar.training import Phase, Plan, TrainingResult, defaults, shuffled

# What it takes


def by_hand(loss, y=Y, **options):
    """The same training with `wrap`, `compile` and `fit`."""
    net = network(options.pop("output", None))
    model = keras_rar.wrap(net, "natural", seed=0)
    model.compile(keras.optimizers.SGD(0.1), loss)
    stream = shuffled(X, y, 8, sample_weight=options.pop("sample_weight", None)).stream()
    model.fit(stream, steps_per_epoch=3, epochs=2, verbose=0, **options)
    return weights(net)


CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
CASES = {
    "logits": ({}, {}, CROSSENTROPY),
    "sample weights": ({"sample_weight": WEIGHTS}, {"sample_weight": WEIGHTS}, CROSSENTROPY),
    "class weights": (
        {"class_weight": {0: 0.0, 1: 1.0, 2: 3.0}},
        {"class_weight": {0: 0.0, 1: 1.0, 2: 3.0}},
        CROSSENTROPY,
    ),
    "probabilities": ({"net": "softmax"}, {"output": "softmax"}, "sparse_categorical_crossentropy"),
    "one-hot": ({"y": ONE_HOT}, {"y": ONE_HOT}, keras.losses.CategoricalCrossentropy(from_logits=True)),
    "a loss": (
        {"y": ONE_HOT, "loss": keras.losses.CategoricalFocalCrossentropy(from_logits=True)},
        {"y": ONE_HOT},
        keras.losses.CategoricalFocalCrossentropy(from_logits=True),
    ),
}


@pytest.mark.parametrize("case", some_slow(CASES, list(CASES)[::2]))
def test_it_trains_as_compile_and_fit_do(case):
    arguments, of_fit, loss = CASES[case]
    net = network(arguments.get("net"))
    arguments = {name: value for name, value in arguments.items() if name != "net"}
    trained(net, **arguments, **SGD)
    np.testing.assert_array_equal(weights(net), by_hand(loss, **of_fit))
    if case in ("sample weights", "class weights", "a loss"):
        assert np.abs(weights(net) - by_hand(CROSSENTROPY)).max() > 1e-6  # it is not left out


@pytest.mark.parametrize(
    ("output", "classes", "y", "expected"),
    [
        (None, 3, Y, ("SparseCategoricalCrossentropy", True)),
        (None, 3, Y[:, None], ("SparseCategoricalCrossentropy", True)),
        ("softmax", 3, Y, ("SparseCategoricalCrossentropy", False)),
        ("softmax", 3, ONE_HOT, ("CategoricalCrossentropy", False)),
        (None, 1, Y % 2, ("BinaryCrossentropy", True)),
        ("sigmoid", 1, Y[:, None] % 2, ("BinaryCrossentropy", False)),
    ],
)
def test_the_loss_fits_the_network_and_the_labels(output, classes, y, expected):
    loss = defaults.loss_for(network(output, classes), shuffled(X, y, 8).stream().element_spec)
    assert (type(loss).__name__, loss.get_config()["from_logits"]) == expected


def test_the_accuracy_of_one_logit_is_decided_at_zero():
    assert float(defaults.accuracy_of(network(classes=1))([[1.0], [0.0]], [[0.2], [-0.2]])) == 1
    assert float(defaults.accuracy_of(network(classes=1))([[1.0], [0.0]], [[-0.2], [0.2]])) == 0
    assert defaults.accuracy_of(network()) == defaults.accuracy_of(network("sigmoid", 1)) == "accuracy"


@pytest.mark.parametrize("kind", ["arrays", "batches"])
def test_validation_data_are_evaluated_after_every_epoch(kind):
    data = {
        "arrays": (X, Y),
        "batches": shuffled(X, Y, 8),
    }[kind]
    net, result = trained(phases=[Phase("natural", 1), Phase("natural", 2)], validation_data=data, **SGD)
    assert [len(history["val_loss"]) for history in result.history] == [1, 2]
    loss = float(keras.ops.mean(CROSSENTROPY(Y, net(X))))
    assert result.history[1]["val_loss"][-1] == pytest.approx(loss, rel=1e-5)


def test_the_result_has_a_history_per_phase_and_the_seconds():
    seen = []
    watch = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(epoch))
    phases = [Phase("natural", 2), Phase(keras_rar.MadryRegularizer(epsilon=0.1, steps=1), 1)]
    _, result = trained(phases=phases, callbacks=watch, metrics=["accuracy", "sparse_top_k_categorical_accuracy"])
    assert isinstance(result, TrainingResult)
    assert result.seconds > 0
    assert result.skipped_updates == 0
    assert [sorted(history) for history in result.history] == [
        ["accuracy", "clean_loss", "loss", "sparse_top_k_categorical_accuracy"],
        ["accuracy", "loss", "perturbed_loss", "sparse_top_k_categorical_accuracy"],
    ]
    assert [len(history["loss"]) for history in result.history] == [2, 1]
    assert seen == [0, 1, 0]


def test_it_says_which_phase_of_how_many_runs(capsys, tmp_path):
    phases = [Phase("natural", 1), Phase("natural", 2)]
    trained(phases=phases, verbose=2, folder=tmp_path)
    out = capsys.readouterr().out
    assert "Phase 1 of 2: natural, 1 epoch\n" in out
    assert "Phase 2 of 2: natural, 2 epochs\n" in out
    assert "Epoch 2/2" in out
    trained(phases=phases, verbose=2, folder=tmp_path)
    assert "Phase 1 of 2: natural, 1 epoch, finished before\n" in capsys.readouterr().out
    trained(phases=NATURAL)
    assert capsys.readouterr().out == ""


def test_a_plan_stands_for_its_arguments():
    plan = Plan(NATURAL, learning_rate=0.01, batch_size=8, schedule="constant", average=False)
    one, _ = trained(phases=plan, batch_size=None)
    two, _ = trained(learning_rate=0.01, schedule="constant", average=False)
    np.testing.assert_array_equal(weights(one), weights(two))
    with pytest.raises(ValueError, match="`average` must be left out with a Plan"):
        trained(phases=plan, batch_size=None, average=True)


@pytest.mark.parametrize("optimizer", ["sgd", keras.optimizers.SGD(0.05, momentum=0.9)])
def test_the_settings_of_an_optimizer_are_used_but_not_the_object(optimizer):
    rates = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            rates.append((float(self.model.optimizer.learning_rate), type(self.model.optimizer)))
            assert self.model.optimizer is not optimizer

    own = float(keras.optimizers.get(optimizer).learning_rate)
    trained(optimizer=optimizer, schedule="constant", callbacks=[Watch()])
    trained(optimizer=optimizer, schedule="constant", learning_rate=0.5, callbacks=[Watch()])
    assert [rate for rate, _ in rates] == pytest.approx([own, own, 0.5, 0.5])
    assert {kind for _, kind in rates} == {keras.optimizers.SGD}


DECAY = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
ENDLESS = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8).repeat()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"phases": None}, "`phases` must be one Phase or more"),
        ({"phases": Phase("natural", 1)}, "`phases` must be one Phase or more"),
        ({"y": None}, "Labels are needed"),
        ({"y": Y[:5]}, "`y` must hold one label per example, 24. Received: 5"),
        ({"sample_weight": WEIGHTS[:5]}, "`sample_weight` must hold one weight per example, 24"),
        ({"x": X[:0], "y": Y[:0]}, "`x` must hold at least one example"),
        ({"x": ENDLESS, "y": None}, "known number of batches.*Received: one without end"),
        ({"x": ENDLESS.take(3).filter(lambda x, y: True), "y": None}, "known number.*Received: an unknown number"),
        ({"x": ENDLESS.take(0), "y": None}, "known number of batches.*Received: an empty data set"),
        ({"x": ENDLESS.take(3)}, "`y` must be left out"),
        ({"x": ENDLESS.take(3), "y": None, "batch_size": 4}, "`batch_size` must be left out"),
        ({"x": ENDLESS.take(3).map(lambda x, y: x), "y": None}, "Labels are needed"),
        ({"x": iter([(X, Y)]), "y": None}, "`x` must be arrays, Batches or a finite tf.data.Dataset"),
        ({"validation_data": X}, r"`validation_data` must be \(x, y\)"),
        ({"optimizer": keras.optimizers.SGD(DECAY)}, '`schedule` must be "constant" for an optimizer with'),
        (
            {"optimizer": keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())},
            "`optimizer` must be one without loss scaling",
        ),
        ({"learning_rate": -1.0}, "`learning_rate` must be a positive float"),
        ({"seed": 0.5}, "`seed` must be an integer"),
        ({"phases": [Phase("natural", 1), Phase("madry", 1, {"epsilom": 1})]}, "epsilom"),
        ({"phases": [Phase("madry", 1), Phase("madry", 1, {"epsilon": -1})]}, "`epsilon` must be"),
    ],
)
def test_what_does_not_go_is_refused_before_any_training(options, match):
    net = network()
    before = weights(net)
    with pytest.raises((TypeError, ValueError), match=match):
        trained(net, **options)
    np.testing.assert_array_equal(weights(net), before)


def test_a_rate_of_the_optimizers_own_is_left_alone():
    net, _ = trained(optimizer=keras.optimizers.SGD(DECAY), schedule="constant", average=False)
    other, _ = trained(**SGD)
    assert np.abs(weights(net) - weights(other)).max() > 1e-5
