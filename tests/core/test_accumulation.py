"""Sums of gradients in chunks: their derivatives are exact, in memory that does not grow with the number of points."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from gradient_cases import ROUNDING, central_differences, ends, every_rule, gradient

import keras_rar
from keras_rar.core import quadrature, sizes
from keras_rar.core.accumulation import weighted_gradients
from keras_rar.core.integration import integrated_gradients


@pytest.fixture
def segment():
    return ends()


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


@pytest.mark.slow
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


def test_a_chunked_derivative_reaches_the_variables_that_are_named(segment):
    network, rule = Network(), quadrature.right(5)

    def found(variables, chunk=2):
        with tf.GradientTape() as tape:
            attributions = integrated_gradients(network, *segment, rule, chunk=chunk, variables=variables)
            size = tf.reduce_sum(sizes.power(attributions, 3.0))
        return tape.gradient(size, network.layers)

    first, second, third = network.layers
    whole = found(True, chunk=None)
    for named in ([first, third], [second], []):
        for variable, slope, expected in zip(network.layers, found(named), whole, strict=True):
            if any(variable is other for other in named):
                np.testing.assert_allclose(slope, expected, rtol=1e-11, atol=1e-13)
            else:
                assert slope is None


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
