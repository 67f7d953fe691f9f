"""The command line: files in, files out."""

import csv
import dataclasses
import json
import re
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from command_line import CHEAP, IN_PYTHON, X, one_line, run, write_files
from conftest import conv_model, wrapped

import keras_rar
from keras_rar import cli
from keras_rar.evaluation import protocols
from keras_rar_cli import options as cli_options


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def evaluated(files, tmp_path_factory):
    """A folder with a report, and what the command wrote to the terminal."""
    out = tmp_path_factory.mktemp("out") / "deep" / "report"
    result = run("evaluate", files / "model.keras", files / "data.npz", "--epsilon", 0.2, *CHEAP, "--out", out)
    assert result[0] == 0, result[2]
    return out, *result[1:]


# Evaluate


@pytest.mark.slow
def test_evaluate_writes_what_the_function_returns(files, evaluated):
    folder, *_ = evaluated
    with np.load(files / "data.npz") as data:
        model = keras.models.load_model(files / "model.keras")
        expected = keras_rar.evaluate_robustness(model, data["x"], data["y"], epsilon=0.2, progress=False, **IN_PYTHON)
    expected = dataclasses.replace(expected, model_name="model")  # the file's name
    found = json.loads((folder / "report.json").read_text("utf-8"))
    assert found == json.loads(expected.to_json())
    assert found["counts"]["attacked"] >= 5
    assert keras_rar.RobustnessReport.load(folder / "report.npz").to_json() == expected.to_json()
    assert (folder / "report.csv").read_text("utf-8") == expected.to_csv()
    assert len(list(csv.DictReader((folder / "report.csv").open()))) == 10


def test_evaluate_prints_the_table_alone_and_progress_aside(evaluated):
    folder, out, err = evaluated
    assert out == keras_rar.RobustnessReport.load(folder / "report.npz").to_markdown() + "\n"
    assert "predictions: 10 images" in err
    assert "attributions: " in err


def test_every_setting_reaches_the_protocol(files, tmp_path):
    settings = {
        "epsilon": 30.0, "norm": "l2", "attack": "mass_center", "steps": 1, "step_size": 3.0, "restarts": 1, "k": 7,
        "k_report": 5, "saliency": "gradient_x_input", "target": "probability", "rule": "midpoint", "m": 3,
        "data_format": "channels_last",
        "baseline": 0.5, "prediction_attack": "pgd", "pgd_steps": 1,
        "pgd_step_size": 2.0, "pgd_restarts": 2, "attacked": 3, "seed": 11,
        "noise": 1, "other_maps": "none", "faithful": 2, "certified": 0,
    }  # fmt: skip
    assert set(settings) == set(cli_options.SETTINGS)
    given = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", value)]
    given += ["--bounds", 0, 255, "--images", 6, "--no-progress", "--out", tmp_path]
    code, _, err = run("evaluate", files / "model.keras", files / "large.npz", *given)
    assert (code, err) == (0, "")
    found = json.loads((tmp_path / "report.json").read_text("utf-8"))
    del settings["k"]  # of the top-k attack alone
    settings["other_maps"] = []
    assert {name: found["protocol"][name] for name in settings} == settings
    assert found["protocol"]["bounds"] == [0, 255]
    assert found["counts"]["examples"] == 6
    assert found["counts"]["attacked"] == 3


def test_the_settings_of_the_command_are_those_of_a_protocol():
    fields = {field.name for field in dataclasses.fields(protocols.Protocol)}
    # `bounds` is an option of its own; the others are for Python
    python = {"name", "bounds", "pgd_objectives", "keep", "softplus_beta", "layer"}
    assert fields - set(cli_options.SETTINGS) == python


@pytest.mark.slow
def test_the_papers_protocol_and_names_of_test_data(files, tmp_path):
    options = ["--protocol", "paper", "--dataset", "mnist", "--k", 9, "--k-report", 9, "--attacked", 2, "--images", 4]
    code, *_ = run("evaluate", files / "model.keras", files / "test.npz", *options, *CHEAP, "--out", tmp_path)
    assert code == 0
    protocol = json.loads((tmp_path / "report.json").read_text("utf-8"))["protocol"]
    assert protocol["name"].startswith("paper, mnist, changed: ")
    assert protocol["epsilon"] == 0.3


@pytest.mark.slow
def test_a_wrapped_model_is_measured_as_its_base_model_in_the_ball_of_its_training(files, evaluated, tmp_path):
    base = keras.models.load_model(files / "model.keras")
    wrapped(base_model=base, epsilon=0.2).save(tmp_path / "rar.keras")
    assert run("evaluate", tmp_path / "rar.keras", files / "data.npz", *CHEAP, "--out", tmp_path)[0] == 0
    found, expected = (keras_rar.RobustnessReport.load(path / "report.npz") for path in (tmp_path, evaluated[0]))
    assert (found.model_name, expected.model_name) == ("rar", "model")
    assert found.protocol["epsilon"] == 0.2
    assert found.summary() == expected.summary()


@pytest.mark.slow
def test_an_interrupted_evaluation_goes_on(files, evaluated, tmp_path, monkeypatch):
    command = ["evaluate", files / "model.keras", files / "data.npz", "--epsilon", 0.2, *CHEAP, "--out", tmp_path]
    saved, save = [], keras_rar.RobustnessReport.save

    def save_then_stop(report, path):
        save(report, path)
        saved.append(path)
        if len(saved) == 4:  # three batches of predictions, and the first of attributions
            raise KeyboardInterrupt

    monkeypatch.setattr(keras_rar.RobustnessReport, "save", save_then_stop)
    code, out, err = run(*command)
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == "keras-rar: interrupted. Run the same command again to continue an evaluation."
    assert not (tmp_path / "report.html").exists()
    code, out, err = run(*command)
    assert code == 0
    assert "4 done before" in err
    assert "predictions" not in err
    assert out == evaluated[1]
    found, expected = (json.loads((path / "report.json").read_text("utf-8")) for path in (tmp_path, evaluated[0]))
    assert found == expected


def test_a_finished_evaluation_is_only_written_again(files, evaluated, monkeypatch):
    def attack(*arguments, **options):
        raise AssertionError("attacked again")

    for attack_class in (keras_rar.attacks.AttributionAttack, keras_rar.attacks.PGDAttack):
        monkeypatch.setattr(attack_class, "_starts", attack)
    (evaluated[0] / "report.html").unlink()
    command = ["evaluate", files / "model.keras", files / "data.npz", "--epsilon", 0.2, *CHEAP, "--out", evaluated[0]]
    code, out, err = run(*command)
    assert (code, out, err) == (0, evaluated[1], "")
    assert (evaluated[0] / "report.html").exists()


def test_another_evaluation_is_not_overwritten(files, evaluated):
    before = (evaluated[0] / "report.npz").read_bytes()
    command = ["evaluate", files / "model.keras", files / "data.npz", "--epsilon", 0.1, *CHEAP, "--out", evaluated[0]]
    code, _, err = run(*command)
    assert code == 2
    assert "report.npz" in one_line(err)
    assert (evaluated[0] / "report.npz").read_bytes() == before


# Compare


@pytest.fixture(scope="module")
def compared(files, tmp_path_factory):
    """A folder with a comparison, and what the command wrote to the terminal; options stand between the files."""
    out = tmp_path_factory.mktemp("out") / "comparison"
    other = conv_model()
    other.set_weights([0.9 * weights for weights in keras.models.load_model(files / "model.keras").get_weights()])
    (out.parent / "other").mkdir()
    other.save(out.parent / "other/model.keras")
    first, second = files / "model.keras", out.parent / "other/model.keras"
    arguments = [first, "--epsilon", 0.2, second, *CHEAP, "--examples", 8, files / "data.npz", "--out", out]
    result = run("compare", *arguments)
    assert result[0] == 0, result[2]
    return out, arguments, *result[1:]


def test_compare_writes_one_table_page_figure_and_the_numbers(files, compared):
    folder, _, out, err = compared
    found = keras_rar.Comparison.load(folder)
    names = [f"{files.name}/model", "other/model"]  # as much of the paths as tells the files apart
    assert list(found.reports) == names
    assert out == found.to_markdown() + "\n"
    assert json.loads((folder / "comparison.json").read_text("utf-8")) == json.loads(found.to_json())
    assert (folder / "comparison.html").read_text("utf-8").startswith("<!DOCTYPE html>\n")
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert all(name in err for name in names)  # the progress says whose it is


def test_compare_measures_what_evaluate_measures(files, compared, evaluated):
    found = keras_rar.Comparison.load(compared[0]).reports[f"{files.name}/model"]
    expected = keras_rar.RobustnessReport.load(evaluated[0] / "report.npz")
    other = {"attacked": 100, "name": expected.protocol["name"]}  # maps of what all models classify correctly
    assert {**found.protocol, **other} == expected.protocol
    for name in ("correct", "robust"):
        np.testing.assert_array_equal(found.per_example[name], expected.per_example[name][:8])


def test_a_finished_comparison_is_only_written_again(compared, monkeypatch):
    def attack(*arguments, **options):
        raise AssertionError("attacked again")

    for attack_class in (keras_rar.attacks.AttributionAttack, keras_rar.attacks.PGDAttack):
        monkeypatch.setattr(attack_class, "_starts", attack)
    folder, arguments, out, _ = compared
    (folder / "comparison.html").unlink()
    code, again, _ = run("compare", *arguments)
    assert (code, again) == (0, out)
    assert (folder / "comparison.html").exists()


@pytest.mark.slow
def test_compare_without_matplotlib(compared, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    folder, arguments, out, _ = compared
    (folder / "comparison.png").unlink()
    code, again, err = run("compare", *arguments)
    assert (code, again) == (0, out)
    assert "no comparison.png: " in err
    monkeypatch.undo()
    assert run("compare", *arguments)[0] == 0
    assert (folder / "comparison.png").exists()


@pytest.mark.slow
def test_the_page_shows_the_names(files, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(3, 4))
    model = keras.models.load_model(files / "dense.keras")
    np.savez(tmp_path / "table.npz", x=x, y=model.predict(x, verbose=0).argmax(axis=1))
    names = ["--feature-names", "age,height,weight,income", "--class-names", "low,middle,high"]
    options = ["--epsilon", 0.1, *CHEAP, "--out", tmp_path, *names]
    assert run("evaluate", files / "dense.keras", tmp_path / "table.npz", *options)[0] == 0
    named = (tmp_path / "report.html").read_text("utf-8")  # in its pictures
    assert run("evaluate", files / "dense.keras", tmp_path / "table.npz", *options[:-4])[0] == 0
    assert named != (tmp_path / "report.html").read_text("utf-8")
    options[-3] = "age,height,weight"
    code, _, err = run("evaluate", files / "dense.keras", tmp_path / "table.npz", *options)
    assert code == 2
    assert "4" in one_line(err)


# Explain


def explained(files, *options, model="model.keras", image="image.png", out):
    code, printed, err = run("explain", files / model, files / image, "--out", out, *options)
    assert code == 0, err
    return printed


def test_explain_writes_the_map_of_the_predicted_class(files, tmp_path):
    printed = explained(files, out=tmp_path / "map.npy")
    model = keras.models.load_model(files / "model.keras")
    x = (255 * X[:1]).round() / 255
    p = tf.nn.softmax(model(x))[0].numpy()
    found = np.load(tmp_path / "map.npy")
    np.testing.assert_allclose(found, keras_rar.saliency_map(model, x)[0], rtol=1e-5)  # float32
    assert not np.allclose(found, keras_rar.saliency_map(model, x, [p.argmin()])[0], rtol=1e-2)  # negative control
    assert f"predicted class {p.argmax()}, probability {p.max():.3f}\n" in printed
    gap = keras_rar.saliency_map(model, x, return_completeness=True)[1].gap[0]
    assert float(re.search(r"completeness gap (\S+),", printed)[1]) == pytest.approx(gap, rel=0.01)  # three digits
    assert "with m = 100\n" in printed
    assert printed.endswith(f"wrote {tmp_path / 'map.npy'}\n")


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (["--label", 2], {"y": [2]}),
        (["--label", 0, "--method", "gradient"], {"y": [0], "method": "gradient"}),
        (["--label", 0, "--method", "guided_backprop"], {"y": [0], "method": "guided_backprop"}),
        (["--label", 1, "--m", 3, "--baseline", 0.7], {"y": [1], "m": 3, "baseline": 0.7}),
        (["--label", 1, "--target", "loss", "--m", 3], {"y": [1], "m": 3, "target": "loss"}),
        (["--bounds", -1, 1, "--label", 1], {"y": [1]}),
    ],
)
def test_options_of_explain(files, tmp_path, options, arguments):
    printed = explained(files, *options, out=tmp_path / "map.npy")
    x = (255 * X[:1]).round() / 255
    x = 2 * x - 1 if "--bounds" in options else x
    expected = keras_rar.saliency_map(keras.models.load_model(files / "model.keras"), x, **arguments)
    np.testing.assert_allclose(np.load(tmp_path / "map.npy"), expected[0], rtol=1e-4, atol=1e-5)  # float32
    assert ("completeness" in printed) == ("--method" not in options)


def test_explain_says_both_classes_where_they_differ(files, tmp_path):
    explain = [explained(files, "--label", label, out=tmp_path / "map.npy") for label in range(3)]
    assert sum("explained class" in printed for printed in explain) == 2
    shares = [float(re.findall(r"probability (\S+)\n", printed)[-1]) for printed in explain]
    assert sum(shares) == pytest.approx(1, abs=0.002)  # three digits each


def test_explain_doubles_the_nodes(files, tmp_path):
    printed = explained(files, "--m", "auto", out=tmp_path / "map.npy")
    nodes = int(re.search(r"with m = (\d+)", printed)[1])
    assert nodes in [16 * 2**i for i in range(9)]


@pytest.mark.parametrize(
    ("ending", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml"), ("PNG", b"\x89PNG")]
)
def test_explain_draws(files, tmp_path, ending, magic):
    out = tmp_path / f"map.{ending}"
    explained(files, out=out)
    assert out.read_bytes().startswith(magic)
    if ending == "png":
        assert len(np.unique(tf.io.decode_png(out.read_bytes()).numpy())) > 10


def test_a_larger_colour_image_is_resized_and_made_grey(files, tmp_path):
    code, _, err = run("explain", files / "model.keras", files / "image.jpg", "--out", tmp_path / "map.npy")
    assert code == 0
    assert err == "image.jpg: resized from 30 × 24 to 6 × 6\n"
    assert np.load(tmp_path / "map.npy").shape == (6, 6)


def test_a_model_of_colour_images_of_any_size(files, tmp_path):
    layers = [keras.layers.Conv2D(2, 3), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(1, "sigmoid")]
    keras.Sequential([keras.Input((None, None, 3)), *layers]).save(tmp_path / "any.keras")
    for image, shape in [("image.png", (6, 6)), ("image.jpg", (30, 24))]:
        code, _, err = run("explain", tmp_path / "any.keras", files / image, "--out", tmp_path / "map.npy")
        assert (code, err) == (0, "")
        assert np.load(tmp_path / "map.npy").shape == shape


def test_explain_takes_a_model_with_channels_first(files, tmp_path):
    last = keras.models.load_model(files / "model.keras")
    keras.Sequential([keras.Input((1, 6, 6)), keras.layers.Permute((2, 3, 1)), last]).save(tmp_path / "first.keras")
    for model in (tmp_path / "first.keras", files / "model.keras"):
        assert run("explain", model, files / "image.png", "--out", tmp_path / f"{model.stem}.npy")[0] == 0
    found, expected = (np.load(tmp_path / f"{name}.npy") for name in ("first", "model"))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert run("explain", tmp_path / "first.keras", files / "image.png", "--out", tmp_path / "map.png")[0] == 0


def test_explain_takes_a_wrapped_model(files, tmp_path):
    wrapped(base_model=keras.models.load_model(files / "model.keras")).save(tmp_path / "rar.keras")
    for path in (tmp_path / "rar.keras", files / "model.keras"):
        assert run("explain", path, files / "image.png", "--out", tmp_path / f"{path.stem}.npy")[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "rar.npy"), np.load(tmp_path / "model.npy"))


# Errors of the program


def test_an_error_of_the_program_keeps_its_traceback(files, tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "evaluate_robustness", fails)
    with pytest.raises(RuntimeError, match="a bug"):
        run("evaluate", files / "model.keras", files / "data.npz", "--epsilon", 0.1, "--out", tmp_path)


def test_explain_without_matplotlib(files, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, err = run("explain", files / "model.keras", files / "image.png", "--out", tmp_path / "map.png")
    assert code == 2
    assert 'pip install ".[plot]"' in one_line(err)
    assert run("explain", files / "model.keras", files / "image.png", "--out", tmp_path / "map.npy")[0] == 0
