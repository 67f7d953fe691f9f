"""The report: means and intervals against NumPy, SciPy and simulation, and what it is written to and read from."""

import csv
import dataclasses
import html
import io
import json
import math
import pickle
import re
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

import keras_rar
from keras_rar.evaluation import intervals as module
from keras_rar.evaluation import wording
from keras_rar.evaluation.intervals import cell, markdown_table
from keras_rar.evaluation.report import RobustnessReport
from keras_rar.evaluation.wording import MEASURES, titles

SCORES = ["topk_intersection", "kendall_tau", "spearman_rho"]
ACCURACIES = {"natural_accuracy": "correct", "adversarial_accuracy": "robust"}


def made(n=12, seed=0, limit=None, **columns) -> RobustnessReport:
    """A report of `n` images, the columns drawn at random unless given."""
    rng = np.random.default_rng(1)
    correct = columns.get("correct", rng.uniform(size=n) < 0.7)
    table = {
        "index": np.arange(n),
        "label": rng.integers(0, 3, n),
        "predicted": rng.integers(0, 3, n),
        "correct": correct,
        "robust": correct & (rng.uniform(size=n) < 0.5),
        "attacked": correct & (np.cumsum(correct) <= (n if limit is None else limit)),
        **{name: rng.uniform(-1, 1, n).astype("float32") for name in SCORES},
        "iteration": rng.integers(0, 3, n),
        "restart": rng.integers(0, 2, n),
        "constant_map": rng.uniform(size=n) < 0.3,
        **columns,
    }
    for name in SCORES:
        table[name] = np.where(table["attacked"], table[name], np.float32(np.nan))
    for name in ("iteration", "restart"):
        table[name] = np.where(table["attacked"], table[name], -1)
    maps = {name: rng.uniform(size=(2, 3, 3)).astype("float32") for name in ("x", "x_adv", "map_before", "map_after")}
    protocol = {"name": "mine", "epsilon": 0.1, "bounds": [0.0, 1.0], "seed": seed, "attacked": limit}
    examples = {**maps, "index": np.array([0, 2])}
    return RobustnessReport("net", protocol, table, examples, {"numpy": np.__version__}, "abc")


def of_values(values, seed=0) -> RobustnessReport:
    """All attacked, with these values of Kendall's tau."""
    n = len(values)
    everything = {name: np.full(n, True) for name in ("correct", "robust", "attacked")}
    return made(n, seed, kendall_tau=np.asarray(values, "float64"), **everything)


def interval(report, measure="kendall_tau"):
    row = report.summary()[measure]
    return row["low"], row["high"]


def assert_same(first: RobustnessReport, second: RobustnessReport):
    """To the bit."""
    for name in ("model_name", "protocol", "versions", "fingerprint"):
        assert getattr(first, name) == getattr(second, name)
    for group in ("per_example", "examples"):
        columns, others = getattr(first, group), getattr(second, group)
        assert list(columns) == list(others)
        for name, column in columns.items():
            assert column.dtype == others[name].dtype
            np.testing.assert_array_equal(column, others[name])


# Which numbers


def test_accuracies_are_over_all_images_and_scores_over_those_attacked():
    report = made(limit=4)
    table, summary = report.per_example, report.summary()
    assert list(summary) == list(MEASURES)
    for measure, column in ACCURACIES.items():
        assert summary[measure]["mean"] == np.mean(table[column])
        assert summary[measure]["n"] == 12
    for score in SCORES:
        assert summary[score]["mean"] == pytest.approx(np.mean(table[score][table["attacked"]], dtype="float64"))
        assert summary[score]["n"] == 4
        assert not np.isnan(report.values(score)).any()


def test_an_unknown_measure_is_refused():
    with pytest.raises(ValueError, match=r"^`measure` must be one of .*Received: measure='tau'$"):
        made().values("tau")


def test_counts():
    report = made(
        6,
        correct=np.array([True, True, True, False, False, True]),
        iteration=np.array([0, 3, 0, 0, 0, 1]),
        constant_map=np.array([True, False, False, True, False, False]),
    )
    assert report.counts == {
        "examples": 6, "misclassified": 2, "attacked": 4, "unchanged": 2, "constant_maps": 1, "undefined": 0
    }  # fmt: skip


# An evaluation that was interrupted


def test_a_report_of_a_part_says_so_and_counts_only_what_was_done():
    """Images not looked at yet are not misclassified."""
    whole = made(8, correct=np.full(8, True), predicted=np.full(8, 1))
    done = np.arange(8) < 3
    part = made(8, correct=done, predicted=np.where(done, 1, -1), limit=2)
    assert whole.complete
    assert not part.complete
    assert part.summary()["natural_accuracy"]["mean"] == 1
    assert part.summary()["natural_accuracy"]["n"] == len(part.values("adversarial_accuracy")) == 3
    assert part.counts["misclassified"] == 0
    assert "Incomplete" in part.to_markdown()
    assert "Incomplete" not in whole.to_markdown()
    assert json.loads(part.to_json())["complete"] is False


def test_a_report_is_complete_when_all_that_was_to_be_attacked_is():
    assert made(8).complete
    assert made(8, limit=2).complete
    report = made(8, limit=4)
    report.per_example["attacked"][np.flatnonzero(report.per_example["attacked"])[-1]] = False
    assert not report.complete


# The interval


def bootstrap(values, resamples=4000):
    """By hand: the 2.5 and 97.5 % quantiles of the means of resamples with replacement."""
    rng = np.random.default_rng(123)
    means = sorted(values[rng.integers(len(values), size=len(values))].mean() for _ in range(resamples))
    return means[int(0.025 * resamples)], means[int(0.975 * resamples)]


@pytest.mark.parametrize("n", [2, 5, 40, 300])
def test_interval_is_the_percentile_bootstrap(n):
    values = np.random.default_rng(0).exponential(size=n)
    error = values.std() / math.sqrt(n)
    # A 2.5 % quantile of 4,000 normal draws of deviation 1 errs by √(0.025 · 0.975 / 4,000) / 0.058 = 0.04.
    np.testing.assert_allclose(interval(of_values(values)), bootstrap(values), atol=5 * 0.05 * error)


def test_interval_is_that_of_scipy():
    values = np.random.default_rng(0).beta(2, 1, 60)
    low, high = scipy.stats.bootstrap((values,), np.mean, n_resamples=9999, method="percentile").confidence_interval
    np.testing.assert_allclose(interval(of_values(values)), (low, high), atol=0.2 * values.std() / math.sqrt(60))


@pytest.mark.parametrize("share", [0.5, 0.8, 0.98])
def test_interval_of_an_accuracy_is_that_of_the_binomial(share):
    n = 200
    correct = np.arange(n) < share * n
    low, high = interval(made(n, correct=correct), "natural_accuracy")
    expected = scipy.stats.binom.ppf([0.025, 0.975], n, share) / n
    np.testing.assert_allclose((low, high), expected, atol=1.01 / n)  # one image: the quantile falls on a step


@pytest.mark.parametrize("value", [0.0, 1.0, 0.3])
def test_interval_of_equal_values_is_a_point(value):
    assert interval(of_values([value] * 7)) == pytest.approx((value, value))


@pytest.mark.parametrize("distribution", ["bernoulli", "beta"])
def test_interval_covers_the_true_mean_95_percent_of_the_time(distribution, monkeypatch):
    """Of 600 samples of 60; and one that is half as wide would not."""
    monkeypatch.setattr(module, "_RESAMPLES", 799)
    rng = np.random.default_rng(0)
    mean = {"bernoulli": 0.7, "beta": 2 / 3}[distribution]
    covered = narrow = 0
    for seed in range(600):
        values = rng.uniform(size=60) < 0.7 if distribution == "bernoulli" else rng.beta(2, 1, 60)
        row = module.mean_with_interval(values.astype("float64"), seed)
        covered += row["low"] <= mean <= row["high"]
        low, high = ((row["mean"] + row[end]) / 2 for end in ("low", "high"))
        narrow += low <= mean <= high
    assert 0.92 < covered / 600 < 0.98  # 0.94 is what a percentile bootstrap of 60 has; ± 3 of √(.95 · .05 / 600)
    assert narrow / 600 < 0.8


def test_interval_is_deterministic_by_seed():
    values = np.random.default_rng(0).uniform(size=30)
    first, second, other = (interval(of_values(values, seed)) for seed in (0, 0, 1))
    assert first == second
    assert first != other


def test_one_value_has_no_interval():
    row = of_values([0.25]).summary()["kendall_tau"]
    assert (row["mean"], row["n"]) == (0.25, 1)
    assert math.isnan(row["low"])
    assert math.isnan(row["high"])


@pytest.mark.slow
def test_ten_thousand_images_take_little_memory_and_time():
    values = np.random.default_rng(0).uniform(size=10_000)
    report = of_values(values)
    tracemalloc.start()
    start = time.process_time()
    low, high = interval(report)
    seconds, memory = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert low < 0.5 < high  # true mean of what was drawn
    assert memory < 2e8  # all 9,999 resamples at once would be 8e8 each of indices and values
    assert seconds < 15  # 3, when nothing else runs


@pytest.mark.parametrize("values", [[0.0, 1.0], [-1.0, 0.0, 1.0]])
def test_many_accuracies_are_resampled_by_how_often_each_value_is_drawn(values):
    """The same distribution in a hundredth of the time."""
    drawn = np.random.default_rng(0).choice(values, 20_000)
    start = time.process_time()
    row = module.mean_with_interval(drawn)
    assert time.process_time() - start < 1
    error = 1.96 * drawn.std() / math.sqrt(len(drawn))
    np.testing.assert_allclose(
        (row["low"], row["high"]), (drawn.mean() - error, drawn.mean() + error), atol=0.1 * error
    )


# A model that gets nothing right


@pytest.fixture
def hopeless():
    return made(5, correct=np.full(5, False))


@pytest.mark.filterwarnings("error")
def test_a_model_that_misclassifies_everything_has_a_report(hopeless):
    summary = hopeless.summary()
    assert hopeless.counts == {
        "examples": 5, "misclassified": 5, "attacked": 0, "unchanged": 0, "constant_maps": 0, "undefined": 0
    }  # fmt: skip
    assert hopeless.complete
    for measure in ACCURACIES:
        assert summary[measure] == {"mean": 0, "low": 0, "high": 0, "n": 5}
    for score in SCORES:
        assert summary[score]["n"] == 0
        assert all(math.isnan(summary[score][key]) for key in ("mean", "low", "high"))


def test_its_table_can_be_read_and_its_json_has_null(hopeless):
    header, _, row = table_of(hopeless)
    assert header.count("|") == row.count("|") == 7
    assert "0.0 % [0.0, 0.0] (n = 5)" in row
    assert row.count("(n = 0)") == 3
    assert row.count("– [–, –] (n = 0)") == 3
    assert "nan" not in hopeless.to_markdown().lower()
    assert "5 examples, 5 misclassified" in hopeless.to_markdown()
    content = strict_json(hopeless)
    assert content["summary"]["kendall_tau"] == {"mean": None, "low": None, "high": None, "n": 0}
    assert content["per_example"]["kendall_tau"] == [None] * 5


# Tables


def table_of(report):
    """The lines of the table in Markdown."""
    return [line for line in report.to_markdown().splitlines() if line.startswith("|")]


def strict_json(report):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(report.to_json(), parse_constant=refuse)


def test_json_holds_everything_but_the_pictures():
    report = made()
    content = strict_json(report)
    assert (content["model"], content["protocol"], content["fingerprint"]) == ("net", report.protocol, "abc")
    assert (content["summary"], content["counts"], content["versions"]) == (
        report.summary(), report.counts, report.versions)  # fmt: skip
    assert set(content["per_example"]) == set(report.per_example)
    for name, column in report.per_example.items():
        values = np.array([np.nan if value is None else value for value in content["per_example"][name]])
        np.testing.assert_array_equal(values.astype(column.dtype), column)


def test_csv_is_the_table_of_images():
    report = made()
    rows = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert len(rows) == 12
    assert list(rows[0]) == list(report.per_example)
    for name, column in report.per_example.items():
        read = [row[name] == "True" if column.dtype == bool else float(row[name]) for row in rows]
        np.testing.assert_array_equal(np.array(read).astype(column.dtype), column)


def test_markdown_shows_the_summary_the_counts_and_the_protocol():
    report = made(limit=4)
    text = report.to_markdown()
    header, rule, row = table_of(report)
    assert [part.strip() for part in header.split("|")[2:-1]] == list(titles(report.protocol).values())
    assert set(rule) == {"|", "-"}
    cells = [part.strip() for part in row.split("|")[1:-1]]
    assert cells[0] == "net"
    for shown, (measure, numbers) in zip(cells[1:], report.summary().items(), strict=True):
        scale, digits = (1, 3) if measure in ("kendall_tau", "spearman_rho") else (100, 1)
        mean, low, high = (f"{scale * numbers[key]:.{digits}f}" for key in ("mean", "low", "high"))
        assert shown == f"{mean}{'' if scale == 1 else ' %'} [{low}, {high}] (n = {numbers['n']})"
    for count in report.counts.values():
        assert f"{count} " in text.split("\n\n")[2]  # below the warning and the table
    for name, value in report.protocol.items():
        assert str(value) in text
        assert name == "name" or f"{name} {value}" in text


def test_long_settings_are_cut_in_markdown_and_whole_in_json():
    report = made()
    report.protocol["baseline"] = np.zeros((28, 28)).tolist()
    assert len(report.to_markdown()) < 2000
    assert np.shape(strict_json(report)["protocol"]["baseline"]) == (28, 28)


def test_a_table_of_several_reports_has_a_row_each():
    first, second = made(), made(limit=2)
    lines = markdown_table({"natural": first, "robust": second}).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["natural", "robust"]
    for line, report in zip(lines[2:], (first, second), strict=True):
        assert line.split("|")[2:] == table_of(report)[2].split("|")[2:]
    mixed = markdown_table({"natural": first, "robust": second.summary()}).splitlines()
    assert mixed[2:] == lines[2:]
    assert "ε" not in mixed[0]  # a summary does not say at which radius it was measured
    other = dataclasses.replace(second, protocol={**second.protocol, "epsilon": 0.2})
    assert "ε" in lines[0]
    assert "ε" not in markdown_table({"natural": first, "robust": other}).splitlines()[0]


def test_reports_are_compared_by_identity():
    """Comparing dictionaries of arrays has no truth value."""
    first, second = made(), made()
    assert first == first
    assert first != second
    assert len({first, second}) == 2


def test_pandas_is_not_needed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pandas", None)  # importing it now raises
    report = made()
    assert report.to_csv() + report.to_json() + report.to_markdown()
    report.save(tmp_path / "report.npz")
    package = Path(keras_rar.__file__).parent
    assert not [path for path in package.rglob("*.py") if "import pandas" in path.read_text("utf-8")]


# Warnings


def words_of(page):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


FORMS = {
    "markdown": lambda r: r.to_markdown(),
    "json": lambda r: " ".join(json.loads(r.to_json())["warnings"]),
    "repr": repr,
    "notebook": lambda r: words_of(r._repr_html_()),
    "notebook, markdown": lambda r: r._repr_markdown_(),
    "page": lambda r: words_of(r.to_html()),
    "figure": lambda r: " ".join(r.plot()._supxlabel.get_text().split()) if r.plot()._supxlabel else "",
}


def unfinished():
    report = of_values(np.linspace(0, 1, 30))
    report.per_example["predicted"][-1] = -1
    return report


def all_of(name, value):
    report = of_values(np.ones(30))
    report.per_example[name][:] = value
    return report


WARNED = {
    "few": (lambda: of_values(np.linspace(0, 1, 19)), "Intervals of fewer than 20 examples are too narrow."),
    "incomplete": (unfinished, "Incomplete: the evaluation was interrupted."),
    "nothing attacked": (
        lambda: made(30, correct=np.full(30, False)),
        "No map was attacked, so nothing is known of the explanations.",
    ),
    "nothing found": (
        lambda: all_of("iteration", 0),
        "The attack changed no map: the scores of 1 say that it failed, not that the maps are robust.",
    ),
    "nothing explained": (
        lambda: all_of("constant_map", True),
        "Every map attacked has one value everywhere: its score says nothing.",
    ),
    "undefined": (
        lambda: all_of("kendall_tau", np.nan),
        "The scores of all 30 examples attacked are undefined, so their means are too.",
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", WARNED)
def test_a_warning_is_on_every_form_of_the_report(kind, form):
    make, sentence = WARNED[kind]
    report = dataclasses.replace(make(), examples={})  # pictures take their time
    text = FORMS[form](report)
    assert sentence in text
    assert "nan" not in re.sub("[a-z]nan|nan[a-z]", "", text.lower())


def sound():
    report = of_values(np.linspace(0.8, 0.9, 20))
    report.per_example["iteration"][:], report.per_example["constant_map"][:] = 1, False
    for name in SCORES:
        report.per_example[name] = report.per_example["kendall_tau"]
    return dataclasses.replace(report, examples={})


@pytest.mark.parametrize("form", FORMS)
def test_a_report_without_faults_has_no_warning(form):
    """Negative control."""
    report, words = sound(), FORMS[form](sound())
    assert report.warnings == []
    assert not any(sentence in words for _, sentence in WARNED.values())


def test_the_table_of_examples_has_no_comments():
    """It holds no means and no intervals, and readers of comma-separated values know no comments."""
    assert "narrow" not in of_values([0.1, 0.2]).to_csv()


# Words


@pytest.mark.parametrize(
    ("settings", "units", "text"),
    [
        ({"epsilon": 0.1, "norm": "linf"}, False, "ε = 0.1 (L∞)"),
        ({"epsilon": 8.0, "norm": "l2", "bounds": [0.0, 255.0]}, True, "ε = 8 (L2, inputs from 0 to 255)"),
        ({"epsilon": 0.1, "norm": "linf", "bounds": None}, True, "ε = 0.1 (L∞, in units of the inputs)"),
        ({"epsilon": 0.1, "norm": "linf", "bounds": [[0, 0], [1, 2]]}, True, "ε = 0.1 (L∞, in units of the inputs)"),
        ({"epsilon": 0.1, "norm": "linf", "bounds": [[0, 0], [1, 1]]}, True, "ε = 0.1 (L∞, inputs from 0 to 1)"),
        ({"epsilon": 1e-05}, False, "ε = 1e-05"),
        ({}, True, ""),
    ],
)
def test_the_radius_has_its_norm_and_units(settings, units, text):
    assert wording.radius(settings, units) == text


@pytest.mark.parametrize(
    ("shape", "noun"), [((2, 3, 3, 1), "image"), ((2, 9), "example"), ((2, 3, 3), "example"), ((0,), "example")]
)
def test_only_images_are_called_images(shape, noun):
    report = made()
    report.examples["x"] = np.zeros(shape, "float32")
    assert report.noun == noun
    for form in ("markdown", "repr", "notebook"):
        assert ("image" in FORMS[form](report)) == (noun == "image")


def test_repr_is_a_few_lines_with_model_protocol_measures_and_intervals():
    report = made(30)
    report.protocol.update(norm="linf", k_report=7)
    lines = repr(report).splitlines()
    assert lines[0] == "RobustnessReport of net, protocol mine"
    assert len(lines) == 6 + len(report.warnings)
    assert lines[2].split("  ")[1] == "adversarial accuracy, ε = 0.1 (L∞)"
    assert "top-7 intersection" in lines[3]
    for line, (measure, row) in zip(lines[1:6], report.summary().items(), strict=True):
        assert line.endswith(cell(measure, row))


def test_notebooks_show_a_table():
    fragment = made()._repr_html_()
    assert fragment.count("<table") == 1
    assert fragment.count("<tr>") == 1 + len(MEASURES)
    assert "<html" not in fragment  # which is put into the page of the notebook
    assert "ε = 0.1" in fragment


def test_a_report_saved_by_0_1_0_prints_and_is_drawn():
    report = RobustnessReport.load(Path(__file__).parents[1] / "data/saved_by_0_1_0/report.npz")
    for form in FORMS.values():
        assert "Intervals of fewer than 20 images are too narrow." in form(report)
    assert "adversarial accuracy, ε = 0.05 (L∞)" in repr(report)
    assert report.counts == {
        "examples": 24, "misclassified": 18, "attacked": 3, "unchanged": 0, "constant_maps": 0, "undefined": 0
    }  # fmt: skip


# Files


@pytest.mark.parametrize("kind", [str, Path])
def test_save_and_load_give_it_back_to_the_bit(kind, tmp_path):
    report = made(limit=4)
    path = kind(tmp_path / "report.of.mine")
    report.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["report.of.mine"]
    loaded = RobustnessReport.load(path)
    assert_same(loaded, report)
    assert loaded.summary() == report.summary()
    assert (loaded.to_json(), loaded.to_csv(), loaded.to_markdown()) == (
        report.to_json(), report.to_csv(), report.to_markdown())  # fmt: skip


def test_a_report_without_examples_is_saved(tmp_path, hopeless):
    hopeless.examples.clear()
    hopeless.save(tmp_path / "report.npz")
    assert_same(RobustnessReport.load(tmp_path / "report.npz"), hopeless)


def test_the_file_holds_what_the_report_holds_and_no_objects(tmp_path):
    report = made()
    report.save(tmp_path / "report.npz")
    with np.load(tmp_path / "report.npz", allow_pickle=False) as file:
        groups = {"per_example": report.per_example, "examples": report.examples}
        assert set(file.files) == {"about", *(f"{group}/{name}" for group, table in groups.items() for name in table)}
        assert not any(file[name].dtype.hasobject for name in file.files)


@pytest.mark.parametrize("existing", [True, False])
def test_a_kill_while_writing_leaves_the_file_as_it_was(existing, tmp_path, monkeypatch):
    path, before = tmp_path / "report.npz", made(5)
    if existing:
        before.save(path)

    def killed(file, **arrays):
        file.write(b"PK half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez_compressed", killed)
        with pytest.raises(KeyboardInterrupt):
            made(6).save(path)
    assert path.exists() == existing
    if existing:
        assert_same(RobustnessReport.load(path), before)
    made(6).save(path)  # what is left over is in nobody's way
    assert [file.name for file in tmp_path.iterdir()] == ["report.npz"]
    assert_same(RobustnessReport.load(path), made(6))


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        RobustnessReport.load(tmp_path / "report.npz")


class Malicious:
    """What it leaves behind, if it is ever unpickled."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


def foreign(kind: str, path: Path, victim: Path) -> None:
    """A file that is no report."""
    objects = np.array([Malicious(victim)], dtype=object)
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("index,label\n0,1\n")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Malicious(victim)))
    elif kind == "array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif kind == "array of objects":
        with path.open("wb") as file:
            np.save(file, objects)
    elif kind == "arrays":
        with path.open("wb") as file:
            np.savez(file, x=np.zeros(3), y=np.zeros(3))
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("about.txt", "hello")
    else:
        made().save(path)
        whole = path.read_bytes()
        if kind == "cut off":
            path.write_bytes(whole[: len(whole) // 2])
        elif kind == "damaged":
            path.write_bytes(whole[:200] + bytes(300) + whole[500:])
        else:
            arrays = dict(np.load(path))
            arrays |= {
                "a column of objects": {"per_example/index": objects},
                "objects for about": {"about": objects},
                "no JSON": {"about": np.array("{")},
                "other JSON": {"about": np.array('{"model_name": "a"}')},
                "more JSON": {"about": np.array(str(arrays["about"]).replace("{", '{"victim": 1, ', 1))},
                "a list": {"about": np.array("[]")},
            }[kind]
            with path.open("wb") as file:
                np.savez(file, **arrays)


FOREIGN = [
    "empty", "text", "folder", "pickle", "array", "array of objects", "arrays", "zip", "cut off", "damaged",
    "a column of objects", "objects for about", "no JSON", "other JSON", "more JSON", "a list",
]  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_report_is_refused_in_one_line_and_not_run(kind, tmp_path):
    path, victim = tmp_path / "report.npz", tmp_path / "victim"
    foreign(kind, path, victim)
    with pytest.raises(
        ValueError, match=r"^`path` must be a file that RobustnessReport.save wrote. Received: "
    ) as info:
        RobustnessReport.load(path)
    assert str(info.value) == f"`path` must be a file that RobustnessReport.save wrote. Received: {path}"
    assert not victim.exists()


@pytest.mark.parametrize("kind", ["pickle", "array of objects", "a column of objects"])
def test_the_malicious_files_would_work(kind, tmp_path):
    """Negative control: with pickles allowed, loading runs them."""
    path, victim = tmp_path / "report.npz", tmp_path / "victim"
    foreign(kind, path, victim)
    loaded = np.load(path, allow_pickle=True)
    if not isinstance(loaded, np.ndarray) and hasattr(loaded, "files"):
        assert loaded["per_example/index"] is not None
    assert victim.exists()
