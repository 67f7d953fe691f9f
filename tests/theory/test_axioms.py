"""The axioms of Sundararajan et al. (2017), and which map of the package keeps which: IG alone keeps all.

Networks of one hidden layer of ReLUs, written by hand: `f(x) = relu(x W + b) v`, the label's logit. Explanations begin
at the baseline 0. What is said to be broken is shown to be, by far more than rounding or quadrature.
"""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_rar
from keras_rar.core import quadrature
from keras_rar.core.integration import integrated_gradients

MAPS = ["ig", "gradient", "gradient_x_input", "smoothgrad", "guided_backprop", "deconvolution"]
BREAKS = {
    "completeness": {"gradient", "gradient_x_input", "smoothgrad", "guided_backprop", "deconvolution"},
    "sensitivity": {"gradient", "gradient_x_input", "smoothgrad", "guided_backprop", "deconvolution"},
    "dummy": set(),
    "implementation_invariance": {"guided_backprop", "deconvolution"},
    "linearity": {"guided_backprop", "deconvolution"},
    "symmetry": {"smoothgrad"},  # its random samples do not come in pairs
}
EXACT, BROKEN = 2e-3, 1e-2  # the quadrature of 400 nodes across kinks; what must be seen of a broken axiom
every_map = pytest.mark.parametrize("name", MAPS)
RNG = np.random.default_rng(0)
POINTS = RNG.uniform(0.2, 1.0, (8, 3))


def network(kernel, bias, weights):
    """`relu(x W + b) v`, and a second class whose logit is 0."""
    kernel = np.atleast_2d(np.asarray(kernel, "float64"))
    hidden = keras.layers.Dense(kernel.shape[1], "relu")
    last = keras.layers.Dense(2, use_bias=False)
    model = keras.Sequential([keras.Input((kernel.shape[0],)), hidden, last])
    hidden.set_weights([kernel, np.asarray(bias, "float64")])
    last.set_weights([np.stack([weights, np.zeros(len(weights))], axis=1)])
    return model


def drawn(seed, units=6):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(3, units)), rng.normal(size=units), rng.normal(size=units)


def joined(*parts):
    """The network of `Σ cᵢ fᵢ`, of pairs of a factor and a network."""
    kernels, biases, weights = zip(*(part for _, part in parts), strict=True)
    factors = [factor for factor, _ in parts]
    scaled = [factor * w for factor, w in zip(factors, weights, strict=True)]
    return np.concatenate(kernels, axis=1), np.concatenate(biases), np.concatenate(scaled)


def map_of(name, parts, x):
    x = np.asarray(x, "float32")
    options = {"normalize": False, "rule": "midpoint", "m": 400, "samples": 10, "noise": 0.3, "baseline": 0.0}
    return keras_rar.saliency_map(network(*parts), x, np.zeros(len(x), int), name, **options)


def value_of(parts, x):
    return network(*parts)(np.asarray(x, "float32")).numpy()[:, 0]


def check(axiom, name, errors):
    """That a map keeps an axiom, or that it breaks it."""
    if name in BREAKS[axiom]:
        assert np.max(errors) > BROKEN
    else:
        assert np.max(errors) < EXACT


@every_map
def test_completeness(name):
    """Attributions sum to `f(x) − f(0)`."""
    parts = drawn(1)
    change = value_of(parts, POINTS) - value_of(parts, np.zeros_like(POINTS))
    check("completeness", name, np.abs(map_of(name, parts, POINTS).sum(axis=1) - change))


@every_map
def test_sensitivity(name):
    """`f(x) = 3 − 3 relu(1 − x)` is 0 at 0 and 3 at 2, so that the only feature must not get 0 (sec. 2.1 there)."""
    flat = [[-1.0, 0.0]], [1.0, 1.0], [-3.0, 3.0]
    assert value_of(flat, [[0.0], [2.0]]).tolist() == [0.0, 3.0]
    check("sensitivity", name, np.abs(map_of(name, flat, [[2.0]]) - 3))


@every_map
def test_dummy(name):
    """A feature that the function does not depend on gets 0, to the bit; the others do not."""
    kernel, bias, weights = drawn(2)
    kernel[1] = 0
    found = map_of(name, (kernel, bias, weights), POINTS)
    check("dummy", name, np.abs(found[:, 1]))
    assert np.all(np.any(found[:, [0, 2]] != 0, axis=1))


@every_map
def test_implementation_invariance(name):
    """One unit, and twice that unit less the unit: two networks, one function."""
    slope = np.array([[1.0], [-1.0], [0.5]])
    one = slope, [0.2], [1.0]
    two = np.concatenate([slope, slope], axis=1), [0.2, 0.2], [2.0, -1.0]
    np.testing.assert_allclose(value_of(one, POINTS), value_of(two, POINTS), atol=1e-6)
    assert np.any(map_of(name, one, POINTS))
    check("implementation_invariance", name, np.abs(map_of(name, one, POINTS) - map_of(name, two, POINTS)))


@every_map
def test_linearity(name):
    """The map of `2f − 3g` is twice that of f less three times that of g."""
    f, g = drawn(3), drawn(4)
    both = map_of(name, joined((2, f), (-3, g)), POINTS)
    check("linearity", name, np.abs(both - 2 * map_of(name, f, POINTS) + 3 * map_of(name, g, POINTS)))


@every_map
def test_symmetry(name):
    """Features that the function does not tell apart get the same where they are equal."""
    kernel, bias, weights = drawn(5)
    symmetric = joined((1, (kernel, bias, weights)), (1, (kernel[[1, 0, 2]], bias, weights)))
    x = POINTS[:, [0, 0, 2]]
    found = map_of(name, symmetric, x)
    check("symmetry", name, np.abs(found[:, 0] - found[:, 1]))
    plain = map_of(name, (kernel, bias, weights), x)  # a control: this function does tell them apart
    assert np.max(np.abs(plain[:, 0] - plain[:, 1])) > BROKEN


def test_ig_alone_keeps_all_axioms():
    assert [name for name in MAPS if not any(name in broken for broken in BREAKS.values())] == ["ig"]


def test_another_path_is_complete_and_breaks_symmetry():
    """Why the segment is straight: along the axes, one after the other, `min(z₀, z₁)` owes all to the last one.

    Path methods are those that keep completeness, linearity, dummy and implementation invariance; the straight path
    is the only one of them that keeps symmetry (Sundararajan et al. 2017, theorem 1).
    """
    rule = quadrature.midpoint(10)
    corners = [tf.constant([corner], tf.float64) for corner in ([0.0, 0.0], [1.0, 0.0], [1.0, 1.0])]

    def least(z):
        return tf.reduce_min(z, axis=1)

    along_axes = sum(integrated_gradients(least, a, b, rule).numpy() for a, b in itertools.pairwise(corners))
    straight = integrated_gradients(least, corners[0], corners[2], rule).numpy()
    np.testing.assert_allclose(along_axes, [[0, 1]], atol=1e-12)
    np.testing.assert_allclose(straight, [[0.5, 0.5]], atol=1e-12)
