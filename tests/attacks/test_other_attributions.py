"""Attacks on kinds of maps beside IG and gradients, with noise of the same budget as control."""

import keras
import numpy as np
import pytest
from attacking import X, Y, eagerly, mean, tabular
from conftest import batch, conv_model, dense_model, some_slow

import keras_rar
from keras_rar.attacks import RandomAttack, TopKAttack
from keras_rar.explaining.saliency_maps import saliency_map

BACKGROUND = np.random.default_rng(0).uniform(size=(6, 5)).astype("float32")
WIDE = np.random.default_rng(0).uniform(size=(6, 64)).astype("float32")
KINDS = {
    "expected_gradients": lambda background=WIDE: keras_rar.ExpectedGradients(background, samples=8),
    "occlusion": lambda: keras_rar.Occlusion(4, 2, 0.5),
    "lrp": lambda: keras_rar.LRP(1e-3),
    "deeplift": lambda: keras_rar.DeepLIFT(0.5),
}
DEFAULTS = {
    "expected_gradients": keras_rar.ExpectedGradients(0.5),
    "occlusion": keras_rar.Occlusion(baseline=0.5),
    "lrp": keras_rar.LRP(),
    "deeplift": keras_rar.DeepLIFT(0.5),
}
OPTIONS = {"epsilon": 0.1, "steps": 10, "keep": "topk_intersection", "k_report": 8, "softplus_beta": 10.0}
ROWS, LABELS = batch(12, 64)


@pytest.fixture(autouse=True)
def _eager(request):
    yield from eagerly(request)


def wide():
    """Many features, where noise finds little, and biases."""
    model = dense_model(features=64, hidden=32, activation="relu")
    model.set_weights([w if w.ndim > 1 else np.linspace(-0.3, 0.3, w.size) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("kind", some_slow(KINDS, ["occlusion", "lrp"]))
def test_the_gradient_of_a_map_finds_more_than_noise(kind):
    model, saliency = wide(), KINDS[kind]()
    found = TopKAttack(8, step_size=0.03, saliency=saliency, **OPTIONS)(model, ROWS, LABELS)
    noise = RandomAttack(saliency=saliency, **OPTIONS)(model, ROWS, LABELS)
    assert mean(found, "topk_intersection") < mean(noise, "topk_intersection")
    after = saliency_map(model, found.x_adv, LABELS, saliency)
    np.testing.assert_allclose(found.map_after, after, rtol=1e-3, atol=1e-4)  # float32
    again = TopKAttack(8, step_size=0.03, saliency=saliency, **OPTIONS)(model, ROWS, LABELS)
    np.testing.assert_array_equal(again.x_adv, found.x_adv)  # the same draws


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_report_covers_other_maps(kind):
    options = {"epsilon": 0.1, "steps": 2, "pgd_steps": 1, "noise": 2, "faithful": 0, "k": 2, "progress": False}
    report = keras_rar.evaluate_robustness(wide(), ROWS, LABELS, other_maps=[KINDS[kind]()], m=3, **options)
    found = report.per_example[f"topk_intersection.{kind}"]
    assert np.any(np.isfinite(found))


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_is_the_object_with_its_defaults(kind):
    x, y = batch(3, (6, 6, 1))
    model, saliency = conv_model(), DEFAULTS[kind]
    by_name = TopKAttack(2, 0.1, steps=1, saliency=kind, baseline=0.5)(model, x, y)
    by_object = TopKAttack(2, 0.1, steps=1, saliency=saliency)(model, x, y)
    np.testing.assert_array_equal(by_name.map_before, by_object.map_before)
    np.testing.assert_allclose(by_name.map_before, saliency_map(model, x, y, kind, baseline=0.5), rtol=1e-4, atol=1e-5)
    for method in (kind, saliency):
        maps = saliency_map(model, x, y, method, baseline=0.5, normalize=False)
        assert maps.shape == x.shape


def test_a_background_by_name_and_what_does_not_fit():
    model, expected = tabular(), keras_rar.ExpectedGradients(BACKGROUND)
    maps = saliency_map(model, X, Y, "expected_gradients", baseline=BACKGROUND)
    np.testing.assert_array_equal(maps, saliency_map(model, X, Y, expected))
    other = saliency_map(model, X, Y, "expected_gradients", baseline=BACKGROUND + 0.3)
    assert np.abs(other - maps).max() > 0.01  # not the function that was compiled for the other one
    for baseline in (BACKGROUND[:, :3], BACKGROUND[np.newaxis]):
        with pytest.raises(ValueError, match="`baseline` must be a float or an array that broadcasts to an input"):
            saliency_map(model, X, Y, "expected_gradients", baseline=baseline)
        with pytest.raises(ValueError, match="`baseline` must be a float or an array that broadcasts to an input"):
            TopKAttack(2, 0.1, saliency=keras_rar.ExpectedGradients(baseline))(model, X, Y)
    with pytest.raises(ValueError, match="`baseline` must be a float or an array that broadcasts to an input"):
        saliency_map(model, X, Y, "occlusion", baseline=BACKGROUND)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"lrp"}))
def test_features_that_the_baseline_leaves_out_do_not_count(kind):
    model, baseline = tabular(), [0.5, None, 0.5, 0.5, None]
    found = TopKAttack(2, 0.1, steps=1, saliency=kind, baseline=baseline)(model, X, Y)
    assert np.all(found.map_before[:, [1, 4]] == 0)
    with pytest.raises(ValueError, match="`k` must be below 3, the number of features whose baseline is not None"):
        TopKAttack(3, 0.1, steps=1, saliency=kind, baseline=baseline)(model, X, Y)


def test_the_gradient_of_grad_cam_finds_more_than_noise():
    keras.utils.set_random_seed(0)
    x, y = batch(24, (8, 8, 1))
    layers = [keras.layers.Conv2D(6, 3, activation="relu"), keras.layers.Conv2D(6, 3, activation="relu")]
    layers += [keras.layers.Flatten(), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    shown = np.ptp(saliency_map(model, x, y, "grad_cam"), axis=(1, 2)) > 0  # in others nothing speaks for the label
    x, y = x[shown], y[shown]
    assert len(x) >= 6
    options = {**OPTIONS, "k_report": 8, "saliency": "grad_cam", "softplus_beta": "auto"}
    found, noise = (attack(model, x, y) for attack in (TopKAttack(8, **options), RandomAttack(**options)))
    assert mean(found, "topk_intersection") < mean(noise, "topk_intersection")
    np.testing.assert_allclose(found.map_after, saliency_map(model, found.x_adv, y, "grad_cam"), rtol=1e-3, atol=1e-4)
    options = {"epsilon": 0.1, "steps": 2, "m": 3, "pgd_steps": 1, "noise": 2, "faithful": 0, "progress": False}
    report = keras_rar.evaluate_robustness(model, x, y, other_maps=["grad_cam"], **options)
    assert np.any(np.isfinite(report.per_example["topk_intersection.grad_cam"]))
