"""What runs beside the attacks: the same numbers again by hand, gone on with, and taken from ensembles."""

import dataclasses
import types

import keras
import numpy as np
import pytest
from conftest import batch, dense_model

import keras_rar
from keras_rar.attacks import AttackResult, AttributionAttack, PGDAttack, PGDResult, RandomAttack, TopKAttack
from keras_rar.core.saliency_methods import Gradient, IntegratedGradients
from keras_rar.evaluation import controls, found_by
from keras_rar.evaluation.faithfulness import faithfulness
from keras_rar.evaluation.kinds_of_maps import name_of, other_saliencies
from keras_rar.evaluation.report import RobustnessReport

SCORES = ["topk_intersection", "kendall_tau", "spearman_rho"]
SETTINGS = {
    "epsilon": 0.1, "k": 1, "k_report": 2, "steps": 3, "restarts": 1, "m": 2, "pgd_steps": 2, "pgd_restarts": 0,
    "noise": 3, "faithful": 2, "batch_size": 8, "progress": False,
}  # fmt: skip
ATTACK = {"epsilon": 0.1, "k_report": 2, "m": 2, "batch_size": 8}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """An evaluation of ten examples, of which two have a wrong label, and its file."""
    keras.utils.set_random_seed(0)
    model = dense_model(activation="relu")
    x, _ = batch(10)
    y = model.predict(x, verbose=0).argmax(axis=1)
    y[[1, 5]] = (y[[1, 5]] + 1) % 3
    path = tmp_path_factory.mktemp("controls") / "report.npz"
    report = keras_rar.evaluate_robustness(model, x, y, path=path, **SETTINGS)
    return types.SimpleNamespace(model=model, x=x, y=y, path=path, report=report, table=report.per_example)


def copied(measured, tmp_path):
    path = tmp_path / "report.npz"
    path.write_bytes(measured.path.read_bytes())
    return path


def rows_of(measured, n):
    return np.flatnonzero(measured.table["attacked"])[:n]


# The numbers again


def test_noise_is_the_random_attack_of_as_many_iterates(measured):
    rows = rows_of(measured, 3)
    found = RandomAttack(steps=3 * 2, **ATTACK)(measured.model, measured.x[rows], measured.y[rows])
    for name in SCORES:
        column = measured.table[f"{name}.noise"]
        np.testing.assert_allclose(column[rows], found.scores[name], atol=1e-6)
        assert np.flatnonzero(np.isfinite(column)).tolist() == rows.tolist()
    assert measured.report.findings["noise"] == {
        "n": 3, "queries": 6, "predictions": 3, "predictions_queries": 4
    }  # fmt: skip


def test_random_points_are_in_the_ball_and_change_fewer_predictions_than_pgd(measured):
    rows, column = rows_of(measured, 3), measured.table["robust.noise"]
    assert set(column[rows]) <= {0.0, 1.0}
    assert np.isnan(np.delete(column, rows)).all()
    assert np.mean(column[rows]) >= np.mean(measured.table["robust"][rows])


@pytest.mark.slow
def test_noise_changes_predictions_in_a_large_ball(measured):
    settings = {**SETTINGS, "epsilon": 1.0, "steps": 1, "pgd_steps": 20, "other_maps": (), "faithful": 0}
    report = keras_rar.evaluate_robustness(measured.model, measured.x, measured.y, **settings)
    assert np.nanmean(report.per_example["robust.noise"]) < 1


@pytest.mark.slow
def test_other_maps_are_attacked_as_the_first_kind(measured):
    rows = rows_of(measured, 3)
    options = {**ATTACK, "saliency": "gradient"}
    found = TopKAttack(1, steps=3, restarts=1, **options)(measured.model, measured.x[rows], measured.y[rows])
    noise = RandomAttack(steps=6, **options)(measured.model, measured.x[rows], measured.y[rows])
    for name in SCORES:
        np.testing.assert_allclose(measured.table[f"{name}.gradient"][rows], found.scores[name], atol=1e-6)
        np.testing.assert_allclose(measured.table[f"{name}.gradient.noise"][rows], noise.scores[name], atol=1e-6)
    assert measured.report.findings["maps"] == {"gradient": {"n": 3, "noise": {"n": 3}}}


def test_faithfulness_is_that_of_the_maps_before_the_attack(measured):
    rows = rows_of(measured, 2)
    x, y = measured.x[rows], measured.y[rows]
    maps, signed = (keras_rar.saliency_map(measured.model, x, y, m=2, normalize=flag) for flag in (True, False))
    for name, scores in faithfulness(measured.model, x, maps, y, attributions=signed).items():
        for measure, values in scores.items():
            np.testing.assert_allclose(measured.table[f"{measure}.{name}"][rows], values, atol=1e-5)


@pytest.mark.slow
def test_the_attacks_themselves_are_as_without_controls(measured):
    settings = {**SETTINGS, "noise": 0, "faithful": 0, "other_maps": ()}
    report = keras_rar.evaluate_robustness(measured.model, measured.x, measured.y, **settings)
    assert report.fingerprint == measured.report.fingerprint
    assert set(report.findings) == {"undecided", "twin"}
    for name, column in report.per_example.items():
        np.testing.assert_array_equal(measured.table[name], column)
    assert len(measured.table) > len(report.per_example)


def test_the_report_is_complete_and_says_what_ran(measured):
    assert measured.report.complete
    assert "unfinished" not in measured.report.findings
    for words in ("Attack and noise", "Other kinds of map", "Faithfulness of the maps", "6 random points"):
        assert words in measured.report.to_markdown()


# Gone on with


def refuse(*arguments, **options):
    raise AssertionError("attacked again")


def test_a_finished_evaluation_runs_no_control_again(measured, tmp_path, monkeypatch):
    path = copied(measured, tmp_path)
    monkeypatch.setattr(AttributionAttack, "_starts", refuse)
    monkeypatch.setattr(PGDAttack, "_starts", refuse)
    monkeypatch.setattr(controls, "faithfulness", refuse)
    again = keras_rar.evaluate_robustness(measured.model, measured.x, measured.y, path=path, **SETTINGS)
    assert again.to_json() == measured.report.to_json()
    fewer = {**SETTINGS, "noise": 0, "faithful": 0, "other_maps": ()}
    kept = keras_rar.evaluate_robustness(measured.model, measured.x, measured.y, path=path, **fewer)
    assert kept.per_example.keys() == measured.table.keys()


@pytest.mark.slow
def test_controls_are_added_to_a_file_without_and_extended(measured, tmp_path, monkeypatch):
    path, alone = tmp_path / "report.npz", {"noise": 0, "faithful": 0, "other_maps": ()}
    keras_rar.evaluate_robustness(measured.model, measured.x, measured.y, path=path, **{**SETTINGS, **alone})
    monkeypatch.setattr(PGDAttack, "_starts", refuse)
    again = keras_rar.evaluate_robustness(measured.model, measured.x, measured.y, path=path, **SETTINGS)
    for name, column in measured.table.items():
        np.testing.assert_array_equal(again.per_example[name], column)
    assert again.findings == measured.report.findings
    more = {**SETTINGS, "noise": 5, "other_maps": (), "faithful": 0}
    longer = keras_rar.evaluate_robustness(measured.model, measured.x, measured.y, path=path, **more).per_example
    rows = rows_of(measured, 5)
    assert np.isfinite(longer["kendall_tau.noise"][rows]).all()
    np.testing.assert_array_equal(longer["kendall_tau.noise"][rows[:3]], measured.table["kendall_tau.noise"][rows[:3]])


@pytest.mark.slow
def test_an_evaluation_interrupted_in_its_controls_is_incomplete_and_goes_on(measured, tmp_path, monkeypatch):
    path = tmp_path / "report.npz"

    def stopped(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(controls, "faithfulness", stopped)
        with pytest.raises(KeyboardInterrupt):
            keras_rar.evaluate_robustness(measured.model, measured.x, measured.y, path=path, **SETTINGS)
    part = RobustnessReport.load(path)
    assert not part.complete
    assert part.warnings[0] == "Incomplete: the evaluation was interrupted."
    monkeypatch.setattr(AttributionAttack, "_starts", refuse)
    again = keras_rar.evaluate_robustness(measured.model, measured.x, measured.y, path=path, **SETTINGS)
    assert again.to_json() == measured.report.to_json()


# Attacks that bring their own


@pytest.fixture
def ensemble(monkeypatch):
    """Attacks that find at once what members found: an ensemble with noise among its members."""
    runs = []

    @dataclasses.dataclass(frozen=True)
    class Found(AttackResult):
        members: tuple = ()
        member_scores: dict = dataclasses.field(default_factory=dict)
        worst: dict = dataclasses.field(default_factory=dict)
        queries: int = 0

    @dataclasses.dataclass(frozen=True)
    class Broken(PGDResult):
        members: tuple = ()
        broken_by: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, int))

    def attributions(self, model, x, y=None, *, gradient_model=None, first=0, progress=None):
        runs.append((type(self).__name__, getattr(self, "keep", None)))
        for start in range(first, len(x), 4):
            rows = slice(start, min(start + 4, len(x)))
            n, ones = rows.stop - start, np.ones(rows.stop - start)
            scores = dict.fromkeys(SCORES, 0.5 * ones)
            noise = dict.fromkeys(SCORES, 0.7 * ones)
            worst = {name: np.arange(n) % 3 - 1 for name in SCORES}
            yield Found(
                x[rows], x[rows], y[rows], ones > 0, x[rows], x[rows], scores, np.ones(n, int), np.zeros(n, int),
                members=("topk", "noise"), member_scores={"topk": scores, "noise": noise}, worst=worst, queries=40,
            )  # fmt: skip

    def predictions(self, model, x, y, *, first=0, progress=None):
        right = np.full(len(x), True)
        yield Broken(x, x, y, y, right, right, members=("apgd", "square"), broken_by=np.arange(len(x)) % 3 - 1)

    monkeypatch.setattr(AttributionAttack, "iterate", attributions)
    monkeypatch.setattr(PGDAttack, "iterate", predictions)
    agreement = dataclasses.make_dataclass("TwinAgreement", ["beta", "predictions", "scores", "maps"])
    twin = lambda self, model, x, y: agreement(10.0, np.float32(0.5), 0.99, 0.9)  # noqa: E731
    monkeypatch.setattr(TopKAttack, "twin_agreement", twin, raising=False)
    return runs


def test_an_ensemble_tells_its_members_twin_and_noise(measured, ensemble):
    report = keras_rar.evaluate_robustness(
        measured.model, measured.x, measured.y, **{**SETTINGS, "faithful": 0, "attacked": 6}
    )
    found = report.findings
    # batches of 4 and 2: worst -1, 0, 1, -1 and -1, 0
    assert found["members"] == {name: {"topk": 2, "noise": 1} for name in SCORES}
    assert found["predictions_members"] == {"apgd": 3, "square": 3}
    assert found["twin"] == {"beta": 10.0, "predictions": 0.5, "scores": 0.99, "maps": 0.9}
    assert (found["queries"], found["noise"]["n"], found["noise"]["queries"]) == (40, 6, 40)
    assert np.nanmean(report.per_example["kendall_tau.noise"]) == pytest.approx(0.7)
    assert found["maps"]["gradient"] == {"n": 3, "noise": {"n": 3}}
    assert ensemble == [("TopKAttack", "kendall_tau")] * 2  # no noise beside that of the ensemble
    assert any("square" not in warning and "gradients are masked" in warning for warning in report.warnings)
    assert any("is not the network: it predicts the same for 50 %" in warning for warning in report.warnings)


def test_noise_itself_has_no_other_control(measured, ensemble):
    settings = {**SETTINGS, "attack": "random", "other_maps": (), "faithful": 0}
    report = keras_rar.evaluate_robustness(measured.model, measured.x, measured.y, **settings)
    assert "The attack on maps is noise itself" in report.to_markdown()
    assert report.findings.get("noise", {}).get("same")


def test_what_tells_nothing_adds_nothing(measured):
    rows = rows_of(measured, 2)
    found = TopKAttack(1, steps=1, **ATTACK)(measured.model, measured.x[rows], measured.y[rows])
    findings: dict = {}
    found_by.maps(findings, found, None)
    found_by.predictions(findings, found)
    found_by.twin(findings, RandomAttack(**ATTACK), measured.model, measured.x, measured.y)
    assert findings == {}
    assert found_by.scores_of_noise(found) == {}


def test_maps_whose_k_highest_ties_decide_are_counted():
    maps = np.array([[0, 0, 0, 1.0], [1, 2, 3, 4.0], [1, 1, 1, 1.0]])
    findings: dict = {}
    found = types.SimpleNamespace(x=maps, map_before=maps)
    found_by.maps(findings, found, 2)
    assert findings == {"undecided": 1}  # the first; the last is constant, which is counted elsewhere


# Kinds of map


def of_the_users(model, x, y):
    return x * model(x)[:, :1]


@pytest.mark.parametrize(
    ("given", "saliency", "names"),
    [
        (None, "ig", ["gradient"]),
        (None, "gradient", ["ig"]),
        (None, of_the_users, ["ig"]),
        ((), "ig", []),
        (["smoothgrad", of_the_users], "ig", ["smoothgrad", "of_the_users"]),
        ([of_the_users, of_the_users], "ig", ["of_the_users", "of_the_users_2"]),
        ([lambda model, x, y: x], "ig", ["lambda"]),
    ],
)
def test_at_least_two_kinds_unless_none_is_asked_for(given, saliency, names):
    assert list(other_saliencies(given, saliency)) == names


def test_a_saliency_of_another_baseline_has_a_name_of_its_own():
    other = IntegratedGradients(baseline=0.5)
    assert name_of(other) == "ig"
    assert list(other_saliencies([other], "ig")) == ["ig_2"]


def test_maps_that_cannot_be_attacked_are_left_out_and_said_or_refused_if_asked_for(measured, ensemble, monkeypatch):
    def check(self, *arguments, **options):
        if isinstance(self.saliency, Gradient):
            raise ValueError("`model` must have a second derivative")

    monkeypatch.setattr(AttributionAttack, "check", check)
    settings = {**SETTINGS, "faithful": 0}
    report = keras_rar.evaluate_robustness(measured.model, measured.x, measured.y, **settings)
    assert report.findings["maps"] == {"gradient": {"n": 0, "skipped": "`model` must have a second derivative"}}
    assert "Not measured: gradient, as `model` must have a second derivative" in report.warnings
    del ensemble[:]
    with pytest.raises(ValueError, match="`model` must have a second derivative"):
        keras_rar.evaluate_robustness(measured.model, measured.x, measured.y, other_maps=["gradient"], **settings)
    assert ensemble == []


# What is undefined


@pytest.mark.slow
def test_an_undefined_example_leaves_the_others_their_scores():
    """The norm has no derivative at 0, so the map there is not a number."""
    i = keras.Input((6,))
    norm = keras.ops.sqrt(keras.ops.sum(i**2, axis=-1, keepdims=True))
    model = keras.Model(i, keras.layers.Dense(3)(keras.layers.Concatenate()([i, norm])))
    kernel = np.random.default_rng(0).normal(size=(7, 3))
    model.layers[-1].set_weights([kernel, np.array([0, 0.01, 0.02])])
    x = np.random.default_rng(1).uniform(size=(8, 6)).astype("float32")
    x[3] = 0
    y = model.predict(x, verbose=0).argmax(1)
    report = keras_rar.evaluate_robustness(
        model, x, y, epsilon=0.05, steps=3, m=8, pgd_steps=5, noise=4, faithful=5, other_maps=(), progress=False
    )
    assert report.summary()["kendall_tau"]["n"] == 7
    assert np.isfinite(report.summary()["kendall_tau"]["mean"])
    assert any("The score of example 3 is undefined" in warning for warning in report.warnings)
    assert np.flatnonzero(np.isfinite(report.per_example["deletion.map"])).tolist() == [0, 1, 2, 4]
    assert "skipped" not in report.findings["faithfulness"]


# Certificates


def test_certificates_are_of_the_first_attacked_and_kept(measured, tmp_path, monkeypatch):
    path = copied(measured, tmp_path)
    monkeypatch.setattr(AttributionAttack, "_starts", refuse)
    report = keras_rar.evaluate_robustness(
        measured.model, measured.x, measured.y, path=path, **{**SETTINGS, "certified": 2}
    )
    found = report.findings["certificate"]
    rows = rows_of(measured, 2)
    expected = keras_rar.certify(
        measured.model, measured.x[rows], measured.y[rows], k=2, method="ig", m=2, progress=False
    )
    assert found == expected.as_findings()
    assert "Certificate of smoothed maps" in report.to_markdown()
    monkeypatch.setattr(controls, "certify", refuse)
    again = keras_rar.evaluate_robustness(
        measured.model, measured.x, measured.y, path=path, **{**SETTINGS, "certified": 2}
    )
    assert again.findings == report.findings


# Comparisons


def test_compare_runs_the_controls_on_the_same_examples(measured):
    other = dense_model(activation="relu")
    other.set_weights([0.9 * weights for weights in measured.model.get_weights()])
    comparison = keras_rar.compare({"a": measured.model, "b": other}, measured.x, measured.y, **SETTINGS)
    tables = [report.per_example for report in comparison.reports.values()]
    for name in ("kendall_tau.noise", "kendall_tau.gradient", "deletion.map"):
        np.testing.assert_array_equal(*(np.isfinite(table[name]) for table in tables))
    row = comparison.control_differences["b", "a"]["kendall_tau.gradient"]
    assert (row["n"], row["verdict"]) == (3, "too few to tell")
