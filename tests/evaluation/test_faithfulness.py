"""Faithfulness of maps on Keras models: closed forms of linear ones, a reference in NumPy, controls and refusals."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import batch, dense_model

import keras_rar
from keras_rar.metrics import deletion, faithfulness, infidelity, insertion

SCORES = ("deletion", "insertion", "infidelity")


@pytest.fixture(scope="module")
def linear():
    """A linear network of three classes."""
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, bias_initializer="uniform")])


@pytest.fixture(scope="module")
def conv():
    """A ReLU network on images with two channels, that ends in softmax."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")]
    return keras.Sequential([keras.Input((5, 4, 2)), *layers])


X, Y = batch(5, 6)
IMAGES, LABELS = batch(4, (5, 4, 2))
MAPS = np.random.default_rng(1).normal(size=(4, 5, 4)).astype("float32")


def contributions(linear, x=X, y=Y, baseline=0.0):
    return (x - baseline) * linear.get_weights()[0].T[y]


def reference(model, x, m, y, points, insert, baseline=0.0):
    """The area under the curve of probabilities of one example of images, stage by stage."""
    order = np.argsort(-m.reshape(-1), kind="stable")
    counts, rows = np.round(np.arange(points + 1) * m.size / points).astype(int), []
    for count in counts:
        chosen = np.zeros(m.size, bool)
        chosen[order[:count]] = True
        chosen = chosen.reshape(m.shape)[..., None]
        rows.append(np.where(chosen, x, baseline) if insert else np.where(chosen, baseline, x))
    scores = model(np.array(rows, "float32")).numpy()[:, y]
    return np.sum(np.diff(counts) / m.size * (scores[1:] + scores[:-1]) / 2)


@pytest.mark.parametrize("insert", [False, True])
def test_curves_are_those_of_a_plain_loop(conv, insert):
    measure = insertion if insert else deletion
    found = measure(conv, IMAGES, MAPS, LABELS, points=7, baseline=0.25)
    expected = [reference(conv, x, m, y, 7, insert, 0.25) for x, m, y in zip(IMAGES, MAPS, LABELS, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_infidelity_is_that_of_a_plain_loop(conv):
    a = np.random.default_rng(2).normal(size=IMAGES.shape)
    found = infidelity(conv, IMAGES, a, LABELS, target="probability", samples=20, seed=3)
    subsets = keras_rar.core.ablation.random_subsets((5, 4), 20, 3)
    for i, (x, y) in enumerate(zip(IMAGES, LABELS, strict=True)):
        points = np.concatenate([x[None], np.where(subsets[..., None], 0, x)]).astype("float32")
        scores = conv.predict(points, verbose=0)[:, y].astype("float64")
        true, claimed = scores[0] - scores[1:], np.array([a[i][s].sum() for s in subsets])
        scale = max(claimed @ true / (claimed @ claimed), 0)
        np.testing.assert_allclose(found[i], np.mean((scale * claimed - true) ** 2) / np.mean(true**2), rtol=1e-3)
    np.testing.assert_allclose(
        infidelity(conv, IMAGES, a.sum(axis=-1), LABELS, target="probability", samples=20, seed=3), found, rtol=1e-5
    )


@pytest.mark.parametrize("baseline", [0.0, 0.3])
def test_a_linear_network_is_explained_by_its_contributions(linear, baseline):
    a = contributions(linear, baseline=baseline)
    options = {"baseline": baseline, "attributed": "logit", "target": "logit"}
    found = faithfulness(linear, X, a, Y, attributions=a, **options)
    np.testing.assert_allclose(found["map"]["infidelity"], 0, atol=1e-9)
    np.testing.assert_allclose(infidelity(linear, X, a, Y, baseline=baseline, normalized=False), 0, atol=1e-9)
    own = np.sort(a, axis=1)[:, ::-1]
    end = (X * 0 + baseline) @ linear.get_weights()[0] + linear.get_weights()[1]
    end = end[np.arange(5), Y]
    left = np.concatenate([np.zeros((5, 1)), np.cumsum(own, axis=1)], axis=1)
    area = (left[:, 1:] + left[:, :-1]).sum(axis=1) / 12
    np.testing.assert_allclose(found["map"]["insertion"], end + area, atol=1e-5)
    np.testing.assert_allclose(found["map"]["deletion"], end + own.sum(axis=1) - area, atol=1e-5)
    for control in ("random", "input"):
        assert np.all(found["map"]["deletion"] <= found[control]["deletion"] + 1e-5)
        assert np.all(found["map"]["insertion"] >= found[control]["insertion"] - 1e-5)
        assert np.mean(found[control]["infidelity"]) > 0.3


def test_a_map_upside_down_is_the_worst(linear):
    """Negative control: no order of the entries is worse than it."""
    a = contributions(linear)
    worst = faithfulness(linear, X, -a, Y, target="logit")
    np.testing.assert_allclose(worst["map"]["infidelity"], 1)
    rng = np.random.default_rng(0)
    orders = np.stack([rng.permuted(np.tile(np.arange(6.0), (5, 1)), axis=1) for _ in range(20)])
    for order in orders:
        assert np.all(deletion(linear, X, order, Y, target="logit") <= worst["map"]["deletion"] + 1e-5)
        assert np.all(insertion(linear, X, order, Y, target="logit") >= worst["map"]["insertion"] - 1e-5)


def test_a_random_map_of_a_linear_network_is_in_the_middle(linear):
    a, n = contributions(linear), 200
    x, y = np.repeat(X[:1], n, axis=0), np.repeat(Y[:1], n)
    x = (x * (1 + 1e-6 * np.arange(n)[:, None])).astype("float32")  # as good as equal, but each draws its own order
    areas = faithfulness(linear, x, np.repeat(a[:1], n, axis=0), y, target="logit")["random"]["deletion"]
    ends = deletion(linear, X[:1], a[:1], Y[:1], target="logit", return_curve=True)[1].scores[0, [0, -1]]
    assert np.std(areas) > 0
    assert abs(areas.mean() - ends.mean()) < 4 * areas.std() / np.sqrt(n)


def test_contributions_of_the_network_beat_both_controls_on_average():
    """Of a network that sees half of its images only, and whose probabilities bend what is linear."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    seen = np.zeros((6, 6, 3))
    seen[:, :3] = 3 * np.random.default_rng(0).normal(size=(6, 3, 3))
    model.set_weights([seen.reshape(36, 3), np.zeros(3)])
    x, _ = batch(8, (6, 6, 1))
    a = keras_rar.saliency_map(model, x, normalize=False)
    found = faithfulness(model, x, a.sum(axis=-1), attributions=a)
    for control in ("random", "input"):
        mean = {score: found["map"][score].mean() - found[control][score].mean() for score in SCORES}
        assert mean["deletion"] < -0.05
        assert mean["insertion"] > 0.05
        assert mean["infidelity"] < -0.3


def test_the_batch_size_changes_nothing(conv):
    expected = faithfulness(conv, IMAGES, MAPS, points=6, samples=7)
    for batch_size in (1, 3, 4, 10):
        found = faithfulness(conv, IMAGES, MAPS, points=6, samples=7, batch_size=batch_size)
        for name, scores in expected.items():
            for score in SCORES:
                np.testing.assert_allclose(found[name][score], scores[score], rtol=1e-4, atol=1e-6)


def test_an_example_gets_the_same_alone(conv):
    """Random orders and maps do not depend on its place."""
    ties = np.round(MAPS)
    expected = faithfulness(conv, IMAGES, ties, LABELS, points=6)
    found = faithfulness(conv, IMAGES[2:], ties[2:], LABELS[2:], points=6)
    for name, scores in expected.items():
        for score in SCORES:
            np.testing.assert_allclose(found[name][score], scores[score][2:], rtol=1e-4, atol=1e-6)


def test_every_argument_counts(conv):
    ties = np.round(MAPS)
    plain = {"deletion": {"points": 6}, "insertion": {"points": 6}, "infidelity": {}}
    changed = {
        "target": {"deletion": "logit", "insertion": "logit", "infidelity": "probability"},
        "baseline": {**dict.fromkeys(SCORES, 0.5)},
        "seed": {**dict.fromkeys(SCORES, 1)},
        "points": {"deletion": 5, "insertion": 5},
        "samples": {"infidelity": 10},
        "normalized": {"infidelity": False},
    }
    measures = {"deletion": deletion, "insertion": insertion, "infidelity": infidelity}
    for name, measure in measures.items():
        first = measure(conv, IMAGES, ties, LABELS, **plain[name])
        assert np.any(np.abs(measure(conv, IMAGES, ties, (LABELS + 1) % 3, **plain[name]) - first) > 1e-3)
        for argument, values in changed.items():
            if name in values:
                found = measure(conv, IMAGES, ties, LABELS, **{**plain[name], argument: values[name]})
                assert np.any(np.abs(found - first) > 1e-6), (name, argument)


def test_labels_are_the_predicted_ones_unless_given(conv):
    predicted = conv.predict(IMAGES, verbose=0).argmax(axis=1)
    np.testing.assert_array_equal(deletion(conv, IMAGES, MAPS), deletion(conv, IMAGES, MAPS, predicted))
    assert np.any(deletion(conv, IMAGES, MAPS) != deletion(conv, IMAGES, MAPS, (predicted + 1) % 3))


def test_curves_are_returned(conv):
    area, curve = deletion(conv, IMAGES, MAPS, LABELS, points=4, return_curve=True)
    assert curve.scores.shape == (4, 5)
    np.testing.assert_array_equal(curve.share, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(curve.scores[:, 0], conv.predict(IMAGES, verbose=0)[np.arange(4), LABELS], rtol=1e-5)
    backwards = insertion(conv, IMAGES, MAPS, LABELS, points=4, return_curve=True)[1].scores
    np.testing.assert_allclose(backwards[:, [0, -1]], curve.scores[:, [-1, 0]], rtol=1e-5)
    np.testing.assert_allclose(area, curve.scores @ [0.125, 0.25, 0.25, 0.25, 0.125], rtol=1e-5)


def test_one_output_unit_has_two_classes():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, "sigmoid", use_bias=False)])
    model.set_weights([np.array([[3.0], [1.0]])])
    x, a = np.ones((2, 2), "float32"), np.array([[3.0, 1.0], [-3.0, -1.0]])
    sigmoid = lambda z: 1 / (1 + np.exp(-np.array(z)))  # noqa: E731
    positive, negative = sigmoid([4, 1, 0]), sigmoid([-4, -3, 0])  # the highest is the least negative
    expected = [p @ [0.25, 0.5, 0.25] for p in (positive, negative)]
    np.testing.assert_allclose(deletion(model, x, a, [1, 0]), expected, rtol=1e-5)
    np.testing.assert_allclose(infidelity(model, x, a, [1, 0]), 0, atol=1e-9)


def test_channels_may_come_first():
    model = keras.Sequential(
        [keras.Input((2, 5, 4)), keras.layers.Permute((2, 3, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    last = keras.Sequential([keras.Input((5, 4, 2)), keras.layers.Flatten(), keras.layers.Dense(3)])
    last.set_weights(model.get_weights())
    found, expected = (
        faithfulness(network, x, MAPS, LABELS, attributions=a, points=6, samples=9)["map"]
        for network, x, a in ((model, np.moveaxis(IMAGES, -1, 1), np.moveaxis(IMAGES, -1, 1)), (last, IMAGES, IMAGES))
    )
    for score in SCORES:
        np.testing.assert_allclose(found[score], expected[score], rtol=1e-4, atol=1e-6)


def test_nothing_measured_is_not_a_number(conv):
    maps, x = MAPS.copy(), IMAGES.copy()
    maps[0], x[1] = 1, 0
    found = faithfulness(conv, x, maps, LABELS, points=6)
    for score in SCORES[:2]:
        assert np.isnan(found["map"][score]).tolist() == [True, True, False, False]
        assert np.isnan(found["random"][score]).tolist() == [True, True, False, False]
        assert np.isnan(found["input"][score]).tolist() == [False, True, False, False]
    assert np.isnan(found["map"]["infidelity"]).tolist() == [False, True, False, False]


def test_a_constant_network_has_no_infidelity():
    model = dense_model()
    model.set_weights([0 * weights for weights in model.get_weights()])
    x, y = batch()
    assert np.isnan(infidelity(model, x, x, y)).all()


def test_the_network_is_traced_once(conv):
    deletion(conv, IMAGES, MAPS, LABELS, points=6, batch_size=2)
    kept = keras_rar.networks.kept.kept_with(conv)
    before = {key: id(function) for key, function in kept._made.items()}
    deletion(conv, IMAGES, MAPS + 1, LABELS, points=6, batch_size=2, baseline=0.5)
    assert {key: id(function) for key, function in kept._made.items()} == before


REFUSED = {
    "a map too few": ({"maps": MAPS[:3]}, r"`maps` must be an array of numbers of the shape"),
    "wrong maps": ({"maps": MAPS[:, :4]}, r"Received: shape \(4, 4, 4\), dtype float32"),
    "maps of several shapes": ({"maps": [[1.0], [1.0, 2.0]]}, "`maps` must be one array"),
    "words": ({"maps": MAPS.astype(str)}, "`maps` must be an array of numbers"),
    "NaN": ({"maps": np.where(MAPS > 2, np.nan, np.nan)}, "`maps` must be finite"),
    "too many points": ({"points": 21}, "`points` must be at most the 20 entries of a map. Received: points=21"),
    "no points": ({"points": 0}, "`points` must be a positive integer"),
    "nothing to remove": ({"x": 0 * IMAGES + 0.5, "baseline": 0.5}, "`baseline` must differ from `x`"),
    "a baseline of another shape": ({"baseline": np.zeros((3, 2))}, "`baseline` must be a float or an array that"),
    "a loss": ({"target": "loss"}, "`target` must be one of"),
    "labels": ({"y": [0, 1, 2]}, "`y` must hold one label per example, 4"),
    "a batch": ({"batch_size": 0}, "`batch_size` must be a positive integer"),
    "a seed": ({"seed": 0.5}, "`seed` must be an integer"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("measure", [deletion, insertion, faithfulness])
def test_what_does_not_fit_is_refused_before_work(conv, case, measure, monkeypatch):
    changed, message = REFUSED[case]
    monkeypatch.setattr(keras_rar.evaluation.ablated.Ablated, "scores", None)
    given = {"x": IMAGES, "maps": MAPS, "y": LABELS, **changed}
    with pytest.raises(ValueError, match=message):
        measure(conv, **given)


OF_INFIDELITY = {
    "attributions": ({"attributions": MAPS[:, 1:]}, "`attributions` must be an array of numbers"),
    "samples": ({"samples": 0}, "`samples` must be a positive integer"),
    "a score": ({"target": "loss"}, "`target` must be one of"),
}


@pytest.mark.parametrize("case", OF_INFIDELITY)
def test_infidelity_refuses_what_does_not_fit(conv, case):
    changed, message = OF_INFIDELITY[case]
    with pytest.raises(ValueError, match=message):
        infidelity(conv, **{"x": IMAGES, "attributions": MAPS, "y": LABELS, **changed})
    changed = {{"target": "attributed"}.get(name, name): value for name, value in changed.items()}
    with pytest.raises(ValueError, match=message.replace("target", "attributed")):
        faithfulness(conv, **{"x": IMAGES, "maps": MAPS, "y": LABELS, **changed})


ROOT = Path(__file__).parents[2]


def test_the_page_has_what_was_measured():
    page = (ROOT / "docs/faithfulness.md").read_text("utf-8").replace("−", "-")
    networks = json.loads((ROOT / "benchmarks/results/faithful.json").read_text())["networks"]
    for network, rows in networks.items():
        for kind, row in ((kind.replace("−", "-"), row) for kind, row in rows.items()):
            sign = "+" if " - " in kind else ""
            numbers = ((row[score]["mean"], row[score]["low"], row[score]["high"]) for score in SCORES)
            cells = ["{:{}.3f} [{:{}.3f}, {:{}.3f}]".format(a, sign, b, sign, c, sign) for a, b, c in numbers]
            assert f"| `{network}` | {kind} | {' | '.join(cells)} |" in page, (network, kind)


def test_the_controls_of_what_was_measured_are_worse():
    """What the page says of the committed numbers."""
    for rows in json.loads((ROOT / "benchmarks/results/faithful.json").read_text())["networks"].values():
        assert rows["IG − a random map"]["deletion"]["high"] < 0 < rows["IG − a random map"]["insertion"]["low"]
        assert rows["IG − the input"]["deletion"]["high"] < 0
        assert rows["IG − the input"]["insertion"]["low"] < 0 < rows["IG − the input"]["insertion"]["high"]
        assert rows["IG − the input"]["infidelity"]["high"] < 0
