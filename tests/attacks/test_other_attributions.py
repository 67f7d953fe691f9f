"""Attacks on expected gradients and occlusion, with noise of the same budget as control."""

import numpy as np
import pytest
from attacking import X, Y, eagerly, mean, tabular
from conftest import batch, conv_model, dense_model

import keras_rar
from keras_rar.attacks import RandomAttack, TopKAttack
from keras_rar.explaining.saliency_maps import saliency_map

BACKGROUND = np.random.default_rng(0).uniform(size=(6, 5)).astype("float32")
WIDE = np.random.default_rng(0).uniform(size=(6, 12)).astype("float32")
KINDS = {
    "expected_gradients": lambda background=WIDE: keras_rar.ExpectedGradients(background, samples=8),
    "occlusion": lambda: keras_rar.Occlusion(2, 1, 0.5),
}
OPTIONS = {"epsilon": 0.1, "steps": 10, "keep": "topk_intersection", "k_report": 3, "softplus_beta": 10.0}
ROWS, LABELS = batch(16, 12)


@pytest.fixture(autouse=True)
def _eager(request):
    yield from eagerly(request)


def wide():
    """Twelve features, and biases."""
    model = dense_model(features=12, hidden=24)
    model.set_weights([w if w.ndim > 1 else np.linspace(-0.3, 0.3, w.size) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_a_map_finds_more_than_noise(kind):
    model, saliency = wide(), KINDS[kind]()
    found = TopKAttack(3, saliency=saliency, **OPTIONS)(model, ROWS, LABELS)
    noise = RandomAttack(saliency=saliency, **OPTIONS)(model, ROWS, LABELS)
    assert mean(found, "topk_intersection") < mean(noise, "topk_intersection")
    after = saliency_map(model, found.x_adv, LABELS, saliency)
    np.testing.assert_allclose(found.map_after, after, rtol=1e-3, atol=1e-4)  # float32
    again = TopKAttack(3, saliency=saliency, **OPTIONS)(model, ROWS, LABELS)
    np.testing.assert_array_equal(again.x_adv, found.x_adv)  # the same draws


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_covers_other_maps(kind):
    options = {"epsilon": 0.1, "steps": 2, "pgd_steps": 1, "noise": 2, "faithful": 0, "k": 2, "progress": False}
    report = keras_rar.evaluate_robustness(wide(), ROWS, LABELS, other_maps=[KINDS[kind]()], m=3, **options)
    found = report.per_example[f"topk_intersection.{kind}"]
    assert np.any(np.isfinite(found))


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_is_the_object_with_its_defaults(kind):
    x, y = batch(3, (6, 6, 1))
    model, objects = conv_model(), {"expected_gradients": keras_rar.ExpectedGradients(0.5), "occlusion": None}
    saliency = objects[kind] or keras_rar.Occlusion(baseline=0.5)
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


@pytest.mark.parametrize("kind", KINDS)
def test_features_that_the_baseline_leaves_out_do_not_count(kind):
    model, baseline = tabular(), [0.5, None, 0.5, 0.5, None]
    found = TopKAttack(2, 0.1, steps=1, saliency=kind, baseline=baseline)(model, X, Y)
    assert np.all(found.map_before[:, [1, 4]] == 0)
    with pytest.raises(ValueError, match="`k` must be below 3, the number of features whose baseline is not None"):
        TopKAttack(3, 0.1, steps=1, saliency=kind, baseline=baseline)(model, X, Y)
