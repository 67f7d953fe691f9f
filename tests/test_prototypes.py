"""The prototype head of the benchmarks, against NumPy, and the page that says what came out."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/prototypes.json"


@pytest.fixture(scope="module")
def of():
    """The module `prototype_head`."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import prototype_head

    yield prototype_head
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def made(of):
    """A head trained for one epoch on few images, with what it was made of."""
    rng = np.random.default_rng(0)
    y = np.arange(40) % 10
    x = rng.uniform(size=(40, 14, 14, 1)).astype("float32")
    keras.utils.set_random_seed(0)
    first = [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.MaxPooling2D(2)]
    network = keras.Sequential([keras.Input((14, 14, 1)), *first, keras.layers.Conv2D(6, 3, activation="relu")])
    before = network.get_weights()
    model, patches = of.with_prototypes(network, x, y, epochs=1)
    return network, before, model, patches, x, y


@pytest.fixture(scope="module")
def others(made):
    """Images that are none of the prototypes', and their predictions."""
    x = (made[4] + np.roll(made[4], 1, axis=0)) / 2
    return x, made[2].predict(x, verbose=0).argmax(axis=1)


def test_distances_similarity_and_cost_are_those_of_the_paper(of):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2, 3, 4, 5)).astype("float32")
    layer = of.Prototypes()
    found = layer(z).numpy()
    p = layer.vectors.numpy()
    expected = ((z[..., None, :] - p) ** 2).sum(axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    d = np.array([0.0, 1.0, 3.0])
    np.testing.assert_allclose(of.log_similarity(d), np.log((d + 1) / (d + 1e-4)), rtol=1e-6)
    nearest, y = expected.min(axis=(1, 2)), np.array([[3], [7]])
    own = y == of.CLASS
    cost = [0.8 * d[mine].min() - 0.08 * d[~mine].min() for d, mine in zip(nearest, own, strict=True)]
    np.testing.assert_allclose(of.cost(tf.constant(y), tf.constant(nearest)), cost, rtol=1e-3)


def test_each_prototype_is_the_patch_it_names_and_the_features_are_frozen(of, made):
    network, before, model, patches, x, y = made
    for was, now in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)
    z = x
    for layer in model.layers[:4]:
        z = layer(z)
    np.testing.assert_allclose(np.mean(np.sum(np.square(z), axis=-1)), 1.0, rtol=1e-4)
    distances = model.layers[4](z).numpy()
    for j, (image, row, column) in enumerate(patches):
        assert y[image] == of.CLASS[j]
        assert abs(distances[image, row, column, j]) < 1e-5
        assert distances[image, row, column, j] <= distances[y == of.CLASS[j], :, :, j].min() + 1e-5


def test_maps_are_what_the_head_sees(of, made, others):
    """Which prototypes: the inputs of the last layer. Where: the grid of the most similar one of the label."""
    model, (x, y) = made[2], others
    found = of.which(model, tf.constant(x), y).numpy().reshape(40, -1)
    np.testing.assert_allclose(found[:, :100] @ model.layers[-1].kernel.numpy(), model.predict(x, verbose=0), rtol=1e-3)
    assert not found[:, 100:].any()
    grid = x
    for layer in model.layers[:-2]:
        grid = layer(grid)
    own = [np.flatnonzero(label == of.CLASS) for label in y]
    best = [mine[found[i, mine].argmax()] for i, mine in enumerate(own)]
    expected = tf.image.resize(np.stack([grid.numpy()[i, ..., j, None] for i, j in enumerate(best)]), (14, 14))[..., 0]
    np.testing.assert_allclose(of.where(model, tf.constant(x), tf.constant(y)), expected, rtol=1e-3)


def test_a_sharp_soft_maximum_is_the_maximum_and_a_dull_one_is_not(of, made, others):
    model, (x, y) = made[2], map(tf.constant, others)
    for explain in (of.which, of.where):
        own = explain(model, x, y).numpy()
        distances = [np.abs(explain(of.softened(model, beta), x, y) - own).max() for beta in (1e4, 1.0)]
        assert distances[0] < 0.01 < distances[1]


def test_the_objective_of_the_swap_attack_raises_the_next_entries_and_lowers_the_first(of):
    before, after = tf.constant([[5.0, 4.0, 3.0, 2.0, 1.0]]), tf.constant([[0.5, 1.0, 2.0, 4.0, 8.0]])
    found = of.SwapAttack(2, 0.1).objective(before, after)
    np.testing.assert_allclose(found, [(8.0 + 4.0) - (0.5 + 1.0)])


def test_the_page_has_the_tables_of_the_committed_file():
    command = [sys.executable, str(ROOT / "benchmarks/prototypes.py"), "--out", str(RESULTS), "--table"]
    tables = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.strip()
    page = (ROOT / "docs/research/prototypes.md").read_text("utf-8")
    assert tables.count("| IG-TOP-K |") >= 3
    assert all(part in page for part in tables.split("\n\n"))
    results = json.loads(RESULTS.read_text())
    for row in results["heads"].values():  # an attack that finds less than noise is none
        for explained in ("which", "where"):
            assert np.mean(row[explained]["attack"]) < np.mean(row[explained]["worst of noise"])
    shared = np.all([row["correct"] for row in results["heads"].values()], axis=0)
    assert shared.sum() >= 50
    assert f"the {shared.sum():.0f} that all heads get right" in " ".join(page.split())


@pytest.mark.slow
def test_the_example_of_prototypes_runs():
    command = [sys.executable, str(ROOT / "examples/prototypes.py"), "--smoke"]
    output = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True, cwd=ROOT).stdout
    assert output.count("looks like that at") == 6
    assert output.count("of the five most similar prototypes") == 4
