"""IGR: its formula, what it leaves alone, and that training by it makes maps agree."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, conv_model, dense_model, wrapped

import keras_rar
from keras_rar.core import sizes

X, Y = batch(12)


class Given:
    """Terms of given values."""

    counted = None

    def __init__(self, clean_map, perturbed_map, perturbed_loss):
        self.clean_map, self.perturbed_map = tf.constant(clean_map), tf.constant(perturbed_map)
        self.perturbed_loss, self.reported = tf.constant(perturbed_loss), {}

    def report(self, name, value):
        self.reported[name] = value
        return value

    def value(self, setting):
        return setting


def maps(seed=0, n=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3, 3, 2)), rng.normal(size=(n, 3, 3, 2)), rng.uniform(size=n)


def distances(a, b):
    """`1 − ⟨|a|, |b|⟩ / (‖a‖ ‖b‖)`, by NumPy."""
    a, b = (np.abs(value).reshape(len(value), -1) for value in (a, b))
    return 1 - np.sum(a * b, axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


# The formula


@pytest.mark.parametrize("factor", [0.0, 1.0, 3.5])
def test_the_objective_is_the_formula(factor):
    a, b, loss = maps()
    terms = Given(a, b, loss)
    regularizer = keras_rar.IGRRegularizer(factor=factor)
    np.testing.assert_allclose(regularizer.objective(terms), loss + factor * distances(a, b), rtol=1e-12)
    np.testing.assert_allclose(terms.reported["map_distance"], distances(a, b), rtol=1e-12)
    np.testing.assert_array_equal(regularizer.ascended(terms), loss)


@pytest.mark.parametrize("powers", [(0.5,), (1.0, 0.5), (1.0, 0.5, 0.25)])
def test_the_distance_is_the_mean_over_the_powers(powers):
    """Of `(|a|/mean + 10⁻³)ᵖ`; and of the map itself for p = 1."""
    a, b, loss = maps()

    def tempered(value, power):
        mean = np.abs(value).mean(axis=(1, 2, 3), keepdims=True)
        return np.abs(value) if power == 1 else (np.abs(value) / mean + 1e-3) ** power

    expected = np.mean([distances(tempered(a, power), tempered(b, power)) for power in powers], axis=0)
    objective = keras_rar.IGRRegularizer(factor=2.0, powers=powers).objective(Given(a, b, loss))
    np.testing.assert_allclose(objective, loss + 2 * expected, rtol=1e-12)
    assert np.abs(expected - distances(a, b)).max() > 1e-2


@pytest.mark.parametrize("scale", [1e-30, 1e-3, -2.0, 1e25])
def test_the_size_and_the_signs_of_a_map_cost_nothing(scale):
    """Neither too small nor too large to be squared in float32."""
    a, b, loss = (value.astype("float32") for value in maps())
    objective = keras_rar.IGRRegularizer().objective
    expected = objective(Given(a, b, loss))
    for terms in (Given(np.float32(scale) * a, b, loss), Given(a, np.float32(scale) * b, loss)):
        np.testing.assert_allclose(objective(terms), expected, rtol=1e-5)  # float32
    np.testing.assert_allclose(objective(Given(np.abs(a), -np.abs(b), loss)), expected, rtol=1e-5)
    assert not np.allclose(objective(Given(a[..., ::-1], b, loss)), expected, rtol=1e-3)


def test_equal_maps_have_distance_zero_and_disjoint_ones_one():
    a, _, loss = maps()
    mask = np.arange(18).reshape(3, 3, 2) % 2
    objective = keras_rar.IGRRegularizer(factor=1.0).objective
    np.testing.assert_allclose(objective(Given(a, a, loss)), loss, atol=1e-12)
    np.testing.assert_allclose(objective(Given(mask * a, (1 - mask) * a, loss)), loss + 1, rtol=1e-12)


@pytest.mark.parametrize("zeros", ["clean", "perturbed", "both"])
def test_a_map_of_zeros_has_a_finite_objective_and_a_gradient_of_zero(zeros):
    a, b, loss = maps()
    a = tf.constant(0 * a if zeros in ("clean", "both") else a)
    b = tf.constant(0 * b if zeros in ("perturbed", "both") else b)
    with tf.GradientTape() as tape:
        tape.watch([a, b])
        objective = keras_rar.IGRRegularizer(factor=1.0).objective(Given(a, b, loss))
    np.testing.assert_allclose(objective, loss + 1)
    for gradient in tape.gradient(objective, [a, b]):
        np.testing.assert_array_equal(gradient, np.zeros_like(a))


def test_a_map_of_zeros_and_powers():
    a, b, loss = maps()
    a = tf.constant(0 * a)
    with tf.GradientTape() as tape:
        tape.watch(a)
        objective = keras_rar.IGRRegularizer(powers=(1.0, 0.5)).objective(Given(a, b, loss))
    assert np.all(np.isfinite(objective))
    np.testing.assert_array_equal(tape.gradient(objective, a), np.zeros_like(a))


def test_the_gradient_of_the_cosine_by_central_differences():
    a, b, _ = maps()
    a, b, h = tf.constant(a), tf.constant(b), 1e-6
    with tf.GradientTape() as tape:
        tape.watch([a, b])
        total = tf.reduce_sum(sizes.cosine(a, b))
    gradients = tape.gradient(total, [a, b])
    direction = tf.constant(np.random.default_rng(5).normal(size=a.shape))
    for gradient, slope in zip(
        gradients,
        (
            sizes.cosine(a + h * direction, b) - sizes.cosine(a - h * direction, b),
            sizes.cosine(a, b + h * direction) - sizes.cosine(a, b - h * direction),
        ),
        strict=True,
    ):
        np.testing.assert_allclose(
            tf.reduce_sum(gradient * direction, axis=[1, 2, 3]), slope / (2 * h), rtol=1e-6, atol=1e-9
        )


# Of a model


def test_the_terms_are_maps_of_the_label_s_logit_from_the_baseline():
    """For a linear network, `w_y ⊙ (x − baseline)`."""
    base_model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    kernel, bias = (value.numpy() for value in base_model.layers[0].weights)
    model = wrapped("igr", base_model, baseline=0.25, factor=2.0)
    x_prime = X[::-1]
    a, b = kernel.T[Y] * (X - 0.25), kernel.T[Y] * (x_prime - 0.25)
    logits = x_prime @ kernel + bias
    loss = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(12), Y]
    expected = loss + 2 * distances(a, b)
    np.testing.assert_allclose(model.objective(X, x_prime, Y), expected, rtol=1e-5)  # float32


def update(method, **options):
    keras.utils.set_random_seed(0)
    model = wrapped(method, dense_model(), optimizer=keras.optimizers.SGD(0.5), **options)
    history = model.fit(X, Y, verbose=0).history
    return history["loss"][0], model.get_weights()


@pytest.mark.slow
def test_factor_zero_is_adversarial_training():
    loss, weights = update("igr", factor=0.0)
    expected_loss, expected = update("madry")
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    for value, wanted in zip(weights, expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)  # float32
    other, _ = update("igr", factor=1.0)
    assert other > expected_loss + 1e-4


def test_x_star_is_that_of_adversarial_training():
    base_model = dense_model()
    igr, madry = (wrapped(method, base_model).perturb(X, Y, seed=3) for method in ("igr", "madry"))
    np.testing.assert_array_equal(igr, madry)


def written_out(base_model, x_prime, m, factor):
    """The objective at (X, x′), by tapes of its own and the midpoint rule."""

    def label_map(x):
        nodes = [(k + 0.5) / m * x for k in range(m)]
        with tf.GradientTape() as tape:
            tape.watch(nodes)
            logits = tf.add_n([tf.gather(base_model(node), Y, batch_dims=1) for node in nodes])
        return x * tf.add_n(tape.gradient(logits, nodes)) / m

    a, b = tf.abs(label_map(tf.constant(X))), tf.abs(label_map(x_prime))
    cosine = tf.reduce_sum(a * b, axis=1) / (tf.norm(a, axis=1) * tf.norm(b, axis=1))
    return tf.nn.sparse_softmax_cross_entropy_with_logits(Y, base_model(x_prime)) + factor * (1 - cosine)


@pytest.mark.slow
def test_x_star_ascends_the_objective_when_asked_to():
    """Step by step as written out; and not where that of the loss goes."""
    base_model = dense_model()
    options = {"steps": 3, "step_size": 0.03, "random_start": False, "factor": 30.0}
    x_prime = tf.constant(X)
    for _ in range(3):
        with tf.GradientTape() as tape:
            tape.watch(x_prime)
            value = written_out(base_model, x_prime, 2, 30.0)
        moved = x_prime + 0.03 * tf.sign(tape.gradient(value, x_prime))
        x_prime = tf.clip_by_value(tf.clip_by_value(moved, X - 0.1, X + 0.1), 0, 1)
    for compile in ({}, {"run_eagerly": True}):
        model = wrapped("igr", base_model, ascend="objective", attack_m=2, compile=compile, **options)
        x_star = model.perturb(X, Y)
        np.testing.assert_allclose(x_star, x_prime, atol=1e-6)
    loss_model = wrapped("igr", base_model, **options)
    of_loss = loss_model.perturb(X, Y)
    assert np.abs(x_star - of_loss).max() > 0.05
    assert np.mean(model.objective(X, x_star, Y)) > 1.01 * np.mean(model.objective(X, of_loss, Y))


def test_what_depends_on_x_alone_is_computed_once_for_all_steps():
    """The clean map is none of what a step computes."""
    computed = []

    @keras.saving.register_keras_serializable("test")
    class Counting(keras_rar.IGRRegularizer):
        def ascended(self, terms):
            computed.append("clean_map" in vars(terms))
            return super().ascended(terms)

    model = wrapped(Counting(ascend="objective", steps=4), compile={"run_eagerly": True})
    computed.clear()
    model.perturb(X, Y)
    assert computed == [True] * 4
    model = wrapped(Counting(steps=4), compile={"run_eagerly": True})
    computed.clear()
    model.perturb(X, Y)
    assert computed == [False] * 4


@pytest.mark.slow
def test_an_image_of_zeros_is_trained_on():
    """Its map from the baseline 0 is zero, and so is its gradient."""
    model = wrapped("igr", conv_model(), optimizer="sgd", random_start=False)
    x, y = batch(6, (6, 6, 1))
    x[:3] = 0
    history = model.fit(x, y, epochs=2, verbose=0).history
    assert np.all(np.isfinite(history["loss"]))
    assert np.all(np.isfinite(history["map_distance"]))
    assert model.skipped_updates == 0
    assert all(np.all(np.isfinite(weight)) for weight in model.get_weights())


@pytest.mark.slow
def test_the_history_names_its_terms():
    assert set(wrapped("igr").fit(X, Y, verbose=0).history) == {"loss", "perturbed_loss", "map_distance"}


# A method like the others


def test_its_config_makes_the_same_method_again():
    regularizer = keras_rar.IGRRegularizer(factor=1.5, powers=(1.0, 0.5), epsilon=0.2, m=7, baseline=[0.1, 0.2])
    config = regularizer.get_config()
    assert (config["factor"], config["m"], config["baseline"]) == (1.5, 7, [0.1, 0.2])
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(regularizer))
    assert type(again) is keras_rar.IGRRegularizer
    assert again.get_config() == config
    assert again.powers == (1.0, 0.5)


def test_it_is_in_the_table():
    assert keras_rar.METHODS["igr"] is keras_rar.IGRRegularizer
    assert keras_rar.wrap(dense_model(), "igr", factor=2.0).regularizer.factor == 2.0


@pytest.mark.parametrize("factor", [-1, -1e-9, float("nan"), "3"])
def test_the_factor_is_validated(factor):
    with pytest.raises((TypeError, ValueError), match="`factor` must be a float >= 0"):
        keras_rar.IGRRegularizer(factor=factor)


@pytest.mark.parametrize("powers", [(), 0.5, (0.0,), (1.0, -1.0), ("1",)])
def test_the_powers_are_validated(powers):
    with pytest.raises((TypeError, ValueError), match="`powers` must be"):
        keras_rar.IGRRegularizer(powers=powers)


@pytest.mark.parametrize("maps", ["ig", (), ("ig", "igg"), ["gradient", 3], None, {"ig"}, 2])
@pytest.mark.parametrize("method", ["igr", "ig_topk", "pearson", "kendall"])
def test_the_maps_are_validated(method, maps):
    with pytest.raises((TypeError, ValueError), match=r"`maps` must be one (or more )?of .*'ig'.*'gradient'"):
        wrapped(method, dense_model(), maps=maps)


def test_what_is_ascended_is_validated_and_saved():
    with pytest.raises(ValueError, match="`ascend` must be"):
        keras_rar.IGRRegularizer(ascend="map")
    assert keras_rar.IGRRegularizer(ascend="objective").get_config()["ascend"] == "objective"


# What it is for


def data():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(256, 8)).astype("float32")
    return x, (x[:, 0] + 0.5 * x[:, 1] > x[:, 2] + 0.5 * x[:, 3]).astype("int64") + (x[:, 4] * x[:, 5] > 0.4)


def trained(method, x, y, judge, **options):
    """After a training: the distance that a judge, of factor 1, sees between maps at x and at its x*; the accuracy."""
    keras.utils.set_random_seed(1)
    base_model = dense_model(features=8, hidden=24, activation="relu")
    model = keras_rar.wrap(base_model, method, seed=0, epsilon=0.1, steps=3, m=4, **options)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    model.fit(x, y, epochs=30, batch_size=64, verbose=0)
    judge = keras_rar.wrap(base_model, judge, seed=0)
    judge.compile("sgd", loss)
    x_star = judge.perturb(x, y, seed=0)
    distance = judge.objective(x, x_star, y) - tf.nn.sparse_softmax_cross_entropy_with_logits(y, base_model(x_star))
    return float(tf.reduce_mean(distance)), model.evaluate(x, y, verbose=0)[1]


@pytest.mark.slow
def test_maps_agree_more_after_it_than_after_adversarial_training():
    judge = keras_rar.IGRRegularizer(epsilon=0.1, steps=10, m=50, factor=1.0)
    igr, igr_accuracy = trained("igr", *data(), judge, factor=5.0)
    madry, madry_accuracy = trained("madry", *data(), judge)
    assert 0 < igr < 0.7 * madry
    assert igr_accuracy > madry_accuracy - 0.1
    assert igr_accuracy > 0.6
