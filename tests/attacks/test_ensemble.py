"""The ensemble of attacks on maps: the worst of its members, for each example and measure, and nothing else."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from attacking import eagerly, same
from conftest import batch, conv_model, dense_model

from keras_rar import saliency_map
from keras_rar.attacks import EnsembleAttack, ensemble_members, watch
from keras_rar.metrics import kendall_tau_b

MEASURES = ("topk_intersection", "kendall_tau", "spearman_rho")


@pytest.fixture
def compiled_functions():
    """Marks a test whose attacks are compiled."""


@pytest.fixture(autouse=True)
def _eager(request):
    yield from eagerly(request)


def sum_of_inputs(features=3):
    """Two classes, of which the first has the sum of the inputs as its logit: gradient × input is the input itself."""
    model = keras.Sequential([keras.Input((features,)), keras.layers.Dense(2, use_bias=False)])
    model.set_weights([np.stack([np.ones(features), np.zeros(features)], axis=1)])
    return model


def ensemble(epsilon=0.1, **options):
    return EnsembleAttack(epsilon, **{"k": 1, "steps": 2, "restarts": 0, "saliency": "gradient_x_input", **options})


def of_features(n=4, features=6, **options):
    return ensemble(**options)(dense_model(features, hidden=16, activation="relu"), batch(n, features)[0])


@pytest.fixture(scope="module")
def found():
    tf.config.run_functions_eagerly(True)
    keras.utils.set_random_seed(0)
    return of_features()


@pytest.mark.slow
def test_the_worst_of_a_map_that_is_the_input_is_found():
    """Within 0.1 only the first two entries can change places: one pair of three, and the highest entry."""
    found = ensemble(steps=8)(sum_of_inputs(), np.array([[0.5, 0.45, 0.2], [0.3, 0.7, 0.62]]))
    np.testing.assert_allclose(found.scores["topk_intersection"], 0)
    np.testing.assert_allclose(found.scores["kendall_tau"], 1 / 3, rtol=1e-5)
    np.testing.assert_allclose(found.scores["spearman_rho"], 0.5, rtol=1e-5)


def test_where_no_entry_can_pass_another_nothing_is_found():
    """Negative control."""
    found = ensemble()(sum_of_inputs(), np.array([[0.9, 0.5, 0.1]]))
    for measure in MEASURES:
        np.testing.assert_allclose(found.scores[measure], 1)
        np.testing.assert_array_equal(found.worst[measure], -1)
    np.testing.assert_array_equal(found.x_adv, found.x)
    np.testing.assert_array_equal(found.iteration, 0)


def test_the_scores_are_the_least_of_all_members(found):
    assert found.members == ("topk", "rank", "evolution", "noise") == tuple(found.member_scores)
    for measure in MEASURES:
        every = np.stack([found.member_scores[name][measure] for name in found.members])
        np.testing.assert_array_equal(found.scores[measure], np.nanmin(every, axis=0))
        for example, member in enumerate(found.worst[measure]):
            score = found.scores[measure][example]
            assert (member == -1) == (score >= 1)
            if member >= 0:
                assert every[member, example] == score
                assert np.all(every[:member, example] > score)  # the first of several
    assert np.any(found.worst["kendall_tau"] >= 0)


def test_the_inputs_returned_are_the_worst_for_kendall_s_tau(found):
    np.testing.assert_allclose(kendall_tau_b(found.map_before, found.map_after), found.scores["kendall_tau"])
    model = sum_of_inputs()
    x = np.array([[0.5, 0.45, 0.2], [0.3, 0.7, 0.62]])
    other = ensemble(keep="topk_intersection")(model, x)
    np.testing.assert_array_equal(other.map_after.argmax(axis=1) == other.map_before.argmax(axis=1), False)


@pytest.mark.slow
def test_predictions_stay_and_so_does_the_ball(found):
    assert np.abs(found.x_adv - found.x).max() <= 0.1 + 1e-6
    model = dense_model(6, hidden=16, activation="relu")
    x = batch(4, 6)[0]
    result = ensemble(0.5, norm="l2")(model, x)
    assert np.linalg.norm(result.x_adv - x, axis=1).max() <= 0.5 + 1e-5
    assert result.scores["kendall_tau"].max() < 1
    np.testing.assert_array_equal(
        model.predict(result.x_adv, verbose=0).argmax(1), model.predict(x, verbose=0).argmax(1)
    )


@pytest.mark.slow
def test_batches_of_other_sizes_find_the_same(found):
    keras.utils.set_random_seed(0)
    model, x = dense_model(6, hidden=16, activation="relu"), batch(4, 6)[0]
    attack = ensemble(batch_size=3)
    assert same(found, attack(model, x))
    parts = list(attack.iterate(model, x, first=2))
    rest = type(parts[0]).concatenate(parts)
    assert rest.members == found.members
    for measure in MEASURES:
        np.testing.assert_allclose(rest.scores[measure], found.scores[measure][2:], atol=1e-5)
        np.testing.assert_array_equal(rest.worst[measure], found.worst[measure][2:])


def test_segments_change_nothing_and_progress_only_grows(found, monkeypatch):
    monkeypatch.setattr(watch, "SECONDS", 0.0)
    keras.utils.set_random_seed(0)
    told = []
    model, x = dense_model(6, hidden=16, activation="relu"), batch(4, 6)[0]
    (result,) = ensemble().iterate(model, x, progress=told.append)
    assert same(found, result)
    assert told == sorted(told)
    assert told[-1] == pytest.approx(4)


@pytest.mark.slow
def test_what_is_settled_is_attacked_no_further_and_is_the_same(monkeypatch):
    """The first member turns the first example round, and no similarity can be lower; it cannot turn the second."""
    model, x = sum_of_inputs(2), np.array([[0.5, 0.45], [0.5, 0.1]])
    found = ensemble(0.15, steps=2)(model, x)
    for measure, value in (("topk_intersection", 0), ("kendall_tau", -1), ("spearman_rho", -1)):
        assert found.scores[measure][0] == pytest.approx(value)
        np.testing.assert_array_equal(np.isnan(found.member_scores["evolution"][measure]), [True, False])
        assert not np.isnan(found.member_scores["noise"][measure]).any()
    assert same(found, ensemble(0.15, steps=2, batch_size=1)(model, x))
    monkeypatch.setattr(ensemble_members, "limits", lambda k, entries: dict.fromkeys(MEASURES, -2.0))
    whole = ensemble(0.15, steps=2)(model, x)
    assert same(found, whole)
    assert not np.isnan(whole.member_scores["evolution"]["kendall_tau"]).any()


def test_limits_of_an_intersection_that_cannot_be_empty():
    assert ensemble_members.limits(2, 3)["topk_intersection"] == 0.5
    assert ensemble_members.limits(1, 3)["topk_intersection"] == 0


def steps_of(model, x, y):
    """A map that follows the input in steps: its gradient is 0 everywhere."""
    return tf.round(40 * x)


def ramp_of(model, x, y):
    """The same without steps."""
    return 40 * x


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_functions")
def test_hidden_gradients_are_seen_by_the_member_that_needs_none():
    x = np.random.default_rng(0).uniform(0.3, 0.7, size=(8, 24)).astype("float32")
    options = {"epsilon": 0.1, "k": 6, "steps": 40, "softplus_beta": None}
    hidden = ensemble(**options, saliency=steps_of)(sum_of_inputs(24), x)
    ascents, evolution = (
        [hidden.member_scores[n]["kendall_tau"] for n in names] for names in (("topk", "rank"), ("evolution",))
    )
    assert np.mean(hidden.worst["kendall_tau"] == hidden.members.index("evolution")) > 0.5
    assert evolution[0].mean() < np.min(ascents, axis=0).mean() - 0.02
    # Negative control: where gradients are seen, those that follow them are worse, and worse than noise.
    seen = ensemble(**options, saliency=ramp_of)(sum_of_inputs(24), x)
    assert np.mean(seen.worst["kendall_tau"] == seen.members.index("rank")) > 0.9
    scores = {name: seen.member_scores[name]["kendall_tau"].mean() for name in seen.members}
    assert scores["rank"] < scores["evolution"] < scores["noise"] - 0.02


def test_maps_of_images_have_a_centre_of_mass():
    model, x = conv_model(), batch(2, (6, 6, 1))[0]
    found = EnsembleAttack(0.1, steps=1, restarts=0, saliency="gradient")(model, x)
    assert found.members == ("topk", "rank", "mass_center", "evolution", "noise")
    assert found.queries == 5
    assert found.map_after.shape == (2, 6, 6)


def test_integrated_gradients_are_followed_with_fewer_nodes_and_reported_with_all():
    attack = EnsembleAttack(0.1, k=1, steps=1, m=30)
    assert (len(attack.followed.rule), len(attack.saliency.rule)) == (10, 30)
    for same_rule in (EnsembleAttack(0.1, search_m=None), EnsembleAttack(0.1, m=10)):
        assert same_rule.followed is same_rule.saliency
    model, x = dense_model(features=5, hidden=16, activation="relu"), batch(2, 5)[0]
    found = attack(model, x)
    np.testing.assert_allclose(
        found.map_after, saliency_map(model, found.x_adv, found.y, m=30, rule="right"), atol=1e-5
    )


def spiked():
    """Two classes, whose first logit changes with the second input only where the first is near 0.3: a narrow ridge.

    IG from 0 of two nodes, a quarter and three quarters of the way, does not see it, and that of many nodes does.
    """
    inputs = keras.Input((2,))
    kinks = keras.layers.Dense(3, "relu", name="kinks")(inputs)
    gated = keras.layers.Dense(1, "relu", name="gated")(keras.layers.Concatenate()([kinks, inputs]))
    model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(keras.layers.Concatenate()([gated, inputs])))
    model.get_layer("kinks").set_weights([np.array([[1.0, 1, 1], [0, 0, 0]]), np.array([-0.27, -0.3, -0.33])])
    model.get_layer("gated").set_weights([np.array([[40.0], [-80], [40], [0], [1]]), np.array([-0.6])])
    model.get_layer("logits").set_weights([np.array([[3.0, 0], [0.5, 0], [0.5, 0]]), np.array([1.0, 0])])
    return model


def test_a_map_that_few_nodes_do_not_show_is_attacked_as_it_is_reported(compiled_functions, monkeypatch):
    """The last runs follow the map of the report, and find what the others cannot see."""
    x = np.array([[0.6, 0.5]], "float32")
    options = {"k": 1, "steps": 12, "restarts": 0, "search_m": 2, "m": 60, "softplus_beta": None}
    monkeypatch.setattr(EnsembleAttack, "members", lambda self, shape: ("topk", "noise"))
    found = EnsembleAttack(0.15, **options)(spiked(), x)
    assert found.queries == 12 + 4
    assert found.scores["topk_intersection"] == 0
    np.testing.assert_array_equal(found.restart, 1)  # the run after the only start
    monkeypatch.setattr(EnsembleAttack, "_ends_as_reported", lambda self, name: False)
    assert EnsembleAttack(0.15, **options)(spiked(), x).scores["topk_intersection"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"steps": 3},
        {"restarts": 1},
        {"seed": 1},
        {"step_size": 0.01},
        {"k": 2},
        {"k_report": 2},
        {"saliency": "gradient"},
    ],
)
def test_every_argument_matters(found, options):
    keras.utils.set_random_seed(0)
    other = of_features(**options)
    assert any(
        not np.array_equal(found.member_scores[n][m], other.member_scores[n][m])
        for n in found.members
        for m in MEASURES
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "`k` must be a positive integer"),
        ({"search_m": 0}, "`search_m` must be a positive integer"),
        ({"keep": "mass_center"}, "`keep` must be one of"),
        ({"epsilon": -1.0}, "`epsilon` must be a positive float"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ensemble(**options)


@pytest.mark.parametrize("name", ["k", "k_report"])
def test_a_k_that_leaves_no_entry_out_is_refused(name):
    attack = ensemble(**{name: 3})
    with pytest.raises(ValueError, match=f"`{name}` must be below the number of entries of the map, 3"):
        attack.check(sum_of_inputs(), np.full((1, 3), 0.5))


@pytest.mark.parametrize(("value", "bounds"), [(0.5, (0.0, 1.0)), (1e4, None)])
def test_a_radius_that_reaches_nothing_is_refused(value, bounds):
    attack = ensemble(1e-9 if bounds else 1e-5, bounds=bounds)
    with pytest.raises(ValueError, match="`epsilon` must change the inputs in float32, within the bounds"):
        attack.check(sum_of_inputs(), np.full((2, 3), value))
    ensemble(1e-3, bounds=bounds).check(sum_of_inputs(), np.full((2, 3), value))
