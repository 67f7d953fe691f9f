"""Comparisons: the same examples for all, paired differences against SciPy, and no ranking within an interval."""

import dataclasses
import html.parser
import json
import math
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import scipy.stats
from conftest import dense_model

import keras_rar
from keras_rar.evaluation.report import RobustnessReport
from keras_rar.evaluation.verdicts import verdict

ALONE = {"noise": 0, "other_maps": (), "faithful": 0}  # the controls are in `test_controls.py`
CHEAP = {"epsilon": 0.1, "steps": 2, "m": 2, "pgd_steps": 2, "progress": False, **ALONE}
SCORES = ["topk_intersection", "kendall_tau", "spearman_rho"]


def made(n=40, seed=0, shape=(3, 3, 1), **changes) -> RobustnessReport:
    """A report of the same examples and settings for any seed; the results are drawn at random."""
    rng = np.random.default_rng(seed)
    correct = changes.pop("correct", rng.uniform(size=n) < 0.8)
    table = {
        "index": np.arange(n),
        "label": np.arange(n) % 3,
        "predicted": np.arange(n) % 3,
        "correct": correct,
        "robust": correct & (rng.uniform(size=n) < 0.5),
        "attacked": correct,
        **{name: rng.uniform(-1, 1, n).astype("float32") for name in SCORES},
        "iteration": rng.integers(1, 3, n),
        "restart": np.zeros(n, int),
        "constant_map": np.zeros(n, bool),
    }
    table |= {name: changes.pop(name) for name in list(changes) if name in table}
    for name in SCORES:
        table[name] = np.where(table["attacked"], table[name], np.float32(np.nan))
    rows = np.flatnonzero(table["attacked"])[:2]
    inputs = np.random.default_rng(99).uniform(size=(n, *shape)).astype("float32")[rows]
    maps = rng.uniform(size=(2, *inputs.shape)).reshape(2, len(rows), *(shape[:-1] if len(shape) == 3 else shape))
    examples = {"x": inputs, "x_adv": inputs, "map_before": maps[0], "map_after": maps[1], "index": rows}
    protocol = {"name": f"mine {seed}", "epsilon": 0.1, "norm": "linf", "bounds": [0.0, 1.0], "k_report": 3, "seed": 0}
    return RobustnessReport("net", {**protocol, "attacked": None, **changes}, table, examples, {"numpy": "2"}, "abc")


@pytest.fixture
def two():
    return keras_rar.compare({"natural": made(seed=0), "robust": made(seed=1)})


# Which examples


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Three models, of which each misses other examples, and the folder that their comparison was kept in."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    models = {str(i): dense_model() for i in range(3)}
    first = models["0"].get_weights()
    for model in models.values():
        model.set_weights([weights + rng.normal(0, 0.3, weights.shape) for weights in first])
    x = rng.uniform(size=(30, 4)).astype("float32")
    y = models["0"].predict(x, verbose=0).argmax(axis=1)
    y[::5] = (y[::5] + 1) % 3
    folder = tmp_path_factory.mktemp("comparison") / "new"
    return models, x, y, folder, keras_rar.compare(models, x, y, path=folder, **CHEAP)


def test_maps_are_attacked_where_every_model_is_right_and_predictions_everywhere(measured):
    _, x, _, _, comparison = measured
    tables = [report.per_example for report in comparison.reports.values()]
    right = np.logical_and.reduce([table["correct"] for table in tables])
    assert 0 < right.sum() < min(table["correct"].sum() for table in tables)  # else it shows nothing
    for report in comparison.reports.values():
        np.testing.assert_array_equal(report.per_example["attacked"], right)
        assert report.complete
    summary = comparison.summary()["0"]
    assert (summary["natural_accuracy"]["n"], summary["kendall_tau"]["n"]) == (len(x), right.sum())


@pytest.mark.slow
def test_each_model_is_measured_as_if_alone(measured):
    models, x, y, _, comparison = measured
    alone = keras_rar.evaluate_robustness(models["1"], x, y, **CHEAP).per_example
    found = comparison.reports["1"].per_example
    for name in ("predicted", "correct", "robust"):
        np.testing.assert_array_equal(found[name], alone[name])
    rows = found["attacked"]
    np.testing.assert_allclose(found["kendall_tau"][rows], alone["kendall_tau"][rows], atol=1e-5)


@pytest.mark.slow
def test_attacked_bounds_the_examples_of_all(measured):
    models, x, y, _, comparison = measured
    few = keras_rar.compare(models, x, y, attacked=2, **CHEAP)
    rows = [np.flatnonzero(report.per_example["attacked"]) for report in few.reports.values()]
    expected = np.flatnonzero(comparison.reports["0"].per_example["attacked"])[:2]
    np.testing.assert_array_equal(rows, [expected] * 3)


@pytest.mark.slow
def test_nothing_that_all_get_right_is_said(measured):
    models, x, *_ = measured
    y = np.array([(model.predict(x[:1], verbose=0).argmax() + 1) % 3 for model in models.values()])
    pair = {name: models[name] for name in ("0", "1")}
    comparison = keras_rar.compare(pair, x[:1], y[:1], **CHEAP)
    assert "No example was attacked for all models, so their maps cannot all be compared." in comparison.warnings
    assert comparison.difference("1", "0")["kendall_tau"]["verdict"] == "not measured"
    assert "nan" not in comparison.to_markdown().lower()


# Kept and gone on with


def test_a_finished_comparison_is_not_measured_again(measured, monkeypatch):
    models, x, y, folder, comparison = measured

    def attack(*arguments, **options):
        raise AssertionError("attacked again")

    for attack_class in (keras_rar.attacks.AttributionAttack, keras_rar.attacks.PGDAttack):
        monkeypatch.setattr(attack_class, "_starts", attack)
    again = keras_rar.compare(models, x, y, path=folder, **CHEAP)
    assert again.to_json() == comparison.to_json()


@pytest.mark.slow
def test_what_is_missing_of_a_comparison_is_measured_and_nothing_else(measured, tmp_path, monkeypatch):
    models, x, y, folder, comparison = measured
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy/2.npz").unlink()
    attacked, iterate = [], keras_rar.attacks.PGDAttack.iterate

    def watched(self, model, x, y, first=0, **options):
        attacked.extend([model.name] if first < len(x) else [])
        return iterate(self, model, x, y, first=first, **options)

    monkeypatch.setattr(keras_rar.attacks.PGDAttack, "iterate", watched)
    again = keras_rar.compare(models, x, y, path=tmp_path / "copy", **CHEAP)
    assert attacked == [models["2"].name]
    assert again.to_json() == comparison.to_json()


def test_a_comparison_with_another_model_is_not_mixed_with_this_one(measured):
    models, x, y, folder, _ = measured
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match="`path` must hold a comparison of the same models"):
        keras_rar.compare({name: models[name] for name in ("0", "1")}, x, y, path=folder, **CHEAP)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_save_and_load_give_it_back(two, tmp_path):
    two.save(tmp_path / "a folder")
    found = keras_rar.Comparison.load(tmp_path / "a folder")
    assert list(found.reports) == ["natural", "robust"]
    assert (found.to_markdown(), found.to_json()) == (two.to_markdown(), two.to_json())


def test_names_of_models_can_be_anything(tmp_path):
    names = ["λ = 1/2", "../b"]
    keras_rar.Comparison(dict(zip(names, [made(seed=0), made(seed=1)], strict=True))).save(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert list(keras_rar.Comparison.load(tmp_path / "new").reports) == names


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"models": 3}', '{"other": {}}'])
def test_what_is_no_comparison_is_refused(text, tmp_path):
    with pytest.raises(FileNotFoundError):
        keras_rar.Comparison.load(tmp_path)
    (tmp_path / "comparison.json").write_text(text)
    with pytest.raises(ValueError, match=r"`folder` must be one that Comparison.save wrote. Received: "):
        keras_rar.Comparison.load(tmp_path)


# Paired differences


@pytest.mark.parametrize("measure", ["adversarial_accuracy", "kendall_tau"])
def test_a_difference_is_the_paired_bootstrap_of_scipy(two, measure):
    values = two.values(measure)
    pairs = values["robust"] - values["natural"]
    row = two.difference("robust", "natural")[measure]
    expected = scipy.stats.bootstrap((pairs,), np.mean, n_resamples=9999, method="percentile").confidence_interval
    assert row["mean"] == pytest.approx(pairs.mean())
    np.testing.assert_allclose((row["low"], row["high"]), expected, atol=0.2 * pairs.std() / math.sqrt(len(pairs)))
    assert row["n"] == len(pairs)


def test_pairs_are_the_examples_measured_for_both(two):
    tables = [report.per_example for report in two.reports.values()]
    both = tables[0]["attacked"] & tables[1]["attacked"]
    assert both.sum() < min(table["attacked"].sum() for table in tables)  # else it shows nothing
    np.testing.assert_array_equal(two.values("kendall_tau")["robust"], tables[1]["kendall_tau"][both].astype(float))
    assert two.difference("robust", "natural")["kendall_tau"]["n"] == both.sum()
    assert two.difference("robust", "natural")["natural_accuracy"]["n"] == 40


def test_pairing_finds_what_separate_intervals_do_not():
    """A small gain on every example, among scores that differ far more from one example to the next."""
    scores = np.linspace(-0.9, 0.8, 40)
    everything = {name: np.full(40, True) for name in ("correct", "attacked")}
    noise = np.random.default_rng(0).normal(0.05, 0.02, 40)
    comparison = keras_rar.compare(
        {"a": made(kendall_tau=scores, **everything), "b": made(kendall_tau=scores + noise, **everything)}
    )
    first, second = (comparison.summary()[name]["kendall_tau"] for name in "ab")
    assert second["low"] < first["high"]
    assert comparison.difference("b", "a")["kendall_tau"]["verdict"] == "higher"
    assert comparison.difference("a", "b")["kendall_tau"]["verdict"] == "lower"


def test_a_model_does_not_differ_from_itself():
    comparison = keras_rar.compare({"a": made(), "b": made()})
    for row in comparison.difference("b", "a").values():
        assert (row["mean"], row["low"], row["high"]) == (0, 0, 0)
        assert row["verdict"] == "no difference beyond the interval"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((0.1, 0.01, 0.2, 20), "higher"),
        ((-0.1, -0.2, -0.01, 20), "lower"),
        ((0.1, 0.0, 0.2, 20), "no difference beyond the interval"),
        ((-0.1, -0.2, 0.0, 20), "no difference beyond the interval"),
        ((0.9, 0.8, 1.0, 6), "higher"),
        ((0.9, 0.8, 1.0, 5), "too few to tell"),
        ((0.9, np.nan, np.nan, 1), "too few to tell"),
        ((np.nan, np.nan, np.nan, 20), "undefined"),
        ((np.nan, np.nan, np.nan, 0), "not measured"),
    ],
)
def test_verdicts(row, words):
    assert verdict(dict(zip(("mean", "low", "high", "n"), row, strict=True))) == words


def test_an_undefined_score_ranks_nothing_and_is_said():
    broken = made(seed=1, kendall_tau=np.full(40, np.nan))
    comparison = keras_rar.compare({"a": made(), "b": broken})
    row = comparison.difference("b", "a")["kendall_tau"]
    assert (row["verdict"], math.isnan(row["mean"])) == ("undefined", True)
    assert any(warning.startswith("b: The scores of ") for warning in comparison.warnings)
    assert "nan" not in (comparison.to_markdown() + repr(comparison) + comparison._repr_html_()).lower()


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"iteration": np.zeros(40, int)}, "not ranked: the attack changed no map of one"),
        ({"constant_map": np.full(40, True)}, "not ranked: all maps of one are constant"),
    ],
)
def test_scores_where_nothing_was_found_or_explained_are_no_merit(columns, reason):
    perfect = {name: np.ones(40) for name in SCORES}
    found = keras_rar.compare({"a": made(), "b": made(seed=1, **perfect, **columns)}).difference("b", "a")
    assert {measure: row["verdict"] for measure, row in found.items() if measure in SCORES} == dict.fromkeys(
        SCORES, reason
    )
    assert found["natural_accuracy"]["verdict"] in ("higher", "lower", "no difference beyond the interval")
    control = keras_rar.compare({"a": made(), "b": made(seed=1, **perfect)}).difference("b", "a")
    assert all(control[score]["verdict"] == "higher" for score in SCORES)


def test_every_pair_has_a_difference():
    comparison = keras_rar.compare({name: made(seed=seed) for seed, name in enumerate("abc")})
    assert list(comparison.differences) == [("b", "a"), ("c", "a"), ("c", "b")]
    assert "of 20, one may miss the truth" in comparison.to_markdown()
    for name in ("first", "second"):
        with pytest.raises(ValueError, match=rf"`{name}` must be one of \['a', 'b', 'c'\]"):
            comparison.difference(**{"first": "a", "second": "b", name: "d"})


# What cannot be compared


def other_label():
    report = made(seed=1)
    report.per_example["label"][3] += 1
    return report


def other_inputs(**changes):
    report = made(seed=1, **changes)
    report.examples["x"][:] += 0.01
    return report


def test_at_a_layer_networks_are_compared_though_its_outputs_differ():
    """They always do: what reports keep of an example there is what the layer of each network returns."""
    reports = made(seed=0, correct=np.ones(40, bool)), other_inputs(correct=np.ones(40, bool))
    for report in reports:
        report.protocol["layer"] = "embedding"
    assert keras_rar.compare(dict(zip("ab", reports, strict=True))).difference("b", "a")["kendall_tau"]["n"] == 40
    with pytest.raises(ValueError, match="same examples"):
        keras_rar.compare({"a": reports[0], "b": dataclasses.replace(made(39, seed=1), protocol=reports[1].protocol)})


@pytest.mark.parametrize("report", [made(39, seed=1), other_label(), other_inputs()])
def test_reports_of_other_data_are_refused(report):
    with pytest.raises(ValueError, match=r"`models` must be reports of the same examples. Received: .*'a' and 'b'"):
        keras_rar.compare({"a": made(), "b": report})


@pytest.mark.parametrize(("name", "value"), [("epsilon", 0.2), ("k_report", 4), ("norm", "l2"), ("new", 1)])
def test_reports_of_other_settings_are_refused(name, value):
    with pytest.raises(ValueError, match=f"the same settings. Received: 'a' and 'b', which differ in {name} "):
        keras_rar.compare({"a": made(), "b": made(seed=1, **{name: value})})


def test_names_of_protocols_and_how_many_were_attacked_may_differ():
    keras_rar.compare({"a": made(), "b": made(seed=1, name="another", attacked=4, new=None)})


# The ball


@pytest.mark.slow
def test_the_ball_is_that_of_the_trainings_if_it_is_one():
    first, second = (keras_rar.wrap(dense_model(), "madry", epsilon=0.3, bounds=(0.0, 2.0)) for _ in range(2))
    x, options = np.full((2, 4), 1.5), {"steps": 1, "m": 1, "pgd_steps": 1, "progress": False, **ALONE}
    comparison = keras_rar.compare({"a": first, "b": second}, x, [0, 1], **options)
    assert (comparison.protocol["epsilon"], comparison.protocol["bounds"]) == (0.3, [0.0, 2.0])


@pytest.mark.parametrize(("name", "value"), [("epsilon", 0.2), ("norm", "l2"), ("bounds", (0.0, 3.0))])
def test_different_balls_of_training_are_refused_unless_one_is_given(name, value):
    ball = {"epsilon": 0.3, "norm": "linf", "bounds": (0.0, 2.0)}
    models = {
        key: keras_rar.wrap(dense_model(), "madry", **options)
        for key, options in {"a": ball, "b": {**ball, name: value}}.items()
    }
    with pytest.raises(ValueError, match=f"`{name}` must be given where trainings differ"):
        keras_rar.compare(models, np.full((2, 4), 0.5), [0, 1], progress=False)


def test_epsilon_must_be_given_for_models_that_are_not_trained_here():
    with pytest.raises(ValueError, match="`epsilon` must be given"):
        keras_rar.compare({"a": MODEL, "b": MODEL}, np.full((2, 4), 0.5), [0, 1], progress=False)


MODEL = dense_model()


@pytest.mark.parametrize(
    ("models", "options", "error", "match"),
    [
        ([made(), made()], {}, TypeError, "`models` must be a dictionary"),
        ({"a": made()}, {}, ValueError, "`models` must be two or more"),
        ({"a": made(), " ": made()}, {}, ValueError, "by names that are not empty"),
        ({"a": made(), 3: made()}, {}, ValueError, "by names that are not empty"),
        ({"a b": made(), "a_B": made()}, {}, ValueError, "must differ in letters and digits"),
        ({"a": made(), "b": MODEL}, {}, TypeError, "`models` must be all models or all reports"),
        ({"a": made(), "b": made()}, {"epsilon": 0.1}, ValueError, "where data, a path or settings are given"),
        ({"a": made(), "b": made()}, {"x": np.ones((1, 4))}, ValueError, "where data, a path or settings are given"),
        ({"a": MODEL, "b": MODEL}, {"epsilom": 0.1}, TypeError, "epsilom"),
        ({"a": MODEL, "b": MODEL}, {"epsilon": -1.0}, ValueError, "`epsilon` must be a positive float"),
        ({"a": MODEL, "b": dense_model(5)}, {"epsilon": 0.1}, ValueError, "model 'b': `x` must have the shape"),
        ({"a": MODEL, "b": "model"}, {"epsilon": 0.1}, TypeError, "model 'b': .* must be a Keras 3 model"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_measured(models, options, error, match, monkeypatch):
    def attack(*arguments, **options):
        raise AssertionError("attacked")

    monkeypatch.setattr(keras_rar.attacks.PGDAttack, "iterate", attack)
    if isinstance(models, dict) and next(iter(models.values())) is MODEL:
        options = {"x": np.full((2, 4), 0.5), "y": [0, 1], **options}
    with pytest.raises(error, match=match):
        keras_rar.compare(models, **options)


@pytest.mark.parametrize("reports", [[made()], {"a": made()}, {"a": made(), "b": 3}])
def test_a_comparison_is_of_two_or_more_reports(reports):
    with pytest.raises((TypeError, ValueError), match="`reports` must be"):
        keras_rar.Comparison(reports)


# What is shown


def words_of(page):
    class Words(html.parser.HTMLParser):
        def __init__(self):
            super().__init__()
            self.words = []

        def handle_data(self, data):
            self.words.append(data)

    parser = Words()
    parser.feed(page)
    return " ".join(" ".join(parser.words).split())


FORMS = {
    "markdown": lambda c: c.to_markdown(),
    "page": lambda c: words_of(c.to_html()),
    "json": lambda c: json.dumps(json.loads(c.to_json()), ensure_ascii=False),
    "repr": repr,
    "notebook": lambda c: words_of(c._repr_html_()),
    "notebook, markdown": lambda c: c._repr_markdown_(),
    "figure": lambda c: " ".join(c.plot()._supxlabel.get_text().split()) if c.plot()._supxlabel else "",
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_warnings_are_on_every_form(form, two):
    few = keras_rar.compare({"a": made(12), "b": made(12, seed=1)})
    assert "Intervals of fewer than 20 images are too narrow." in FORMS[form](few)
    assert "too narrow" not in FORMS[form](two)
    cut = made(seed=1)
    cut.per_example["predicted"][-1] = -1
    part = keras_rar.compare({"a": made(), "b": cut})
    assert "b: Incomplete: the evaluation was interrupted." in FORMS[form](part)


@pytest.mark.parametrize("form", ["markdown", "page", "repr", "notebook", "notebook, markdown"])
def test_epsilon_and_k_and_the_verdict_are_on_every_form(form):
    text = FORMS[form](keras_rar.compare({"a": made(), "b": made()}))
    assert "adversarial accuracy, ε = 0.1 (L∞)" in text
    assert "top-3 intersection" in text
    assert "no difference beyond the interval" in text


def test_the_figure_has_titles_with_epsilon_and_k_and_hollow_marks_where_nothing_is_ranked():
    better = {"correct": np.full(40, True), "attacked": np.full(40, True), "robust": np.full(40, True)}
    figure = keras_rar.compare({"a": made(robust=np.full(40, False)), "b": made(seed=1, **better)}).plot()
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[2] == "adversarial accuracy, ε = 0.1 (L∞) (%)\nn = 40"
    assert titles[4].startswith("top-3 intersection (%)")
    heading = figure.legends[0].get_title().get_text()
    assert heading.startswith("ε = 0.1 (L∞, inputs from 0 to 1), k = 3\nthe same 40 images")
    faces = [axes.lines[-1].get_markerfacecolor() for axes in figure.axes[1::2]]
    assert faces[1] != "white"
    assert faces[3] == "white"


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "noun"), [((3, 3, 1), "image"), ((9,), "example"), ((3, 3), "example")])
def test_only_images_are_called_images(shape, noun):
    comparison = keras_rar.compare({"a": made(12, shape=shape), "b": made(12, seed=1, shape=shape)})
    for name, form in FORMS.items():
        assert ("image" in form(comparison)) == (noun == "image"), name


def test_the_page_needs_nothing_else_and_escapes_names(two):
    bad = "<script>alert('x')</script>|"
    page = keras_rar.Comparison({"a": made(), bad: made(seed=1)}).to_html()
    assert "<script" not in page
    assert not re.search(r"https?:|@import|url\(", re.sub(r'src="data:[^"]*"', "", page))
    assert page.count("<img ") == 2
    table = keras_rar.Comparison({"a": made(), bad: made(seed=1)}).to_markdown().split("\n\n")[0]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_json_is_strict_and_holds_the_numbers(two):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    comparison = keras_rar.compare({"a": made(5), "b": made(5, correct=np.full(5, False))})
    content = json.loads(comparison.to_json(), parse_constant=refuse)
    assert content["differences"][0]["measures"]["kendall_tau"]["mean"] is None
    assert (
        content["differences"][0]["measures"]["natural_accuracy"] == comparison.difference("b", "a")["natural_accuracy"]
    )
    assert content["summary"]["a"]["natural_accuracy"] == comparison.summary()["a"]["natural_accuracy"]


def test_reports_saved_by_0_1_0_are_compared():
    old = RobustnessReport.load(Path(__file__).parents[1] / "data/saved_by_0_1_0/report.npz")
    new = dataclasses.replace(old, protocol={**old.protocol, "name": "quick", "unknown then": None})
    comparison = keras_rar.compare({"old": old, "new": new})
    assert comparison.difference("new", "old")["natural_accuracy"]["n"] == 24
    for form in FORMS.values():
        assert form(comparison)
