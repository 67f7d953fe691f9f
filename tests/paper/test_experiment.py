"""The paper's experiments from data to table, on noise and small networks."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from conftest import conv_model

from keras_rar.paper import experiment, networks
from keras_rar.paper.experiment import Experiment
from keras_rar.paper.plans import fast
from keras_rar.paper.published import METHODS, PUBLISHED
from keras_rar.paper.published_training import training
from keras_rar.paper.results_table import table
from keras_rar.training import Phase, Plan, recipes
from keras_rar.training.folders import claim


@pytest.fixture
def small(monkeypatch):
    """Networks that train in no time."""
    monkeypatch.setattr(networks, "cnn", lambda **options: conv_model(28, classes=10))


def made(out, method="madry", **options):
    return Experiment("fashion_mnist", method, out=out, smoke=True, **options)


@pytest.mark.slow
def test_a_run_writes_its_result_and_its_picture(small, tmp_path):
    result = made(tmp_path, attacked=2, restarted=2).run()
    assert (tmp_path / "fashion_mnist-madry-smoke.json").read_text() == json.dumps(result, indent=2) + "\n"
    assert [phase["method"] for phase in result["plan"]["phases"]] == ["madry"]
    assert (tmp_path / "fashion_mnist-madry-smoke.png").read_bytes().startswith(b"\x89PNG")
    assert result["protocol"]["name"].startswith("paper, fashion_mnist")
    assert result["training_seconds"] > 0
    restarted = result["restarted"]
    assert set(restarted) == {"topk_intersection", "kendall_tau", "without", "device"}
    for measure, value in restarted["without"].items():  # of the same images, and the starts are more
        assert value == pytest.approx(result["summary"][measure]["mean"])
    assert restarted["kendall_tau"]["mean"] <= restarted["without"]["kendall_tau"] + 1e-6
    assert keras.saving.load_model(tmp_path / "fashion_mnist-madry-smoke/model.keras").count_params()


@pytest.mark.slow
@pytest.mark.parametrize(("attacked", "restarted", "n"), [(5, 2, 2), (3, 30, 3)])
def test_starts_are_compared_on_the_same_images(small, tmp_path, monkeypatch, attacked, restarted, n):
    measured, measure = [], Experiment.measure

    def no_smoke(self, network, name="report", **changes):  # which would attack two
        measured.append(changes.pop("attacked"))
        report = measure(self, network, name, **changes)
        rows = np.arange(len(report.per_example["label"]))
        report.per_example["attacked"] = rows < measured[-1]
        for score in ("topk_intersection", "kendall_tau"):
            report.per_example[score] = np.where(rows < measured[-1], 0.1 * rows, np.nan)
        return report

    monkeypatch.setattr(Experiment, "measure", no_smoke)
    result = made(tmp_path, attacked=attacked, restarted=restarted).run()["restarted"]
    assert measured == [attacked, n]
    assert result["kendall_tau"]["n"] == n
    assert result["without"]["kendall_tau"] == pytest.approx(0.1 * np.mean(range(n)))


@pytest.mark.parametrize("recipe", recipes.RECIPES)
def test_a_run_that_was_finished_is_not_trained_again(small, tmp_path, monkeypatch, recipe):
    first, seconds = made(tmp_path, recipe=recipe).train()

    def fit(*arguments, **options):
        raise AssertionError("trained again")

    monkeypatch.setattr(keras.Model, "fit", fit)
    again, same = made(tmp_path, recipe=recipe).train()
    assert same == seconds
    for a, b in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dataset", experiment.DATASETS)
def test_the_network_and_the_data_of_each_data_set_fit(dataset):
    of_data = Experiment(dataset, "natural", smoke=True)
    x, y = next(iter(of_data.batches(4).stream()))
    logits = of_data.network()(x)
    assert logits.shape == (4, {"gtsrb": 43, "oxford_flower17": 17}.get(dataset, 10))
    assert y.shape == (4,)
    assert (float(x.numpy().max()) <= 1) == (dataset not in experiment.PER_CLASS)


def test_the_papers_recipe_sets_the_first_images_aside(monkeypatch):
    """As the reader of the authors does, of which no script of theirs uses the validation set."""
    images, labels = np.zeros((60_000, 1, 1, 1), np.uint8), np.zeros(60_000, np.uint8)
    labels[:5000] = 1
    monkeypatch.setattr(Experiment, "images", lambda self, split: (images, labels))
    paper, fast = (Experiment("mnist", "madry", recipe).batches(5000) for recipe in ("paper", "fast"))
    assert (len(paper), len(fast)) == (11, 12)
    assert not any(int(y.numpy().sum()) for _, y in paper.stream().take(11))


def test_only_the_papers_recipe_decays_weights():
    fast, paper = (Experiment("gtsrb", "madry", recipe=recipe).network() for recipe in ("fast", "paper"))
    assert not fast.losses
    assert len(paper.losses) == 14


@pytest.mark.parametrize("method", METHODS)
def test_the_fast_recipe_ends_with_its_method(method):
    assert fast(method).phases[-1].method == method


@pytest.mark.parametrize("method", ["natural", "madry", "ig_norm", "ig_sum_norm"])
def test_the_fast_recipe_trains_the_papers_cnn_at_the_papers_rate_from_its_weights(method):
    for dataset, an_epoch in (("fashion_mnist", 1200), ("mnist", 1200), ("mnist_10k", 160)):
        plan, published = fast(method, dataset), training(method, "fashion_mnist")
        assert (plan.learning_rate, plan.batch_size) == (*published.rates, published.batch_size)
        updates = an_epoch * sum(phase.epochs for phase in plan.phases)
        assert 0.1 * published.updates < updates < 1.01 * published.updates
    assert np.ptp(Experiment("fashion_mnist", method).network().weights[1]) == 0
    assert float(Experiment("fashion_mnist", method).network().weights[1][0]) == pytest.approx(0.1)


def test_the_fast_recipe_has_cycles_elsewhere():
    for method, dataset in (("igr", "fashion_mnist"), ("ig_topk", "mnist"), ("ig_norm", "gtsrb")):
        assert fast(method, dataset).schedule == "cycles"
        assert fast(method, dataset).learning_rate == 2e-3


def test_the_table_has_every_row_of_the_paper_and_says_what_was_not_run(tmp_path):
    row = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 150}
    measures = ("natural_accuracy", "adversarial_accuracy", "topk_intersection", "kendall_tau")
    result = {"recipe": "fast", "training_seconds": 600, "smoke": False, "threshold": None}
    result["summary"] = dict.fromkeys(measures, row)
    for dataset, method in (("mnist_10k", "igr"), ("fashion_mnist", "madry")):
        without = {"topk_intersection": 0.62, "kendall_tau": 0.51}
        with_starts = {**{measure: {**row, "n": 30} for measure in measures[2:]}, "without": without}
        restarted = with_starts if method == "madry" else {}
        content = json.dumps({**result, "dataset": dataset, "method": method, "restarted": restarted})
        (tmp_path / f"{dataset}-{method}.json").write_text(content)
    noise = json.dumps({**result, "dataset": "mnist", "method": "madry", "smoke": True})
    (tmp_path / "mnist-madry-smoke.json").write_text(noise)
    for name, content in (("quickstart", "{}"), ("list", "[1]")):  # no results of experiments
        (tmp_path / f"{name}.json").write_text(content)
    lines = table(tmp_path).splitlines()
    assert sum("| paper |" in line for line in lines) == 16
    assert sum("not run here" in line for line in lines) == 15
    (restarts,) = (line for line in lines if "random starts" in line)
    assert "fashion_mnist, Madry" in restarts
    assert restarts.count("(n = 30)") == 2
    assert "first maps, three random starts more (without: 62.0 %, 0.510)" in restarts
    (own,) = (line for line in lines if "fashion_mnist, Madry | fashion_mnist-madry" in line)
    assert "fashion_mnist-madry, fast, 10 minutes" in own
    assert "50.0 % [40.0, 60.0] (n = 150)" in own
    assert sum("mnist_10k, IGR" in line for line in lines) == 1
    assert all(line.count("|") == 7 for line in lines)
    assert len(table(tmp_path, ["fashion_mnist"]).splitlines()) == 2 + 4 + 4 + 1
    assert len(table(tmp_path, ["fashion_mnist"], ["madry", "ig_norm"]).splitlines()) == 2 + 2 + 2 + 1


# Chen et al. 2019, tables 1 and 2: natural, Madry, IG-NORM, IG-SUM-NORM.
TABLES = """
mnist            99.17 0.00 46.61 .1758   98.40 92.47 62.56 .2422   98.74 81.43 71.36 .2841   98.34 88.17 72.45 .3111
fashion_mnist    90.86 0.01 39.01 .4610   85.73 73.01 46.12 .6251   85.13 65.95 59.22 .6171   85.44 70.26 72.08 .6747
gtsrb            98.57 21.05 54.16 .6790  97.59 83.24 68.85 .7520   97.02 75.24 74.81 .7555   95.68 77.12 74.04 .7684
oxford_flower17  86.76 0.00 8.12 .4978    83.82 41.91 55.87 .7784   85.29 24.26 64.68 .7591   82.35 47.06 66.33 .7974
"""


@pytest.mark.parametrize("row", TABLES.split("\n")[1:-1], ids=lambda row: row.split()[0])
def test_the_published_numbers(row):
    dataset, *numbers = row.split()
    expected = np.array(numbers, float).reshape(4, 4)
    assert list(PUBLISHED[dataset]) == ["natural", "madry", "ig_norm", "ig_sum_norm"]
    np.testing.assert_array_equal(np.array(list(PUBLISHED[dataset].values())), expected)


def test_a_damaged_result_is_named(tmp_path):
    (tmp_path / "mnist-madry.json").write_text('{"dataset": ')
    with pytest.raises(ValueError, match=r"mnist-madry\.json must hold JSON"):
        table(tmp_path)


@pytest.mark.slow
def test_a_run_on_noise_is_marked(small, tmp_path):
    made(tmp_path, restarted=0).run()
    assert "on noise" in table(tmp_path)


@pytest.mark.slow
def test_a_plan_a_threshold_a_policy_and_a_name_of_ones_own(tmp_path):
    plan = Plan([Phase("igr", 3, {"steps": 1})])
    own = made(tmp_path, "igr", plan=plan, threshold=0.1, dtype="mixed_bfloat16", name="own")
    assert keras.config.dtype_policy().name == "float32"
    assert own.network().layers[0].name == "firm_threshold"
    network, _ = own.train()
    assert network.dtype_policy.name == "float32"
    assert (tmp_path / "own-smoke/model.keras").exists()
    assert {path.name for path in (tmp_path / "own-smoke").glob("*.h5")} == {"phase0-finished.weights.h5"}


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("imagenet", "madry"), "`dataset` must be one of"),
        (("mnist", "madrid"), "`method` must be one of"),
        (("mnist", "igr", "paper"), "`method` must be one of"),
        (("mnist", "madry", "slow"), "`recipe` must be one of"),
        (("mnist", "madry", "paper", Plan([Phase("madry", 1)])), "`plan` and `dtype` must be left out"),
        (("mnist", "madry", "paper", None, None, "mixed_bfloat16"), "`plan` and `dtype` must be left out"),
        (("gtsrb", "madry", "fast", None, 0.1), "`threshold` must be None for gtsrb"),
    ],
)
def test_what_there_is_not_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        Experiment(*arguments)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"phases": []}, "`phases` must be one Phase or more"),
        ({"phases": ["madry"]}, "`phases` must be one Phase or more"),
        ({"batch_size": 0}, "`batch_size` must be a positive integer"),
        ({"learning_rate": 0.0}, "`learning_rate` must be a positive float"),
        ({"schedule": "linear"}, "`schedule` must be one of"),
    ],
)
def test_a_plan_is_validated(options, match):
    with pytest.raises(ValueError, match=match):
        Plan(**{"phases": [Phase("igr", 1)], **options})


def test_phases_are_no_plan():
    with pytest.raises(TypeError, match="`plan` must be a Plan"):
        Experiment("mnist", "madry", plan=[Phase("madry", 1)])
    with pytest.raises(ValueError, match="`method` must be one of"):
        Phase("madrid", 1)
    with pytest.raises(ValueError, match="`dataset` must be one of"):
        fast("madry", "imagenet")


OTHERS = [
    {"seed": 1},
    {"dtype": "mixed_bfloat16"},
    {"threshold": 0.1},
    {"method": "igr"},
    {"plan": Plan(fast("madry").phases, 1e-4, 8, "constant", False, initializer="he_normal")},
]


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_a_folder_is_not_taken_for_a_run_with_other_settings(small, tmp_path, other):
    first = made(tmp_path, name="own")
    claim(first.folder, "experiment", first.settings)
    claim(first.folder, "experiment", first.settings)  # the same is the same
    with pytest.raises(
        ValueError, match=f"must be new, or of a run with the same settings.*{next(iter(other))}.*then.*now"
    ):
        dataclasses.replace(first, **other).train()


@pytest.mark.slow
def test_the_fastest_policy_is_that_which_a_run_was_begun_with(small, tmp_path, monkeypatch):
    """Whatever the machine it goes on with finds fastest."""
    monkeypatch.setattr(experiment, "fastest_policy", lambda: "mixed_bfloat16")
    begun = made(tmp_path, dtype="fastest")
    assert begun.policy == "mixed_bfloat16"
    begun.train()
    monkeypatch.setattr(experiment, "fastest_policy", lambda: "float32")
    assert made(tmp_path, dtype="fastest").policy == "mixed_bfloat16"
    assert made(tmp_path, "igr", dtype="fastest").policy == "float32"
    assert made(tmp_path, dtype="fastest", recipe="paper").policy == "float32"
    made(tmp_path, dtype="fastest").train()


@pytest.mark.parametrize("dtype", ["fastest", "float32"])
def test_a_damaged_file_of_settings_is_named(tmp_path, dtype):
    begun = made(tmp_path, dtype=dtype)
    begun.folder.mkdir()
    (begun.folder / "experiment.json").write_text('{"dtype": ')
    with pytest.raises(ValueError, match=r"must hold whole files. Received: .*experiment\.json, which is damaged"):
        begun.train()


@pytest.mark.slow
def test_a_result_says_with_which_plan_also_if_json_has_no_word_for_it(small, tmp_path):
    plan = Plan([Phase("igr", 1, {"baseline": np.zeros((28, 28, 1))})])
    made(tmp_path, "igr", plan=plan, restarted=0).run()
    written = json.loads((tmp_path / "fashion_mnist-igr-smoke.json").read_text())
    assert written["plan"]["phases"][0]["options"]["baseline"].startswith("[[[0.]")


@pytest.mark.parametrize(("dataset", "count"), [("gtsrb", 430_000), ("oxford_flower17", 17_000)])
def test_classes_are_augmented_to_as_many_as_in_the_paper(monkeypatch, dataset, count):
    """Of batches of 64 and 16 whole ones only with the paper's recipe: its rate is that of a sum over so many."""
    labels = np.arange(experiment.archives.CLASSES[dataset], dtype=np.uint8)
    monkeypatch.setattr(Experiment, "images", lambda self, split: (np.zeros((len(labels), 8, 8, 3), np.uint8), labels))
    size = training("ig_norm", dataset).batch_size
    fast_recipe, paper = (len(Experiment(dataset, "ig_norm", recipe).batches(size)) for recipe in ("fast", "paper"))
    assert (fast_recipe, paper) == (-(-count // size), count // size)


@pytest.mark.parametrize(("dataset", "count"), [("gtsrb", 14), ("oxford_flower17", 8)])
def test_the_residual_networks_have_as_many_layers_as_in_the_paper(dataset, count):
    """A first convolution, two in each unit of three stages, a dense layer."""
    layers = Experiment(dataset, "natural").network()._flatten_layers()
    assert sum(isinstance(layer, keras.layers.Conv2D | keras.layers.Dense) for layer in layers) == count


def test_another_recipe_or_seed_is_another_file_and_so_is_noise():
    assert Experiment("mnist", "madry", name="own", smoke=True).stem == "own-smoke"
    stems = {Experiment("mnist", "madry", recipe, seed=seed).stem for recipe in recipes.RECIPES for seed in (0, 1)}
    assert stems == {"mnist-madry", "mnist-madry-seed1", "mnist-madry-paper", "mnist-madry-paper-seed1"}


def test_missing_data_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="GTSRB_Final_Training_Images"):
        Experiment("gtsrb", "natural", data_dir=tmp_path).images("train")


@pytest.mark.slow
@pytest.mark.parametrize("dataset", experiment.DATASETS)
def test_every_data_set_runs_from_data_to_table(tmp_path, dataset):
    Experiment(dataset, "ig_sum_norm", out=tmp_path, smoke=True).run()
    assert f"{dataset}, IG-SUM-NORM | {dataset}-ig_sum_norm-smoke, fast" in table(tmp_path)
