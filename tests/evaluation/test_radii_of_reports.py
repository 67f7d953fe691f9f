"""A radius for each feature, from training to report: saved, resumed, said, and kept to."""

import json
import re
import warnings

import keras
import numpy as np
import pytest
from conftest import batch, dense_model, wrapped

import keras_rar
from keras_rar.attacks import TopKAttack
from keras_rar.evaluation import ball
from keras_rar.evaluation.callback import AttributionRobustness
from keras_rar.evaluation.report import RobustnessReport

X, Y = batch(8)
X[:, 2] = np.arange(8) % 2  # a flag
RADII = np.array([0.1, 0.0, 0.3, 0.02])
SAID = r"Columns with few whole numbers may change \(2\): an attack gives them values that no example has"
QUICK = {"steps": 2, "m": 2, "pgd_steps": 2, "progress": False}


def test_a_model_trained_with_radii_is_saved_perturbed_and_measured_with_them(tmp_path, without_controls):
    model = wrapped("ig_sum_norm", epsilon=RADII)
    assert model.regularizer.step_size == pytest.approx(2.5 * 0.3 / 2)
    before = [weight.copy() for weight in model.get_weights()]
    with pytest.warns(RuntimeWarning, match=SAID):
        model.fit(X, Y, verbose=0, callbacks=[AttributionRobustness(X, Y, steps=1, m=1)])
    assert any(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))
    x_star = model.perturb(X, Y, seed=1).numpy()
    assert x_star[:, 1].tobytes() == X[:, 1].tobytes()
    assert np.all(np.abs(x_star - X) <= RADII + 1e-6)
    assert np.all(np.abs(x_star - X).max(axis=0) > 0.5 * RADII - 1e-6)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.regularizer.get_config()["epsilon"] == model.regularizer.get_config()["epsilon"] == RADII.tolist()
    np.testing.assert_array_equal(again.perturb(X, Y, seed=1), x_star)
    assert ball.of_training(again)["epsilon"] == RADII.tolist()


def test_a_report_of_radii_says_them_and_goes_on_from_its_file(tmp_path, without_controls):
    model = dense_model()
    y, path = model.predict(X, verbose=0).argmax(axis=1), tmp_path / "report.npz"
    first = keras_rar.evaluate_robustness(model, X, y, epsilon=RADII, attacked=3, path=path, **QUICK)
    text = first.to_markdown()
    assert re.search(SAID, text)
    assert np.all(np.abs(first.examples["x_adv"] - first.examples["x"]) <= RADII + 1e-6)
    assert first.examples["x_adv"][:, 1].tobytes() == first.examples["x"][:, 1].tobytes()
    assert "ε = 0.02 to 0.3 by feature, 0 for 1 of 4 (L∞" in text
    assert json.loads(first.to_json())["protocol"]["epsilon"] == RADII.tolist()
    assert RobustnessReport.load(path).to_json() == first.to_json()
    more = keras_rar.evaluate_robustness(model, X, y, epsilon=RADII.tolist(), attacked=5, path=path, **QUICK)
    np.testing.assert_array_equal(more.values("kendall_tau")[:3], first.values("kendall_tau"))
    with pytest.raises(ValueError, match=r"of other settings: epsilon=\[0.1, 0.0, 0.3, 0.02\]"):
        keras_rar.evaluate_robustness(model, X, y, epsilon=RADII[::-1], attacked=5, path=path, **QUICK)
    assert first.to_html()


@pytest.mark.slow
def test_attacks_and_controls_keep_to_the_radii():
    """Noise of predictions and maps too: with a radius only for what a network does not read, all is robust."""
    model = dense_model(hidden=4)
    weights = model.get_weights()
    weights[0][2] = 0
    model.set_weights(weights)
    y = model.predict(X, verbose=0).argmax(axis=1)
    options = {**QUICK, "attacked": 4, "noise": 2, "other_maps": (), "faithful": 2}
    report = keras_rar.evaluate_robustness(model, X, y, epsilon=[0.0, 0.0, 0.5, 0.0], **options)
    assert report.values("adversarial_accuracy").mean() == 1
    assert np.all(report.values("kendall_tau") == 1)
    assert np.all(report.per_example["robust.noise"][:2] == 1)
    assert any("The attack changed no map" in warning for warning in report.warnings)  # which does not flatter
    control = TopKAttack(1, [0.5, 0.0, 0.0, 0.0], steps=2, m=2)(model, X, y)
    assert control.scores["kendall_tau"].mean() < 1


def test_nothing_is_said_where_nothing_that_matters_may_change():
    """Where the flag is fixed, and of a training that perturbs nothing."""
    for method, epsilon, says in (
        ("madry", 0.1, True),
        ("madry", [0.1, 0.1, 0.0, 0.1], False),
        ("natural", 0.1, False),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            wrapped(method, epsilon=epsilon)._warn_of_discrete({"x": X})
        assert bool([one for one in caught if re.search(SAID, str(one.message))]) is says


def test_what_has_no_meaning_with_radii_is_refused():
    with pytest.raises(
        ValueError, match="`certified` must be 0 with an array of `epsilon`: noise certifies one radius"
    ):
        keras_rar.evaluate_robustness(dense_model(), X, Y, epsilon=RADII, certified=2, progress=False)
    with pytest.raises(ValueError, match="`epsilon` must be a float or an array that broadcasts to an input"):
        keras_rar.wrap(dense_model(), epsilon=[0.1, 0.2])
    with pytest.raises(ValueError, match="`epsilon` must be a positive float, or an array of floats >= 0"):
        keras_rar.evaluate_robustness(dense_model(), X, Y, epsilon=[0, 0, 0, 0], progress=False)


def test_messages_do_not_print_arrays_of_a_thousand_entries():
    x, radii = np.full((2, 1000), 0.5), np.full(1000, 0.1)
    layers = [keras.Input((1000,)), keras.layers.Dense(2)]
    models = [keras_rar.wrap(keras.Sequential(layers), "igr", epsilon=times * radii) for times in (1, 2)]
    for message, call in {
        "a positive float": lambda: TopKAttack(1, -radii),
        "change the inputs": lambda: TopKAttack(1, 1e-12 * radii)(models[0], x),
        "must lie within": lambda: TopKAttack(1, radii, bounds=(0 * radii, radii))(models[0], x),
        "where trainings differ": lambda: ball.shared(models, {}),
        "that of the training": lambda: ball.completed(models[0], {"bounds": (0 * radii, radii)}),
    }.items():
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert len(str(error.value)) < 700
