"""`AttributionRobustness` in `fit`: what it writes, who reads it, and that training does not feel it."""

import csv
import dataclasses
import itertools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import conv_model, dense_model, wrapped

import keras_rar
from keras_rar.attacks import PGDAttack, RandomAttack, TopKAttack
from keras_rar.core.saliency_methods import IntegratedGradients, Saliency
from keras_rar.evaluation import callback as module
from keras_rar.evaluation.callback import AttributionRobustness

NAMES = ["kendall_tau", "spearman_rho", "topk_intersection", "adversarial_accuracy", "attacked"]
KEYS = ["val_" + name for name in NAMES]
X = np.random.default_rng(0).uniform(size=(24, 16)).astype("float32")
Y = X[:, :3].argmax(axis=1)  # can be learned, but not at once: some are right and some are wrong
HELD_OUT = X[:12], Y[:12]
QUICK = {"epsilon": 0.1, "steps": 2, "m": 2}


def compiled(base_model=None, learning_rate=0.1, **options):
    model = dense_model(features=16, activation="relu") if base_model is None else base_model
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(learning_rate), loss, **options)
    return model


def robust(**options):
    return wrapped("madry", dense_model(features=16, activation="relu"), **options)


def fit(model, *callbacks, epochs=1, **options):
    """The history of a short training, eight examples a batch."""
    return model.fit(X, Y, batch_size=8, epochs=epochs, callbacks=list(callbacks), verbose=0, **options).history


def by_hand(model, attack, pgd):
    """The same numbers from the attacks themselves."""
    found = attack(model, *HELD_OUT)
    assert 0 < found.correct.sum() < len(found.y)  # else "those classified correctly" would say nothing
    scores = [found.scores[name][found.correct].mean() for name in NAMES[:3]]
    robust = pgd(model, *HELD_OUT).robust
    return dict(zip(KEYS, [*scores, robust.mean(), found.correct.sum()], strict=True))


class Plain:
    """A model, and attacks that keep their compiled functions from test to test."""

    def __init__(self):
        self.model = compiled()
        self.weights = self.model.get_weights()
        self.attacks = {"attack": TopKAttack(2, 0.1, steps=2, m=2), "pgd": PGDAttack(0.1, steps=2)}

    def reset(self, learning_rate):
        keras.utils.set_random_seed(0)
        self.model.set_weights(self.weights)
        self.model.optimizer.learning_rate = learning_rate

    def fit(self, *after, data=HELD_OUT, learning_rate=0.1, epochs=1, before=(), **options):
        """The history from the same start, with a callback of these options, and others before and after it."""
        self.reset(learning_rate)
        return fit(self.model, *before, AttributionRobustness(*data, **self.attacks, **options), *after, epochs=epochs)


@pytest.fixture(scope="module")
def plain():
    keras.utils.set_random_seed(0)
    return Plain()


# The numbers


def test_every_setting_reaches_the_attacks():
    ball = {"epsilon": 0.4, "norm": "l2", "bounds": (-1.0, 1.05), "steps": 30}
    model = compiled()
    model.set_weights([4 * value for value in model.get_weights()])  # sure enough for small differences to show
    history = fit(model, AttributionRobustness(*HELD_OUT, m=3, k=5, **ball), epochs=2)
    expected = by_hand(model, TopKAttack(k=5, m=3, **ball), PGDAttack(**ball))  # a tenth of ε each, for many steps
    for key, value in expected.items():
        assert len(history[key]) == 2
        assert history[key][-1] == pytest.approx(value, rel=1e-5), key  # the same computation, compiled twice


@pytest.mark.slow
def test_a_wrapped_model_is_attacked_in_the_ball_it_is_trained_in():
    ball = {"epsilon": 0.3, "norm": "l2", "bounds": (-1.0, 2.0)}
    model = robust(**ball)
    history = fit(model, AttributionRobustness(*HELD_OUT, steps=2, m=2))
    settings = {"steps": 2, "step_size": 2.5 * 0.3 / 2, **ball}  # few steps are longer
    expected = by_hand(model, TopKAttack(k=2, m=2, **settings), PGDAttack(**settings))  # 2: an eighth of 16 entries
    for key, value in expected.items():
        assert history[key][-1] == pytest.approx(value, rel=1e-5), key


@pytest.mark.slow
def test_attacks_of_one_s_own_are_used():
    attack, pgd = RandomAttack(epsilon=0.2, steps=3, m=3), PGDAttack(epsilon=1e-5, steps=1)
    model = compiled()
    history = fit(model, AttributionRobustness(*HELD_OUT, attack=attack, pgd=pgd))
    for key, value in by_hand(model, attack, pgd).items():
        assert history[key][-1] == pytest.approx(value, rel=1e-5), key
    assert not np.all(PGDAttack(epsilon=0.2, steps=3)(model, *HELD_OUT).robust == pgd(model, *HELD_OUT).robust)


def test_predictions_are_attacked_in_the_ball_of_the_attack_and_in_as_many_steps(monkeypatch):
    made = []

    class Kept(PGDAttack):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr(module, "PGDAttack", Kept)
    attack = TopKAttack(2, epsilon=0.2, norm="l2", bounds=(-1.0, 2.0), steps=5, jit_compile=False)
    callback = AttributionRobustness(*HELD_OUT, attack=attack)
    callback.set_model(compiled())
    callback.on_train_begin()
    (pgd,) = made
    for name in ("epsilon", "norm", "bounds", "steps", "jit_compile"):
        assert getattr(pgd, name) == getattr(attack, name)
    assert pgd.step_size == pytest.approx(0.2 / 2)  # 2.5 / 5 of ε


@pytest.mark.slow
def test_images_classified_wrongly_count_for_the_adversarial_accuracy_alone(plain):
    plain.reset(0.0)
    x, y = HELD_OUT
    predicted = plain.model(x).numpy().argmax(axis=1)
    right = predicted == y
    assert 0 < right.sum() < len(right)
    other = np.where(right, y, 3 - y - predicted)  # another wrong label: the maps explained are others
    first, second = plain.fit(learning_rate=0.0), plain.fit(data=(x, other), learning_rate=0.0)
    assert first == {**second, "loss": first["loss"]}
    assert 0 < first["val_adversarial_accuracy"][0] <= right.mean()  # of all, not of the right ones
    assert first["val_attacked"] == [right.sum()]


def test_prefix(plain):
    history = plain.fit(prefix="robust/")
    assert set(history) == {"loss", *("robust/" + name for name in NAMES)}


# What it takes


DATASET = tf.data.Dataset.from_tensor_slices(HELD_OUT)


@pytest.mark.parametrize(
    "data",
    [
        (DATASET.batch(5),),
        (DATASET.repeat().batch(5),),
        (tf.data.Dataset.from_tensor_slices((*HELD_OUT, np.ones(12))).batch(12),),
        (X.tolist(), Y.tolist()),
        (tf.constant(X), tf.constant(Y)),
    ],
    ids=["batches", "repeated", "weighted", "lists", "tensors"],
)
def test_every_kind_of_data_is_read_as_arrays(data):
    callback = AttributionRobustness(*data, max_images=12)
    np.testing.assert_array_equal(callback.x, HELD_OUT[0])
    np.testing.assert_array_equal(callback.y, HELD_OUT[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "data", [(DATASET.batch(5),), (HELD_OUT[0], keras.utils.to_categorical(HELD_OUT[1]))], ids=["tf.data", "one-hot"]
)
def test_every_kind_of_data_gives_the_same_numbers(data, plain):
    assert plain.fit(data=data) == plain.fit()


@pytest.mark.slow
def test_a_data_set_is_read_once(plain):
    read = []

    def rows():
        for x, y in zip(*HELD_OUT, strict=True):
            read.append(1)
            yield x, y

    signature = (tf.TensorSpec([16], tf.float32), tf.TensorSpec([], tf.int64))
    dataset = tf.data.Dataset.from_generator(rows, output_signature=signature).batch(4)
    plain.fit(data=(dataset,), epochs=2)
    assert len(read) == 12


def test_at_most_32_images_are_taken_by_default():
    x, y = np.tile(X, (2, 1)), np.tile(Y, 2)
    assert len(AttributionRobustness(x, y).x) == 32
    assert len(AttributionRobustness(x, y, max_images=None).x) == 48


# When it measures


class BatchLogs(keras.callbacks.Callback):
    """Keeps what a callback after ours finds in the logs of batches."""

    def on_train_begin(self, logs=None):
        self.found = []

    def on_train_batch_end(self, batch, logs=None):
        self.found.append(logs["val_kendall_tau"])


@pytest.mark.slow
def test_between_measurements_the_last_numbers_stand(plain):
    each, every_second = plain.fit(epochs=5), plain.fit(epochs=5, every=2)
    for key in KEYS:
        assert every_second[key] == [each[key][epoch] for epoch in (0, 0, 2, 2, 4)]
    assert len(set(each["val_kendall_tau"])) == 5


@pytest.mark.slow
def test_batches_are_counted_over_all_epochs_and_their_logs_have_the_numbers(plain):
    logs = BatchLogs()
    history = plain.fit(logs, unit="batch", epochs=2)
    each = logs.found
    assert len(set(each)) == len(each) == 6
    assert history["val_kendall_tau"] == [each[2], each[5]]
    history = plain.fit(logs, unit="batch", every=2, epochs=2)
    assert logs.found == [each[batch] for batch in (0, 0, 2, 2, 4, 4)]
    assert history["val_kendall_tau"] == [each[2], each[4]]


@pytest.mark.slow
def test_several_batches_in_one_execution_are_counted_as_several():
    """Two executions of two batches an epoch: the first is measured, then whenever four more batches have passed."""
    logs, model = BatchLogs(), compiled(steps_per_execution=2)
    callback = AttributionRobustness(*HELD_OUT, unit="batch", every=4, attack=TopKAttack(2, 0.1, steps=1, m=1))
    model.fit(X, Y, batch_size=6, epochs=4, callbacks=[callback, logs], verbose=0)
    changes = [before != after for before, after in itertools.pairwise(logs.found)]
    # Keras names the last batch of an execution, older versions the first: their count is one off, at most.
    assert changes in ([False, True, False, True, False, True, False], [False, False, True, False, False, True, False])


def test_numbers_of_epochs_are_not_in_the_logs_of_batches(plain):
    with pytest.raises(KeyError, match="val_kendall_tau"):
        plain.fit(BatchLogs())


class Counted(Saliency):
    """Integrated gradients that count how often they are called: when a graph is traced."""

    def __init__(self):
        self.calls = 0

    def __call__(self, f, x):
        self.calls += 1
        return IntegratedGradients(keras_rar.quadrature.right(2))(f, x)


@pytest.mark.slow
def test_the_attack_is_traced_once():
    saliency, model = Counted(), compiled()
    callback = AttributionRobustness(*HELD_OUT, attack=TopKAttack(2, 0.1, steps=2, saliency=saliency))
    fit(model, callback)
    traced = saliency.calls
    assert traced > 0
    history = fit(model, callback, epochs=5)
    assert len(set(history["val_attacked"])) > 1  # how many images are attacked is no part of the shapes
    assert saliency.calls == traced
    fit(compiled(), callback)
    assert saliency.calls > traced  # negative control: another model is another graph


@pytest.mark.slow
def test_another_fit_measures_anew_and_another_model_in_its_own_ball():
    callback = AttributionRobustness(*HELD_OUT, steps=2, m=2, every=9)
    models = [robust(epsilon=epsilon, compile={"run_eagerly": True}) for epsilon in (0.1, 0.4)]
    models[1].set_weights(models[0].get_weights())
    numbers = []
    for model in (*models, models[1]):
        numbers.append(fit(model, callback)["val_kendall_tau"][0])
    assert numbers[1] < numbers[0] - 0.1  # the larger ball, after the very same training
    assert numbers[2] != numbers[1]


# Who reads them


@pytest.mark.slow
def test_early_stopping_stops(plain):
    """Weights that stand still are no improvement: the first epoch is best, and two more are waited for."""
    stop = keras.callbacks.EarlyStopping(monitor="val_kendall_tau", mode="max", patience=2)
    assert len(plain.fit(stop, learning_rate=0.0, epochs=9)["loss"]) == 3


@pytest.mark.slow
def test_callbacks_before_it_do_not_find_the_numbers_and_say_so(plain):
    stop = keras.callbacks.EarlyStopping(monitor="val_kendall_tau", mode="max", patience=1)
    with pytest.warns(UserWarning, match="`val_kendall_tau` which is not available"):
        history = plain.fit(before=[stop], learning_rate=0.0, epochs=4)
    assert len(history["loss"]) == 4


@pytest.mark.slow
def test_model_checkpoint_saves_the_best(plain, tmp_path):
    path = tmp_path / "best.keras"
    save = keras.callbacks.ModelCheckpoint(path, monitor="val_spearman_rho", mode="max", save_best_only=True)
    found = plain.fit(save, epochs=4)["val_spearman_rho"]
    assert min(found) < max(found)
    best = keras.models.load_model(path)
    assert by_hand(best, **plain.attacks)["val_spearman_rho"] == pytest.approx(max(found), rel=1e-5)


@pytest.mark.slow
def test_csv_logger_has_a_column_for_each(plain, tmp_path):
    path = tmp_path / "log.csv"
    history = plain.fit(keras.callbacks.CSVLogger(path), every=2, epochs=3)
    rows = list(csv.DictReader(path.open()))
    assert set(rows[0]) == {"epoch", "loss", *KEYS}
    for key in KEYS:
        assert [float(row[key]) for row in rows] == pytest.approx(history[key])


def test_tensorboard_draws_them(plain, tmp_path):
    pytest.importorskip("tensorboard")
    history = plain.fit(keras.callbacks.TensorBoard(tmp_path), epochs=2)
    written = {}
    for record in tf.data.TFRecordDataset([str(path) for path in (tmp_path / "validation").iterdir()]):
        for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
            written.setdefault(value.tag, []).append(float(tf.make_ndarray(value.tensor)))
    for name in NAMES:
        assert written["epoch_" + name] == pytest.approx(history["val_" + name], rel=1e-6)  # stored in float32


def test_reduce_lr_on_plateau_reduces_it(plain):
    reduce = keras.callbacks.ReduceLROnPlateau(monitor="val_kendall_tau", mode="max", patience=1, min_delta=10.0)
    plain.fit(reduce, epochs=2)
    assert float(plain.model.optimizer.learning_rate) == pytest.approx(0.01)


# No image classified correctly


class Biased(keras.callbacks.Callback):
    """Makes the model predict another class at the end of the first epoch, and takes that back in the second."""

    def __init__(self, shift):
        super().__init__()
        self.shift = shift

    def on_epoch_end(self, epoch, logs=None):
        self.model.trainable_variables[-1].assign_add(self.shift if epoch == 0 else -self.shift)


@pytest.mark.slow
def test_where_no_image_is_classified_correctly_a_monitor_waits_for_a_real_number(plain, tmp_path):
    path = tmp_path / "best.keras"
    save = keras.callbacks.ModelCheckpoint(path, monitor="val_kendall_tau", mode="max", save_best_only=True)
    plain.reset(0.0)
    predicted = plain.model(X).numpy().argmax(axis=1)
    label = Y[predicted == Y][0]
    chosen = label == Y
    biased = Biased(99 * np.eye(3)[label - 1])
    with pytest.warns(RuntimeWarning, match="No example is classified correctly"):
        history = plain.fit(save, data=(X[chosen], Y[chosen]), before=[biased], learning_rate=0.0, epochs=2)
    for key in KEYS[:3]:
        assert history[key][0] == -np.inf
        assert np.isfinite(history[key][1])
    assert history["val_attacked"][0] == history["val_adversarial_accuracy"][0] == 0
    assert np.all(np.abs(keras.models.load_model(path).get_weights()[-1]) < 9)  # the weights of the second epoch


def test_a_model_of_constant_output_is_reported(plain):
    plain.reset(0.0)
    plain.model.set_weights([np.zeros_like(value) for value in plain.weights])
    history = fit(plain.model, AttributionRobustness(*HELD_OUT, **plain.attacks))
    assert history["val_attacked"] == [np.sum(HELD_OUT[1] == 0)]
    assert [history[key] for key in KEYS[:3]] == [[-np.inf]] * 3  # nothing is explained, and nothing robust
    assert np.all(np.isfinite([history[key] for key in KEYS[3:]]))


def test_a_score_that_is_undefined_is_never_the_best(plain, monkeypatch):
    """As -inf, since Keras takes NaN for the best value if it comes first."""
    attack = plain.attacks["attack"]

    def undefined(self, *data):
        found = TopKAttack.__call__(self, *data)
        return dataclasses.replace(found, scores={name: score * np.nan for name, score in found.scores.items()})

    monkeypatch.setattr(attack, "__class__", type("Undefined", (TopKAttack,), {"__call__": undefined}))
    history = plain.fit()
    assert [history[key] for key in KEYS[:3]] == [[-np.inf]] * 3
    assert history["val_attacked"][0] > 0


# Training does not feel it


def noisy(activity_regularizer="l2"):
    """Whatever an attack might move: batch statistics, the seed of dropout, a loss of a layer."""
    return keras.Sequential(
        [
            keras.Input((16,), dtype="float32"),
            keras.layers.Dense(8, "relu", activity_regularizer=activity_regularizer),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3, dtype="float32"),
        ]
    )


def plain_noisy(**options):
    return compiled(noisy(), metrics=["accuracy"], **options)


def robust_noisy(**options):
    return wrapped("madry", noisy(), optimizer="adam", compile={"metrics": ["accuracy"], **options})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "options", "unit"),
    [
        pytest.param(plain_noisy, {"run_eagerly": True}, "epoch", marks=pytest.mark.slow),
        pytest.param(plain_noisy, {"jit_compile": True}, "epoch", marks=pytest.mark.slow),
        (plain_noisy, {"steps_per_execution": 2}, "batch"),
        (robust_noisy, {}, "epoch"),
    ],
)
def test_the_same_seed_trains_to_the_same_weights_with_it_and_without(make, options, unit):
    histories, weights = [], []
    for watched in (False, True):
        keras.utils.set_random_seed(0)
        model = make(**options)
        callbacks = [AttributionRobustness(*HELD_OUT, unit=unit, **QUICK)] * watched
        history = fit(model, *callbacks, epochs=2, validation_data=HELD_OUT)
        assert watched == (set(KEYS) <= set(history))
        histories.append({name: values for name, values in history.items() if name not in KEYS})
        weights.append([*model.get_weights(), *(value.numpy() for value in model.optimizer.variables)])
    assert histories[0] == histories[1]
    for first, second in zip(*weights, strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_callback_that_trains_would_be_noticed():
    """Negative control of the comparison."""
    felt = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: model(X, training=True))
    weights = []
    for callbacks in ([], [felt]):
        keras.utils.set_random_seed(0)
        model = plain_noisy()
        fit(model, *callbacks, epochs=2)
        weights.append(model.get_weights())
    assert any(np.any(first != second) for first, second in zip(*weights, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("mixed_float16", marks=pytest.mark.slow), "mixed_bfloat16"])
def test_mixed_precision(name, policy):
    policy(name)
    model = compiled(noisy(activity_regularizer=None))
    history = fit(model, AttributionRobustness(*HELD_OUT, **QUICK), epochs=2)
    for key in KEYS[:3]:
        assert np.all(np.abs(history[key]) <= 1 + 1e-6)
        assert np.all(np.array(history[key]) < 1)  # attacked, and moved


# Compilation


@pytest.mark.slow
def test_xla_on_cpu_gives_the_same_numbers():
    """Without max-pooling, whose second derivative XLA computes in reduced precision; the rest to rounding."""
    numbers = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(0)
        base_model = keras.Sequential(
            [
                keras.Input((4, 4, 1)),
                keras.layers.Conv2D(3, 3, activation="relu"),
                keras.layers.Flatten(),
                keras.layers.Dense(3),
            ]
        )
        model = compiled(base_model, learning_rate=0.0)
        x = X.reshape(-1, 4, 4, 1)
        callback = AttributionRobustness(x, Y, jit_compile=jit_compile, **{**QUICK, "epsilon": 0.3})
        history = model.fit(x, Y, callbacks=[callback], verbose=0).history
        numbers.append([history[key][0] for key in KEYS])
    np.testing.assert_allclose(numbers[0], numbers[1], rtol=1e-4)
    assert 0 < numbers[0][KEYS.index("val_attacked")] < len(X)
    assert numbers[0][0] < 0.95  # there was something to agree about


@pytest.mark.slow
@pytest.mark.parametrize(("jit_compile", "expected"), [("auto", False), (False, False), (True, True)])
def test_attacks_are_compiled_by_xla_where_asked_or_on_a_gpu(jit_compile, expected, monkeypatch):
    if jit_compile == "auto" and tf.config.list_physical_devices("GPU"):
        expected = True
    seen, function = [], tf.function

    def watched(*args, **options):
        seen.append(options.get("jit_compile"))
        return function(*args, **{**options, "jit_compile": False})

    callback = AttributionRobustness(*HELD_OUT, jit_compile=jit_compile, **QUICK)
    callback.set_model(compiled())
    monkeypatch.setattr(tf, "function", watched)
    callback.on_train_begin()
    callback.on_epoch_end(0, {})
    callback.on_train_begin()  # the same model again: nothing is compiled again
    callback.on_epoch_end(0, {})
    found = [value for value in seen if value is not None]
    assert found == [expected] * 3  # the attack on predictions, and on maps: one to check, one with the β found


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "`every` must be a positive integer. Received: every=0"),
        ({"unit": "step"}, "`unit` must be one of ['epoch', 'batch']. Received: unit='step'"),
        ({"epsilon": -1.0}, "`epsilon` must be a positive float. Received: epsilon=-1.0"),
        ({"norm": "l3"}, "`norm` must be one of ['linf', 'l2', 'l1', 'l0']. Received: norm='l3'"),
        ({"bounds": (1, 0)}, "`bounds` must be "),
        ({"k": 0}, "`k` must be a positive integer. Received: k=0"),
        ({"steps": 0}, "`steps` must be a positive integer. Received: steps=0"),
        ({"m": 1.5}, "`m` must be a positive integer. Received: m=1.5"),
        ({"max_images": 0}, "`max_images` must be a positive integer. Received: max_images=0"),
        ({"jit_compile": "yes"}, "`jit_compile` must be one of [True, False, 'auto']. Received: jit_compile='yes'"),
        (
            {"attack": TopKAttack(1, 0.1), "steps": 5},
            "`steps` must be left out where `attack` is given, which has its own. Received: steps=5",
        ),
        ({"attack": TopKAttack(1, 0.1), "bounds": None}, None),
    ],
)
def test_wrong_settings_are_refused_when_it_is_made(options, message):
    if message is None:
        AttributionRobustness(*HELD_OUT, **options)
        return
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        AttributionRobustness(*HELD_OUT, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefix": 1}, "`prefix` must be a string. Received: prefix=1"),
        ({"attack": "topk"}, "`attack` must be a keras_rar.attacks.AttributionAttack. Received: attack='topk'"),
        ({"pgd": "pgd"}, "`pgd` must be a keras_rar.attacks.PGDAttack. Received: pgd='pgd'"),
    ],
)
def test_wrong_types_are_refused(options, message):
    with pytest.raises(TypeError, match="^" + re.escape(message)):
        AttributionRobustness(*HELD_OUT, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X,), "`y` must be given, unless `x` is a tf.data.Dataset of (x, y). Received: y=None"),
        ((X, Y[:3]), "`y` must hold one label per example, 24. Received: 3 labels"),
        ((DATASET.batch(4), Y), "`y` must be left out where `x` is a tf.data.Dataset. Received: "),
        ((DATASET,), "`x` must be a data set of batches (x, y). Received: elements of (TensorSpec"),
        ((DATASET.map(lambda x, y: x).batch(4),), "`x` must be a data set of batches (x, y). Received: elements of "),
        ((DATASET.batch(4).take(0),), "`x` must hold at least one example. Received: an empty data set"),
    ],
)
def test_wrong_data_are_refused(arguments, message):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        AttributionRobustness(*arguments)


def test_all_of_an_endless_data_set_is_refused():
    with pytest.raises(ValueError, match="`max_images` must be an integer for a data set that repeats for ever"):
        AttributionRobustness(DATASET.batch(4).repeat(), max_images=None)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (HELD_OUT, {}, "`epsilon` must be given for a model that keras_rar does not train, such as epsilon=0.1."),
        ((2 * X, Y), {"epsilon": 0.1}, "`x` must lie within `bounds`=(0.0, 1.0). Received: values from "),
        ((X[:, :5], Y), {"epsilon": 0.1}, "`x` must have the shape (n, 16) with n > 0. Received: x.shape=(24, 5)"),
        ((X, Y + 7), {"epsilon": 0.1}, "`y` must be class indices from 0 to 2. Received: "),
        (
            HELD_OUT,
            {"epsilon": 0.1, "k": 16},
            "`k` must be below the number of entries of the map, 16. Received",
        ),
    ],
)
def test_what_does_not_fit_the_model_is_refused_before_it_is_trained(arguments, options, message):
    model = compiled()
    before = model.get_weights()
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        fit(model, AttributionRobustness(*arguments, **options))
    for value, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, kept)


@pytest.mark.slow
def test_images_with_channels_and_max_pooling():
    """Maps of images lose their channels: k is an eighth of 36 pixels."""
    x, y = np.random.default_rng(0).uniform(size=(8, 6, 6, 1)).astype("float32"), np.arange(8) % 3
    model = compiled(conv_model(), learning_rate=0.0)
    history = model.fit(x, y, callbacks=[AttributionRobustness(x, y, **QUICK)], verbose=0).history
    found = TopKAttack(k=4, m=2, epsilon=0.1, steps=2, step_size=0.125)(model, x, y)
    expected = found.scores["topk_intersection"][found.correct].mean()
    assert history["val_topk_intersection"] == pytest.approx([expected], rel=1e-5)
