"""A report that version 0.1.0 saved goes on: the same settings are the same evaluation."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_rar
from keras_rar.attacks import PGDAttack
from keras_rar.evaluation.report import RobustnessReport

SAVED = Path(__file__).parents[1] / "data" / "saved_by_0_1_0"
SETTINGS = {"epsilon": 0.05, "steps": 3, "m": 4, "pgd_steps": 3, "batch_size": 3, "progress": False}
SETTINGS |= {"softplus_beta": 1.0}  # of which version 0.1.0 made its twins


@pytest.fixture
def saved(tmp_path):
    """The arguments of the evaluation, and a copy of the file that it wrote."""
    data = np.load(SAVED / "data.npz")
    path = Path(shutil.copy(SAVED / "report.npz", tmp_path / "report.npz"))
    return (keras.models.load_model(SAVED / "plain.keras"), data["x"], data["y"]), path


def test_it_goes_on_with_more_examples(saved, monkeypatch):
    arguments, path = saved
    expected = json.loads((SAVED / "expected.json").read_text("utf-8"))
    monkeypatch.setattr(PGDAttack, "_worst", None)  # all predictions were attacked before: not again
    report = keras_rar.evaluate_robustness(*arguments, attacked=8, path=path, **SETTINGS)
    np.testing.assert_allclose(report.values("kendall_tau"), expected["kendall_of_eight"], atol=1e-6)
    for measure, row in report.summary().items():
        assert row == pytest.approx(expected["summary_of_eight"][measure], abs=1e-6)
    assert report.complete
    assert RobustnessReport.load(path).to_json() == report.to_json()


def test_another_k_is_another_evaluation_and_said_so(saved):
    """There k was an eighth of the map, 4, and so was k of the report."""
    arguments, path = saved
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"^`path` must be a new file.*, of other settings: k=4, k_report=4$"):
        keras_rar.evaluate_robustness(*arguments, attacked=8, k=3, path=path, **SETTINGS)
    assert path.read_bytes() == before
