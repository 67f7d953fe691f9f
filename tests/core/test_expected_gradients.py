"""Expected gradients against IG, closed forms and their own draws."""

import numpy as np
import pytest
import tensorflow as tf
from map_derivatives import assert_is_that_of_differences

from keras_rar.core import quadrature
from keras_rar.core.expected_gradients import ExpectedGradients
from keras_rar.core.held import Columns, Held
from keras_rar.core.saliency_methods import IntegratedGradients

W = np.array([1.0, -2.0, 3.0, 0.5])
X = np.random.default_rng(0).uniform(-1, 1, size=(3, 4))
BACKGROUND = np.random.default_rng(1).uniform(-1, 1, size=(5, 4))
ROUNDING = {"rtol": 1e-12, "atol": 1e-13}  # float64


def smooth(z):
    return tf.sin(tf.linalg.matvec(z, tf.constant(W, z.dtype))) + tf.reduce_sum(z**4, axis=1)


def attributions(saliency, f=smooth, x=X):
    return saliency(f, tf.constant(x)).numpy()


@pytest.mark.parametrize("rule", [quadrature.right(5), quadrature.midpoint(3)])
@pytest.mark.parametrize("baseline", [0.3, [0.5, None, -0.5, 1.0], [[0.5, 0.0, -0.5, 1.0]]])
def test_with_one_baseline_and_a_rule_it_is_ig(baseline, rule):
    one = baseline[0] if np.ndim(baseline) == 2 else baseline
    expected = attributions(IntegratedGradients(rule, one))
    np.testing.assert_allclose(attributions(ExpectedGradients(baseline, rule)), expected, **ROUNDING)


def test_with_a_rule_it_is_the_mean_of_ig_over_the_background():
    rule = quadrature.midpoint(4)
    each = [attributions(IntegratedGradients(rule, b)) for b in BACKGROUND]
    found = attributions(ExpectedGradients(BACKGROUND, rule))
    np.testing.assert_allclose(found, np.mean(each, axis=0), **ROUNDING)
    assert np.abs(found - each[0]).max() > 0.01  # negative control


def test_with_a_rule_it_is_complete():
    found = attributions(ExpectedGradients(BACKGROUND, quadrature.gauss_legendre(16)))
    change = smooth(tf.constant(X)) - tf.reduce_mean(smooth(tf.constant(BACKGROUND)))
    np.testing.assert_allclose(found.sum(axis=1), change, rtol=1e-9)  # the rule's error


def test_draws_are_complete_in_expectation():
    """The mean over seeds lies within five standard errors; a wrong background does not."""
    change = (smooth(tf.constant(X)) - tf.reduce_mean(smooth(tf.constant(BACKGROUND)))).numpy()
    sums = np.array([attributions(ExpectedGradients(BACKGROUND, seed=s)).sum(axis=1) for s in range(200)])
    error = sums.std(axis=0) / np.sqrt(200)
    assert np.all(np.abs(sums.mean(axis=0) - change) < 5 * error)
    other = (smooth(tf.constant(X)) - smooth(tf.zeros([1, 4], tf.float64))).numpy()
    assert np.any(np.abs(sums.mean(axis=0) - other) > 5 * error)  # negative control


def test_draws_of_a_linear_score_are_those_of_baselines_alone():
    found = attributions(ExpectedGradients(BACKGROUND, samples=7, seed=3), lambda z: tf.linalg.matvec(z, W))
    drawn = BACKGROUND[np.random.default_rng(3).integers(5, size=7)]
    np.testing.assert_allclose(found, W * (X - drawn.mean(axis=0)), **ROUNDING)


def test_the_draws_depend_on_the_seed_alone():
    saliency = ExpectedGradients(BACKGROUND, samples=9, seed=-1)
    same = attributions(ExpectedGradients(BACKGROUND, samples=9, seed=-1))
    np.testing.assert_array_equal(attributions(saliency), same)
    np.testing.assert_allclose(attributions(saliency, x=X[1:2]), same[1:2], **ROUNDING)
    for other in ({"seed": 0}, {"samples": 8}, {"baseline": BACKGROUND[::-1]}):
        options = {"baseline": BACKGROUND, "samples": 9, "seed": -1, **other}
        assert np.abs(attributions(ExpectedGradients(**options)) - same).max() > 1e-3


@pytest.mark.parametrize("chunk", [1, 3, 100, None, "auto"])
def test_a_chunk_changes_memory_alone(chunk):
    whole, chunked = (ExpectedGradients(BACKGROUND, samples=7, chunk=c) for c in (None, chunk))
    np.testing.assert_allclose(attributions(chunked), attributions(whole), **ROUNDING)


@pytest.mark.parametrize("chunk", [None, 4])
def test_its_derivative_is_that_of_differences(chunk):
    assert_is_that_of_differences(ExpectedGradients(BACKGROUND, samples=10, chunk=chunk), smooth, X)


def test_the_input_itself_gets_no_share():
    background = [[0.0, None, 0.0, 0.0], [1.0, 0.2, 1.0, 1.0]]
    found = attributions(ExpectedGradients(background, quadrature.midpoint(4)))
    from_second = attributions(IntegratedGradients(quadrature.midpoint(4), background[1]))
    np.testing.assert_allclose(found[:, 1], from_second[:, 1] / 2, **ROUNDING)


def test_what_is_held_stays():
    """Rows of words, the last of them padding, and a mask behind their two columns."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(2, 3, 2)), np.broadcast_to([[[1.0], [1.0], [0.0]]], (2, 3, 1))], axis=-1)
    seen = []

    def f(z):
        seen.append(z.numpy())
        return tf.reduce_sum(z[..., :2] ** 3, axis=[1, 2])

    saliency = ExpectedGradients(0.5, quadrature.midpoint(3))
    found = saliency(Held(f, Columns(2, masked=True)), tf.constant(x)).numpy()
    expected = IntegratedGradients(quadrature.midpoint(3), 0.5)(Held(f, Columns(2, masked=True)), tf.constant(x))
    np.testing.assert_allclose(found, expected, **ROUNDING)
    assert np.all(found[:, 2] == 0)
    assert np.all(seen[0].reshape(-1, *x.shape)[:, :, 2] == x[:, 2])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: ExpectedGradients(rule="right"),
            TypeError,
            "`rule` must be a QuadratureRule or None. Received",
        ),
        (lambda: ExpectedGradients(np.nan), ValueError, "`baseline` must be finite. Received: baseline=nan"),
        (lambda: ExpectedGradients("x"), TypeError, "`baseline` must be a float or an array of floats"),
        (
            lambda: ExpectedGradients(np.zeros([0, 4])),
            ValueError,
            "`baseline` must hold one input or more",
        ),
        (lambda: ExpectedGradients(samples=0), ValueError, "`samples` must be a positive integer. Received: samples=0"),
        (lambda: ExpectedGradients(seed=0.5), ValueError, "`seed` must be an integer. Received: seed=0.5"),
        (lambda: ExpectedGradients(chunk=0), ValueError, "`chunk` must be a positive integer. Received: chunk=0"),
    ],
)
def test_arguments_are_validated(make, error, message):
    with pytest.raises(error, match=message):
        make()
