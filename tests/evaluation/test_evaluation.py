"""The evaluation: every number again by hand, what is counted, what is gone on with, and whether it is honest."""

import dataclasses
import json
import math
import re
import types

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from conftest import batch, conv_model, dense_model

import keras_rar
from keras_rar.attacks import AttackResult, AttributionAttack, PGDAttack, PGDResult, TopKAttack
from keras_rar.core import attack_loop, saliency_methods
from keras_rar.evaluation import protocols
from keras_rar.evaluation.progress import Progress
from keras_rar.evaluation.protocols import Protocol
from keras_rar.evaluation.report import RobustnessReport
from keras_rar.evaluation.settings import Settings
from keras_rar.paper import datasets

SCORES = ["topk_intersection", "kendall_tau", "spearman_rho"]
SETTINGS = {
    "epsilon": 0.1, "k": 6, "k_report": 5, "steps": 5, "step_size": 0.03, "m": 3,
    "pgd_steps": 3, "pgd_step_size": 0.02, "attacked": 13, "noise": 0, "other_maps": [], "faithful": 0,
}  # fmt: skip
NO_RESTARTS = {"restarts": 0, "pgd_restarts": 0}
OPTIONS = {"batch_size": 8, "progress": False}


def evaluate(model, x, y, **changes) -> RobustnessReport:
    return keras_rar.evaluate_robustness(model, x, y, **{**SETTINGS, **OPTIONS, **changes})


def assert_same(first, second, but=()):
    """Two reports, to the bit."""
    assert first.fingerprint == second.fingerprint or "fingerprint" in but
    assert first.protocol == second.protocol or "protocol" in but
    for group in ("per_example", "examples"):
        columns, others = getattr(first, group), getattr(second, group)
        assert list(columns) == list(others)
        for name, column in columns.items():
            assert column.dtype == others[name].dtype
            np.testing.assert_array_equal(column, others[name], err_msg=name)


def counted(function, calls):
    def call(*args, **kwargs):
        calls.append(function)
        return function(*args, **kwargs)

    return call


# Every number again, by the attacks themselves, predict, and SciPy


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """One evaluation: 23 images, every fifth with a wrong label, 13 of the 18 others attacked in batches of 8.

    The file is kept as it was after each batch; two starts of each attack, one at random.
    """
    keras.utils.set_random_seed(0)
    model = conv_model()
    x, _ = batch(23, (6, 6, 1))
    model.layers[-1].bias.assign(-model.predict(x, verbose=0).mean(axis=0))  # all classes are predicted
    y = model.predict(x, verbose=0).argmax(axis=1)
    y[::5] = (y[::5] + 1) % 3
    folder, traces, files = tmp_path_factory.mktemp("measured"), [], []

    def keeping(report, path):
        save(report, path)
        files.append(path.read_bytes())

    save = RobustnessReport.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attack_loop, "advance", counted(attack_loop.advance, traces))
        patch.setattr(RobustnessReport, "save", keeping)
        report = evaluate(model, x, y, restarts=1, path=folder / "report.npz")
    rows = np.flatnonzero(np.arange(23) % 5)[:13]
    attack = TopKAttack(6, 0.1, k_report=5, steps=5, step_size=0.03, m=3, batch_size=8, restarts=1)
    found = attack.settled(model, x)(model, x[rows], y[rows])  # through the twin of the whole evaluation
    return types.SimpleNamespace(
        model=model, x=x, y=y, report=report, table=report.per_example, rows=rows, found=found, files=files,
        traces=traces,
    )  # fmt: skip


@pytest.fixture(scope="module")
def without_restarts(measured):
    """The same, with the deterministic start alone."""
    return evaluate(measured.model, measured.x, measured.y, **NO_RESTARTS)


def test_predictions_are_those_of_predict(measured):
    predicted = measured.model.predict(measured.x, verbose=0).argmax(axis=1)
    np.testing.assert_array_equal(measured.table["index"], np.arange(23))
    np.testing.assert_array_equal(measured.table["label"], measured.y)
    np.testing.assert_array_equal(measured.table["predicted"], predicted)
    np.testing.assert_array_equal(measured.table["correct"], predicted == measured.y)
    assert measured.report.summary()["natural_accuracy"]["mean"] == np.mean(predicted == measured.y) == 18 / 23
    assert len(set(predicted)) > 1


def test_robust_are_those_that_pgd_does_not_turn(measured):
    attack = PGDAttack(0.1, steps=3, step_size=0.02, batch_size=8)
    found = attack(measured.model, measured.x, measured.y)
    still = measured.model.predict(found.x_adv, verbose=0).argmax(axis=1) == measured.y
    np.testing.assert_array_equal(measured.table["robust"], measured.table["correct"] & still)
    assert measured.report.summary()["adversarial_accuracy"]["mean"] == np.mean(measured.table["robust"])
    assert 0 < np.sum(measured.table["robust"]) < 18  # some are turned, some are not


def test_the_first_correctly_classified_images_are_attacked_up_to_the_limit(measured):
    np.testing.assert_array_equal(np.flatnonzero(measured.table["attacked"]), measured.rows)
    counts = measured.report.counts
    assert (counts["examples"], counts["misclassified"], counts["attacked"]) == (23, 5, 13)
    others = np.setdiff1d(np.arange(23), measured.rows)
    for name in SCORES:
        assert np.isnan(measured.table[name][others]).all()
    for name in ("iteration", "restart"):
        assert np.all(measured.table[name][others] == -1)
    assert not measured.table["constant_map"][others].any()


def test_scores_are_those_of_scipy_on_the_maps_of_the_attack(measured):
    pairs = [(a.ravel(), b.ravel()) for a, b in zip(measured.found.map_before, measured.found.map_after, strict=True)]
    expected = {
        "kendall_tau": [scipy.stats.kendalltau(a, b).statistic for a, b in pairs],
        "spearman_rho": [scipy.stats.spearmanr(a, b).statistic for a, b in pairs],
        "topk_intersection": [len({*np.argsort(a)[-5:]} & {*np.argsort(b)[-5:]}) / 5 for a, b in pairs],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(measured.table[name][measured.rows], values, atol=1e-6)  # float32
        row = measured.report.summary()[name]
        assert row["mean"] == pytest.approx(np.mean(values), abs=1e-6)
        assert row["low"] < row["mean"] < row["high"]
        assert row["n"] == 13
    np.testing.assert_array_equal(measured.table["iteration"][measured.rows], measured.found.iteration)
    np.testing.assert_array_equal(measured.table["restart"][measured.rows], measured.found.restart)
    assert np.mean(expected["kendall_tau"]) < 0.9  # negative control: the attack found something


def test_examples_are_the_first_attacked_with_the_maps_of_saliency_map(measured):
    examples, first = measured.report.examples, measured.rows[:8]
    np.testing.assert_array_equal(examples["index"], first)
    np.testing.assert_array_equal(examples["x"], measured.x[first])
    np.testing.assert_array_equal(examples["x_adv"], measured.found.x_adv[:8])
    for x, map_ in (("x", "map_before"), ("x_adv", "map_after")):
        expected = keras_rar.saliency_map(measured.model, examples[x], measured.y[first], m=3)
        np.testing.assert_allclose(examples[map_], expected, rtol=1e-4, atol=1e-5)  # float32 sums in another order


def test_perturbed_examples_are_in_the_ball_and_keep_the_prediction(measured):
    x, x_adv = measured.report.examples["x"], measured.report.examples["x_adv"]
    distance = np.abs(x_adv - x).max(axis=(1, 2, 3))
    assert np.all((distance > 0.01) & (distance <= 0.1 + 1e-6))
    assert np.all((x_adv >= 0) & (x_adv <= 1))
    predicted = measured.model.predict(x_adv, verbose=0).argmax(axis=1)
    np.testing.assert_array_equal(predicted, measured.y[measured.rows[:8]])


def test_each_attack_is_traced_once_for_all_batches(measured):
    """Three of predictions and two of maps, the last of each smaller; one trace has two objectives of PGD in it."""
    assert len(measured.traces) == 2 + 1


def test_the_evaluation_leaves_the_model_as_it_was(measured):
    np.testing.assert_array_equal(
        measured.model.predict(measured.x, verbose=0).argmax(axis=1), measured.table["predicted"]
    )
    assert [layer.activation.__name__ for layer in measured.model.layers if hasattr(layer, "activation")] == [
        "relu", "linear"]  # fmt: skip


def test_more_restarts_never_score_better(measured, without_restarts):
    assert np.all(measured.table["robust"] <= without_restarts.per_example["robust"])
    one, two = without_restarts.values("kendall_tau"), measured.report.values("kendall_tau")
    assert np.all(two <= one)
    np.testing.assert_array_equal(measured.table["restart"][measured.rows], two < one)
    assert np.any(two < one)  # a random start found more
    assert np.all(without_restarts.per_example["restart"] <= 0)


@pytest.mark.slow
def test_batch_size_does_not_change_the_numbers(measured, without_restarts):
    """Without random starts. Two batches of four images, the last one filled up, against a batch of eight."""
    report = evaluate(measured.model, measured.x[:7], measured.y[:7], batch_size=4, **NO_RESTARTS)
    assert report.counts["attacked"] == 5
    for name in ("predicted", "robust", "attacked", "iteration"):
        np.testing.assert_array_equal(report.per_example[name], without_restarts.per_example[name][:7])
    for name in SCORES:  # a product of more rows may round otherwise; a rank that changes would count 0.003
        np.testing.assert_allclose(report.per_example[name], without_restarts.per_example[name][:7], atol=1e-5)


@pytest.mark.slow
def test_probabilities_and_one_unit_are_understood():
    keras.utils.set_random_seed(1)
    model = dense_model(classes=1, output="sigmoid", activation="relu")
    x, _ = batch(12)
    y = (model.predict(x, verbose=0)[:, 0] > 0.5).astype(int)
    y[0] = 1 - y[0]
    assert 0 < y.sum() < 12
    report = evaluate(model, x, y[:, np.newaxis], k=1, k_report=2, steps=2, saliency="gradient", **NO_RESTARTS)
    np.testing.assert_array_equal(report.per_example["label"], y)
    np.testing.assert_array_equal(report.per_example["correct"], np.arange(12) > 0)
    assert report.counts["attacked"] == 11
    assert np.all(report.values("kendall_tau") <= 1)


# What cannot be measured is counted


@pytest.mark.slow
def test_maps_without_a_change_are_reported():
    """Of a model that is constant but where the first feature is above 0.7, as it is in one example alone."""
    model = dense_model(activation="relu")
    hidden, last = np.zeros((4, 8)), np.zeros((8, 3))
    hidden[0, 0] = last[0, 1] = 1
    model.set_weights([hidden, np.full(8, -0.7), last, np.array([2.0, 0.0, 0.0])])
    x = 0.5 * batch(6)[0]
    x[4, 0] = 0.9
    report = evaluate(model, x, [0, 0, 1, 0, 2, 0], k=1, k_report=2, steps=2, **NO_RESTARTS)
    assert report.counts == {
        "examples": 6, "misclassified": 2, "attacked": 4, "unchanged": 0, "constant_maps": 4, "undefined": 4
    }  # fmt: skip
    for name in SCORES:
        assert np.isnan(report.values(name)).all()  # 1 would say that they are robust
    assert "4 with a constant map" in report.to_markdown()
    assert report.summary()["adversarial_accuracy"]["mean"] == 4 / 6


def test_a_model_that_gets_nothing_right_is_reported(tmp_path):
    model = dense_model(activation="relu")
    x, _ = batch(5)
    y = (model.predict(x, verbose=0).argmax(axis=1) + 1) % 3
    options = {"k": 1, "k_report": 2, "path": tmp_path / "report.npz", **NO_RESTARTS}
    report = evaluate(model, x, y, **options)
    assert report.counts == {
        "examples": 5, "misclassified": 5, "attacked": 0, "unchanged": 0, "constant_maps": 0, "undefined": 0
    }  # fmt: skip
    assert report.examples == {}
    assert report.complete
    assert math.isnan(report.summary()["kendall_tau"]["mean"])
    assert json.loads(report.to_json())["summary"]["kendall_tau"]["mean"] is None
    assert_same(RobustnessReport.load(tmp_path / "report.npz"), report)
    assert_same(evaluate(model, x, y, **options), report)


def test_a_model_of_constant_output_is_refused():
    model = dense_model(activation="relu")
    model.set_weights([0 * weight for weight in model.get_weights()])
    with pytest.raises(ValueError, match=r"^`model` must return scores that depend on the input\. Received: constant"):
        evaluate(model, batch(4)[0], [0, 0, 1, 2], k=1, k_report=2)


def test_a_model_of_nan_is_refused():
    """argmax takes NaN for the first class: half of the labels would count as robust."""
    model = dense_model(activation="relu")
    model.set_weights([np.nan * weight for weight in model.get_weights()])
    with pytest.raises(ValueError, match=r"^`model` must return finite scores. Received: NaN"):
        evaluate(model, batch(4)[0], [0, 0, 1, 2], k=1, k_report=2)


# The bookkeeping, with attacks that find at once what the images say


@pytest.fixture
def instant(monkeypatch):
    """Attacks without a network: a list of the batches computed, each `(attack, first row of it)`."""
    done = []

    def batches(self, name, x, first):
        size = self.batch_size or 100
        for start in range(first, len(x), size):
            done.append((name, start))
            yield slice(start, start + size)

    def predictions(self, model, x, y, *, first=0, progress=None):
        x = x.reshape(len(x), -1)
        for rows in batches(self, "predictions", x, first):
            predicted = np.where(x[rows, 0] < 0.8, y[rows], (y[rows] + 1) % 3)
            correct = predicted == y[rows]
            yield PGDResult(x[rows], x[rows], y[rows], predicted, correct, correct & (x[rows, 1] < 0.5))

    def attributions(self, model, x, y=None, *, gradient_model=None, first=0, progress=None):
        x = x.reshape(len(x), -1)
        for rows in batches(self, "attributions", x, first):
            scores = {name: x[rows, column] for column, name in enumerate(SCORES)}
            moved = (x[rows, 3] > 0.3).astype("int32")
            yield AttackResult(
                x[rows], x[rows] / 2, y[rows], y[rows] == y[rows], x[rows], x[rows] ** 2, scores, 3 * moved, moved
            )

    monkeypatch.setattr(PGDAttack, "iterate", predictions)
    monkeypatch.setattr(AttributionAttack, "iterate", attributions)
    return done


X, Y = batch(50)
BATCHES = [("predictions", start) for start in range(0, 50, 8)] + [("attributions", 0), ("attributions", 8)]


@pytest.fixture(scope="module")
def dense():
    keras.utils.set_random_seed(0)
    return dense_model(activation="relu")


def look(model, x=X, y=Y, **changes):
    return evaluate(model, x, y, **{"k": 1, "k_report": 2, **changes})


def test_rows_find_their_place(instant, dense):
    table = look(dense).per_example
    assert instant == BATCHES
    correct = X[:, 0] < 0.8
    rows = np.flatnonzero(correct)[:13]
    np.testing.assert_array_equal(table["correct"], correct)
    np.testing.assert_array_equal(table["robust"], correct & (X[:, 1] < 0.5))
    np.testing.assert_array_equal(np.flatnonzero(table["attacked"]), rows)
    for column, name in enumerate(SCORES):
        np.testing.assert_array_equal(table[name][rows], X[rows, column])
    np.testing.assert_array_equal(table["restart"][rows], X[rows, 3] > 0.3)


def test_one_image_is_enough(instant, dense):
    right = np.flatnonzero(X[:, 0] < 0.8)[:1]
    report = look(dense, x=X[right], y=Y[right])
    row = report.summary()["kendall_tau"]
    assert (row["mean"], row["n"]) == (X[right[0], 1], 1)
    assert math.isnan(row["low"])
    assert "(n = 1)" in report.to_markdown()


def test_no_change_found_is_counted(instant, dense):
    report = look(dense)
    rows = np.flatnonzero(report.per_example["attacked"])
    assert report.counts["unchanged"] == np.sum(X[rows, 3] <= 0.3) > 0


@pytest.mark.parametrize(("attacked", "n"), [(1, 1), (8, 8), (1000, 40), (None, 40)])
def test_attacked_bounds_the_number_of_maps(attacked, n, instant, dense):
    assert np.sum(X[:, 0] < 0.8) == 40
    report = look(dense, attacked=attacked)
    assert report.counts["attacked"] == report.summary()["kendall_tau"]["n"] == n
    assert report.summary()["natural_accuracy"]["n"] == 50
    assert report.complete


@pytest.mark.parametrize("layout", ["column", "one-hot", "list", "float"])
def test_labels_of_any_layout(layout, instant, dense):
    labels = {"column": Y[:, np.newaxis], "one-hot": np.eye(3)[Y], "list": Y.tolist(), "float": Y.astype("float32")}
    assert_same(look(dense, y=labels[layout]), look(dense))


def test_progress_is_shown_or_not(instant, dense, capsys):
    look(dense)
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
    look(dense, progress=True)
    output = capsys.readouterr().out
    for text in ("predictions: 50 examples", "50/50", "attributions: 13 examples", "13/13"):
        assert text in output


# The protocol in the report


def test_the_report_records_every_setting(instant, dense):
    recorded = look(dense).protocol
    assert recorded["name"] == "quick, changed: " + ", ".join(f"{name}={value}" for name, value in CHANGED.items())
    expected = {field.name: getattr(protocols.QUICK, field.name) for field in dataclasses.fields(Protocol)}
    expected |= {**CHANGED, "name": recorded["name"], "batch_size": 8, "data_format": "none"}
    assert recorded == json.loads(json.dumps(expected))


CHANGED = {**SETTINGS, "k": 1, "k_report": 2}
CHANGED = {name: CHANGED[name] for name in Settings.__annotations__ if name in CHANGED}
CHANGED = {name: value for name, value in CHANGED.items() if value != getattr(protocols.QUICK, name)}


@pytest.mark.parametrize(("names", "recorded"), [((), "CPU"), (("A", "B"), "A, B"), ((None,), "GPU")])
def test_the_report_records_the_device(names, recorded, instant, dense, monkeypatch):
    details = {name: {} if name is None else {"device_name": name} for name in names}
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: list(names))
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.get)
    assert look(dense).versions["device"] == recorded


@pytest.mark.slow
def test_the_report_records_what_the_defaults_stand_for(instant):
    report = keras_rar.evaluate_robustness(conv_model(8), *batch(4, (8, 8, 1)), epsilon=0.5, progress=False)
    recorded = {name: report.protocol[name] for name in ("k", "k_report", "step_size", "pgd_step_size")}
    assert recorded == {"k": 8, "k_report": 8, "step_size": 0.05, "pgd_step_size": 0.05}


def test_the_random_attack_records_its_own_step(instant, dense):
    recorded = look(dense, attack="random", step_size=None, k=None).protocol
    assert (recorded["step_size"], recorded["k"]) == (0.2, None)


def a_method(model, x, y):
    return x


@pytest.mark.parametrize(
    ("name", "value", "recorded"),
    [
        ("saliency", a_method, "a_method"),
        ("saliency", saliency_methods.Gradient(), {"class": "Gradient"}),
        ("baseline", np.full(4, 0.5), [0.5] * 4),
        ("bounds", (np.zeros(4), np.ones(4)), [[0.0] * 4, [1.0] * 4]),
        ("bounds", None, None),
        ("epsilon", np.float32(0.25), 0.25),
        ("seed", np.int64(3), 3),
        ("attacked", np.int32(5), 5),
    ],
)
def test_settings_of_any_kind_are_recorded_and_kept(name, value, recorded, instant, dense, tmp_path):
    path = tmp_path / "report.npz"
    report = look(dense, path=path, **{name: value})
    assert json.loads(report.to_json())["protocol"][name] == recorded
    assert report.summary()["kendall_tau"]["n"] > 0
    assert "\n\nProtocol: quick, changed: " in report.to_markdown()
    assert " at 0x" not in report.to_markdown() + report.to_json()
    del instant[:]
    assert_same(look(dense, path=path, **{name: value}), report)
    assert instant == []


def test_the_paper_s_protocol_by_name(instant):
    report = keras_rar.evaluate_robustness(
        conv_model(28), *batch(4, (28, 28, 1)), protocol="paper", dataset="fashion_mnist", progress=False
    )
    assert report.protocol["name"] == "paper, fashion_mnist"
    assert (report.protocol["steps"], report.protocol["m"], report.protocol["k"]) == (100, 100, 100)


@pytest.mark.slow
def test_a_protocol_of_one_s_own(instant, dense):
    mine = Protocol("mine", epsilon=0.1, steps=7)
    assert keras_rar.evaluate_robustness(dense, X, Y, protocol=mine, progress=False).protocol["name"] == "mine"


# Going on after an interruption


@pytest.fixture(scope="module")
def resumed(measured, tmp_path_factory):
    """Killed after the first of two batches of maps; gone on with by the same model, wrapped, with a progress bar."""
    path, rows = tmp_path_factory.mktemp("resumed") / "report.npz", []
    assert len(measured.files) == 3 + 2
    path.write_bytes(measured.files[3])
    part = RobustnessReport.load(path)
    with pytest.MonkeyPatch.context() as patch:
        for attack in (PGDAttack, AttributionAttack):
            patch.setattr(attack, "iterate", counting_rows(attack.iterate, rows))
        model = keras_rar.wrap(measured.model)
        report = evaluate(model, measured.x, measured.y, restarts=1, path=path, progress=True)
    return types.SimpleNamespace(part=part, report=report, file=RobustnessReport.load(path), rows=rows)


def counting_rows(function, rows):
    def iterate(*args, **kwargs):
        for found in function(*args, **kwargs):
            rows.append(len(found.x))
            yield found

    return iterate


def test_a_killed_evaluation_goes_on_to_the_same_report(measured, resumed):
    """Random starts and all. So a wrapped model is measured as the model inside, too."""
    assert resumed.rows == [5]  # nothing a second time
    for report in (resumed.report, resumed.file):
        assert_same(report, measured.report)
        assert report.to_json() == measured.report.to_json()


def test_the_file_of_a_killed_evaluation_is_a_report_of_a_part(measured, resumed):
    assert not resumed.part.complete
    assert resumed.part.counts == {
        **measured.report.counts,
        "attacked": 8,
        "unchanged": resumed.part.counts["unchanged"],
    }
    assert resumed.part.summary()["kendall_tau"]["n"] == 8
    assert resumed.part.summary()["natural_accuracy"] == measured.report.summary()["natural_accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(BATCHES)))
@pytest.mark.parametrize("where", ["attack", "progress", "save"])
def test_an_interruption_anywhere_loses_at_most_a_batch(where, number, instant, dense, tmp_path, monkeypatch):
    expected = look(dense)
    del instant[:]
    path, calls = tmp_path / "report.npz", []

    def interrupted(function):
        def call(*args, **kwargs):
            calls.append(function)
            if len(calls) == number + 1:
                raise KeyboardInterrupt
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        if where == "attack":
            results = {"PGDResult": PGDResult, "AttackResult": AttackResult}
            for name, kind in results.items():
                patch.setitem(globals(), name, interrupted(kind))
        elif where == "progress":
            patch.setattr(Progress, "show", interrupted(Progress.show))
        else:
            patch.setattr(np, "savez_compressed", interrupted(np.savez_compressed))
        with pytest.raises(KeyboardInterrupt):
            look(dense, path=path, progress=True)
    assert_same(look(dense, path=path), expected)
    assert instant == [*BATCHES[: number + 1], *BATCHES[number:]]  # the one interrupted again, no other
    assert [file.name for file in tmp_path.iterdir()] == ["report.npz"]
    assert_same(look(dense, path=path), expected)
    assert len(instant) == len(BATCHES) + 1  # all was there


def test_without_a_path_nothing_is_written(instant, dense, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    look(dense)
    assert list(tmp_path.iterdir()) == []


def with_weights(model, change):
    other = keras.models.clone_model(model)
    other.set_weights([change(weight) for weight in model.get_weights()])
    return other


def other_activation(model):
    """The same weights in another network."""
    other = dense_model(activation="tanh")
    other.set_weights(model.get_weights())
    return other


OTHERS = {
    "weights": lambda model: {"model": with_weights(model, lambda weight: np.nextafter(weight, np.float32(9)))},
    "activation": lambda model: {"model": other_activation(model)},
    "gradient model": lambda model: {"gradient_model": other_activation(model)},
    "images": lambda model: {"x": np.nextafter(X, np.float32(0))},
    "labels": lambda model: {"y": (Y + 1) % 3},
    "fewer images": lambda model: {"x": X[:-1], "y": Y[:-1]},
    "epsilon": lambda model: {"epsilon": 0.11},
    "bounds": lambda model: {"bounds": (0, 2)},
    "seed": lambda model: {"seed": 1},
    "k": lambda model: {"k": 2},
    "batch size": lambda model: {"batch_size": 9},
    "baseline": lambda model: {"baseline": [0, 0, 0, 1e-9]},
    "saliency": lambda model: {"saliency": "gradient"},
    "saliency object": lambda model: {"saliency": saliency_methods.IntegratedGradients(baseline=0.5)},
    "protocol": lambda model: {"protocol": dataclasses.replace(protocols.QUICK, softplus_beta=2.0)},
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_evaluation_does_not_go_on_from_the_file(what, instant, dense, tmp_path):
    path = tmp_path / "report.npz"
    look(dense, path=path)
    before = path.read_bytes()
    with pytest.raises(
        ValueError, match=r"^`path` must be a new file, or one that this very evaluation wrote: "
    ) as info:
        look(**{"model": dense, "path": path, **OTHERS[what](dense)})
    assert str(path) in str(info.value)
    assert "\n" not in str(info.value)
    assert path.read_bytes() == before


def test_the_same_evaluation_goes_on_from_the_file(instant, dense, tmp_path):
    """Whatever the model is called, and in whatever form data and path are given."""
    path = tmp_path / "report.npz"
    expected = look(dense, path=path)
    del instant[:]
    copy = dense_model(activation="relu")
    copy.set_weights(dense.get_weights())
    assert copy.name != dense.name
    assert_same(look(copy, X.astype("float64"), np.eye(3)[Y], path=str(path), progress=True), expected)
    assert instant == []


def test_more_images_go_on_from_the_file(instant, dense, tmp_path):
    path = tmp_path / "report.npz"
    assert look(dense, path=path, attacked=5).counts["attacked"] == 5
    del instant[:]
    more = look(dense, path=path, attacked=11)
    assert instant == [("attributions", 5)]
    assert_same(more, look(dense, attacked=11))
    assert json.loads(RobustnessReport.load(path).to_json())["protocol"]["attacked"] == 11
    with pytest.raises(ValueError, match=r"^`attacked` must be at least the number of examples in `path`, 11"):
        look(dense, path=path, attacked=10)


@pytest.mark.parametrize("content", [b"", b"index,label\n", b"PK\x03\x04", b"\x80\x04K\x01."])
def test_a_foreign_file_is_refused_and_kept(content, instant, dense, tmp_path):
    path = tmp_path / "report.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^`path` must be a file that RobustnessReport.save wrote. Received: "):
        look(dense, path=path)
    assert path.read_bytes() == content
    assert instant == []


# Honesty, on networks trained on real images


def trained(method, **options):
    """A small network, trained on the embedded images in a few seconds."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(32, "relu"),
            layers.Dense(10),
        ]
    )
    wrapped = keras_rar.wrap(model, method, seed=0, **options)
    wrapped.compile(keras.optimizers.Adam(0.003), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    wrapped.fit(*datasets.load("fashion_mnist_mini", "train"), batch_size=100, epochs=3, verbose=0)
    return model


def verdict(model, **changes):
    x, y = datasets.load("fashion_mnist_mini", "test")
    chosen = np.random.default_rng(0).permutation(len(x))[:40]
    settings = {"k": 98, "k_report": 98, "steps": 20, "step_size": 0.02, "m": 5, "rule": "midpoint", "attacked": None}
    pgd = {"pgd_steps": 5, "pgd_step_size": 0.04, "batch_size": 40}
    return evaluate(model, x[chosen], y[chosen], **{**settings, **pgd, **NO_RESTARTS, **changes})


@pytest.fixture(scope="module")
def natural():
    model = trained("natural")
    return model, verdict(model)


@pytest.mark.slow
def test_the_random_attack_is_weaker_at_what_topk_is_for(natural):
    """The intersection. Kendall's tau falls as far by noise alone, which reorders the many small entries of a map."""
    random = verdict(natural[0], attack="random", step_size=None, k=None)
    difference = random.values("topk_intersection") - natural[1].values("topk_intersection")
    assert difference.mean() > 3 * difference.std() / math.sqrt(len(difference))
    assert difference.mean() > 0.05


def test_what_is_kept_keeps_the_prediction_where_nearly_all_can_be_turned(natural):
    model, report = natural
    examples = report.examples
    assert report.summary()["adversarial_accuracy"]["mean"] < 0.1
    predicted = model.predict(examples["x_adv"], verbose=0).argmax(axis=1)
    np.testing.assert_array_equal(predicted, report.per_example["label"][examples["index"]])
    assert np.all(report.per_example["iteration"][examples["index"]] > 0)


@pytest.mark.slow
def test_a_larger_ball_never_scores_better(natural):
    smaller = verdict(natural[0], epsilon=0.03).summary()
    for measure in ("adversarial_accuracy", "topk_intersection", "kendall_tau", "spearman_rho"):
        assert natural[1].summary()[measure]["mean"] < smaller[measure]["mean"]


@pytest.mark.slow
def test_a_robustly_trained_network_scores_better(natural):
    robust = verdict(trained("madry", epsilon=0.1, steps=4, step_size=0.04)).summary()
    for measure in ("adversarial_accuracy", "topk_intersection", "kendall_tau", "spearman_rho"):
        assert robust[measure]["low"] > natural[1].summary()[measure]["high"]


# Bad input


class OutOfReach(keras.layers.Layer):
    """A ReLU that cannot be found."""

    def call(self, x):
        return tf.nn.relu(x)


def out_of_reach():
    return keras.Sequential([keras.Input((4,)), OutOfReach(), keras.layers.Dense(3)])


def bad_inputs():
    """Changes to the arguments, the error, and how it begins."""
    nan = np.where(np.arange(4) == 2, np.nan, X)
    return [
        ({"x": X[:, :3]}, ValueError, "`x` must have the shape (n, 4) with n > 0"),
        ({"x": X[0]}, ValueError, "`x` must have the shape (n, 4) with n > 0"),
        ({"x": X[:0], "y": Y[:0]}, ValueError, "`x` must have the shape (n, 4) with n > 0"),
        ({"x": 255 * X}, ValueError, "`x` must lie within `bounds`=(0.0, 1.0)"),
        ({"x": X - 1}, ValueError, "`x` must lie within `bounds`=(0.0, 1.0)"),
        ({"x": nan}, ValueError, "`x` must be finite"),
        ({"x": X.astype(str)}, TypeError, "`x` must be an array of numbers"),
        ({"x": None}, TypeError, "`x` must be an array of numbers"),
        ({"y": Y[:3]}, ValueError, "`y` must hold one label "),
        ({"y": Y + 1}, ValueError, "`y` must be class indices from 0 to 2"),
        ({"y": Y - 1}, ValueError, "`y` must be class indices from 0 to 2"),
        ({"y": Y + 0.5}, ValueError, "`y` must be class indices from 0 to 2"),
        ({"y": np.full(50, np.nan)}, ValueError, "`y` must be finite"),
        ({"y": np.zeros((50, 3))}, ValueError, "`y` must be one-hot"),
        ({"y": np.full((50, 3), 1 / 3)}, ValueError, "`y` must be one-hot"),
        ({"y": np.eye(4)[Y]}, ValueError, "`y` must have the shape"),
        ({"y": Y.astype(str)}, TypeError, "`y` must be an array of numbers"),
        ({"y": None}, TypeError, "`y` must be an array of numbers"),
        ({"model": "model.keras"}, TypeError, "`base_model` must be a Keras 3 model"),
        ({"model": keras.Sequential([keras.layers.Dense(3)])}, ValueError, "`base_model` must be built"),
        ({"gradient_model": 3}, TypeError, "`base_model` must be a Keras 3 model"),
        ({"protocol": "papers"}, ValueError, "`protocol` must be one of"),
        ({"protocol": "paper"}, ValueError, "`dataset` must be one of"),
        ({"protocol": "paper", "dataset": "cifar10"}, ValueError, "`dataset` must be one of"),
        ({"dataset": "mnist"}, ValueError, "`dataset` must be None"),
        (
            {"epsilom": 0.1},
            TypeError,
            "`evaluate_robustness` has no argument `epsilom`; did you mean `epsilon`?",
        ),
        ({"name": "paper, mnist"}, TypeError, "`evaluate_robustness` has no argument `name`"),
        ({"epsilon": None}, ValueError, "`epsilon` must be given for a model that keras_rar does not train, such as "),
        ({"epsilon": 1e-60}, ValueError, "`epsilon` must be "),
        ({"epsilon": 1e60}, ValueError, "`epsilon` must be "),
        ({"step_size": 1e-60}, ValueError, "`step_size` must be "),
        ({"gradient_model": dense_model(classes=2)}, ValueError, "`gradient_model` must have the classes of the model"),
        ({"gradient_model": dense_model(features=5)}, ValueError, "`gradient_model` must take the inputs of the model"),
        ({"model": out_of_reach()}, ValueError, "`model` must let its ReLUs be found"),
        ({"saliency": lambda model, x, y: np.abs(x)}, TypeError, "`saliency` must be made of TensorFlow operations"),
        ({"saliency": lambda model, x, y: x[0, 0]}, ValueError, "`saliency` must return one map per example"),
        ({"saliency": lambda model, x, y: x[:, :1], "k": 1}, ValueError, "`saliency` must return one map per example"),
        ({"path": __file__}, ValueError, "`path` must be a file that RobustnessReport.save wrote"),
        ({"epsilon": 0}, ValueError, "`epsilon` must be a positive float"),
        ({"bounds": 1}, TypeError, "`bounds` must be"),
        ({"bounds": (1, 0)}, ValueError, "`bounds` must be"),
        ({"baseline": np.zeros(3)}, ValueError, "`baseline` must be a float or an array that broadcasts"),
        ({"seed": -1}, ValueError, "`seed` must be"),
        ({"attacked": 0}, ValueError, "`attacked` must be a positive integer"),
        ({"k": 4}, ValueError, "`k` must be below the number of entries of the map, 4"),
        ({"k_report": 4}, ValueError, "`k_report` must be below the number of entries of the map, 4"),
        ({"attack": "mass_center"}, ValueError, "`MassCenterAttack` needs maps of shape (height, width)"),
        ({"keep": "mass_center"}, ValueError, "`keep` must be"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be a positive integer"),
        ({"batch_size": "all"}, TypeError, "`batch_size` must be a positive integer"),
        ({"chunk": 0}, ValueError, "`chunk` must be a positive integer"),
        ({"jit_compile": "yes"}, ValueError, "`jit_compile` must be one of"),
        ({"progress": "bar"}, TypeError, "`progress` must be True or False"),
        ({"path": "no/such/folder/report.npz"}, ValueError, "`path` must be in a folder that exists"),
        ({"path": 5}, TypeError, ""),
    ]


def test_the_control_needs_no_twin(instant):
    """Nor does an attack that takes gradients through the model as it is, or through a twin of the user's."""
    for settings in ({"attack": "random", "k": None}, {"softplus_beta": None}, {"gradient_model": dense_model()}):
        assert look(out_of_reach(), **settings).complete


@pytest.mark.parametrize("number", range(len(bad_inputs())))
def test_bad_input_is_refused_before_anything_is_attacked(number, instant, dense):
    arguments, error, begins = bad_inputs()[number]
    with pytest.raises(error, match=f"^{re.escape(begins)}"):
        look(**{"model": dense, **arguments})
    assert instant == []
