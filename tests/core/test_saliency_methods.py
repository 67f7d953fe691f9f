"""Saliency methods against closed forms, and the map they are reduced to."""

import numpy as np
import pytest
import tensorflow as tf
from map_derivatives import assert_is_that_of_differences

from keras_rar.core import quadrature
from keras_rar.core.saliency_methods import (
    METHODS,
    Gradient,
    GradientTimesInput,
    IntegratedGradients,
    Saliency,
    SmoothGrad,
    normalize_map,
)

W = np.array([1.0, -2.0, 3.0, 0.0])
X = np.random.default_rng(0).uniform(-1, 1, size=(3, 4))
ROUNDING = {"rtol": 1e-12, "atol": 1e-14}  # float64
every_method = pytest.mark.parametrize("method", [name for name in METHODS if name != "grad_cam"])
"""Grad-CAM takes no other function than the score of a network."""


def linear(z):
    return tf.linalg.matvec(z, tf.constant(W, z.dtype)) + 0.5


def quadratic(z):
    return tf.linalg.matvec(z**2, tf.constant(W, z.dtype))


def smooth(z):
    """`sin(w·z) + Σ z⁴`: no method is exact on it, and its third derivatives are not 0."""
    return tf.sin(linear(z)) + tf.reduce_sum(z**4, axis=1)


def attributions(saliency, f, x=X):
    return saliency(f, tf.constant(x)).numpy()


# Closed forms


@pytest.mark.parametrize("baseline", [0.0, -1.5, [0.5, 0.0, -0.5, 1.0]])
@pytest.mark.parametrize("rule", quadrature.RULES)
@pytest.mark.parametrize("m", [1, 4])
def test_integrated_gradients_of_a_linear_score(rule, m, baseline):
    """`(x − b) ⊙ w`, whatever the rule."""
    saliency = IntegratedGradients(quadrature.get(rule, m), baseline)
    np.testing.assert_allclose(attributions(saliency, linear), (X - np.array(baseline)) * W, **ROUNDING)


def test_integrated_gradients_of_a_quadratic_score():
    """`(x − b) w (x + b)` by the midpoint rule; the right one is off by `w (x − b)² / m`."""
    b = 0.3
    exact = W * (X**2 - b**2)
    midpoint = IntegratedGradients(quadrature.midpoint(1), b)
    np.testing.assert_allclose(attributions(midpoint, quadratic), exact, **ROUNDING)
    right = IntegratedGradients(quadrature.right(5), b)
    np.testing.assert_allclose(attributions(right, quadratic), exact + W * (X - b) ** 2 / 5, **ROUNDING)


def test_integrated_gradients_are_complete():
    for baseline in (0.0, [0.5, 0.0, -0.5, 1.0]):
        saliency = IntegratedGradients(quadrature.gauss_legendre(16), baseline)
        change = smooth(tf.constant(X)) - smooth(tf.constant(np.broadcast_to(baseline, X.shape)))
        np.testing.assert_allclose(attributions(saliency, smooth).sum(axis=1), change, rtol=1e-10)  # the rule's error


def test_the_default_rule_is_the_paper_s():
    """`right(100)`, zero baseline: above the integral by `w x² / 100` on the quadratic."""
    np.testing.assert_allclose(attributions(IntegratedGradients(), quadratic), W * X**2 * 1.01, **ROUNDING)


def test_gradient_and_gradient_times_input():
    np.testing.assert_allclose(attributions(Gradient(), quadratic), 2 * W * X, **ROUNDING)
    np.testing.assert_allclose(attributions(GradientTimesInput(), quadratic), 2 * W * X**2, **ROUNDING)


def test_smoothgrad_of_a_linear_score_is_its_gradient():
    np.testing.assert_allclose(attributions(SmoothGrad(7), linear), np.broadcast_to(W, X.shape), **ROUNDING)


def test_smoothgrad_of_a_quadratic_score():
    """`2w (x + σ ḡ)` with ḡ the mean of n draws, of standard deviation `1 / √n`, the same for every example."""
    x = np.zeros((2, 4000))
    x[1] = 0.7
    saliency = SmoothGrad(samples=16, noise=0.5)
    means = (attributions(saliency, lambda z: tf.reduce_sum(z**2, axis=1), x) / 2 - x) / 0.5
    np.testing.assert_allclose(means[1], means[0], rtol=0, atol=1e-12)
    assert np.std(means[0]) == pytest.approx(1 / 4, rel=0.05)  # of 4,000 entries: known to 1.1 %
    assert abs(np.mean(means[0])) < 0.02  # five standard errors


def test_smoothgrad_of_a_cubic_score_tends_to_the_expected_gradient():
    """`E ∂(Σ z³)/∂z = 3 (x² + σ²)`: smoothed, not the gradient at x."""
    result = attributions(SmoothGrad(samples=20_000, noise=0.5), lambda z: tf.reduce_sum(z**3, axis=1))
    error = 3 * np.sqrt((4 * X**2 * 0.25 + 2 * 0.5**4) / 20_000)  # the standard error of 3 (x + σg)²
    assert np.all(np.abs(result - 3 * (X**2 + 0.25)) < 5 * error)
    assert np.all(np.abs(result - 3 * X**2) > 5 * error)  # negative control


def test_the_arguments_of_smoothgrad_change_its_draws():
    reference = SmoothGrad(4, 0.1, 0)
    same = attributions(SmoothGrad(4, 0.1, 0), smooth)
    np.testing.assert_array_equal(attributions(reference, smooth), same)
    for other in (SmoothGrad(5, 0.1, 0), SmoothGrad(4, 0.2, 0), SmoothGrad(4, 0.1, 1)):
        assert np.abs(attributions(other, smooth) - same).max() > 1e-3


def test_smoothgrad_draws_the_same_under_xla():
    saliency = SmoothGrad(4)
    compiled = tf.function(lambda x: saliency(smooth, x), autograph=False, jit_compile=True)
    np.testing.assert_allclose(compiled(tf.constant(X)), attributions(saliency, smooth), **ROUNDING)


# What all methods share


@every_method
def test_each_example_is_explained_on_its_own(method):
    saliency = METHODS[method]()
    alone = np.concatenate([attributions(saliency, smooth, X[i : i + 1]) for i in range(len(X))])
    np.testing.assert_allclose(attributions(saliency, smooth), alone, **ROUNDING)


@every_method
@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 5), (2, 3, 3, 2)])
def test_attributions_have_the_shape_of_x_with_an_unknown_batch(method, shape):
    @tf.function(input_signature=[tf.TensorSpec([None, *shape[1:]], tf.float64)])
    def explain(x):
        return METHODS[method]()(lambda z: tf.reduce_sum(z, axis=list(range(1, len(shape)))), x)

    x = np.random.default_rng(1).uniform(size=shape)
    expected = np.ones(shape) if method in ("gradient", "smoothgrad") else x
    if method == "occlusion" and len(shape) == 4:  # channels share
        expected = np.broadcast_to(x.mean(axis=-1, keepdims=True), shape)
    np.testing.assert_allclose(explain(x), expected, **ROUNDING)


@every_method
def test_a_map_can_be_differentiated(method):
    """What an attack follows: the derivative in x of a sum of attributions, by central differences."""
    assert_is_that_of_differences(METHODS[method](), smooth, X)


class Occlusion(Saliency):
    """`f(x) − f(x without entry i)`: a method that is not in the table."""

    def __call__(self, f, x):
        kept = 1 - tf.eye(x.shape[1], dtype=x.dtype)
        return f(x)[:, tf.newaxis] - tf.stack([f(x * row) for row in tf.unstack(kept)], axis=1)


def test_a_method_of_one_s_own():
    np.testing.assert_allclose(attributions(Occlusion(), linear), X * W, **ROUNDING)


# Chunks


@pytest.mark.parametrize("chunk", [1, 3, 7, 100, None, "auto"])
def test_a_chunk_changes_memory_alone(chunk):
    for whole, chunked in (
        (
            IntegratedGradients(quadrature.trapezoid(6), 0.1, None),
            IntegratedGradients(quadrature.trapezoid(6), 0.1, chunk),
        ),
        (SmoothGrad(7, chunk=None), SmoothGrad(7, chunk=chunk)),
    ):
        np.testing.assert_allclose(attributions(chunked, smooth), attributions(whole, smooth), **ROUNDING)


def rows_at_once(saliency, x):
    rows = []
    saliency(lambda z: rows.append(len(z)) or tf.reduce_sum(z, axis=[1, 2, 3]), x)
    return max(rows)


@pytest.mark.parametrize(
    ("batch", "chunk", "rows"), [(2, 5, 10), (2, None, 200), (32, "auto", 32 * 15), (2, "auto", 200)]
)
def test_how_many_points_are_evaluated_at_once(batch, chunk, rows):
    """`"auto"`: as many nodes as keep 28 × 28 images below 400,000 entries, and all where there is room."""
    x = tf.zeros([batch, 28, 28, 1])
    for saliency in (IntegratedGradients(chunk=chunk), SmoothGrad(100, chunk=chunk)):
        seen = rows_at_once(saliency, x)
        assert rows * 0.9 <= seen <= rows  # the same number each round, which may be less
    assert rows_at_once(IntegratedGradients(quadrature.right(3)), tf.zeros([2, 1024, 1024, 1])) == 2  # one at least


# The map


@pytest.mark.parametrize("shape", [(2, 5), (2, 4, 3), (2, 4, 3, 1), (2, 4, 3, 3), (2, 2, 2, 2, 2)])
def test_the_map_is_the_paper_s(shape):
    values = np.random.default_rng(0).normal(size=shape)
    result = normalize_map(tf.constant(values)).numpy()
    expected = np.abs(values).sum(axis=-1) if len(shape) >= 4 else np.abs(values)
    size = expected[0].size
    expected = np.stack([size * m / m.sum() for m in expected])
    np.testing.assert_allclose(result, expected, **ROUNDING)
    np.testing.assert_allclose(result.reshape(2, -1).sum(axis=1), size, **ROUNDING)


def test_the_absolute_value_is_taken_before_channels_are_summed():
    np.testing.assert_allclose(normalize_map(tf.constant([[[[1.0, -1.0], [2.0, 0.0]]]])), [[[1.0, 1.0]]])


def test_the_map_forgets_the_scale_and_the_sign():
    values = np.random.default_rng(0).normal(size=(2, 4, 3, 1))
    reference = normalize_map(tf.constant(values))
    np.testing.assert_allclose(normalize_map(tf.constant(-1e-3 * values)), reference, **ROUNDING)


def test_zeros_stay_zeros():
    values = np.zeros((2, 4, 3, 1), "float32")
    values[1, 2, 1] = -1e-20
    result = normalize_map(tf.constant(values)).numpy()
    np.testing.assert_array_equal(result[0], np.zeros((4, 3)))
    assert result[1, 2, 1] == pytest.approx(12)
    assert np.count_nonzero(result) == 1


# Arguments


def test_a_seed_may_be_a_numpy_integer():
    method = SmoothGrad(samples=2, seed=np.int64(3))
    assert type(method.seed) is int
    x = tf.ones([1, 2])
    np.testing.assert_array_equal(method(cubic, x), SmoothGrad(samples=2, seed=3)(cubic, x))


def cubic(z):
    return tf.reduce_sum(z**3, axis=1)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: IntegratedGradients("right"), TypeError, "`rule` must be a QuadratureRule. Received: rule='right'"),
        (lambda: IntegratedGradients(baseline="x"), TypeError, "`baseline` must be a float or an array of floats"),
        (lambda: IntegratedGradients(baseline=np.nan), ValueError, "`baseline` must be finite. Received: baseline=nan"),
        (lambda: IntegratedGradients(chunk=0), ValueError, "`chunk` must be a positive integer. Received: chunk=0"),
        (lambda: IntegratedGradients(chunk="all"), TypeError, "`chunk` must be a positive integer"),
        (lambda: SmoothGrad(0), ValueError, "`samples` must be a positive integer. Received: samples=0"),
        (lambda: SmoothGrad(noise=0), ValueError, "`noise` must be a positive float. Received: noise=0"),
        (lambda: SmoothGrad(noise=1e-50), ValueError, "`noise` must be a positive float, also in float32. Received"),
        (lambda: SmoothGrad(seed=0.5), ValueError, "`seed` must be an integer. Received: seed=0.5"),
        (lambda: SmoothGrad(seed=2**63), ValueError, "`seed` must be an integer from -9223372036854775808 to"),
        (lambda: SmoothGrad(chunk=-1), ValueError, "`chunk` must be a positive integer. Received: chunk=-1"),
        (Saliency, TypeError, "abstract"),
    ],
)
def test_arguments_are_validated(make, error, message):
    with pytest.raises(error, match=message):
        make()
