"""What `benchmarks/shortcut.py` and `aligned.py` measure, by closed forms, and that their page has what they wrote."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_rar.paper import datasets

ROOT = Path(__file__).parents[1]


def script(monkeypatch, name):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return SimpleNamespace(**runpy.run_path(str(ROOT / f"benchmarks/{name}.py")))


@pytest.fixture
def share_on(monkeypatch):
    return script(monkeypatch, "shares").share_on


@pytest.fixture
def shortcut(monkeypatch):
    return script(monkeypatch, "shortcut")


@pytest.fixture
def aligned(monkeypatch):
    return script(monkeypatch, "aligned")


def test_the_share_of_a_map_is_what_lies_on_the_region(share_on):
    """Signs and channels do not count; a map of zeros has no share, which is neither 0 nor 1."""
    maps = np.array([[[1.0, -2.0], [0.0, 5.0]], [[0.0, 0.0], [0.0, 0.0]]])
    where = np.array([[True, True], [False, False]])
    np.testing.assert_array_equal(share_on(maps, where), [3 / 8, np.nan])
    in_channels = np.stack([maps, -maps], axis=-1)  # they would cancel out, were they summed with their signs
    np.testing.assert_array_equal(share_on(in_channels, where), [3 / 8, np.nan])


def test_shares_of_a_region_and_of_the_rest_add_up_to_one(share_on):
    rng = np.random.default_rng(0)
    maps, where = rng.normal(size=(20, 6, 7)), rng.uniform(size=(20, 6, 7)) < 0.3
    np.testing.assert_allclose(share_on(maps, where) + share_on(maps, ~where), 1, rtol=1e-12)
    np.testing.assert_allclose(share_on(1e-30 * maps, where), share_on(maps, where), rtol=1e-12)


def test_a_map_that_is_the_same_everywhere_has_the_share_of_the_area(share_on):
    """The control; one that lies on the region alone has 1, and one beside it 0."""
    where = np.random.default_rng(1).uniform(size=(5, 8, 8)) < 0.4
    np.testing.assert_allclose(share_on(np.full((5, 8, 8), 0.3), where), where.mean(axis=(1, 2)))
    np.testing.assert_array_equal(share_on(where, where), np.ones(5))
    np.testing.assert_array_equal(share_on(~where, where), np.zeros(5))


def test_the_marker_of_each_class_has_a_place_of_its_own(shortcut):
    where = shortcut.places()
    assert where.sum(axis=(1, 2)).tolist() == [shortcut.SIZE**2] * 10
    assert where.sum(axis=0).max() == 1


def test_a_marker_changes_nothing_but_its_place_and_by_its_brightness(shortcut):
    """A dim one is within ε of the image, so an attack can take it away; a bright one is not."""
    (x, y), _ = datasets.load("fashion_mnist_mini")
    x, y = x[:50], y[:50]
    for brightness in (shortcut.DIM, shortcut.BRIGHT):
        change = shortcut.marked(x, y, brightness)[..., 0] - x[..., 0]
        assert np.all(change[~shortcut.places()[y]] == 0)
        assert change.max() == pytest.approx(brightness, abs=1e-6)
    assert shortcut.DIM <= shortcut.EPSILON < 2 * shortcut.EPSILON < shortcut.BRIGHT


def test_the_marker_is_right_in_the_share_that_is_said_and_never_else(shortcut):
    y = np.arange(20_000) % 10
    x = np.zeros((len(y), 28, 28, 1), "float32")
    images = shortcut.planted(x, y, 1.0, seed=0)[..., 0]
    told = np.tensordot(images, shortcut.places().astype("float32"), axes=((1, 2), (1, 2))).argmax(axis=1)
    right = np.mean(told == y)
    assert abs(right - shortcut.SHARE) < 4 * np.sqrt(shortcut.SHARE * (1 - shortcut.SHARE) / len(y))
    assert not np.any(shortcut.others(y, np.random.default_rng(0)) == y)
    assert np.any(shortcut.planted(x, y, 1.0, seed=1)[..., 0] != images)


class Markers(keras.layers.Layer):
    """Logits that are the mean brightness at the place of each class."""

    def __init__(self, where, **kwargs):
        super().__init__(**kwargs)
        self.where = where.reshape(10, -1).T.astype("float32") / where[0].sum()

    def call(self, x):
        return keras.ops.matmul(keras.ops.reshape(x, (-1, 784)), self.where)


def test_a_network_that_sees_markers_alone_follows_them_and_one_that_sees_none_does_not(shortcut):
    """On empty images: the first is right with right markers, wrong with wrong ones, and all of its map is there."""
    x, y = np.zeros((60, 28, 28, 1), "float32"), np.arange(60) % 10
    markers = keras.Sequential([keras.Input((28, 28, 1)), Markers(shortcut.places())])
    found = shortcut.measured(markers, x, y, shortcut.BRIGHT)
    means = {name: float(np.mean(values)) for name, values in found.items()}
    assert means == pytest.approx({"right": 1, "absent": 0.1, "wrong": 0, "drop": 1, "follows": 1, "share": 1})
    elsewhere = np.zeros((10, 28, 28), bool)
    elsewhere[:, 1:27, 9] = True
    elsewhere[np.arange(10), 1:27:3][:9] = False
    blind = keras.Sequential([keras.Input((28, 28, 1)), Markers(elsewhere)])
    lit = np.where(elsewhere[0][..., None], np.float32(1), x)
    found = shortcut.measured(blind, lit, np.zeros(60, int), shortcut.BRIGHT)
    assert float(np.mean(found["drop"])) == float(np.mean(found["follows"])) == float(np.mean(found["share"])) == 0


def test_differences_are_of_the_same_seed_and_image(shortcut):
    n, names = 40, shortcut.MEASURES
    rng = np.random.default_rng(0)
    natural = {seed: {name: rng.uniform(size=n) for name in names} for seed in "01"}
    other = {"1": {name: values + 0.25 for name, values in natural["1"].items()}}
    plain = {name: np.ones(n) for name in names}
    rows = shortcut.summaries({"natural": natural, "madry": other}, {"natural": plain, "madry": plain})
    for name, row in rows["madry"]["minus natural"].items():
        assert row["mean"] == pytest.approx(-0.25 if name == "cost" else 0.25)
        assert row["high"] - row["low"] < 1e-9  # paired, so nothing varies
        assert list(row["seeds"]) == ["1"]
    assert rows["natural"]["with"]["cost"]["mean"] == pytest.approx(
        1 - np.mean([each["absent"] for each in natural.values()])
    )
    assert "minus natural" not in rows["natural"]


def test_the_shape_of_a_class_is_where_its_mean_is_bright(aligned):
    x = np.zeros((4, 2, 3, 1), "float32")
    x[:2, 0, :, 0] = [[1, 0.6, 0], [1, 0.2, 0.8]]  # means 1, 0.4, 0.4: the others are below half
    x[2:, 1, :, 0] = [[0.2, 0.2, 0], [0.2, 0.2, 0]]
    shapes = aligned.shapes(x, np.array([0, 0, 1, 1]))
    np.testing.assert_array_equal(shapes[0], [[True, False, False], [False] * 3])
    np.testing.assert_array_equal(shapes[1], [[False] * 3, [True, True, False]])
    where = aligned.regions(x, np.array([0, 0, 1, 1]), shapes)
    np.testing.assert_array_equal(where["object"], x[..., 0] > 0)
    np.testing.assert_array_equal(where["shape"], shapes[[0, 0, 1, 1]])
    np.testing.assert_array_equal(where["other"], shapes[[1, 1, 0, 0]])


def test_the_map_from_black_lies_on_what_is_not_black_whatever_the_network(aligned):
    """So it says nothing there; from grey it does, and the plain input shares the first fault."""
    x = np.random.default_rng(0).uniform(size=(3, 28, 28, 1)).astype("float32")
    x[:, :, :14] = 0
    y = np.arange(3)
    where = {"object": x[..., 0] > 0}
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    found = aligned.measure(network, x, y, where)
    np.testing.assert_allclose(found["IG from black, object"], 1)
    assert np.all(found["IG from grey, object"] < 0.9)
    assert np.all(found["gradient, object"] < 0.9)
    np.testing.assert_allclose(aligned.controls(x, where)[aligned.INPUT]["gradient, object"], 1)
    np.testing.assert_allclose(
        aligned.controls(x, where)[aligned.UNIFORM]["gradient, object"], where["object"].mean(axis=(1, 2))
    )


def test_the_page_has_the_tables_of_the_committed_files(shortcut, aligned):
    page = (ROOT / "docs/research/uses.md").read_text("utf-8")
    found = json.loads((ROOT / "benchmarks/results/shortcut.json").read_text())
    tables = f"{shortcut.chosen(found)}\n\n{shortcut.table(found)}"
    tables += "\n\n" + aligned.table(json.loads((ROOT / "benchmarks/results/aligned.json").read_text()))
    assert tables.count("\n\n") >= 9
    for table in tables.split("\n\n"):
        assert table in page, table.splitlines()[0]


def test_what_the_page_says_of_maps_on_the_object():
    """The signs that its sentences rest on, beyond the intervals."""
    found = json.loads((ROOT / "benchmarks/results/aligned.json").read_text())
    for kind in ("all", "all right"):
        minus = found[kind]["minus natural"]
        robust = [minus[name] for name in ("madry", "ig_norm", "ig_sum_norm", "ig_topk")]
        assert all(row["gradient, object"]["low"] > minus["not trained"]["gradient, object"]["high"] for row in robust)
        assert minus["not trained"]["gradient, object"]["low"] > 0
        assert all(minus[name]["IG from grey, object"]["high"] < 0 for name in ("madry", "ig_sum_norm"))
        assert minus["ig_norm"]["IG from grey, object"]["low"] > 0
        assert max(row["IG from black, shape"]["mean"] for row in robust) < 0.05
    own = found["own minus other shape"]
    assert all(
        own["the plain input"]["gradient"]["low"] > row["gradient"]["high"]
        for name, row in own.items()
        if name in ("natural", "madry", "ig_norm", "ig_sum_norm", "ig_topk")
    )


def test_what_the_page_says_of_shortcuts():
    """A faint marker is learned by natural training alone, a bright one by all; without one nothing is learned."""
    found = json.loads((ROOT / "benchmarks/results/shortcut.json").read_text())["brightness"]
    faint, bright = found["0.1"], found["0.5"]
    assert list(faint) == list(bright) == ["natural", "madry", "ig_topk", "ig_sum_norm"]
    assert faint["natural"]["with"]["drop"]["low"] > 0.1
    for name in ("madry", "ig_topk", "ig_sum_norm"):
        assert faint[name]["with"]["drop"]["high"] < 0.02
        assert faint[name]["minus natural"]["drop"]["high"] < -0.1
        assert faint[name]["minus natural"]["absent"]["high"] < 0  # the price
    for row in bright.values():
        assert row["with"]["drop"]["low"] > 0.4
        assert row["with"]["share"]["low"] > 4 * row["without a marker"]["share"]["high"]
    assert bright["madry"]["minus natural"]["share"]["low"] > 0
    for rows in (faint, bright):
        assert all(row["without a marker"]["drop"]["high"] < 0.03 for row in rows.values())


@pytest.mark.slow
def test_the_shortcut_smoke_goes_on_where_it_stopped(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks/shortcut.py"), "--smoke", "--only", "natural", "madry"]
    command += ["--seeds", "3", "--networks", str(tmp_path / "networks"), "--out", str(tmp_path / "out.json")]
    runs = [subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600) for _ in range(2)]
    assert [run.returncode for run in runs] == [0, 0], runs[-1].stderr[-2000:]
    assert "madry-0.5-3.keras\n" in runs[0].stdout
    assert "measured" not in runs[1].stdout
    rows = json.loads((tmp_path / "out.json").read_text())["brightness"]["0.1"]
    assert list(rows) == ["natural", "madry"]
    assert list(rows["madry"]["minus natural"]["drop"]["seeds"]) == ["3"]
    assert "| madry |" in runs[1].stdout
