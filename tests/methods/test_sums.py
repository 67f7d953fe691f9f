"""Weighted sums of methods: formula, x*, engine, settings that agree, files; and a method of one's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, dense_model, wrapped

import keras_rar
from keras_rar.evaluation import ball

X, Y = batch(12)
X_PRIME = np.clip(X + 0.1, 0, 1)
SHARED = {"epsilon": 0.2, "steps": 3, "random_start": False}


def parts(**options):
    options = {**SHARED, **options}
    return keras_rar.IGSumNormRegularizer(0.3, **options), keras_rar.R2ETRegularizer(**options)


def test_the_objective_is_the_weighted_sum():
    base_model, (first, second) = dense_model(), parts(m=3)
    both = wrapped(first + 0.25 * second, base_model)
    expected = [wrapped(one, base_model).objective(X, X_PRIME, Y) for one in (first, second)]
    np.testing.assert_allclose(both.objective(X, X_PRIME, Y), expected[0] + 0.25 * expected[1], rtol=1e-5)  # float32
    assert np.abs(expected[1]).min() > 0.1  # it would be felt


def test_x_star_ascends_the_weighted_sum_of_what_each_ascends():
    base_model = dense_model()
    madry, change = keras_rar.MadryRegularizer(epsilon=0.2), keras_rar.LossChangeRegularizer(epsilon=0.2)

    class By(keras_rar.AbstractAttributionRegularizer):
        def objective(self, terms):
            return terms.perturbed_loss + 0.5 * tf.abs(terms.perturbed_loss - terms.clean_loss)

    found, expected = (
        wrapped(one, base_model).perturb(X, Y, seed=3) for one in (madry + 0.5 * change, By(epsilon=0.2))
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not np.allclose(wrapped(0.5 * change, base_model).perturb(X, Y, seed=3), expected, atol=1e-3)


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_a_method_that_looks_at_x_alone_leaves_x_star_to_the_others(weight):
    base_model, (first, second) = dense_model(), parts()
    alone, both = (wrapped(one, base_model).perturb(X, Y) for one in (first, first + weight * second))
    np.testing.assert_allclose(both, alone, atol=1e-6)
    np.testing.assert_array_equal(wrapped(2 * second, base_model).perturb(X, Y), X)


def test_a_sum_reads_each_term_once():
    reads = []

    class Reading(keras_rar.AbstractAttributionRegularizer):
        def objective(self, terms):
            reads.append(terms.clean_map)
            return terms.clean_loss

    wrapped(Reading() + 2 * Reading()).objective(X, X, Y)
    assert len(reads) == 8  # twice in each of two probes, in the ascent of one, and here
    assert reads[0] is reads[1]
    assert reads[-1] is reads[-2]


@pytest.mark.slow
def test_terms_of_one_name_are_told_apart_in_the_history():
    maps = keras_rar.IGRRegularizer(**SHARED) + 0.5 * keras_rar.IGTopKRegularizer(**SHARED)
    base_model = dense_model()
    history = wrapped(maps, base_model, optimizer=keras.optimizers.SGD(0.0)).fit(X, Y, verbose=0).history
    assert sorted(history) == ["loss", "map_distance", "map_distance_2", "perturbed_loss"]
    weighted = 12 * history["map_distance"][0] + 0.5 * 4 * history["map_distance_2"][0]
    assert history["loss"][0] == pytest.approx(1.5 * history["perturbed_loss"][0] + weighted, rel=1e-5)
    assert history["map_distance"][0] != pytest.approx(history["map_distance_2"][0])


def test_sums_of_sums_are_flat():
    a, b = parts()
    c = keras_rar.MadryRegularizer(**SHARED)
    total = 0.5 * (a + 2.0 * b) + c * 3
    assert (total.regularizers, total.weights) == ((a, b, c), (0.5, 1.0, 3.0))


def test_a_weight_may_follow_a_schedule():
    a, b = parts(m=3)
    schedule = keras.optimizers.schedules.PolynomialDecay(0.0, 2, 1.0)
    base_model = dense_model()
    model = wrapped(a + b * schedule, base_model)
    before = model.objective(X, X_PRIME, Y)
    model.optimizer.iterations.assign(2)
    after = model.objective(X, X_PRIME, Y)
    expected = [wrapped(one, base_model).objective(X, X_PRIME, Y) for one in (a, b)]
    np.testing.assert_allclose(before, expected[0], rtol=1e-5)
    np.testing.assert_allclose(after, expected[0] + expected[1], rtol=1e-5)


def test_the_most_nodes_count_and_other_settings_must_agree():
    total = keras_rar.IGRRegularizer(m=2) + keras_rar.IGSumNormRegularizer(m=5, attack_m=3)
    assert (total.m, total.attack_m, len(total.training_rule)) == (5, 3, 5)
    for name, value in {
        "epsilon": 0.3,
        "norm": "l2",
        "steps": 9,
        "begin": 0.5,
        "baseline": 0.5,
        "bounds": None,
    }.items():
        with pytest.raises(ValueError, match=rf"^`{name}` must be the same in all methods of a sum, here .*Received"):
            keras_rar.MadryRegularizer() + keras_rar.IGRRegularizer(**{name: value})


@pytest.mark.parametrize(
    ("regularizers", "weights", "error", "match"),
    [
        ([], None, TypeError, "`regularizers` must be a list of AbstractAttributionRegularizers"),
        (["madry"], None, TypeError, "`regularizers` must be a list"),
        (keras_rar.MadryRegularizer(), None, TypeError, "`regularizers` must be a list"),
        ([keras_rar.MadryRegularizer()], [1.0, 2.0], ValueError, "`weights` must be None, or a list of 1 floats >= 0"),
        ([keras_rar.MadryRegularizer()], 1.0, ValueError, "`weights` must be None, or a list of 1 floats >= 0"),
        ([keras_rar.MadryRegularizer()], [-1.0], ValueError, "`weights` must be a float >= 0"),
        ([keras_rar.MadryRegularizer()], ["1"], TypeError, "`weights` must be a float >= 0"),
        ([keras_rar.MadryRegularizer()], [float("nan")], ValueError, "`weights` must be a float >= 0"),
    ],
)
def test_bad_sums_are_refused(regularizers, weights, error, match):
    with pytest.raises(error, match=match):
        keras_rar.SumOfRegularizers(regularizers, weights)


def test_what_is_no_method_cannot_be_added():
    with pytest.raises(TypeError, match="unsupported operand"):
        keras_rar.MadryRegularizer() + 1.0
    with pytest.raises(TypeError, match="`weights` must be a float >= 0"):
        keras_rar.MadryRegularizer() * keras_rar.MadryRegularizer()


@pytest.mark.parametrize("weight", [1e60, 1e-60])
def test_a_weight_that_float32_takes_for_zero_or_infinity_is_refused(weight):
    with pytest.raises(ValueError, match=r"`weights` must be .*, also in float32\. Received: weights="):
        keras_rar.MadryRegularizer() * weight


def test_the_precision_of_the_network_is_that_of_every_summand(policy):
    policy("float16")
    network = dense_model()
    for total in (1e6 * keras_rar.MadryRegularizer(), keras_rar.MadryRegularizer() + keras_rar.IGRRegularizer(1e6)):
        with pytest.raises(ValueError, match=r"`(weights|factor)` must be neither 0 nor infinite in float16"):
            keras_rar.wrap(network, total)


@pytest.mark.slow
def test_a_sum_begins_with_adversarial_training_and_has_schedules():
    epsilon = keras.optimizers.schedules.PolynomialDecay(0.1, 10, 0.3)
    options = {"epsilon": epsilon, "begin": 1, "steps": 2}
    total = keras_rar.IGRRegularizer(**options) + keras_rar.IGTopKRegularizer(**options)
    history = wrapped(total).fit(X, Y, epochs=2, verbose=0).history
    assert np.isnan(history["map_distance"][0])
    assert np.isfinite(history["map_distance"][1])
    assert total.epsilon == pytest.approx(0.3)


def test_a_sum_is_saved_and_loaded(tmp_path):
    schedule = keras.optimizers.schedules.PolynomialDecay(0.0, 10, 1.0)
    a, b = parts()
    model = wrapped(a + 0.5 * b + keras_rar.MadryRegularizer(**SHARED) * schedule, optimizer="adam")
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "sum.keras")
    loaded = keras.saving.load_model(tmp_path / "sum.keras", safe_mode=True)
    assert loaded.regularizer.get_config() == model.regularizer.get_config()
    np.testing.assert_array_equal(loaded.objective(X, X_PRIME, Y), model.objective(X, X_PRIME, Y))
    histories = [one.fit(X, Y, shuffle=False, verbose=0).history["loss"] for one in (model, loaded)]
    assert histories[0] == pytest.approx(histories[1], rel=1e-6)


def test_an_update_of_a_sum_by_examples_is_that_of_the_batch(policy):
    policy("float64")
    found = []
    for options in ({"chunk": None}, {"chunk": "auto", "memory_budget": 1e-9}):
        keras.utils.set_random_seed(0)
        shared = {**SHARED, **options}
        total = keras_rar.IGSumNormRegularizer(0.3, **shared) + 0.5 * keras_rar.InputGradientRegularizer(**shared)
        model = wrapped(total, dense_model(dtype="float64"))
        model.fit(X.astype("float64"), Y, shuffle=False, verbose=0)
        found.append(np.concatenate([np.ravel(value) for value in model.get_weights()]))
    np.testing.assert_allclose(*found, atol=1e-12)


def test_a_report_takes_k_of_a_summand():
    model = wrapped(keras_rar.MadryRegularizer() + 0.5 * keras_rar.IGTopKRegularizer(k=2))
    assert ball.of_training(model)["k"] == 2
    assert "k" not in ball.of_training(wrapped(keras_rar.MadryRegularizer() + keras_rar.MadryRegularizer()))


@keras.saving.register_keras_serializable("tests")
class Alignment(keras_rar.AbstractAttributionRegularizer):
    """A method of one's own, in ten lines: the angle between gradient and input."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def objective(self, terms):
        gradient = keras.layers.Flatten()(terms.perturbed_logit_gradient)
        cosine = keras.losses.cosine_similarity(gradient, keras.layers.Flatten()(terms.x))
        return terms.perturbed_loss + self.factor * terms.report("misalignment", cosine)


def test_a_method_of_ones_own_has_all_that_the_others_have(tmp_path, without_controls):
    """`begin`, sums, files and `compare`, for nothing."""
    network = dense_model()
    own = Alignment(0.5, steps=2, begin=1) + 0.1 * keras_rar.R2ETRegularizer(steps=2, begin=1)
    model = wrapped(own, network)
    history = model.fit(X, Y, epochs=2, verbose=0).history
    assert np.isnan(history["misalignment"][0])
    assert np.isfinite(history["misalignment"][1])
    model.save(tmp_path / "own.keras")
    assert keras.saving.load_model(tmp_path / "own.keras").regularizer.regularizers[0].factor == 0.5
    settings = {"epsilon": 0.1, "attacked": 4, "steps": 2, "m": 2, "pgd_steps": 2, "k": 1}
    comparison = keras_rar.compare({"own": model, "plain": dense_model()}, X, Y, **settings)
    assert "own" in comparison.to_markdown()
