"""What the result of an attribution attack promises."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from attacking import KINDS, eagerly, every_kind, images_right, result_of, trained
from scipy import stats

from keras_rar.explaining.saliency_maps import saliency_map
from keras_rar.networks.classifier import Classifier


@pytest.fixture
def compiled_functions():
    """Marks a test whose attacks are compiled."""


@pytest.fixture(autouse=True)
def _eager(request):
    yield from eagerly(request)


@pytest.fixture(scope="module")
def network():
    return trained()


@pytest.fixture(scope="module")
def data():
    return images_right()


@pytest.fixture(scope="module")
def found():
    return result_of


@pytest.mark.slow
@every_kind
def test_the_perturbed_images_are_in_the_ball_and_in_the_box(found, kind):
    result = found(kind)
    change = (result.x_adv - result.x).reshape(32, -1)
    attack = KINDS[kind]()
    distance = np.linalg.norm(change, ord=None if kind == "l2" else np.inf, axis=1)
    assert np.all(distance <= attack.epsilon + 1e-6)  # rounding of x + ε
    lower, upper = attack.bounds
    assert np.all((result.x_adv >= lower - 1e-7) & (result.x_adv <= upper + 1e-7))
    moved = distance[result.iteration > 0]
    assert len(moved) > 20
    assert moved.min() > attack.epsilon / 10


@pytest.mark.slow
def test_per_feature_bounds_bind(found):
    """Negative control: the box of that attack is another."""
    assert found("bounds").x_adv[:, :7].max() > 1.01
    assert found("bounds").x_adv[:, 7:].max() <= 1 + 1e-7
    assert found("bounds").x_adv.min() < -0.01
    assert found("topk").x_adv.min() >= 0


@every_kind
def test_the_prediction_is_kept(network, found, kind):
    result = found(kind)
    before, after = (network.predict(x, verbose=0).argmax(axis=1) for x in (result.x, result.x_adv))
    np.testing.assert_array_equal(after, before)


def test_the_prediction_does_not_keep_itself(network, data, monkeypatch):
    """Negative control: if every iterate were allowed, predictions would change."""
    monkeypatch.setattr(Classifier, "predicted", lambda self, x: tf.zeros(tf.shape(x)[:1], tf.int64))
    result = KINDS["topk"](epsilon=0.2)(network, *data)
    after = network.predict(result.x_adv, verbose=0).argmax(axis=1)
    assert np.mean(after != data[1]) > 0.2


@every_kind
def test_the_maps_are_those_of_saliency_map(network, found, kind):
    result = found(kind)
    options = {"method": "gradient"} if kind == "gradient" else {"m": 8}
    for x, found_map in ((result.x, result.map_before), (result.x_adv, result.map_after)):
        expected = saliency_map(network, x, result.y, **options)
        np.testing.assert_allclose(found_map, expected, rtol=1e-3, atol=1e-4)  # float32, another order of products


@every_kind
def test_the_scores_are_scipy_s_of_the_maps(found, kind):
    result = found(kind)
    for i, (before, after) in enumerate(zip(result.map_before, result.map_after, strict=True)):
        before, after = before.ravel(), after.ravel()
        tops = (set(np.argsort(-m, kind="stable")[:20]) for m in (before, after))
        expected = {
            "kendall_tau": stats.kendalltau(before, after).statistic,
            "spearman_rho": stats.spearmanr(before, after).statistic,
            "topk_intersection": len(set.intersection(*tops)) / 20,
        }
        assert {name: float(score[i]) for name, score in result.scores.items()} == pytest.approx(expected, abs=1e-6)


@every_kind
def test_no_change_found_is_iteration_0_and_a_score_of_1(found, kind):
    result = found(kind)
    unchanged = result.iteration == 0
    same_image = np.all(result.x_adv == result.x, axis=(1, 2, 3))
    np.testing.assert_array_equal(unchanged, same_image)
    np.testing.assert_array_equal(result.scores["kendall_tau"][unchanged], 1)
    np.testing.assert_array_equal(result.restart[unchanged], 0)
    assert np.all(result.scores["kendall_tau"][~unchanged] < 1)
    assert np.all(result.iteration <= 10)


def test_the_columns_of_a_result(found, data):
    result = found("restarts")
    types = {"y": "int64", "correct": "bool", "iteration": "int32", "restart": "int32", "x_adv": "float32"}
    assert {name: getattr(result, name).dtype.name for name in types} == types
    assert all(len(getattr(result, field.name)) == 32 for field in dataclasses.fields(result) if field.name != "scores")
    assert all(score.shape == (32,) for score in result.scores.values())
    np.testing.assert_array_equal(result.x, data[0])
    np.testing.assert_array_equal(result.y, data[1])
    assert result.map_before.shape == result.map_after.shape == (32, 14, 14)
    assert set(result.restart) == {0, 1, 2}
