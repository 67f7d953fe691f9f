"""A radius for each feature, from training to report: saved, resumed, said, and kept to."""

import json
import re
import warnings

import keras
import numpy as np
import pytest
from conftest import batch, dense_model, wrapped

import keras_rar
from keras_rar.evaluation.callback import AttributionRobustness
from keras_rar.evaluation.report import RobustnessReport

X, Y = batch(8)
RADII = np.array([0.1, 0.0, 0.3, 0.02])
QUICK = {"steps": 2, "m": 2, "pgd_steps": 2, "progress": False}


def test_a_model_trained_with_radii_is_saved_perturbed_and_measured_with_them(tmp_path, without_controls):
    model = wrapped("ig_sum_norm", epsilon=RADII)
    assert model.regularizer.step_size == pytest.approx(2.5 * 0.3 / 2)
    before = [weight.copy() for weight in model.get_weights()]
    model.fit(X, Y, verbose=0, callbacks=[AttributionRobustness(X, Y, steps=1, m=1)])
    assert any(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))
    x_star = model.perturb(X, Y, seed=1).numpy()
    assert x_star[:, 1].tobytes() == X[:, 1].tobytes()
    assert np.all(np.abs(x_star - X) <= RADII + 1e-6)
    assert np.all(np.abs(x_star - X).max(axis=0) > 0.9 * RADII - 1e-6)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.regularizer.get_config()["epsilon"] == model.regularizer.get_config()["epsilon"] == RADII.tolist()
    np.testing.assert_array_equal(again.perturb(X, Y, seed=1), x_star)
    report = keras_rar.evaluate_robustness(again, X, again.predict(X, verbose=0).argmax(1), **QUICK)
    assert report.protocol["epsilon"] == RADII.tolist()
    assert np.all(np.abs(report.examples["x_adv"] - report.examples["x"]) <= RADII + 1e-6)
    assert report.examples["x_adv"][:, 1].tobytes() == report.examples["x"][:, 1].tobytes()


def test_a_report_of_radii_says_them_and_goes_on_from_its_file(tmp_path, without_controls):
    model = dense_model()
    y, path = model.predict(X, verbose=0).argmax(axis=1), tmp_path / "report.npz"
    first = keras_rar.evaluate_robustness(model, X, y, epsilon=RADII, attacked=3, path=path, **QUICK)
    text = first.to_markdown()
    assert "ε = 0.02 to 0.3 by feature, 0 for 1 of 4 (L∞" in text
    assert json.loads(first.to_json())["protocol"]["epsilon"] == RADII.tolist()
    assert RobustnessReport.load(path).to_json() == first.to_json()
    more = keras_rar.evaluate_robustness(model, X, y, epsilon=RADII.tolist(), attacked=5, path=path, **QUICK)
    np.testing.assert_array_equal(more.values("kendall_tau")[:3], first.values("kendall_tau"))
    with pytest.raises(ValueError, match=r"of other settings: epsilon=\[0.1, 0.0, 0.3, 0.02\]"):
        keras_rar.evaluate_robustness(model, X, y, epsilon=RADII[::-1], attacked=5, path=path, **QUICK)
    assert first.to_html()


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
    options |= {"noise": 0, "faithful": 0}
    control = keras_rar.evaluate_robustness(model, X, y, epsilon=[0.5, 0.0, 0.0, 0.0], **options)
    assert control.values("kendall_tau").mean() < 1


def test_what_has_no_meaning_with_radii_is_refused():
    with pytest.raises(
        ValueError, match="`certified` must be 0 with an array of `epsilon`: noise certifies one radius"
    ):
        keras_rar.evaluate_robustness(dense_model(), X, Y, epsilon=RADII, certified=2, progress=False)
    with pytest.raises(ValueError, match="`epsilon` must be a float or an array that broadcasts to an input"):
        keras_rar.wrap(dense_model(), epsilon=[0.1, 0.2])
    with pytest.raises(ValueError, match="`epsilon` must be a positive float, or an array of floats >= 0"):
        keras_rar.evaluate_robustness(dense_model(), X, Y, epsilon=[0, 0, 0, 0], progress=False)


def mixed():
    """Two numbers, a flag, and a constant."""
    x = X.copy()
    x[:, 1], x[:, 2] = 0.5, np.arange(8) % 2
    return x


def test_a_report_and_a_fit_say_which_columns_become_invalid(without_controls):
    """And nothing where these are fixed, or of a training that perturbs nothing."""
    x, loud, quiet = mixed(), [0.1, 0.1, 0.1, 0.1], [0.1, 0.1, 0.0, 0.1]
    said = r"Columns with few whole numbers may change \(2\): an attack gives them values that no example has"
    for epsilon, warns in ((loud, True), (quiet, False)):
        report = keras_rar.evaluate_robustness(dense_model(), x, Y, epsilon=epsilon, **QUICK)
        assert any(re.search(said, warning) for warning in report.warnings) is warns
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            wrapped("madry", epsilon=epsilon).fit(x, Y, verbose=0)
            wrapped("natural", epsilon=epsilon).fit(x, Y, verbose=0)
        assert sum(bool(re.search(said, str(warning.message))) for warning in caught) == warns
