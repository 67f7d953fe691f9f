"""Evaluations at a layer: that of the training of a model, or one that is named."""

import numpy as np
import pytest
from conftest import dense_model, wrapped
from texts import text_network, texts

import keras_rar
from keras_rar.evaluation import ball

X, Y = texts()
CHEAP = {"attack": "random", "steps": 1, "m": 1, "pgd_steps": 1, "pgd_restarts": 0, "progress": False}
ALONE = {"noise": 0, "other_maps": (), "faithful": 0}


@pytest.fixture
def model():
    return wrapped("ig_topk", text_network(), layer="embedding", epsilon=0.2, k=1)


def test_the_layer_is_that_of_the_training(model):
    assert ball.of_training(model) == {
        "epsilon": 0.2, "norm": "linf", "bounds": None, "baseline": 0.0, "layer": "embedding", "k": 1,
    }  # fmt: skip
    assert ball.completed(model, {"epsilon": 0.3})["layer"] == "embedding"
    other = ball.completed(model, {"layer": "dense", "epsilon": 1.0})
    assert other == {"layer": "dense", "epsilon": 1.0, "bounds": None}  # its units are others
    assert ball.completed(dense_model(), {"layer": "dense", "epsilon": 1.0}) == other
    assert ball.completed(model, {"layer": None, "epsilon": 1.0}) == {"layer": None, "epsilon": 1.0}
    with pytest.raises(ValueError, match=r"^`epsilon` must be given"):
        ball.completed(model, {"layer": "dense"})


def test_a_report_at_the_embedding(model, tmp_path):
    options = {**CHEAP, **ALONE, "path": tmp_path / "report.npz"}
    report = keras_rar.evaluate_robustness(model, X, Y, **options)
    assert "in units of the output of &#x27;embedding&#x27;" in report.to_html()
    names = "epsilon", "bounds", "layer", "data_format", "k_report"
    assert [report.protocol[name] for name in names] == [0.2, None, "embedding", "rows", 1]
    attacked = report.per_example["attacked"]
    np.testing.assert_array_equal(attacked, model.predict(X, verbose=0).argmax(axis=1) == Y)
    assert report.examples["x_adv"].shape[1:] == (*X.shape[1:], 3)
    assert report.examples["map_after"].shape[1:] == X.shape[1:]
    again = keras_rar.evaluate_robustness(model, X, Y, **options)  # goes on from the file: nothing is left to do
    assert again.fingerprint == report.fingerprint
    hidden = model.base_model.layers[-2].name
    with pytest.raises(ValueError, match=r"^`path` must be a new file"):
        keras_rar.evaluate_robustness(model, X, Y, **{**options, "layer": hidden, "epsilon": 0.2})


def test_what_cannot_be_measured_at_a_layer_is_refused(model):
    with pytest.raises(ValueError, match=r"^`certified` must be 0 at a layer that masks or inputs pass by"):
        keras_rar.evaluate_robustness(model, X, Y, certified=1, **CHEAP)
    with pytest.raises(TypeError, match=r"^`layer` must be the name of a layer"):
        keras_rar.evaluate_robustness(model, X, Y, layer=1, epsilon=0.1, **CHEAP)
    with pytest.raises(ValueError, match=r"floating-point input, or be looked at behind a layer"):
        keras_rar.evaluate_robustness(model, X, Y, layer=None, epsilon=0.1, **CHEAP)


def test_the_callback_measures_at_the_layer_of_the_training(model):
    callback = keras_rar.AttributionRobustness(X, Y, steps=1, m=1)
    callback.set_model(model)
    callback.on_train_begin()
    assert callback._attack.layer == callback._pgd.layer == "embedding"
    assert callback._attack.bounds is None
    assert (callback._attack.epsilon, callback._attack.k) == (0.2, 1)


@pytest.mark.slow
def test_controls_run_at_a_layer(model, tmp_path):
    """Noise, other maps and faithfulness, with no warning that they were skipped; a page and a figure."""
    model.fit(X, Y, epochs=1, verbose=0, callbacks=[keras_rar.AttributionRobustness(X, Y, steps=1, m=1)])
    report = keras_rar.evaluate_robustness(model, X, Y, **{**CHEAP, "attack": "topk"}, noise=2, faithful=2)
    findings = report.findings
    assert findings["noise"]["n"] == findings["maps"]["gradient"]["n"] == findings["faithfulness"]["n"] == 2
    assert "skipped" not in str(findings)
    (tmp_path / "page.html").write_text(report.to_html(), "utf-8")
    report.plot().savefig(tmp_path / "maps.png")


@pytest.mark.slow
def test_certificates_are_those_of_the_output_of_a_layer():
    """Where nothing passes by."""
    network = text_network(masked=False)
    options = {"epsilon": 0.1, "layer": "embedding", **CHEAP, **ALONE}
    found = keras_rar.evaluate_robustness(network, X, Y, certified=1, **options).findings
    assert found["certificate"]["n"] == 1


@pytest.mark.slow
def test_two_networks_are_compared_at_their_layers():
    """What reports keep of an example is the output of the layer, which of two networks is never the same."""
    models = {name: text_network() for name in ("natural", "robust")}
    y = models["natural"].predict(X, verbose=0).argmax(axis=1)
    options = {**CHEAP, **ALONE, "layer": "embedding", "epsilon": 0.1, "k": 1}
    models["robust"].layers[-1].set_weights(models["natural"].layers[-1].get_weights())
    models["robust"].layers[-2].set_weights(models["natural"].layers[-2].get_weights())
    rows = [weight + change for weight, change in zip(models["natural"].layers[1].get_weights(), [1e-3], strict=True)]
    models["robust"].layers[1].set_weights(rows)  # other rows, and nearly the same scores
    compared = keras_rar.compare(models, X, y, **options)
    first, second = (report.examples["x"] for report in compared.reports.values())
    assert len(first) == len(second) > 0
    assert not np.array_equal(first, second)  # a control
    assert compared.difference("robust", "natural")["kendall_tau"]["n"] > 0
    assert "robust" in compared.to_html()
