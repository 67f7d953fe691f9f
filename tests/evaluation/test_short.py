"""Where the k highest entries are all that an example has, no top-k intersection is measured, and it is said."""

import warnings

import keras
import numpy as np
import pytest
from conftest import dense_model
from texts import LENGTH, text_network, texts

import keras_rar
from keras_rar.attacks import RandomAttack, TopKAttack
from keras_rar.evaluation.short import too_short
from keras_rar.networks.classifier import Classifier
from keras_rar.networks.tail import at_layer

X, _ = texts()  # the first has two words, the second four, the others five
AT = {"layer": "embedding", "bounds": None}
CHEAP = {"epsilon": 0.5, "attack": "random", "steps": 1, "m": 1, "pgd_steps": 1, "pgd_restarts": 0, "progress": False}
ALONE = {"noise": 0, "other_maps": (), "faithful": 0}
SAID = "2 of 8 examples have no more than k = 4 entries that are not padding"


@pytest.fixture(scope="module")
def network():
    return text_network()


@pytest.fixture(scope="module")
def labels(network):
    return network(X).numpy().argmax(axis=1)


@pytest.mark.parametrize("k", [LENGTH, LENGTH + 1])
def test_as_many_entries_as_a_map_has_are_refused_everywhere(network, labels, k):
    """Padding makes the map of no example longer."""
    message = rf"must be below the number of entries of the map, {LENGTH}. Received: k(_report)?={k}"
    for make in (lambda: TopKAttack(k, 0.1, **AT), lambda: RandomAttack(0.1, k_report=k, **AT)):
        with pytest.raises(ValueError, match=message):
            make()(network, X, labels)
    for name in ("k", "k_report"):
        with pytest.raises(ValueError, match=message):
            keras_rar.evaluate_robustness(network, X, labels, **AT, **{**CHEAP, "attack": "topk", name: k})
    with pytest.raises(ValueError, match=message):
        keras_rar.compare({"a": network, "b": network}, X, labels, **AT, **CHEAP, k=k)
    network.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match=message):
        network.fit(X, labels, callbacks=[keras_rar.AttributionRobustness(X, labels, epsilon=0.1, k=k, **AT)])


def test_a_report_names_the_texts_that_are_too_short(network, labels):
    report = keras_rar.evaluate_robustness(network, X, labels, k=4, **AT, **CHEAP, **ALONE)
    assert np.isnan(report.values("topk_intersection")).tolist() == [True] * 2 + [False] * 6
    assert any(SAID in warning for warning in report.warnings)
    report = keras_rar.evaluate_robustness(network, X, labels, k=1, **AT, **CHEAP, **ALONE)
    assert "not padding" not in " ".join(report.warnings)


def test_where_the_similarity_that_picks_is_undefined_no_score_is(network, labels):
    """No iterate is kept there, so that the map before and after are the same: 1 would say that the map is robust."""
    result = RandomAttack(0.5, steps=3, m=2, k_report=4, keep="topk_intersection", **AT)(network, X, labels)
    for score in result.scores.values():
        assert np.isnan(score).tolist() == [True] * 2 + [False] * 6
    result = RandomAttack(0.5, steps=3, m=2, k_report=4, **AT)(network, X, labels)
    assert np.isfinite(result.scores["kendall_tau"]).all()  # of two words too


@pytest.mark.slow
def test_the_callback_leaves_short_texts_out_and_says_so(network, labels):
    callback = keras_rar.AttributionRobustness(X, labels, epsilon=0.5, k=4, steps=2, m=2, **AT)
    callback.set_model(network)
    with pytest.warns(RuntimeWarning, match=SAID):
        callback.on_train_begin()
    found = callback._attack(network, X, labels).scores["topk_intersection"][2:]
    callback.on_epoch_end(0, logs := {})
    assert logs["val_topk_intersection"] == pytest.approx(found.mean())
    assert np.isfinite(logs["val_kendall_tau"])


def test_maps_of_one_entry_have_no_highest():
    model = dense_model(features=1)
    x, y = np.full([3, 1], 0.5), np.zeros(3, int)
    assert np.isnan(RandomAttack(0.1, steps=1, m=1)(model, x).scores["topk_intersection"]).all()
    with pytest.raises(ValueError, match=r"^`k` must be below the number of entries of the map, 1"):
        keras_rar.certify(model, x, y, samples=100, progress=False)


def test_without_padding_known_every_row_counts():
    """A negative control: a network without a mask cannot tell padding from words."""
    model, entered = at_layer(text_network(masked=False), "embedding", X)
    assert not too_short(Classifier(model), entered, LENGTH - 1).any()


def test_a_network_that_explains_nothing_is_not_robust():
    """Saturated, all of its attributions are 0 before the attack and after it. 1 would be the best score there is."""
    model, x = dense_model(activation="relu"), np.full([3, 4], 0.5)
    hidden = np.zeros((4, 8))
    hidden[0, 0] = 1
    model.set_weights([hidden, np.full(8, -0.7), np.eye(8, 3), np.array([2.0, 0.0, 0.0])])
    for epsilon, nothing in ((0.1, True), (0.4, False)):  # the second reaches where the unit is active
        scores = RandomAttack(epsilon, steps=20, m=5)(model, x).scores
        for name in ("kendall_tau", "spearman_rho", "topk_intersection"):
            assert np.isnan(scores[name]).tolist() == [nothing] * 3
    callback = keras_rar.AttributionRobustness(x, np.zeros(3), epsilon=0.1, steps=2, m=2)
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_end(0, logs := {})
    assert logs["val_kendall_tau"] == -np.inf


def test_the_callback_says_where_the_attack_changed_no_map():
    """Then all scores are 1, the best there is, and that of the next epoch is worse. A larger ball says nothing."""
    model, (x, y) = dense_model(activation=None), (np.full([3, 4], 0.5), np.zeros(3))
    model.layers[1].set_weights([np.eye(8, 3), np.array([9.0, 0, 0])])
    for epsilon in (1e-4, 0.4):  # in the first no entry of a linear map overtakes another
        callback = keras_rar.AttributionRobustness(x, y, epsilon=epsilon, steps=3, m=2)
        callback.set_model(model)
        callback.on_train_begin()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            callback.on_epoch_end(0, logs := {})
        assert (logs["val_kendall_tau"] == 1) == any("changed no map" in str(w.message) for w in caught)
        assert (logs["val_kendall_tau"] == 1) == (epsilon < 0.1)
