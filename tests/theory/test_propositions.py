"""The theory as tests of the whole pipeline: special cases in closed form, and exact θ-gradients.

Everything is in float64, so tolerances are those of central differences, quadrature or bisection alone.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import conv_model, dense_model, wrapped
from same_training import (
    ACCURATE,
    EXACT,
    ONE_NODE,
    assert_same_training,
    pair,
    segment,
    weight_gradients,
    x_prime_gradient,
)

import keras_rar
from keras_rar.core import quadrature, sizes
from keras_rar.core.ascent import projected_ascent
from keras_rar.core.integration import completeness_gap, integrated_gradients

every_rule = pytest.mark.parametrize("rule", quadrature.RULES)


pytestmark = pytest.mark.usefixtures("in_float64")


# Linear and quadratic functions

SLOPE = np.array([2.0, -1.0, 0.0, 0.5])


def linear(z):
    return tf.linalg.matvec(z, SLOPE)


@every_rule
@pytest.mark.parametrize("m", [1, 3])
def test_linear_loss(rule, m):
    """IG = a ∘ (x′ − x), whatever the rule."""
    x, x_prime, _ = segment()
    attributions = integrated_gradients(linear, x, x_prime, quadrature.get(rule, m))
    np.testing.assert_allclose(attributions, SLOPE * (x_prime - x), **EXACT)


@every_rule
def test_linear_loss_maximum_of_the_ig_norm(rule):
    """max ‖IG‖₁ = ε ‖a‖₁ over the L∞ ball."""
    ball, x = keras_rar.LinfBall(0.3, bounds=None), tf.constant(segment()[0])

    def size(x_prime):
        return sizes.l1_norm(integrated_gradients(linear, x, x_prime, quadrature.get(rule, 2)))

    start = ball.sample(x, tf.constant([0, 1]))
    x_star = projected_ascent(size, x, start, ball, steps=10, step_size=0.1)
    np.testing.assert_allclose(size(x_star), 0.3 * np.abs(SLOPE).sum(), **EXACT)
    assert np.all(size(start) < size(x_star))
    never_moved = projected_ascent(size, x, x, ball, steps=10, step_size=0.1)  # negative control: no random start
    np.testing.assert_array_equal(never_moved, x)


@every_rule
@pytest.mark.parametrize("m", [1, 4])
def test_quadratic_loss(rule, m):
    """ℓ = ½‖z‖²: left and right are off by (x′ − x)² / 2m in every element, the others exact."""
    x, x_prime, _ = segment()
    exact = (x_prime**2 - x**2) / 2
    error = {"left": -1, "right": 1}.get(rule, 0) * (x_prime - x) ** 2 / (2 * m)
    attributions = integrated_gradients(lambda z: tf.reduce_sum(z**2, axis=1) / 2, x, x_prime, quadrature.get(rule, m))
    np.testing.assert_allclose(attributions, exact + error, **EXACT)


# Completeness of the compiled loss


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "order"), [("left", 1), ("right", 1), ("midpoint", 2), ("trapezoid", 2)])
def test_completeness_of_the_compiled_loss(rule, order):
    (x, x_prime, y), base_model = segment(), dense_model()
    natural = wrapped("natural", base_model)
    gaps = []
    for m in (4, 16):
        attributions = wrapped("natural", base_model, rule=rule, m=m).attributions(x, x_prime, y)
        gap = completeness_gap(lambda z: natural.objective(z, z, y), x, x_prime, attributions)
        gaps.append(np.linalg.norm(gap))
    slope = np.log(gaps[1] / gaps[0]) / np.log(16 / 4)
    assert slope == pytest.approx(-order, abs=0.1)  # higher terms, at m = 4


# Special cases of the methods


@pytest.mark.slow
def test_beta_zero_is_madry():
    x, x_prime, y = segment()
    ig_sum_norm, madry = pair("ig_sum_norm", {"beta": 0, "steps": 5}, "madry", {"steps": 5})
    assert_same_training(ig_sum_norm, madry, x, x_prime, y)
    np.testing.assert_allclose(ig_sum_norm.perturb(x, y, seed=3), madry.perturb(x, y, seed=3), **EXACT)


def test_beta_is_felt():
    """Negative control of the test above."""
    x, x_prime, y = segment()
    ig_sum_norm, madry = pair("ig_sum_norm", {"beta": 0.1}, "madry", {})
    assert np.all(ig_sum_norm.objective(x, x_prime, y) > madry.objective(x, x_prime, y))


def test_factor_zero_is_natural_training():
    assert_same_training(*pair("ig_norm", {"factor": 0}, "natural", {}), *segment())


@pytest.mark.slow
@pytest.mark.parametrize("factor", [0, 1])
def test_fit_with_factor_zero_is_natural_fit(factor):
    """With λ = 1 as the negative control."""
    x, _, y = segment()
    models = pair("ig_norm", {"factor": factor}, "natural", {})
    start = models[0].get_weights()
    fitted = []
    for model in models:
        model.base_model.set_weights(start)
        history = model.fit(x, y, batch_size=5, epochs=2, shuffle=False, verbose=0).history
        fitted.append([history["loss"], *model.get_weights()])
    same = [np.allclose(actual, expected, **EXACT) for actual, expected in zip(*fitted, strict=True)]
    assert same == [factor == 0] * len(same)


class IGSize(keras_rar.AbstractAttributionRegularizer):
    """`ℓ(x) + λ s(IG(x, x*))` with any size function."""

    def __init__(self, size=sizes.total, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.size, self.factor = size, factor

    def objective(self, terms):
        return terms.clean_loss + self.factor * self.size(terms.attributions)


def test_the_sum_is_madry():
    x, x_prime, y = segment()
    rar, madry = pair(IGSize(steps=5, **ACCURATE), {}, "madry", {"steps": 5})
    assert_same_training(rar, madry, x, x_prime, y, atol=1e-8)  # quadrature
    np.testing.assert_allclose(rar.perturb(x, y, seed=3), madry.perturb(x, y, seed=3), atol=1e-8)
    # Negative control: with one node of the wrong rule completeness fails, and so does the equality.
    coarse = wrapped(IGSize(rule="right", m=1), rar.base_model)
    assert np.max(np.abs(coarse.objective(x, x_prime, y) - madry.objective(x, x_prime, y))) > 1e-4


def test_the_sum_plus_l1_is_ig_sum_norm():
    x, x_prime, y = segment()
    rar = IGSize(size=lambda a: sizes.total_plus_l1(a, 0.3), **ACCURATE)
    models = pair(rar, {}, "ig_sum_norm", {"beta": 0.3, **ACCURATE})
    assert_same_training(*models, x, x_prime, y, atol=1e-8)  # quadrature


def test_the_absolute_sum_is_the_change_of_the_loss():
    x, x_prime, y = segment()
    rar, natural = pair(IGSize(size=sizes.absolute_total, factor=0.7, **ACCURATE), {}, "natural", {})
    change = natural.objective(x_prime, x, y) - natural.objective(x, x, y)
    assert len(set(np.sign(change))) == 2  # it rises for some and falls for others
    expected = natural.objective(x, x, y) + 0.7 * np.abs(change)
    np.testing.assert_allclose(rar.objective(x, x_prime, y), expected, atol=1e-8)  # quadrature


def loss_gradient(natural, x, y):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = natural.objective(x, x, y)
    return tape.gradient(loss, x)


@pytest.mark.parametrize("q", [1, 2])
def test_one_node_is_input_gradient_regularisation(q):
    """s = ‖·‖_q^q, λ = λ′ / ε^q: the maximum is ℓ(x) + λ′ ‖∇ₓℓ(x)‖_q^q."""
    x, _, y = segment()
    strength, factor = 0.3, 0.3 / ONE_NODE["epsilon"] ** q
    rar, natural = pair(IGSize(size=lambda a: sizes.power(a, q), factor=factor, **ONE_NODE), {}, "natural", {})
    expected = natural.objective(x, x, y) + strength * sizes.power(loss_gradient(natural, x, y), q)
    np.testing.assert_allclose(rar.objective(x, rar.perturb(x, y), y), expected, **EXACT)


def test_one_node_ig_norm():
    """max ‖IG‖₁ over the L∞ ball is ε ‖∇ₓℓ(x)‖₁."""
    x, _, y = segment()
    ig_norm, natural = pair("ig_norm", {"factor": 2, **ONE_NODE}, "natural", {})
    expected = natural.objective(x, x, y) + 2 * ONE_NODE["epsilon"] * sizes.l1_norm(loss_gradient(natural, x, y))
    np.testing.assert_allclose(ig_norm.objective(x, ig_norm.perturb(x, y), y), expected, **EXACT)


# One-layer network: soft max-margin

EPSILON = 0.5
W = np.array([6.0, -5.0, 4.0, -3.0, 2.0])


def one_layer():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([W[:, np.newaxis]])
    return model


def max_margin(method, **options):
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    options = {"epsilon": EPSILON, "bounds": None, "steps": 40, "step_size": 0.1, **ACCURATE, "m": 24, **options}
    return wrapped(method, one_layer(), loss=loss, **options)


def classified_examples(margin):
    """Examples with −y⟨w, x⟩ = −margin, y in {−1, 1}, and the labels 0 or 1."""
    signs = np.array([1, -1, 1, -1, 1, -1])
    x = np.random.default_rng(0).normal(size=(6, 5))
    return x + np.outer(signs * margin - x @ W, W / (W @ W)), (signs > 0).astype(int), signs


def margin_loss(x, signs):
    return np.log1p(np.exp(-signs * (x @ W) + EPSILON * np.abs(W).sum()))


def margin_gradient(x, signs):
    """In w, of the sum over the batch."""
    towards = -signs[:, np.newaxis] * x + EPSILON * np.sign(W)
    return (1 - np.exp(-margin_loss(x, signs))) @ towards


@pytest.mark.parametrize(("method", "margin"), [("ig_norm", 8.0), ("madry", 8.0), ("madry", -1.0)])
def test_one_layer_is_soft_max_margin(method, margin):
    """The objective at x* is softplus(−y⟨w, x⟩ + ε‖w‖₁), and so is its θ-gradient.

    Every corner of the ball may be a local maximum of ‖IG‖₁. Where the loss is nearly flat, far on the right side of
    the decision, it is not: hence the wide margin for IG-NORM, from where every start leads to the global one.
    """
    model = max_margin(method, **({"factor": 1.0} if method == "ig_norm" else {}))
    x, y, signs = classified_examples(margin)
    x_star = model.perturb(x, y, seed=0)
    np.testing.assert_allclose(model.objective(x, x_star, y), margin_loss(x, signs), atol=1e-8)  # quadrature
    (gradient,) = weight_gradients(model, x, x_star, y)
    np.testing.assert_allclose(gradient[:, 0], margin_gradient(x, signs), atol=1e-6)  # quadrature


@pytest.mark.parametrize("seed", range(4))
def test_one_layer_ig_norm_never_exceeds_soft_max_margin(seed):
    model = max_margin("ig_norm", factor=1.0)
    x, y, signs = classified_examples(margin=1.0)
    reached = model.objective(x, model.perturb(x, y, seed=seed), y)
    assert np.all(reached <= margin_loss(x, signs) + 1e-8)
    assert np.all(reached > np.log1p(np.exp(-signs * (x @ W))))  # more than the clean loss


# θ-gradients against central differences


def central_differences(value, array, assign, h=1e-6):
    slopes = np.zeros_like(array)
    for i in np.ndindex(array.shape):
        values = []
        for sign in (1, -1):
            shifted = array.copy()
            shifted[i] += sign * h
            values.append(value(assign(shifted)))
        slopes[i] = (values[0] - values[1]) / (2 * h)
    return slopes


# Rounding of a value near 10 gives 1e-15 / 1e-6; truncation, h² times a third derivative, is below that.
NUMERIC = {"rtol": 1e-6, "atol": 1e-8}
METHODS = [("ig_norm", {"factor": 0.7}), ("ig_sum_norm", {"beta": 0.3})]
NETWORKS = [(dense_model, (4,)), (conv_model, (6, 6, 1))]
every_objective = pytest.mark.parametrize(("method", "options"), METHODS, ids=[name for name, _ in METHODS])
every_network = pytest.mark.parametrize(("network", "features"), NETWORKS, ids=["smooth", "relu_max_pool"])


def distance_to_kinks(model, x, x_prime, y):
    """How near the objective is to where it has no derivative: ReLU, a tie of max-pooling, an attribution of 0."""
    attributions = np.abs(model.attributions(x, x_prime, y).numpy())
    distances = [attributions[attributions > 0].min()]
    layer = model.base_model.layers[0]
    if isinstance(layer, keras.layers.Conv2D):
        nodes = np.array(model.regularizer.training_rule.nodes).reshape(-1, 1, 1, 1, 1)
        points = np.concatenate([x, x_prime, *(x + nodes * (x_prime - x))])
        before = tf.nn.conv2d(points, layer.kernel, 1, "SAME") + layer.bias
        windows = np.maximum(before, 0).reshape(-1, 3, 2, 3, 2, 4).transpose(0, 1, 3, 5, 2, 4).reshape(-1, 4)
        second, first = np.sort(windows, axis=1)[:, -2:].T
        distances += [np.abs(before).min(), (first - second)[first > 0].min()]
    return min(distances)


@pytest.mark.slow
@every_objective
@every_network
def test_gradients_are_exact(method, options, network, features):
    """In every weight and in x′, through the second derivatives of the network."""
    model = wrapped(method, network(), rule="right", m=3, **options)
    # A step of 1e-6 moves an activation or an attribution by a few times as much: none may reach a kink.
    drawn = (segment(features, n=2, seed=seed) for seed in range(50))
    x, x_prime, y = next(data for data in drawn if distance_to_kinks(model, *data) > 2e-5)

    def value(x_prime):
        return tf.reduce_sum(model.objective(x, x_prime, y)).numpy()

    exact = weight_gradients(model, x, x_prime, y)
    for variable, gradient in zip(model.trainable_variables, exact, strict=True):
        before = variable.numpy()
        numeric = central_differences(lambda _: value(x_prime), before, variable.assign)
        variable.assign(before)
        np.testing.assert_allclose(gradient, numeric, **NUMERIC)
    assert all(np.any(gradient != 0) for gradient in exact)
    numeric = central_differences(value, x_prime, lambda shifted: shifted)
    np.testing.assert_allclose(x_prime_gradient(model, x, x_prime, y), numeric, **NUMERIC)


@pytest.mark.parametrize(("method", "weight"), [("ig_norm", "factor"), ("ig_sum_norm", "beta")])
def test_the_attribution_term_has_a_gradient_of_its_own(method, weight):
    """Negative control: without the second derivatives the θ-gradient is another one, by far more than above."""
    models = pair(method, {weight: 0.3}, method, {weight: 0})
    for with_term, without in zip(*(weight_gradients(model, *segment()) for model in models), strict=True):
        assert np.max(np.abs(with_term - without)) > 1e-3
