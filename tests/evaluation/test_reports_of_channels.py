"""Reports of networks that take channels first are those of their twins."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from conftest import batch

import keras_rar
from keras_rar.evaluation import ball, comparability
from keras_rar.evaluation.callback import AttributionRobustness
from keras_rar.evaluation.faithfulness import infidelity

L = keras.layers
X, Y = batch(6, (6, 6, 3))
FIRST = np.moveaxis(X, -1, 1)
SETTINGS = {"epsilon": 0.05, "steps": 3, "m": 3, "pgd_steps": 2, "pgd_restarts": 0, "progress": False}
SETTINGS |= {"noise": 0, "other_maps": ()}


def twins():
    """A network that takes channels last, and the same one for channels first; all examples are classified right."""
    keras.utils.set_random_seed(0)
    layers = [L.Conv2D(4, 3, activation="relu"), L.Flatten(), L.Dense(3)]
    last = keras.Sequential([keras.Input((6, 6, 3)), *layers])
    return last, keras.Sequential([keras.Input((3, 6, 6)), L.Permute((2, 3, 1)), *layers])


@pytest.fixture(scope="module")
def reports():
    last, first = twins()
    y = np.argmax(last(X), axis=-1)
    return [keras_rar.evaluate_robustness(m, x, y, **SETTINGS) for m, x in ((last, X), (first, FIRST))]


def test_the_report_is_that_of_the_twin(reports):
    last, first = reports
    assert [report.protocol["data_format"] for report in reports] == ["channels_last", "channels_first"]
    assert first.protocol["k"] == last.protocol["k"] == 36 // 8
    assert first.counts == last.counts
    for name in ("topk_intersection", "kendall_tau", "spearman_rho"):
        np.testing.assert_allclose(first.per_example[name], last.per_example[name], atol=1e-3)
    assert first.examples["map_before"].shape == (6, 6, 6)
    assert first.noun == "image"


@pytest.mark.slow
def test_its_page_has_the_pictures_of_the_twin(reports):
    pages = [report.to_html() for report in reports]
    assert all(page.count("<img") == pages[0].count("<img") > 0 for page in pages)


def test_other_channels_are_another_measurement(reports):
    def with_channels(**known):
        protocol = {name: value for name, value in reports[0].protocol.items() if name != "data_format"}
        return dataclasses.replace(reports[0], protocol={**protocol, **known})

    last, first = (with_channels(data_format=name) for name in ("channels_last", "channels_first"))
    older = with_channels()
    comparability.check({"a": last, "b": older})  # a file of 0.1.0
    comparability.check({"a": older, "b": last})
    for other in (last, older):
        with pytest.raises(ValueError, match="differ in data_format"):
            comparability.check({"a": other, "b": first})


def test_models_of_other_channels_are_refused_before_they_are_compared(monkeypatch):
    cube = [keras.Input((8, 8, 8))]
    end = [L.Conv2D(2, 3), L.Flatten(), L.Dense(3)]
    models = {"last": keras.Sequential([*cube, *end]), "first": keras.Sequential([*cube, L.Permute((2, 3, 1)), *end])}
    monkeypatch.setattr(keras_rar.attacks.PGDAttack, "iterate", lambda *args, **kwargs: pytest.fail("attacked"))
    x = np.full((2, 8, 8, 8), 0.5)
    with pytest.raises(ValueError, match=r"^`data_format` must be given for models"):
        keras_rar.compare(models, x, [0, 1], **SETTINGS)


@pytest.mark.slow
def test_what_nothing_tells_is_refused_and_named_in_the_protocol():
    model = keras.Sequential([keras.Input((4, 4, 4)), L.Flatten(), L.Dense(3)])
    x, y = batch(3, (4, 4, 4))
    with pytest.raises(ValueError, match=r'^`data_format` must be "channels_last"'):
        keras_rar.evaluate_robustness(model, x, y, **SETTINGS)
    y = np.argmax(model(x), axis=-1)
    report = keras_rar.evaluate_robustness(model, x, y, **SETTINGS, data_format="none")
    assert "data_format=none" in report.protocol["name"]
    assert report.examples["map_before"].shape == (3, 4, 4, 4)
    assert json.loads(report.to_json())["protocol"]["data_format"] == "none"
    assert report.to_html()


def test_the_k_of_training_counts_entries_of_a_map():
    _, first = twins()
    model = keras_rar.wrap(first, keras_rar.IGTopKRegularizer(k=30, epsilon=0.1))
    assert ball.of_training(model)["k"] == 10
    assert ball.of_training(model, "none")["k"] == 30


@pytest.mark.parametrize("data_format", [None, "channels_last"])
def test_the_callback_finds_or_is_told_the_channels(data_format):
    _, first = twins()
    callback = AttributionRobustness(FIRST, Y, epsilon=0.1, steps=1, m=1, data_format=data_format)
    callback.set_model(first)
    callback.on_train_begin()
    entries = 36 if data_format is None else 18
    assert callback._attack.k == entries // 8
    with pytest.raises(ValueError, match="`data_format` must be left out where `attack` is given"):
        AttributionRobustness(FIRST, Y, attack=callback._attack, data_format="channels_last")


def test_a_pixel_is_ablated_with_all_its_channels():
    last, first = twins()
    a = keras_rar.saliency_map(last, X, Y, m=4, normalize=False)
    expected = infidelity(last, X, a, Y)
    np.testing.assert_allclose(infidelity(first, FIRST, np.moveaxis(a, -1, 1), Y), expected, rtol=1e-4, atol=1e-6)
    cube, (x, y) = keras.Sequential([keras.Input((4, 4, 4)), L.Flatten(), L.Dense(3)]), batch(3, (4, 4, 4))
    with pytest.raises(ValueError, match=r"^`attributions` must be summed over channels"):
        infidelity(cube, x, x, y)
