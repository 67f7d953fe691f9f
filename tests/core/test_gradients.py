"""Integrated gradients: the axioms, their order of convergence, folding, chunks, derivatives."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import keras_rar
from keras_rar.core import quadrature, sizes
from keras_rar.core.accumulation import weighted_gradients
from keras_rar.core.gradients import input_gradient, repeat_labels
from keras_rar.core.integration import completeness_gap, integrated_gradients

ORDER = {"left": 1, "right": 1, "midpoint": 2, "trapezoid": 2}
every_rule = pytest.mark.parametrize("name", quadrature.RULES)
ROUNDING = {"rtol": 1e-12, "atol": 1e-14}  # float64, sums of some tens of terms


def network(seed=0, ignored=()):
    """A smooth network of one output in float64; the features `ignored` are not connected."""
    rng = np.random.default_rng(seed)
    w1, b, w2 = rng.normal(size=(4, 8)), rng.normal(size=8), rng.normal(size=8)
    w1[list(ignored)] = 0
    return lambda z: tf.linalg.matvec(tf.tanh(z @ w1 + b), w2)


@pytest.fixture
def segment():
    x, x_prime = np.random.default_rng(1).uniform(size=(2, 5, 4))
    return tf.constant(x), tf.constant(x_prime)


def gradient(value_of, *tensors):
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = value_of(*tensors)
    return tape.gradient(value, tensors)


def central_differences(value_of, x, h=1e-5):
    x = np.array(x)
    steps = h * np.eye(x.size).reshape(x.size, *x.shape)
    slopes = [(value_of(tf.constant(x + step)) - value_of(tf.constant(x - step))) / (2 * h) for step in steps]
    return np.reshape(slopes, x.shape)


# Input gradient


def test_input_gradient_is_the_derivative_of_each_example(segment):
    f, (x, _) = network(), segment
    numeric = central_differences(lambda z: tf.reduce_sum(f(z)), x)
    np.testing.assert_allclose(input_gradient(f, x), numeric, atol=1e-9)  # h² f‴


def test_input_gradient_is_zero_where_f_is_constant(segment):
    np.testing.assert_array_equal(input_gradient(lambda z: tf.ones(len(z)), segment[0]), np.zeros((5, 4)))


def test_input_gradient_can_be_differentiated_in_z_and_in_weights(segment):
    x, w = segment[0], tf.constant([1.0, -2.0, 3.0, 0.5], tf.float64)

    def squared_gradient(z, w):  # f = Σ w z³, ∂f/∂z = 3 w z², Σ (3 w z²)²
        return tf.reduce_sum(input_gradient(lambda z: tf.reduce_sum(w * z**3, axis=1), z) ** 2)

    in_z, in_w = gradient(squared_gradient, x, w)
    np.testing.assert_allclose(in_z, 36 * w**2 * x**3, **ROUNDING)
    np.testing.assert_allclose(in_w, tf.reduce_sum(18 * w * x**4, axis=0), **ROUNDING)


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


def test_repeated_labels_meet_their_examples(segment):
    """Row i of the folded points belongs to example i % batch: each map is that of its own label."""
    y, rule = tf.constant([0, 2, 1, 2, 0]), quadrature.right(3)
    logits = [network(seed) for seed in range(3)]

    def label_logit(z, y):
        return tf.gather(tf.stack([f(z) for f in logits], axis=1), repeat_labels(y, tf.shape(z)[0]), batch_dims=1)

    folded = integrated_gradients(lambda z: label_logit(z, y), *segment, rule)
    for i, label in enumerate(y.numpy()):
        alone = integrated_gradients(logits[label], *(z[i : i + 1] for z in segment), rule)
        np.testing.assert_allclose(folded[i : i + 1], alone, **ROUNDING)


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 4)])
def test_repeat_labels_tiles_whole_batches(shape):
    y = np.arange(np.prod(shape)).reshape(shape)
    specs = [tf.TensorSpec([None, *shape[1:]], y.dtype), tf.TensorSpec([], tf.int32)]
    for repeat in (repeat_labels, tf.function(repeat_labels, input_signature=specs)):
        np.testing.assert_array_equal(repeat(tf.constant(y), tf.constant(6)), np.concatenate([y, y]))
        np.testing.assert_array_equal(repeat(tf.constant(y[:0]), tf.constant(0)), y[:0])


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


# Chunked derivatives: exact, in memory that does not grow with m


class Network(tf.Module):
    """The network, with variables."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(4)
        self.layers = [tf.Variable(rng.normal(size=size)) for size in ((4, 8), (8,), (8,))]

    def __call__(self, z):
        w1, b, w2 = self.layers
        return tf.linalg.matvec(tf.tanh(z @ w1 + b), w2)


def derivatives(network, rule, chunk, x, x_prime):
    """A size of the map, and its derivatives in x, in x′ and in the variables."""
    with tf.GradientTape() as tape:
        tape.watch([x, x_prime])
        size = tf.reduce_sum(sizes.power(integrated_gradients(network, x, x_prime, rule, chunk=chunk), 3.0))
    return size, tape.gradient(size, [x, x_prime, *network.layers])


def flat(size_and_derivatives):
    return np.concatenate([np.ravel(value) for value in tf.nest.flatten(size_and_derivatives)])


@every_rule
@pytest.mark.parametrize("mode", ["eager", "graph", "unknown batch", "xla"])
def test_chunked_derivatives_are_those_of_the_whole_sum(name, mode, segment):
    network, rule = Network(), quadrature.get(name, 5)
    expected = flat(derivatives(network, rule, None, *segment))
    assert len(expected) == 1 + 2 * 20 + 32 + 8 + 8
    assert np.abs(expected).min() > 1e-6
    function = derivatives
    if mode != "eager":
        signature = [tf.TensorSpec([None, 4], tf.float64)] * 2 if mode == "unknown batch" else None
        chunked = tf.function(
            lambda x, x_prime: derivatives(network, rule, 2, x, x_prime),
            autograph=False,
            input_signature=signature,
            jit_compile=mode == "xla",
        )
        function = lambda network, rule, chunk, *segment: chunked(*segment)  # noqa: E731
    np.testing.assert_allclose(flat(function(network, rule, 2, *segment)), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_chunked_derivatives_by_central_differences(chunk, segment):
    network, rule = Network(), quadrature.trapezoid(4)
    _, (in_x, in_x_prime, *in_variables) = derivatives(network, rule, chunk, *segment)
    x, x_prime = segment

    def size(x, x_prime):
        return derivatives(network, rule, None, x, x_prime)[0]

    close = {"rtol": 1e-6, "atol": 1e-8}  # h² f‴ of some 1e-10, rounding 1e-16 / h
    np.testing.assert_allclose(in_x, central_differences(lambda z: size(z, x_prime), x), **close)
    np.testing.assert_allclose(in_x_prime, central_differences(lambda z: size(x, z), x_prime), **close)
    for variable, derivative in zip(network.layers, in_variables, strict=True):
        value = tf.constant(variable)

        def at(new, variable=variable, value=value):
            variable.assign(new)
            result = size(x, x_prime)
            variable.assign(value)
            return result

        np.testing.assert_allclose(derivative, central_differences(at, value), **close)


def test_chunked_derivatives_of_a_frozen_variable_are_none(segment):
    """As without chunks: what `f` does not depend on is not made up."""
    network, other = Network(), tf.Variable(np.ones(3))
    for chunk in (None, 2):
        with tf.GradientTape() as tape:
            size = tf.reduce_sum(integrated_gradients(network, *segment, quadrature.right(5), chunk=chunk) ** 2)
        gradients = tape.gradient(size, [*network.layers, other])
        assert [gradient is None for gradient in gradients] == [False, False, False, True]


@pytest.mark.parametrize("chunk", [None, 1, 2, 3])
def test_weighted_gradients_is_the_sum(chunk):
    """`Σₖ wₖ ∇f(zₖ)` over points of one's own, here `x · k`, with weights that do not sum to 1, and its derivative."""
    x, weights = tf.constant(np.random.default_rng(5).normal(size=(3, 4))), [0.5, -2.0, 1.0]
    points = lambda ks, x: x * tf.cast(ks, x.dtype)[:, tf.newaxis, tf.newaxis]  # noqa: E731

    def total(x):
        return weighted_gradients(lambda z: tf.reduce_sum(z**4, axis=1), points, (x,), weights, chunk=chunk)

    share = sum(w * k**3 for k, w in enumerate(weights))
    np.testing.assert_allclose(total(x), share * 4 * x**3, **ROUNDING)
    (derivative,) = gradient(lambda x: tf.reduce_sum(total(x)), x)
    np.testing.assert_allclose(derivative, share * 12 * x**2, **ROUNDING)


MEMORY = """
import pathlib, re, sys
import numpy as np, tensorflow as tf
from keras_rar.core import quadrature
from keras_rar.core.integration import integrated_gradients

m, chunk = int(sys.argv[1]), int(sys.argv[2]) or None
kernel = tf.Variable(np.random.default_rng(0).normal(size=(5, 5, 1, 32)).astype("float32"))

@tf.function(autograph=False)
def derivative(x):
    f = lambda z: tf.reduce_sum(tf.nn.softplus(tf.nn.conv2d(z, kernel, 1, "SAME")), axis=[1, 2, 3])
    with tf.GradientTape() as tape:
        tape.watch(x)
        size = tf.reduce_sum(integrated_gradients(f, tf.zeros_like(x), x, quadrature.right(m), chunk=chunk) ** 2)
    return tape.gradient(size, [x, kernel])

x = tf.random.uniform([8, 28, 28, 1])
derivative(x)
status = pathlib.Path("/proc/self/status").read_text()  # `resource` would count what the process was forked from
print(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1])
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_m():
    """In steps of 8 nodes, of some 70 MB here; without chunks 512 nodes take gigabytes."""
    environment = {**os.environ, "PYTHONPATH": str(Path(keras_rar.__file__).parent.parent)}

    def peak(m, chunk):
        command = [sys.executable, "-c", MEMORY, str(m), str(chunk)]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return int(run.stdout.split()[-1]) / 1024  # MB, on Linux

    few, many, whole = peak(16, 8), peak(512, 8), peak(512, 0)
    assert many < few + 150
    assert whole > many + 1000


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


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_integer_inputs_are_refused(dtype):
    """Their gradient does not exist, and would read as a map of zeros."""
    x, x_prime = np.zeros((2, 4), dtype), np.ones((2, 4), dtype)
    with pytest.raises(TypeError, match=f"`x` must be .*floating.*Received: .*{dtype}"):
        integrated_gradients(
            lambda z: tf.reduce_sum(tf.cast(z, tf.float32), axis=1), x, x_prime, quadrature.midpoint(1)
        )


def test_arrays_are_taken_and_the_dtype_of_x_is_kept():
    x, x_prime = np.zeros((2, 4), "float32"), np.ones((2, 4), "float32")
    attributions = integrated_gradients(lambda z: tf.reduce_sum(z, axis=1), x, x_prime, quadrature.right(2))
    assert attributions.dtype == tf.float32
    np.testing.assert_array_equal(attributions, x_prime)
