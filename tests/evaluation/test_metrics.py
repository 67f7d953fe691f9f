"""The Keras metrics: means over examples of the functions of the core, whatever the batches."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_rar.evaluation import metrics

METRICS = {
    "kendall_tau": (metrics.KendallTauB, {}, metrics.kendall_tau_b),
    "spearman_rho": (metrics.SpearmanRho, {}, metrics.spearman_rho),
    "pearson": (metrics.PearsonCorrelation, {}, metrics.pearson),
    "cosine_similarity": (metrics.CosineSimilarity, {}, metrics.cosine_similarity),
    "topk_intersection": (metrics.TopKIntersection, {"k": 5}, lambda a, b: metrics.topk_intersection(a, b, 5)),
    "local_topk_intersection": (
        metrics.LocalTopKIntersection,
        {"k": 2, "window": 5, "measure": "precision"},
        lambda a, b: metrics.local_topk_intersection(a, b, 2, window=5, measure="precision"),
    ),
    "mass_center_distance": (metrics.MassCenterDistance, {}, metrics.mass_center_distance),
}
RNG = np.random.default_rng(0)
A, B = RNG.uniform(size=(2, 7, 5, 6)).astype("float32")
WEIGHTS = np.float32([1, 0, 2, 0.5, 3, 0, 1])
BATCHES = (slice(0, 4), slice(4, 5), slice(5, 7))  # of 4, 1 and 2


@pytest.fixture(params=METRICS)
def case(request):
    """The metric and its function."""
    kind, options, function = METRICS[request.param]
    return kind(**options), function


def test_the_table_is_complete_and_names_are_the_defaults():
    public = [getattr(metrics, name) for name in metrics.__all__]
    assert {kind for kind, *_ in METRICS.values()} == {value for value in public if isinstance(value, type)}
    assert all(kind(**options).name == name for name, (kind, options, _) in METRICS.items())


def test_result_is_the_mean_over_examples_of_batches_of_any_size(case):
    metric, function = case
    for batch in BATCHES:
        metric.update_state(A[batch], B[batch])
    score = function(A, B).numpy()
    assert float(metric.result()) == pytest.approx(score.mean(), abs=1e-6)  # float32
    means = [score[batch].mean() for batch in BATCHES]
    assert np.mean(means) != pytest.approx(score.mean(), abs=1e-4)  # negative control: the batches weigh differently


@pytest.mark.parametrize("column", [False, True])
def test_sample_weight_weighs_examples(case, column):
    metric, function = case
    for batch in BATCHES:
        metric.update_state(A[batch], B[batch], WEIGHTS[batch, None] if column else WEIGHTS[batch])
    expected = np.average(function(A, B), weights=WEIGHTS)
    assert float(metric.result()) == pytest.approx(expected, abs=1e-6)


def test_reset_state_forgets(case):
    metric, _ = case
    metric.update_state(A[:3], B[:3])
    metric.reset_state()
    assert float(metric.result()) == 0
    metric.update_state(A[3:], B[3:])
    fresh = type(metric).from_config(metric.get_config())
    fresh.update_state(A[3:], B[3:])
    assert float(metric.result()) == float(fresh.result())


def test_config_round_trip(case):
    metric, _ = case
    metric = type(metric).from_config({**metric.get_config(), "name": "mine"})
    config = keras.saving.serialize_keras_object(metric)
    assert config["registered_name"] == f"keras_rar>{type(metric).__name__}"
    copy = keras.saving.deserialize_keras_object(config, safe_mode=True)
    assert type(copy) is type(metric)
    assert copy.get_config() == metric.get_config()
    assert copy.name == "mine"
    for one in (metric, copy):
        one.update_state(A, B)
    assert float(copy.result()) == float(metric.result())


def test_options_reach_the_function():
    wide = metrics.LocalTopKIntersection(k=2, window=5)
    narrow = metrics.LocalTopKIntersection(k=2, window=1)
    plain, larger = metrics.TopKIntersection(k=2), metrics.TopKIntersection(k=20)
    for metric in (wide, narrow, plain, larger):
        metric.update_state(A, B)
    assert float(narrow.result()) == float(plain.result())
    assert len({float(metric.result()) for metric in (wide, narrow, larger)}) == 3


@pytest.mark.slow
def test_in_a_graph_and_under_xla_without_a_known_batch(case):
    metric, _ = case
    metric.update_state(A, B)
    expected = float(metric.result())
    for jit_compile in (False, True):
        metric.reset_state()
        update = tf.function(metric.update_state, autograph=False, jit_compile=jit_compile, reduce_retracing=True)
        for batch in (slice(0, 3), slice(3, 7)):
            update(tf.constant(A[batch]), tf.constant(B[batch]))
        assert float(metric.result()) == pytest.approx(expected, abs=1e-6)


def test_as_a_compiled_metric_of_a_model_that_predicts_maps(tmp_path):
    model = keras.Sequential([keras.Input((5, 6)), keras.layers.Activation("linear")])
    model.compile(loss="mse", metrics=[metrics.KendallTauB(), metrics.TopKIntersection(k=5)])
    values = model.evaluate(B, A, batch_size=3, verbose=0, return_dict=True)
    assert values["kendall_tau"] == pytest.approx(np.mean(metrics.kendall_tau_b(A, B)), abs=1e-6)
    assert values["topk_intersection"] == pytest.approx(np.mean(metrics.topk_intersection(A, B, 5)), abs=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(B, A, batch_size=3, verbose=0, return_dict=True) == pytest.approx(values)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: metrics.TopKIntersection(k=0), "`k` must be a positive integer. Received: k=0"),
        (lambda: metrics.LocalTopKIntersection(k=-1), "`k` must be a positive integer. Received: k=-1"),
        (lambda: metrics.LocalTopKIntersection(k=1, window=4), "`window` must be odd. Received: window=4"),
        (lambda: metrics.LocalTopKIntersection(k=1, measure="f1"), "`measure` must be one of ['recall', 'precision']"),
        (lambda: metrics.TopKIntersection(k=30).update_state(A, B), "`k` must be below 30"),
    ],
)
def test_bad_options_are_refused(function, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        function()


def test_the_mean_has_no_score_of_its_own():
    class Unfinished(metrics.KendallTauB.__base__):
        pass

    with pytest.raises(NotImplementedError):
        Unfinished().update_state(A, B)
