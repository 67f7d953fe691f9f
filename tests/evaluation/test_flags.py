"""What a report says of itself: each flag where it belongs, and silence where it does not."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from test_compare import made as of_model
from test_report import FORMS, SCORES, made, of_values, sound, strict_json

import keras_rar
from keras_rar.evaluation import contrasts, flags, tables
from keras_rar.evaluation.intervals import mean_of_differences
from keras_rar.evaluation.report import RobustnessReport


def with_columns(report=None, findings=None, **columns):
    """A report without faults, with these columns more; a number stands for all examples."""
    report = sound() if report is None else report
    for name, values in columns.items():
        report.per_example[name.replace("__", ".")] = np.broadcast_to(values, 20).astype("float32")
    return dataclasses.replace(report, findings=findings or {})


def noisy(by, **findings):
    """Noise that scores higher than the attack by so much, but for a small spread."""
    spread = np.linspace(-0.01, 0.01, 20)
    columns = {f"{name}__noise": sound().per_example[name] + by + spread for name in SCORES}
    return with_columns(findings={"noise": {"n": 20, "queries": 30}, **findings}, **columns)


def one_in(name, value, row=3):
    report = sound()
    report.per_example[name] = np.array(report.per_example[name])
    report.per_example[name][row] = value
    return report


GOOD_TWIN = {"beta": 1.0, "predictions": 1.0, "scores": 0.99, "maps": 0.95}
TWIN = {**GOOD_TWIN, "predictions": 0.5}
MEMBERS = {"topk": 5, "rank": 4, "evolution": 11, "noise": 0}
FAITHFUL = {"deletion__map": 0.2, "deletion__random": 0.5, "deletion__input": np.linspace(0.1, 0.3, 20)}

RAISED = {
    "noise is as strong": (lambda: noisy(0.0), "Noise is as strong as the attack in top-k intersection, Kendall's tau"),
    "noise is stronger": (lambda: noisy(-0.2), "Noise is as strong as the attack in top-k intersection, Kendall's tau"),
    "noise is most of the ensemble": (
        lambda: noisy(0.3, members={"kendall_tau": {"topk": 2, "noise": 14}}),
        "Noise is as strong as the attack in Kendall's tau (n = 20)",
    ),
    "noise of another kind": (
        lambda: with_columns(kendall_tau__gradient=np.linspace(0, 1, 20), kendall_tau__gradient__noise=0.2),
        "Noise is as strong as the attack in Kendall's tau of gradient maps (n = 20)",
    ),
    "random points": (
        lambda: with_columns(robust__noise=np.arange(20) != 7),
        "Random points change the prediction of example 7, where the attack on predictions found nothing: it is weak.",
    ),
    "masked maps": (
        lambda: with_columns(findings={"members": {"kendall_tau": MEMBERS}}),
        "The search without gradients finds most in Kendall's tau (11 of 20 examples): gradients are masked",
    ),
    "masked predictions": (
        lambda: with_columns(findings={"predictions_members": {"apgd_crossentropy": 9, "square": 1}}),
        "predictions (1 example that no other member changed): gradients are masked",
    ),
    "some unmoved": (
        lambda: one_in("iteration", 0),
        "The attack did not change the map of 1 of 20 examples (5 %): scores of 1 say that it failed there",
    ),
    "some constant": (
        lambda: one_in("constant_map", True),
        "1 of 20 maps attacked has one value everywhere, as of saturated outputs: the scores of these say nothing.",
    ),
    "twin": (
        lambda: with_columns(findings={"twin": TWIN}),
        "The twin that gradients are taken through (softplus, β = 1) is not the network: it predicts the same for 50 %",
    ),
    "twin of NaN": (
        lambda: with_columns(findings={"twin": {**GOOD_TWIN, "maps": float("nan")}}),
        "the cosine of its maps with the network's is 0.00. The attack may find little",
    ),
    "wide": (
        lambda: with_columns(kendall_tau=np.arange(20) % 2),
        "Intervals are too wide to rank two models that are 0.1 apart: Kendall's tau (0.4",
    ),
    "undefined": (
        lambda: one_in("kendall_tau", np.nan),
        "The score of example 3 is undefined: it is in no mean, and not robust.",
    ),
    "undecided": (
        lambda: with_columns(findings={"undecided": 5}),
        "5 of 20 maps attacked have fewer than k entries above their lowest value: ties decide",
    ),
    "unfaithful": (lambda: with_columns(**FAITHFUL), "The maps are no better than the plain input in deletion: there"),
    "not measured": (
        lambda: with_columns(findings={"maps": {"gradient": {"n": 0, "skipped": "`model` must do.\nReceived: it"}}}),
        "Not measured: gradient, as `model` must do. Received: it",
    ),
    "unfinished": (lambda: with_columns(findings={"unfinished": True}), "Incomplete: the evaluation was interrupted."),
}

SILENT = {
    "the attack is stronger": lambda: noisy(0.3),
    "noise finds no prediction that the attack does not": lambda: with_columns(robust__noise=1.0),
    "gradients find most": lambda: with_columns(findings={"members": {"kendall_tau": {"topk": 12, "evolution": 8}}}),
    "square adds nothing": lambda: with_columns(findings={"predictions_members": {"apgd_ratio": 9, "square": 0}}),
    "the twin is the network": lambda: with_columns(findings={"twin": GOOD_TWIN}),
    "a map is faithful": lambda: with_columns(**{**FAITHFUL, "deletion__input": 0.4}),
    "few ties": lambda: with_columns(findings={"undecided": 2}),
}


@pytest.mark.parametrize("kind", RAISED)
def test_a_flag_is_raised_where_it_belongs(kind):
    make, sentence = RAISED[kind]
    (found,) = [text for text in make().warnings if "fewer than 20" not in text]  # which of 19 scores are
    assert sentence in found


@pytest.mark.parametrize("kind", SILENT)
def test_no_flag_is_raised_elsewhere(kind):
    """Negative control: the same columns and findings, as they should be."""
    assert SILENT[kind]().warnings == []


@pytest.mark.parametrize("form", ["markdown", "json", "repr", "notebook", "notebook, markdown", "page"])
def test_flags_are_on_every_form(form):
    report = noisy(-0.2, twin=TWIN)
    assert len(report.warnings) == 2
    for warning in report.warnings:
        assert warning in FORMS[form](report)


def test_of_few_examples_nothing_is_claimed_of_noise():
    """Five differences of one sign have p = 0.06."""
    for n, claimed in ((5, False), (6, True)):
        report = noisy(-0.2)
        for name in SCORES:
            report.per_example[f"{name}.noise"][n:] = np.nan
        assert any("Noise" in warning for warning in report.warnings) == claimed
        assert ("too few to tell" in report.to_markdown()) != claimed


# Undefined scores


def test_an_undefined_score_is_in_no_mean_but_counted_and_named():
    values = np.linspace(0.8, 0.9, 20)
    report = one_in("kendall_tau", np.nan)
    row = report.summary()["kendall_tau"]
    assert row["n"] == 19
    assert row["mean"] == pytest.approx(np.delete(values, 3).mean(), abs=1e-6)
    assert report.counts["undefined"] == 1
    assert report.summary()["spearman_rho"]["n"] == 20
    assert np.isnan(report.values("kendall_tau")).sum() == 1


def test_many_undefined_scores_are_named_and_counted():
    report = sound()
    report.per_example["kendall_tau"] = np.where(np.arange(20) < 12, np.nan, 0.85)
    assert report.warnings[0] == (
        "The scores of examples 0, 1, 2, 3, 4, 5, 6, 7 and 4 more are undefined: they are in no mean, and not robust."
    )


def test_nothing_but_undefined_scores_is_no_number():
    report = with_columns(**dict.fromkeys(SCORES, np.nan))
    row = report.summary()["kendall_tau"]
    assert row["n"] == 0
    assert np.isnan(row["mean"])
    assert report.warnings[0].startswith("The scores of all 20 examples attacked are undefined")
    assert strict_json(report)["summary"]["kendall_tau"]["mean"] is None


def test_what_is_undefined_is_not_unmoved():
    report = one_in("kendall_tau", np.nan)
    report.per_example["iteration"][3] = 0
    assert report.counts["unchanged"] == 0


def test_an_undefined_pair_is_left_out_of_a_difference():
    scores = np.random.default_rng(0).uniform(size=40)
    everything = {"correct": np.full(40, True), "attacked": np.full(40, True)}
    broken = np.where(np.arange(40) == 5, np.nan, scores + 0.2)
    comparison = keras_rar.compare(
        {"a": of_model(kendall_tau=scores, **everything), "b": of_model(kendall_tau=broken, **everything)}
    )
    row = comparison.difference("b", "a")["kendall_tau"]
    assert (row["n"], row["verdict"]) == (39, "higher")
    assert row["mean"] == pytest.approx(0.2, abs=1e-6)


# The numbers


def test_noise_is_compared_per_example():
    report = noisy(0.3)
    row = contrasts.noise(report)["kendall_tau"]
    assert row["difference"]["mean"] == pytest.approx(0.3, abs=1e-6)
    assert row["noise"]["mean"] - row["attack"]["mean"] == pytest.approx(0.3, abs=1e-6)
    width = {name: row[name]["high"] - row[name]["low"] for name in row}
    assert width["difference"] < width["attack"] / 2  # which is what pairing is for


def test_examples_without_the_control_are_left_out():
    report = noisy(0.3)
    report.per_example["kendall_tau.noise"][4:] = np.nan
    assert {row["n"] for row in contrasts.noise(report)["kendall_tau"].values()} == {4}


def test_better_than_the_controls_has_one_sign_for_all_measures():
    columns = {}
    for measure, sign in contrasts.FAITHFULNESS.items():
        values = {"map": 0.5, "random": 0.5 - 0.1 * sign, "input": 0.5 + 0.1 * sign}
        columns |= {f"{measure}__{name}": value for name, value in values.items()}
    found = contrasts.faithfulness(with_columns(**columns))
    for rows in found.values():
        assert rows["over random"]["mean"] == pytest.approx(0.1, abs=1e-6)
        assert rows["over input"]["mean"] == pytest.approx(-0.1, abs=1e-6)
        assert rows["over input"]["low"] <= rows["over input"]["high"]
    assert list(found) == list(contrasts.FAITHFULNESS)


def test_kinds_are_read_from_the_columns():
    columns = {f"{m}__{kind}": 0.5 for m in SCORES for kind in ("gradient", "gradient__noise", "noise", "ig_2")}
    assert contrasts.kinds(with_columns(**columns)) == ["gradient", "ig_2"]
    assert list(contrasts.maps(with_columns(**columns))) == ["gradient", "ig_2"]


@pytest.mark.parametrize("n", [3, 6, 16, 150])
def test_differences_of_controls_have_the_interval_of_students_t(n):
    values = np.random.default_rng(0).normal(0.1, 0.3, n)
    row = mean_of_differences(np.append(values, np.nan))
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose((row["low"], row["high"]), expected, atol=0.01 * (expected.high - expected.low))
    assert (row["n"], row["mean"]) == (n, pytest.approx(values.mean()))


def test_the_docs_say_how_often_intervals_hold():
    """Every number of the table, from the results of `benchmarks/intervals.py`; the code is right about 16."""
    root = Path(__file__).parents[2]
    rows = json.loads((root / "benchmarks/results/intervals.json").read_text())["rows"]
    page = (root / "docs/measuring.md").read_text("utf-8")
    shown = ["scores, Beta(5, 2)", "differences, Beta(5, 2) − Beta(4, 3)", "accuracy of 90 %"]
    for kind in [*shown, "differences of accuracies"]:
        for name in ("percentile", "Student's t"):
            held = [f"{100 * row[name]['holds']:.0f}" for row in rows if row["kind"] == kind]
            assert f"| {' | '.join(held)} |" in page
    of_16 = {row["kind"]: row for row in rows if row["n"] == 16}["differences, Beta(5, 2) − Beta(4, 3)"]
    assert 0.94 < of_16["Student's t"]["holds"] < 0.96
    assert of_16["percentile"]["holds"] < 0.93


def test_one_difference_has_no_interval_and_none_has_no_mean():
    assert np.isnan(mean_of_differences(np.ones(1))["low"])
    assert np.isnan(mean_of_differences(np.ones(0))["mean"])


# Tables


@pytest.mark.slow
def test_the_tables_are_in_markdown_page_and_json():
    members = {"kendall_tau": {"topk": 12, "evolution": 5}}
    certificate = {"radii": [0.0, 0.5], "topk": [0.95, 0.5559], "cosine": [1.0, 0.4], "n": 4, "k": 3, "sigma": 0.25,
                   "smoothing": "gaussian", "confidence_of_means": 0.996, "warnings": []}  # fmt: skip
    findings = {"members": members, "twin": GOOD_TWIN, "certificate": certificate}
    report = with_columns(noisy(0.3, **findings), {**noisy(0.3).findings, **findings}, kendall_tau__gradient=0.5,
                          **{**FAITHFUL, "deletion__input": 0.4})  # fmt: skip
    titles = [table.title for table in tables.of_report(report)]
    assert len(titles) == 5
    page = FORMS["page"](report)
    for text in (report.to_markdown(), page):
        for words in (*titles, "stronger than noise", "evolution", "none found a change", "+0.300", ">= 55.5 %",
                      "not robust explanations", "β = 1"):  # fmt: skip
            assert words in text
    content = json.loads(report.to_json())
    assert content["findings"] == json.loads(json.dumps(report.findings))
    assert content["controls"]["noise"]["kendall_tau"]["difference"]["mean"] == pytest.approx(0.3, abs=1e-6)
    (line,) = [line for line in repr(report).splitlines() if "noise" in line]
    assert line.startswith("  noise (attack), n = 20: top-k intersection ")


def test_those_for_which_no_member_found_a_change_are_in_the_table():
    report = with_columns(findings={"members": {"kendall_tau": {"topk": 12, "evolution": 5}}})
    (table,) = tables.of_report(report)
    assert [row[1:] for row in table.rows] == [("topk", "12"), ("evolution", "5"), ("none found a change", "3")]


def test_where_the_attack_is_noise_it_is_said():
    report = with_columns(findings={"noise": {"n": 0, "queries": 0, "same": True}})
    assert "The attack on maps is noise itself, the control" in report.to_markdown()


def test_a_name_of_a_kind_cannot_break_a_table():
    report = with_columns(**{"kendall_tau__a|b<i>": 0.5})
    assert "a\\|b" in report.to_markdown()
    assert "<i>" not in report.to_html()


# Files


def test_findings_are_saved_and_loaded(tmp_path):
    report = noisy(0.3, twin=TWIN, members={"kendall_tau": MEMBERS})
    report.save(tmp_path / "report.npz")
    loaded = RobustnessReport.load(tmp_path / "report.npz")
    assert loaded.findings == report.findings
    assert loaded.to_json() == report.to_json()


def test_a_report_without_controls_has_neither_tables_nor_flags():
    """As those of version 0.1.0."""
    report = of_values(np.linspace(0.8, 0.9, 20))
    assert report.findings == {}
    assert tables.of_report(report) == tables.notes_of(report) == []
    assert flags.listed(["a"]) == "a"
    assert made().findings is not made().findings


# Comparisons


def with_controls(seed, gain=0.0, **columns):
    report = of_model(seed=0)
    drawn = np.random.default_rng(seed).normal(gain, 0.02, 40)
    base = np.linspace(0.2, 0.8, 40)
    for name in ("kendall_tau.gradient", "deletion.map"):
        report.per_example[name] = np.where(report.per_example["attacked"], base + drawn, np.nan)
    return report


def test_comparisons_pair_the_controls_and_do_not_rank_within_the_interval():
    comparison = keras_rar.compare({"a": with_controls(1), "b": with_controls(2, 0.1), "c": with_controls(3)})
    found = comparison.control_differences
    assert {name: row["verdict"] for name, row in found["b", "a"].items()} == {
        "kendall_tau.gradient": "higher", "deletion.map": "higher"
    }  # fmt: skip
    for row in found["c", "a"].values():
        assert row["verdict"] == "no difference beyond the interval"
        assert row["n"] == comparison.difference("c", "a")["kendall_tau"]["n"]
    for text in (comparison.to_markdown(), comparison.to_html()):
        assert "gradient maps" in text
        assert "Low deletion and infidelity" in text
    content = json.loads(comparison.to_json())["control_differences"][0]
    assert content["measures"]["kendall_tau.gradient"] == found["b", "a"]["kendall_tau.gradient"]


def test_a_control_that_one_model_lacks_is_not_compared():
    comparison = keras_rar.compare({"a": with_controls(1), "b": of_model(seed=0)})
    assert comparison.control_differences == {("b", "a"): {}}
    assert "Other maps" not in comparison.to_markdown()


def test_flags_of_a_model_are_on_the_comparison():
    weak = with_controls(1)
    for name in SCORES:
        weak.per_example[f"{name}.noise"] = weak.per_example[name] - 0.1
    comparison = keras_rar.compare({"a": with_controls(2), "b": weak})
    assert any(warning.startswith("b: Noise is as strong") for warning in comparison.warnings)
    assert not any(warning.startswith("a: Noise") for warning in comparison.warnings)
