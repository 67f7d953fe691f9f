"""What is shown is run: the README's code, and the examples."""

import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from conftest import batch, conv_model

from keras_rar.paper import datasets, networks

ROOT = Path(__file__).parents[1]


def test_readme_code_runs(monkeypatch, tmp_path):
    """Every Python block, in order, on a small network and small data."""
    x, y = batch(60, (6, 6, 1))
    monkeypatch.setattr(datasets, "load", lambda name: ((x, y), (x, y)))
    monkeypatch.setattr(networks, "cnn", conv_model)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 2
    names = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)  # noqa: S102
    assert keras.saving.load_model(tmp_path / "robust.keras").count_params() == conv_model().count_params()
    assert {path.name for path in tmp_path.iterdir()} == {"robust.keras", "plain.keras", "served"}


def test_quickstart_smoke(tmp_path):
    out = tmp_path / "table.json"
    command = [sys.executable, str(ROOT / "examples/quickstart.py"), "--smoke", "--out", str(out)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "natural accuracy" in result.stdout
    table = json.loads(out.read_text())["table"]
    assert set(table) == {"natural", "ig_sum_norm"}


def test_committed_table_is_the_one_in_the_readme():
    """The numbers shown are those of the file that the command wrote, to the digits shown."""
    readme = (ROOT / "README.md").read_text("utf-8")
    table = json.loads((ROOT / "examples/results/quickstart.json").read_text())["table"]
    for row in table.values():
        for mean, interval in row.values():
            assert f"{mean:.3f} ± {interval:.3f}" in readme


@pytest.mark.slow
def test_quickstart_shows_what_it_claims(tmp_path):
    """Minutes long: the robust network wins on the last three columns, by far more than the intervals."""
    out = tmp_path / "table.json"
    subprocess.run([sys.executable, str(ROOT / "examples/quickstart.py"), "--out", str(out)], check=True, timeout=1500)
    natural, robust = (list(row.values()) for row in json.loads(out.read_text())["table"].values())
    assert robust[1][0] - robust[1][1] > 0.3 > natural[1][0] + natural[1][1]
    for (of_natural, natural_interval), (of_robust, interval) in zip(natural[2:], robust[2:], strict=True):
        assert of_natural - natural_interval > 3 * (of_robust + interval)
