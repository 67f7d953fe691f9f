"""IG-TOP-K: its formula, what it leaves alone, and that training by it keeps the largest attributions in place."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, conv_model, dense_model, wrapped
from test_igr import Given, data, distances, maps, trained

import keras_rar
from keras_rar.core import sizes
from keras_rar.metrics import topk_intersection

X, Y = batch(12)


def indicators(a, k, sharpness):
    """By NumPy, as written in the docstring."""
    a = np.abs(a).reshape(len(a), -1)
    r = a / np.sort(a, axis=1)[:, -k, None]
    return r**sharpness / (1 + r**sharpness)


# The soft indicators


@pytest.mark.parametrize("k", [1, 5, 17])
@pytest.mark.parametrize("sharpness", [1.0, 4.0])
def test_soft_top_k_is_the_formula(k, sharpness):
    a, _, _ = maps()
    actual = sizes.soft_top_k(tf.constant(a), k, sharpness)
    np.testing.assert_allclose(actual, indicators(a, k, sharpness), rtol=1e-3, atol=1e-5)  # 10⁻⁶ is added to r


def test_the_default_is_an_eighth_of_the_entries():
    a, _, _ = maps()  # of 18
    np.testing.assert_array_equal(sizes.soft_top_k(a), sizes.soft_top_k(a, 2))
    np.testing.assert_array_equal(sizes.soft_top_k(a[:, :1, :1]), sizes.soft_top_k(a[:, :1, :1], 1))
    assert np.abs(np.subtract(sizes.soft_top_k(a), sizes.soft_top_k(a, 3))).max() > 0.01


def test_sharp_indicators_are_those_of_the_k_largest():
    a, b, _ = maps(n=40)
    soft = [sizes.soft_top_k(value, 6, 400.0) for value in (a, b)]
    shared = topk_intersection(np.abs(a).reshape(40, -1), np.abs(b).reshape(40, -1), 6)
    # The k-th entry of each map itself counts for one half: k - 3/4 in all, and at most 1 of what they share is of it.
    np.testing.assert_allclose(sizes.cosine(*soft), shared, atol=1.1 / 6)
    assert np.corrcoef(sizes.cosine(*soft), shared)[0, 1] > 0.9


@pytest.mark.parametrize("scale", [1e-30, -2.0, 1e25])
def test_the_size_and_the_signs_of_a_map_cost_nothing(scale):
    a = maps()[0].astype("float32")
    expected = sizes.soft_top_k(a, 5)
    np.testing.assert_allclose(sizes.soft_top_k(np.float32(scale) * a, 5), expected, rtol=1e-4, atol=1e-6)  # float32
    assert np.abs(np.subtract(sizes.soft_top_k(a**2, 5), expected)).max() > 0.01


@pytest.mark.parametrize("nonzero", [0, 1, 3])
def test_fewer_entries_than_k_have_finite_indicators_and_gradients(nonzero):
    a = np.zeros((2, 9))
    a[:, :nonzero] = [[3.0, -1.0, 2.0][:nonzero]] * 2
    a = tf.constant(a)
    with tf.GradientTape() as outer:
        outer.watch(a)
        with tf.GradientTape() as tape:
            tape.watch(a)
            soft = sizes.soft_top_k(a, 5)
            total = tf.reduce_sum(soft**2)
        gradient = tape.gradient(total, a)
        size = tf.reduce_sum(gradient**2)
    expected = np.where(a.numpy() != 0, 1, 0)
    np.testing.assert_allclose(soft, expected, atol=1e-3)
    assert np.all(np.isfinite(gradient))
    assert np.all(np.isfinite(outer.gradient(size, a)))


def test_the_gradient_by_central_differences():
    a, h = tf.constant(maps()[0]), 1e-6
    direction = tf.constant(np.random.default_rng(5).normal(size=a.shape))
    weights = tf.constant(np.random.default_rng(6).normal(size=(len(a), 18)))

    def total(value):
        return tf.reduce_sum(weights * sizes.soft_top_k(value, 5, 4.0), axis=1)

    with tf.GradientTape() as tape:
        tape.watch(a)
        value = total(a)
    gradient = tape.gradient(value, a)
    slope = (total(a + h * direction) - total(a - h * direction)) / (2 * h)
    # Entry by entry, but for the largest, which is a constant in the tape: a size costs nothing.
    np.testing.assert_allclose(tf.reduce_sum(gradient * direction, axis=[1, 2, 3]), slope, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("k", [None, 5])
def test_the_same_under_xla(k):
    a = maps()[0].astype("float32")

    def size(value):
        return tf.reduce_sum(sizes.soft_top_k(value, k) ** 2, axis=1)

    with tf.GradientTape(persistent=True) as tape:
        a = tf.constant(a)
        tape.watch(a)
        value, compiled = size(a), tf.function(size, jit_compile=True)(a)
    np.testing.assert_allclose(compiled, value, rtol=1e-5)  # float32
    np.testing.assert_allclose(tape.gradient(compiled, a), tape.gradient(value, a), rtol=1e-4, atol=1e-5)


def test_inputs_of_any_size_and_graphs():
    a, _, _ = maps()
    function = tf.function(
        lambda value: sizes.soft_top_k(value), input_signature=[tf.TensorSpec([None, None, None, 2], tf.float64)]
    )
    np.testing.assert_allclose(function(a), sizes.soft_top_k(a), rtol=1e-12)


# The objective


@pytest.mark.parametrize("factor", [0.0, 3.5])
def test_the_objective_is_the_formula(factor):
    a, b, loss = maps()
    terms = Given(a, b, loss)
    regularizer = keras_rar.IGTopKRegularizer(factor=factor, k=5, sharpness=2.0)
    expected = distances(indicators(a, 5, 2.0), indicators(b, 5, 2.0))
    np.testing.assert_allclose(regularizer.objective(terms), loss + factor * expected, rtol=1e-4)  # 10⁻⁶ added to r
    np.testing.assert_allclose(terms.reported["map_distance"], expected, rtol=1e-4)
    np.testing.assert_allclose(regularizer.ascended(terms), regularizer.objective(terms))
    of_loss = keras_rar.IGTopKRegularizer(k=5, ascend="loss")
    np.testing.assert_array_equal(of_loss.ascended(terms), loss)


def test_the_order_within_the_k_largest_hardly_counts():
    """Which is what sets it apart from the cosine of IGR."""
    a = np.zeros((1, 16))
    a[0, :8] = [5, 4.5, 4, 3.5, 3, 2.5, 2, 1.8]
    a[0, 8:] = 0.2
    b = a.copy()
    b[0, :8] = a[0, :8][::-1]
    loss = np.zeros(1)
    topk = keras_rar.IGTopKRegularizer(factor=1.0, k=8).objective(Given(a, b, loss))[0]
    igr = keras_rar.IGRRegularizer(factor=1.0).objective(Given(a, b, loss))[0]
    moved = keras_rar.IGTopKRegularizer(factor=1.0, k=8).objective(Given(a, a[:, ::-1].copy(), loss))[0]
    assert topk < 0.4 * igr
    assert moved > 0.9


def test_the_derivatives_of_the_objective_by_central_differences(policy):
    """In x′, which the inner maximum follows, and in θ, of second order in the network, in float64."""
    policy("float64")
    base_model = dense_model(features=8, activation="tanh", dtype="float64")
    x, y = batch(5, (8,))
    x = tf.constant(x, tf.float64)
    rng = np.random.default_rng(1)
    x_prime = x + 0.1 * rng.uniform(-1, 1, x.shape)
    options = {"factor": 3.0, "k": 3, "bounds": None, "compile": {"run_eagerly": True}}
    model = wrapped("ig_topk", base_model, **options)
    weights = base_model.trainable_variables

    def value(z):
        return tf.reduce_sum(model.objective(x, z, y))

    with tf.GradientTape() as tape:
        tape.watch(x_prime)
        total = value(x_prime)
    in_x, *in_weights = tape.gradient(total, [x_prime, *(weight.value for weight in weights)])
    h = 1e-6
    step = h * rng.normal(size=x.shape)
    slope = (value(x_prime + step) - value(x_prime - step)) / 2
    np.testing.assert_allclose(tf.reduce_sum(in_x * step), slope, rtol=1e-6)
    for weight, gradient in zip(weights, in_weights, strict=True):
        before, step = weight.numpy(), h * rng.normal(size=weight.shape)
        ends = []
        for sign in (1, -1):
            weight.assign(before + sign * step)
            ends.append(value(x_prime))
        weight.assign(before)
        np.testing.assert_allclose(tf.reduce_sum(gradient * step), (ends[0] - ends[1]) / 2, rtol=1e-6, atol=1e-13)


@pytest.mark.slow
def test_factor_zero_is_adversarial_training():
    weights = []
    for method, options in (("ig_topk", {"factor": 0.0}), ("madry", {}), ("ig_topk", {"factor": 5.0})):
        keras.utils.set_random_seed(0)
        model = wrapped(method, dense_model(), optimizer=keras.optimizers.SGD(0.5), **options)
        model.fit(X, Y, verbose=0)
        weights.append(model.get_weights()[0])
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-5, atol=1e-6)  # float32
    assert np.abs(weights[2] - weights[1]).max() > 1e-3


@pytest.mark.slow
def test_what_x_star_ascends():
    base_model = dense_model()
    options = {"steps": 8, "step_size": 0.02, "random_start": False, "factor": 30.0}
    of_loss = wrapped("ig_topk", base_model, ascend="loss", **options).perturb(X, Y)
    np.testing.assert_array_equal(of_loss, wrapped("igr", base_model, **options).perturb(X, Y))
    model = wrapped("ig_topk", base_model, attack_m=2, **options)
    x_star = model.perturb(X, Y)
    assert np.mean(model.objective(X, x_star, Y)) > 1.01 * np.mean(model.objective(X, of_loss, Y))


@pytest.mark.slow
def test_an_image_of_zeros_is_trained_on():
    """Its map from the baseline 0 is zero."""
    model = wrapped("ig_topk", conv_model(), optimizer="sgd", random_start=False)
    x, y = batch(6, (6, 6, 1))
    x[:3] = 0
    history = model.fit(x, y, epochs=2, verbose=0).history
    assert set(history) == {"loss", "perturbed_loss", "map_distance"}
    assert np.all(np.isfinite(history["map_distance"]))
    assert model.skipped_updates == 0
    assert all(np.all(np.isfinite(weight)) for weight in model.get_weights())


# A method like the others


def test_its_config_makes_the_same_method_again():
    regularizer = keras_rar.IGTopKRegularizer(factor=1.5, k=7, sharpness=3.0, epsilon=0.2, m=7)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(regularizer))
    assert type(again) is keras_rar.IGTopKRegularizer
    assert again.get_config() == regularizer.get_config()
    assert (again.factor, again.k, again.sharpness, again.m) == (1.5, 7, 3.0, 7)
    assert keras_rar.METHODS["ig_topk"] is keras_rar.IGTopKRegularizer


@pytest.mark.parametrize("k", [0, -1, 1.5, "3"])
def test_k_is_a_positive_integer(k):
    with pytest.raises((TypeError, ValueError), match="`k` must be a positive integer"):
        keras_rar.IGTopKRegularizer(k=k)


def test_k_is_less_than_an_input_has_entries():
    with pytest.raises(ValueError, match=r"`k` must be below 4, the number .* Received: k=4"):
        keras_rar.wrap(dense_model(features=4), "ig_topk", k=4)
    assert keras_rar.wrap(dense_model(features=4), "ig_topk", k=3).regularizer.k == 3


def test_k_for_inputs_of_any_size():
    anything = keras.Sequential([keras.Input((None, None, 1)), keras.layers.GlobalAveragePooling2D()])
    anything.add(keras.layers.Dense(3))
    assert keras_rar.wrap(anything, "ig_topk", k=100).regularizer.k == 100


@pytest.mark.parametrize("sharpness", [0, -1.0, float("nan"), "1"])
def test_the_sharpness_is_validated(sharpness):
    with pytest.raises((TypeError, ValueError), match="`sharpness` must be a positive float"):
        keras_rar.IGTopKRegularizer(sharpness=sharpness)


# What it is for


@pytest.mark.slow
def test_the_largest_attributions_stay_where_they_are():
    """At the x* that is worst for them."""
    judge = keras_rar.IGTopKRegularizer(k=2, factor=1.0, attack_m=10, m=50, steps=10)
    distance, accuracy = trained("ig_topk", *data(), judge, factor=1.0, k=2)
    madry, madry_accuracy = trained("madry", *data(), judge)
    assert 0 < distance < 0.8 * madry
    assert accuracy > madry_accuracy - 0.1
    assert accuracy > 0.6


@pytest.mark.slow
def test_the_largest_entries_of_the_gradient_stay_where_they_are_if_it_is_compared():
    judge = keras_rar.IGTopKRegularizer(k=2, factor=1.0, steps=10, maps=("gradient",))
    options = {"factor": 1.0, "k": 2}
    of_gradient, accuracy = trained("ig_topk", *data(), judge, maps=("gradient",), **options)
    of_ig, _ = trained("ig_topk", *data(), judge, **options)
    assert 0 < of_gradient < 0.9 * of_ig
    assert accuracy > 0.6
