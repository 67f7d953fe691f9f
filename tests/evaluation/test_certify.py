"""`certify`: closed forms, no attack beats it, and it fails as seldom as it says."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, conv_model, dense_model
from scipy import integrate, stats

import keras_rar
from keras_rar import certify
from keras_rar.core.certificates import certified_cosine, certified_overlap
from keras_rar.core.saliency_methods import Gradient, normalize_map
from keras_rar.core.smoothing import Gaussian, UniformBall
from keras_rar.networks.kept import kept_with

QUIET = {"progress": False}


def linear(*weights):
    """A network whose gradient is the same everywhere."""
    model = keras.Sequential([keras.Input((len(weights),)), keras.layers.Dense(2)])
    model.set_weights([np.stack([weights, np.zeros(len(weights))], axis=1), np.zeros(2)])
    return model


def quadratic(*weights):
    """A network with the score `Σ wᵢ zᵢ² / 2`, whose gradient at z is `wᵢ zᵢ`."""
    inputs = keras.Input((len(weights),))
    outputs = keras.layers.Dense(2)(keras.ops.square(inputs) / 2)
    model = keras.Model(inputs, outputs)
    model.set_weights([np.stack([weights, np.zeros(len(weights))], axis=1), np.zeros(2)])
    return model


@pytest.mark.parametrize("smoothing", ["gaussian", "uniform"])
def test_a_linear_network_is_certified_up_to_the_error_of_the_draws(smoothing):
    model = linear(1.0, -2.0, 3.0, 0.5)
    found = certify(model, np.full([2, 4], 0.5), [0, 0], k=2, sigma=0.2, samples=4000, smoothing=smoothing, **QUIET)
    near = found.radii <= 0.3 if smoothing == "gaussian" else found.radii <= 0.1
    assert near.sum() > 2
    np.testing.assert_array_equal(found.topk_lower[:, near], 1)
    np.testing.assert_array_equal(found.maps, [[0, 1, 1, 0]] * 2)
    noise = {"gaussian": Gaussian, "uniform": UniformBall}[smoothing](0.2, 4)
    ideal = certified_cosine([1.0], noise, found.radii)
    assert np.all(found.cosine_lower <= ideal)
    np.testing.assert_allclose(found.cosine_lower[:, near], np.tile(ideal[:, near], (2, 1)), atol=0.1)


def share_of_the_first(x, sigma, weights):
    """`P(|w₁ z₁| >= |w₂ z₂|)` for normal z around x: what the smoothed map of a quadratic network is, at k = 1."""
    (a, b), ratio = x, abs(weights[0] / weights[1])

    def density(z):
        inside = stats.norm.cdf(ratio * abs(z), b, sigma) - stats.norm.cdf(-ratio * abs(z), b, sigma)
        return stats.norm.pdf(z, a, sigma) * inside

    return integrate.quad(density, a - 9 * sigma, a + 9 * sigma, points=[0.0], limit=200)[0]


def circle(x, radius, n=24):
    angles = 2 * np.pi * np.arange(n) / n
    return x + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


WEIGHTS, X, SIGMA = (1.0, 1.0), np.array([0.8, 0.3]), 0.3


def test_a_quadratic_network_is_certified_as_its_known_map_is():
    """Near to what the exact map would give, never above, and true of the exact map all around x."""
    radii = np.linspace(0, 0.6, 61)
    found = certify(quadratic(*WEIGHTS), X[None], [0], k=1, sigma=SIGMA, samples=8000, radii=radii, **QUIET)
    share = share_of_the_first(X, SIGMA, WEIGHTS)
    np.testing.assert_allclose(found.maps[0], [share, 1 - share], atol=4.5 * 0.5 / np.sqrt(8000))
    z = [stats.norm.ppf([share, 1 - share])]
    exact = certified_overlap(z, z, 1, radii / SIGMA)
    assert np.all(found.topk_lower <= exact)
    certified, ideal = (radii[np.flatnonzero(lower[0] == 1)[-1]] for lower in (found.topk_lower, exact))
    assert 0.85 * ideal <= certified <= ideal
    assert ideal > 0.2
    around = [share_of_the_first(point, SIGMA, WEIGHTS) for point in circle(X, certified)]
    assert min(around) > 0.5  # the entry that was the largest still is
    beyond = [share_of_the_first(point, SIGMA, WEIGHTS) for point in circle(X, 0.45)]
    assert min(beyond) < 0.5  # negative control
    assert np.all(found.topk_lower[0, radii >= 0.45] == 0)


@pytest.mark.parametrize("smoothing", ["gaussian", "uniform"])
def test_the_cosine_of_a_quadratic_network_is_never_below_the_certified_one(smoothing):
    radii = np.array([0.1, 0.2, 0.4])
    found = certify(quadratic(*WEIGHTS), X[None], [0], k=1, sigma=SIGMA, radii=radii, smoothing=smoothing, **QUIET)
    noise = {"gaussian": Gaussian, "uniform": UniformBall}[smoothing](SIGMA, 2)
    delta = noise.draw(tf.zeros([200_000, 2], "float64"), tf.constant([5, 5])).numpy()

    def smoothed(x):
        maps = np.abs(x + delta)
        return np.mean(maps / np.linalg.norm(maps, axis=1, keepdims=True), axis=0)

    here = smoothed(X)
    for radius, lower in zip(radii, found.cosine_lower[0], strict=True):
        there = [smoothed(point) for point in circle(X, radius, 12)]
        cosines = [here @ m / np.linalg.norm(here) / np.linalg.norm(m) for m in there]
        assert 0 < lower <= min(cosines) + 1e-3


def trained_like(seed=3, features=6):
    keras.utils.set_random_seed(seed)
    model = dense_model(features, hidden=16, kernel_initializer=keras.initializers.RandomNormal(0, 1.5, seed=seed))
    return model, np.random.default_rng(seed).uniform(size=(1, features)).astype("float32")


def maps_of(model, label, z):
    z = tf.cast(z, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(z)
        score = tf.reduce_sum(model(z)[:, label])
    return normalize_map(tape.gradient(score, z))


def attacked(model, label, x, noise, k, radius, seed):
    """A point at the radius where the top k of x have lost what they can, by a gradient ascent on fixed draws."""
    delta = noise.draw(tf.zeros([256, x.shape[1]]), tf.constant([seed, 9]))

    def smoothed(z):
        maps = maps_of(model, label, z + delta)
        return tf.reduce_mean(maps / tf.norm(maps, axis=1, keepdims=True), axis=0)

    top = tf.math.top_k(smoothed(tf.constant(x)), k).indices
    point = tf.Variable(x + 1e-3 * np.random.default_rng(seed).normal(size=x.shape).astype("float32"))

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.gather(smoothed(point), top))
        moved = point - 0.2 * radius * tf.math.l2_normalize(tape.gradient(loss, point))
        point.assign(x + tf.clip_by_norm(moved - x, radius))

    for _ in range(20):
        step()
    return point.numpy()


def drawn(model, label, z, noise, k):
    """The smoothed maps at z of many fresh draws: how often entries are in the top k, and the mean of norm 1."""
    maps = maps_of(model, label, noise.draw(tf.repeat(z, 20_000, axis=0), tf.constant([77, 78]))).numpy()
    least = np.sort(maps, axis=1)[:, -k][:, None]
    return (maps >= least).mean(axis=0), np.mean(maps / np.linalg.norm(maps, axis=1, keepdims=True), axis=0)


@pytest.fixture(scope="module")
def attacks():
    """Of a small network: the least similarities that attacks and random steps found, by radius."""
    (model, x), noise, k, radii = trained_like(), Gaussian(0.2, 6), 3, np.array([0.05, 0.1, 0.2, 0.4])
    label = int(np.argmax(model(x)))
    counts, mean = drawn(model, label, x, noise, k)
    rng, topk, cosine = np.random.default_rng(0), [], []
    for radius in radii:
        steps = rng.normal(size=(5, 6))
        steps = radius * steps / np.linalg.norm(steps, axis=1, keepdims=True)
        points = [x + step[None].astype("float32") for step in steps]
        points += [attacked(model, label, x, noise, k, radius, seed) for seed in range(2)]
        found = [drawn(model, label, point, noise, k) for point in points]
        same = [len({*np.argsort(-counts)[:k]} & {*np.argsort(-other)[:k]}) / k for other, _ in found]
        topk.append(min(same))
        cosine.append(min(mean @ m / np.linalg.norm(mean) / np.linalg.norm(m) for _, m in found))
    return model, x, label, k, radii, np.array(topk), np.array(cosine)


def test_no_attack_beats_the_certificate(attacks):
    model, x, label, k, radii, topk, cosine = attacks
    assert topk.min() < 1  # the attacks find something
    assert cosine.min() < 0.97
    found = certify(model, x, [label], k=k, sigma=0.2, samples=4000, radii=radii, **QUIET)
    assert np.all(found.topk_lower[0] <= topk)
    assert np.all(found.cosine_lower[0] <= cosine + 2e-3)
    assert found.topk_lower[0, 0] > 0  # and it certifies something
    assert found.cosine_lower[0, 0] > 0.8


def test_a_certificate_of_a_wrong_deviation_is_beaten(attacks, monkeypatch):
    """Negative control: steps are taken to be a fifth of what they are."""
    model, x, label, k, radii, topk, cosine = attacks
    shift, distance = Gaussian.shift, Gaussian.distance
    monkeypatch.setattr(Gaussian, "shift", lambda self, radii: shift(self, np.asarray(radii) / 5))
    monkeypatch.setattr(Gaussian, "distance", lambda self, radii: distance(self, np.asarray(radii) / 5))
    found = certify(model, x, [label], k=k, sigma=0.2, samples=4000, radii=radii, **QUIET)
    assert np.any(found.topk_lower[0] > topk)
    assert np.any(found.cosine_lower[0] > cosine + 2e-3)


def test_it_fails_as_seldom_as_it_says():
    """A hundred and fifty independent certificates of one x, against what the exact map gives."""
    radii, n = np.linspace(0, 0.45, 46), 150
    found = certify(
        quadratic(*WEIGHTS), np.repeat(X[None], n, axis=0), np.zeros(n), k=1, sigma=SIGMA, samples=60, radii=radii,
        confidence=0.9, **QUIET,
    )  # fmt: skip
    share = share_of_the_first(X, SIGMA, WEIGHTS)
    z = [stats.norm.ppf([share, 1 - share])]
    maps = np.abs(np.random.default_rng(0).normal(X, SIGMA, size=(400_000, 2)))
    norm = np.linalg.norm(np.mean(maps / np.linalg.norm(maps, axis=1, keepdims=True), axis=0))
    wrong = np.any(found.topk_lower > certified_overlap(z, z, 1, radii / SIGMA), axis=1)
    wrong |= np.any(found.cosine_lower > certified_cosine([norm], Gaussian(SIGMA, 2), radii) + 1e-4, axis=1)
    assert wrong.mean() <= 0.1
    assert len(np.unique(found.maps[:, 0])) > 5  # the examples have noise of their own
    naive = stats.norm.ppf(found.maps)  # negative control: without the error of the draws it fails often
    naive = certified_overlap(naive, naive, 1, radii / SIGMA) > certified_overlap(z, z, 1, radii / SIGMA)
    assert naive.any(axis=1).mean() > 0.2


def test_bounds_fall_with_the_radius_and_grow_with_the_number_of_draws():
    model, x = trained_like()
    few, many = (certify(model, x, k=2, sigma=0.2, samples=n, **QUIET) for n in (100, 6000))
    for found in (few, many):
        assert np.all(np.diff(found.topk_lower) <= 0)
        assert np.all(np.diff(found.cosine_lower) <= 0)
    assert np.all(few.topk_lower <= many.topk_lower)
    assert few.topk_lower.sum() < many.topk_lower.sum()
    assert np.all(few.cosine_lower <= many.cosine_lower)
    assert few.cosine_lower[0, 2] < many.cosine_lower[0, 2]
    sure = certify(model, x, k=2, sigma=0.2, samples=100, confidence=1 - 1e-6, **QUIET)
    assert sure.cosine_lower[0, 2] < few.cosine_lower[0, 2]


def test_the_draws_do_not_depend_on_the_batch_or_on_the_other_examples():
    (model, _), (x, y) = trained_like(), batch(3, (6,))
    options = {"k": 2, "sigma": 0.2, "samples": 600, **QUIET}
    found, others = certify(model, x, y, **options), certify(model, x, y, batch_size=7, **options)
    np.testing.assert_allclose(found.maps, others.maps, atol=1 / 600)  # rounded differently in another batch
    np.testing.assert_allclose(found.cosine_lower, others.cosine_lower, atol=1e-5)
    np.testing.assert_array_equal(certify(model, x[:2], y[:2], **options).maps, found.maps[:2])
    assert np.any(certify(model, x, y, seed=1, **options).maps != found.maps)


@pytest.mark.parametrize(
    "change",
    [
        {"sigma": 0.5}, {"k": 3}, {"samples": 250}, {"confidence": 0.9}, {"smoothing": "uniform"}, {"kept": 1},
        {"method": "ig"}, {"method": "gradient_x_input"}, {"target": "loss"}, {"y": [1, 0]},
    ],
    ids=str,
)  # fmt: skip
def test_each_argument_changes_the_result(change):
    (model, _), (x, _) = trained_like(), batch(2, (6,))
    options = {"y": [0, 1], "k": 2, "sigma": 0.2, "samples": 200, "radii": [0.0, 0.02, 0.05], **QUIET}
    before, after = certify(model, x, **options), certify(model, x, **{**options, **change})
    assert np.any(before.cosine_lower != after.cosine_lower) or np.any(before.topk_lower != after.topk_lower)


@pytest.mark.parametrize("change", [{"m": 3}, {"rule": "midpoint"}, {"baseline": 0.5}], ids=str)
def test_each_argument_of_ig_changes_the_result(change):
    model, (x, y) = dense_model(), batch(2)
    options = {"method": "ig", "k": 2, "sigma": 0.2, "samples": 80, "m": 2, **QUIET}
    assert np.any(
        certify(model, x, y, **options).cosine_lower != certify(model, x, y, **{**options, **change}).cosine_lower
    )


def test_an_object_and_a_function_are_methods():
    model, (x, y) = dense_model(), batch(2)
    options = {"k": 2, "sigma": 0.2, "samples": 80, **QUIET}
    named = certify(model, x, y, **options)

    def gradient(model, x, y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            score = tf.gather(model(x), y, batch_dims=1)
        return tape.gradient(score, x)

    for method, name in ((Gradient(), "Gradient"), (gradient, "gradient")):
        found = certify(model, x, y, method=method, **options)
        np.testing.assert_allclose(found.maps, named.maps, atol=1 / 80)
        assert found.method == name
    with pytest.raises(ValueError, match="`saliency` must return one map per example"):
        certify(model, x, y, method=lambda model, x, y: tf.reduce_sum(gradient(model, x, y), axis=0), **options)


def test_an_image_is_certified_without_its_channels():
    model, (x, _) = conv_model(), batch(2, (6, 6, 1))
    found = certify(model, x, samples=40, **QUIET)
    assert found.maps.shape == (2, 6, 6)
    assert found.k == 36 // 8
    np.testing.assert_array_equal(found.labels, np.argmax(model(x), axis=1))


def test_it_is_compiled_once_per_model():
    model, (x, y) = dense_model(), batch(3)

    def traces():
        certify(model, x, y, k=2, samples=150, sigma=0.1 + 0.1 * len(counts), **QUIET)
        (sums,) = (made for key, made in kept_with(model)._made.items() if key[1][0] == "certify")
        return sums.experimental_get_tracing_count()

    counts = []
    for _ in range(3):
        counts.append(traces())
    assert counts[0] == counts[1] == counts[2] <= 2


def test_of_a_set_of_labels_one_is_explained_whatever_the_draw():
    """The label of the highest score at x; at the draws it is now this one, now the other."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "sigmoid")])
    weights = np.array([[1.0, 0.1], [-2.0, 0.2], [0.3, 3.0], [0.1, -1.0]])
    x = np.array([[0.5, 0.1, 0.2, 0.3]], "float32")
    model.set_weights([weights, 2.0 + np.array([0.01, 0.0]) - (x @ weights)[0]])
    found = certify(model, x, radii=[0.0], k=1, sigma=0.2, **QUIET)
    np.testing.assert_array_equal(found.labels, [0])
    np.testing.assert_array_equal(found.maps[0].round(2), [0, 1, 0, 0])
    assert found.topk_lower[0, 0] == 1
    np.testing.assert_array_equal(certify(model, x, [1], radii=[0.0], k=1, sigma=0.2, **QUIET).maps[0], [0, 0, 1, 0])


def test_maps_that_are_not_finite_count_as_nothing_and_are_counted():
    """The derivative of √max(z, 0) is not finite where z < 0."""
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.ops.sqrt(keras.ops.relu(inputs))))
    found = certify(model, [[0.2, 0.9, 0.9]], k=1, sigma=0.2, samples=400, **QUIET)
    assert 20 < found.undefined[0] < 200
    assert found.maps.sum() <= 1 - found.undefined[0] / 400 + 1e-9
    assert any("not finite" in warning for warning in found.warnings)
    assert "not finite" in found.to_markdown()
    assert "not finite" in repr(found)
    hopeless = certify(model, [[-2.0, -2.0, -2.0]], k=1, sigma=0.2, samples=100, **QUIET)
    assert not hopeless.topk_lower.any()
    assert not hopeless.cosine_lower.any()
    assert any("Nothing is certified" in warning for warning in hopeless.warnings)


def test_a_map_of_zeros_is_not_certified():
    found = certify(linear(0.0, 0.0, 0.0), np.full([1, 3], 0.5), [0], k=1, samples=100, **QUIET)
    assert not found.topk_lower.any()
    assert not found.cosine_lower.any()


REFUSED = {
    "norm": [
        ("linf", '`norm` must be "l2": an L∞ ball of radius ε in n dimensions lies in the L2 ball of radius ε √n'),
        ("l0", '`norm` must be "l2", the only ball that noise certifies here'),
        (None, '`norm` must be "l2"'),
    ],
    "k": [(4, "`k` must be below the number of entries of the map, 4"), (0, "`k` must be a positive integer")],
    "kept": [(4, "`kept` must be below the number of entries of the map, 4")],
    "radii": [
        ([0.2, 0.1], "`radii` must be a list of increasing floats >= 0"),
        ([-0.1, 0.1], "`radii` must be a list of increasing floats >= 0"),
        ([], "`radii` must be a list"),
        (0.1, "`radii` must be a list"),
        ([0.1, np.nan], "`radii` must be finite"),
        ([0.1, 0.1], "`radii` must be a list"),
    ],
    "samples": [
        (10, "`samples` must be more than 13 for a map of 4 entries and this confidence"),
        (0, "`samples` must be a positive integer"),
    ],
    "confidence": [(value, "`confidence` must be") for value in (1.0, 0.0, 99, -0.5)],
    "sigma": [(0.0, "`sigma` must be a positive float"), (-1.0, "`sigma` must be a positive float")],
    "smoothing": [("laplace", "`smoothing` must be one of")],
    "method": [("lime", "must be one of"), ("guided_backprop", "must be one of")],
    "target": [("score", "`target` must be one of")],
    "batch_size": [(0, "`batch_size` must be a positive integer")],
    "baseline": [([1.0, 2.0], "`baseline` must be a float or an array that broadcasts")],
    "y": [([0, 7], "`y` must be class indices")],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value", "message"), [(n, v, m) for n, cases in REFUSED.items() for v, m in cases])
def test_what_is_out_of_range_is_refused_before_anything_is_drawn(name, value, message, monkeypatch):
    monkeypatch.setattr(Gaussian, "draw", lambda *_: pytest.fail("drawn"))
    options = {"k": 2, name: value}
    with pytest.raises(ValueError, match=message):
        certify(dense_model(), np.full([2, 4], 0.5), **options, **QUIET)


def test_scores_that_are_nan_are_refused_with_and_without_labels():
    model = linear(np.nan, 1.0, 1.0)
    for y in (None, [0]):
        with pytest.raises(ValueError, match="`model` must return finite scores"):
            certify(model, np.full([1, 3], 0.5), y, k=1, **QUIET)
    with pytest.raises(TypeError, match="`certify` has no argument `sigmma`; did you mean `sigma`"):
        certify(model, np.full([1, 3], 0.5), sigmma=0.1)


def test_the_curve_and_its_confidence_are_of_all_examples():
    model, (x, y) = dense_model(), batch(3)
    found = certify(model, x, y, k=2, samples=60, confidence=0.99, **QUIET)
    curve = found.curve()
    np.testing.assert_allclose(curve["topk"], found.topk_lower.mean(axis=0))
    np.testing.assert_allclose(curve["cosine"], found.cosine_lower.mean(axis=0))
    assert curve["confidence"] == pytest.approx(0.97)
    vacuous = certify(model, x, y, k=2, samples=60, confidence=0.6, **QUIET)
    assert vacuous.curve()["confidence"] == 0
    assert any("too many examples" in warning for warning in vacuous.warnings)


def test_what_it_shows_is_never_above_what_is_proved():
    model, (x, y) = dense_model(), batch(3)
    found = certify(model, x, y, k=2, samples=200, sigma=0.1, **QUIET)
    assert isinstance(found, keras_rar.Certificate)
    findings = json.loads(json.dumps(found.as_findings(), allow_nan=False))
    np.testing.assert_allclose(findings["topk"], found.curve()["topk"])
    assert findings["n"] == 3
    assert findings["confidence_of_means"] == pytest.approx(0.997)
    rows = [line.split("|")[1:4] for line in found.to_markdown().splitlines() if line.startswith("| 0")]
    assert len(rows) == 9
    for row, topk, cosine in zip(rows, findings["topk"], findings["cosine"], strict=True):
        assert float(row[1].strip(" >=%")) <= 100 * topk + 1e-9
        assert float(row[2].strip(" >=")) <= cosine
    assert "for the map `gradient` smoothed with Gaussian noise" in found.to_markdown()


def test_the_figure_claims_no_slope_between_radii():
    pytest.importorskip("matplotlib")
    model, (x, y) = dense_model(), batch(3)
    found = certify(model, x, y, k=2, samples=200, sigma=0.1, **QUIET)
    panels = found.plot(width=4.0).axes
    assert len(panels) == 2
    for ax, mean in zip(panels, (100 * found.curve()["topk"], found.curve()["cosine"]), strict=True):
        joined = [line for line in ax.get_lines() if line.get_linestyle() != "None"]
        assert len(joined) == 4
        assert {line.get_drawstyle() for line in joined} == {"steps-pre"}
        np.testing.assert_allclose(joined[-1].get_ydata(), mean)
