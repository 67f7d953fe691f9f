"""Integrated gradients: the axioms, their order of convergence, folding, chunks, derivatives."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from gradient_cases import ROUNDING, central_differences, ends, every_rule, gradient, network

from keras_rar.core import quadrature, sizes
from keras_rar.core.gradients import input_gradient
from keras_rar.core.integration import completeness_gap, integrated_gradients

ORDER = {"left": 1, "right": 1, "midpoint": 2, "trapezoid": 2}


@pytest.fixture
def segment():
    return ends()


# Axioms


@pytest.mark.parametrize("name", ORDER)
def test_completeness_gap_falls_at_the_order_of_the_rule(name, segment):
    f, m = network(), np.array([8, 16, 32, 64])
    gaps = [completeness_gap(f, *segment, integrated_gradients(f, *segment, quadrature.get(name, k))) for k in m]
    slope = np.polyfit(np.log(m), np.log(np.linalg.norm(gaps, axis=1)), 1)[0]
    assert slope == pytest.approx(-ORDER[name], abs=0.05)  # the next term of the expansion


def test_completeness_gap_of_gauss_legendre_falls_to_rounding(segment):
    f = network()
    gaps = [
        np.abs(completeness_gap(f, *segment, integrated_gradients(f, *segment, quadrature.gauss_legendre(m)))).max()
        for m in (2, 4, 8, 16, 32)
    ]
    assert all(finer < coarser / 5 for coarser, finer in itertools.pairwise(gaps[:-1]))
    assert gaps[-1] < 1e-12


def test_completeness_gap_is_the_sum_minus_the_change(segment):
    f, (x, x_prime) = network(), segment
    attributions = np.random.default_rng(2).normal(size=(5, 4))
    expected = attributions.sum(axis=1) - (f(x_prime) - f(x)).numpy()
    np.testing.assert_allclose(completeness_gap(f, x, x_prime, tf.constant(attributions)), expected, **ROUNDING)


@every_rule
def test_linearity_in_f(name, segment):
    rule, f, g = quadrature.get(name, 3), network(0), network(1)
    combined = integrated_gradients(lambda z: 2 * f(z) - 3 * g(z), *segment, rule)
    separate = 2 * integrated_gradients(f, *segment, rule) - 3 * integrated_gradients(g, *segment, rule)
    np.testing.assert_allclose(combined, separate, **ROUNDING)


@every_rule
def test_symmetry(name, segment):
    """A function that does not tell features 0 and 1 apart gives them equal shares where they are equal."""
    f, rule = network(), quadrature.get(name, 3)
    x, x_prime = (tf.gather(z, [0, 0, 2, 3], axis=1) for z in segment)
    attributions = integrated_gradients(
        lambda z: f(z) + f(tf.gather(z, [1, 0, 2, 3], axis=1)), x, x_prime, rule
    ).numpy()
    np.testing.assert_allclose(attributions[:, 0], attributions[:, 1], **ROUNDING)
    plain = integrated_gradients(f, x, x_prime, rule).numpy()  # negative control: f does tell them apart
    assert np.all(np.abs(plain[:, 0] - plain[:, 1]) > 1e-3)


@every_rule
def test_an_ignored_feature_gets_exactly_zero(name, segment):
    attributions = integrated_gradients(network(ignored=[2]), *segment, quadrature.get(name, 3)).numpy()
    np.testing.assert_array_equal(attributions[:, 2], 0)
    assert np.all(attributions[:, [0, 1, 3]] != 0)


@every_rule
def test_zero_where_nothing_changed_and_so_is_the_gradient_of_its_norm(name, segment):
    x, rule = segment[0], quadrature.get(name, 3)

    def size(x, x_prime):
        return sizes.l1_norm(integrated_gradients(network(), x, x_prime, rule))

    np.testing.assert_array_equal(size(x, x), np.zeros(5))
    for derivative in gradient(size, x, tf.identity(x)):
        np.testing.assert_array_equal(derivative, np.zeros((5, 4)))


def test_reversing_the_segment_reverses_the_sign(segment):
    f, (x, x_prime), rule = network(), segment, quadrature.midpoint(4)
    there, back = integrated_gradients(f, x, x_prime, rule), integrated_gradients(f, x_prime, x, rule)
    np.testing.assert_allclose(there, -back, **ROUNDING)


@every_rule
def test_equals_the_sum_written_as_a_loop(name, segment):
    f, (x, x_prime), rule = network(), segment, quadrature.get(name, 4)
    loop = sum(
        w * input_gradient(f, x + alpha * (x_prime - x)) for alpha, w in zip(rule.nodes, rule.weights, strict=True)
    )
    np.testing.assert_allclose(integrated_gradients(f, x, x_prime, rule), (x_prime - x) * loop, **ROUNDING)


# Folding and chunks


def test_examples_are_independent(segment):
    f, (x, x_prime), rule = network(), segment, quadrature.midpoint(3)
    others = tf.concat([x_prime[:1], tf.random.uniform((4, 4), dtype=tf.float64)], axis=0)
    before, after = (integrated_gradients(f, x, end, rule).numpy() for end in (x_prime, others))
    np.testing.assert_allclose(after[0], before[0], **ROUNDING)
    assert not np.allclose(after[1:], before[1:])


@every_rule
@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_chunked_equals_unchunked_with_its_derivatives(name, chunk, segment):
    f, rule = network(), quadrature.get(name, 5)

    def size(x, x_prime, chunk):
        return tf.reduce_sum(integrated_gradients(f, x, x_prime, rule, chunk=chunk) ** 2)

    whole = integrated_gradients(f, *segment, rule)
    np.testing.assert_allclose(integrated_gradients(f, *segment, rule, chunk=chunk), whole, **ROUNDING)
    whole, chunked = (gradient(lambda x, x_prime, c=c: size(x, x_prime, c), *segment) for c in (None, chunk))
    for a, b in zip(chunked, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-14)


def test_a_chunk_bounds_the_points_evaluated_at_once(segment):
    f, rows = network(), []
    integrated_gradients(lambda z: rows.append(len(z)) or f(z), *segment, quadrature.right(7), chunk=3)
    assert rows == [15, 15, 15]  # nodes · batch, as many each time: the last two are repeated with weight 0


@pytest.mark.parametrize("size", [(3, 4), (0, 4), (2, 3, 3, 2)])
def test_the_map_has_the_shape_of_x_with_an_unknown_batch(size):
    @tf.function(input_signature=[tf.TensorSpec([None, *size[1:]])] * 2)
    def attribute(x, x_prime):
        total = lambda z: tf.reduce_sum(z**2, axis=list(range(1, len(size))))  # noqa: E731
        return integrated_gradients(total, x, x_prime, quadrature.midpoint(2))

    x = np.random.default_rng(0).uniform(size=size).astype("float32")
    np.testing.assert_allclose(attribute(tf.zeros(size), x), x**2, rtol=1e-6)  # float32


# Derivatives and arguments


@every_rule
def test_derivatives_of_the_map_in_x_and_x_prime(name, segment):
    f, rule, cotangent = network(), quadrature.get(name, 3), np.random.default_rng(3).normal(size=(5, 4))

    def value(x, x_prime):
        return tf.reduce_sum(cotangent * integrated_gradients(f, x, x_prime, rule))

    x, x_prime = segment
    in_x, in_x_prime = gradient(value, x, x_prime)
    # Central differences: truncation h² f‴ of some 1e-10, rounding 1e-16 / h.
    np.testing.assert_allclose(in_x, central_differences(lambda z: value(z, x_prime), x), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(in_x_prime, central_differences(lambda z: value(x, z), x_prime), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("shape", [(2, 3), (1, 4), (2, 4, 1), (4,)])
def test_shapes_must_agree(shape):
    with pytest.raises(ValueError, match=r"`x` and `x_prime` must have the same shape. Received: x.shape="):
        integrated_gradients(network(), tf.zeros([2, 4]), tf.zeros(shape), quadrature.right(2))


def test_chunk_is_validated(segment):
    with pytest.raises(ValueError, match=r"`chunk` must be a positive integer. Received: chunk=0"):
        integrated_gradients(network(), *segment, quadrature.right(2), chunk=0)


def test_arrays_are_taken_and_the_dtype_of_x_is_kept():
    x, x_prime = np.zeros((2, 4), "float32"), np.ones((2, 4), "float32")
    attributions = integrated_gradients(lambda z: tf.reduce_sum(z, axis=1), x, x_prime, quadrature.right(2))
    assert attributions.dtype == tf.float32
    np.testing.assert_array_equal(attributions, x_prime)
