"""Functions in two stages, of which the first is affine: exactly IG of the composition, at a fraction of its cost."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from conftest import some_slow

from keras_rar.core import quadrature, sizes
from keras_rar.core.accumulation import gradients_and_values
from keras_rar.core.gradients import Staged
from keras_rar.core.integration import attributions_and_values, completeness_gap, integrated_gradients

every_rule = pytest.mark.parametrize("name", quadrature.RULES)
every_chunk = pytest.mark.parametrize("chunk", [None, 1, 2, 100])
ROUNDING = {"rtol": 1e-11, "atol": 1e-13}  # float64, sums of some hundreds of terms


class Dense(tf.Module):
    """A smooth network in float64, whose first stage is a matrix product."""

    shape = (4,)

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(0)
        self.w1, self.b1 = tf.Variable(rng.normal(size=(4, 6))), tf.Variable(rng.normal(size=6))
        self.w2, self.w3 = tf.Variable(rng.normal(size=(6, 5))), tf.Variable(rng.normal(size=5))

    def stem(self, z):
        return z @ self.w1 + self.b1

    def rest(self, h):
        return tf.linalg.matvec(tf.tanh(tf.tanh(h) @ self.w2), self.w3)

    def __call__(self, z):
        return self.rest(self.stem(z))

    @property
    def staged(self):
        return Staged(self.stem, self.rest)


class Conv(Dense):
    """The same, whose first stage is a convolution."""

    shape = (4, 3, 2)

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(0)
        self.w1 = tf.Variable(rng.normal(size=(3, 3, 2, 3), scale=0.3))
        self.b1 = tf.Variable(rng.normal(size=3))
        self.w2 = tf.Variable(rng.normal(size=(4 * 3 * 3, 5), scale=0.3))

    def stem(self, z):
        return tf.nn.conv2d(z, self.w1, 1, "SAME") + self.b1

    def rest(self, h):
        return super().rest(tf.reshape(h, [-1, 4 * 3 * 3]))


def segment(shape, n=3, seed=1):
    return tuple(map(tf.constant, np.random.default_rng(seed).uniform(size=(2, n, *shape))))


def derivatives(f, weights, x, x_prime, rule, **options):
    """A size of the map that is not linear in it, and its derivatives in x, in x′ and in the variables."""
    with tf.GradientTape() as tape:
        tape.watch([x, x_prime])
        size = tf.reduce_sum(sizes.power(integrated_gradients(f, x, x_prime, rule, **options), 2.0))
    return size, tape.gradient(size, [x, x_prime, *weights])


def flat(values):
    return np.concatenate([np.ravel(value) for value in tf.nest.flatten(values)])


# Equal to the plain composition


@pytest.mark.parametrize("kind", [Dense, Conv])
@every_rule
@every_chunk
def test_attributions_are_those_of_the_composition(kind, name, chunk):
    network, rule = kind(), quadrature.get(name, 5)
    ends = segment(network.shape)
    staged = integrated_gradients(network.staged, *ends, rule, chunk=chunk)
    np.testing.assert_allclose(staged, integrated_gradients(network, *ends, rule), **ROUNDING)
    assert np.median(np.abs(staged)) > 1e-3  # nothing to compare, otherwise


@pytest.mark.parametrize("kind", [Dense, Conv])
@every_rule
@every_chunk
def test_derivatives_in_x_in_x_prime_and_in_the_variables_of_both_stages_are_those_of_the_composition(
    kind, name, chunk
):
    network, rule = kind(), quadrature.get(name, 5)
    weights = [network.w1, network.b1, network.w2, network.w3]
    ends = segment(network.shape)
    staged = flat(derivatives(network.staged, weights, *ends, rule, chunk=chunk))
    np.testing.assert_allclose(staged, flat(derivatives(network, weights, *ends, rule)), **ROUNDING)
    assert np.all(staged != 0)


@pytest.mark.parametrize(
    ("mode", "chunk"),
    some_slow(
        itertools.product(["graph", "unknown batch", "xla"], [None, 2]),
        [("graph", 2), ("unknown batch", 2), ("xla", None)],
    ),
)
def test_compiled_as_in_eager_mode(mode, chunk):
    network, rule = Conv(), quadrature.trapezoid(4)
    weights, ends = [network.w1, network.b1, network.w2, network.w3], segment(network.shape)
    signature = [tf.TensorSpec([None, *network.shape], tf.float64)] * 2 if mode == "unknown batch" else None
    function = tf.function(
        lambda x, x_prime: derivatives(network.staged, weights, x, x_prime, rule, chunk=chunk),
        autograph=False,
        input_signature=signature,
        jit_compile=mode == "xla",
    )
    expected = flat(derivatives(network, weights, *ends, rule))
    np.testing.assert_allclose(flat(function(*ends)), expected, **ROUNDING)


@pytest.mark.parametrize("chunk", [None, 2])
def test_derivative_in_x_prime_by_central_differences(chunk):
    network, rule, (x, x_prime) = Dense(), quadrature.midpoint(3), segment((4,))

    def size(z):
        return derivatives(network.staged, [], x, z, rule, chunk=chunk)[0].numpy()

    _, (_, derivative) = derivatives(network.staged, [], x, x_prime, rule, chunk=chunk)
    for i, j in itertools.product(range(3), range(4)):
        step = np.zeros((3, 4))
        step[i, j] = 1e-5
        numeric = (size(x_prime + step) - size(x_prime - step)) / 2e-5
        np.testing.assert_allclose(derivative[i, j], numeric, rtol=1e-6, atol=1e-7)  # h² f‴, rounding 1e-16 / h


@pytest.mark.parametrize("chunk", [None, 3])
def test_complete(chunk):
    network, ends = Conv(), segment(Conv.shape)
    attributions = integrated_gradients(network.staged, *ends, quadrature.gauss_legendre(32), chunk=chunk)
    gap = completeness_gap(network.staged, *ends, attributions)
    assert np.abs(gap).max() < 1e-10  # smooth: Gauss-Legendre converges geometrically
    assert np.abs(network(ends[1]) - network(ends[0])).min() > 0.01


def test_negative_control_a_stem_that_is_not_affine_gives_other_attributions():
    network, rule, ends = Dense(), quadrature.midpoint(5), segment((4,))
    curved = Staged(lambda z: tf.tanh(network.stem(z)), network.rest)
    plain = integrated_gradients(lambda z: curved(z), *ends, rule)
    assert np.abs(integrated_gradients(curved, *ends, rule) - plain).max() > 1e-2


@pytest.mark.parametrize("chunk", [None, 2])
def test_an_empty_batch(chunk):
    network = Conv()
    nothing = tf.zeros([0, *network.shape], tf.float64)
    assert integrated_gradients(network.staged, nothing, nothing, quadrature.right(3), chunk=chunk).shape == (
        0,
        4,
        3,
        2,
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.1)])
def test_in_lower_precision(dtype, tolerance):
    """Rounding of 2⁻²⁴ and 2⁻⁹, some tens of times over."""
    network, ends, rule = Dense(), segment((4,)), quadrature.right(5)
    w1, b1, w2, w3 = (tf.cast(v, dtype) for v in (network.w1, network.b1, network.w2, network.w3))
    low = Staged(lambda z: z @ w1 + b1, lambda h: tf.linalg.matvec(tf.tanh(tf.tanh(h) @ w2), w3))
    x, x_prime = (tf.cast(end, dtype) for end in ends)
    attributions = integrated_gradients(low, x, x_prime, rule)
    assert attributions.dtype == dtype
    expected = integrated_gradients(network, *ends, rule)
    np.testing.assert_allclose(tf.cast(attributions, "float64"), expected, atol=tolerance * np.abs(expected).max())


# What is computed


@pytest.mark.parametrize(("chunk", "rows"), [(None, [21]), (3, [9, 9, 9]), (1, [3] * 7)])
def test_the_stem_is_computed_at_the_ends_alone(chunk, rows):
    network, stems, rests = Dense(), [], []
    staged = Staged(
        lambda z: stems.append(len(z)) or network.stem(z), lambda h: rests.append(len(h)) or network.rest(h)
    )
    integrated_gradients(staged, *segment((4,)), quadrature.right(7), chunk=chunk)
    assert stems == [3, 3]
    assert rests == rows


@pytest.mark.parametrize("staged", [True, False])
@every_rule
def test_the_values_are_those_of_f_at_the_nodes(name, staged):
    network, rule, (x, x_prime) = Conv(), quadrature.get(name, 4), segment(Conv.shape)
    f = network.staged if staged else network
    attributions, values = attributions_and_values(f, x, x_prime, rule)
    expected = [network(x + alpha * (x_prime - x)) for alpha in rule.nodes]
    np.testing.assert_allclose(values, expected, **ROUNDING)
    np.testing.assert_array_equal(attributions, integrated_gradients(f, x, x_prime, rule))


@pytest.mark.parametrize("staged", [True, False])
def test_the_values_can_be_differentiated(staged):
    """They stand for the loss at x′ in an objective: in x′ and in the variables of both stages."""
    network, rule, (x, x_prime) = Conv(), quadrature.right(3), segment(Conv.shape)
    sources = [x_prime, network.w1, network.b1, network.w2, network.w3]
    found = []
    for value in (
        lambda: attributions_and_values(network.staged if staged else network, x, x_prime, rule)[1][-1],
        lambda: network(x_prime),
    ):
        with tf.GradientTape() as tape:
            tape.watch(x_prime)
            total = tf.reduce_sum(value() ** 2)
        found.append(flat(tape.gradient(total, sources)))
    np.testing.assert_allclose(*found, **ROUNDING)


def test_there_are_no_values_where_the_nodes_go_in_chunks():
    network = Dense()
    for f in (network, network.staged):
        assert attributions_and_values(f, *segment((4,)), quadrature.right(5), chunk=2)[1] is None
        assert attributions_and_values(f, *segment((4,)), quadrature.right(5), chunk=5)[1] is not None


@every_chunk
def test_gradients_and_values_of_points_of_ones_own(chunk):
    """`Σₖ wₖ ∇f(k x)` of `f = Σ z⁴`: `4 x³ Σ wₖ k³`."""
    x, weights = segment((4,))[0], [0.5, -2.0, 1.0]
    points = lambda ks, x: x * tf.cast(ks, x.dtype)[:, tf.newaxis, tf.newaxis]  # noqa: E731
    total, values = gradients_and_values(lambda z: tf.reduce_sum(z**4, axis=1), points, (x,), weights, chunk=chunk)
    np.testing.assert_allclose(total, sum(w * k**3 for k, w in enumerate(weights)) * 4 * x**3, **ROUNDING)
    if chunk in (None, 100):
        fourth = tf.reduce_sum(x**4, axis=1)
        np.testing.assert_allclose(values, [0 * fourth, fourth, 16 * fourth], **ROUNDING)
    else:
        assert values is None


# Without derivatives in variables


@pytest.mark.parametrize("staged", [True, False])
@every_chunk
def test_without_variables_the_derivatives_in_the_ends_are_the_same(staged, chunk):
    network, rule, ends = Conv(), quadrature.midpoint(5), segment(Conv.shape)
    f, variables = (network.staged if staged else network), [network.w2, network.w3]
    size, (in_x, in_x_prime, *in_variables) = derivatives(f, variables, *ends, rule, chunk=chunk, variables=False)
    expected = derivatives(network, [], *ends, rule)
    np.testing.assert_allclose(flat([size, in_x, in_x_prime]), flat(expected), **ROUNDING)
    if chunk in (1, 2):  # spared
        assert in_variables == [None, None]


def test_without_variables_the_chunked_derivative_does_less():
    """A third of the products of matrices of the second derivative are those in weights."""
    network, rule, (x, x_prime) = Dense(), quadrature.right(4), segment((4,))

    def products(variables):
        def in_x_prime(x_prime):
            return derivatives(network.staged, [], x, x_prime, rule, chunk=1, variables=variables)[1]

        graph = tf.function(in_x_prime, autograph=False).get_concrete_function(x_prime).graph.as_graph_def()
        return sum(
            node.op in ("MatMul", "BatchMatMulV2") for function in graph.library.function for node in function.node_def
        )

    assert products(True) > products(False) > 0


# Loops in loops


@pytest.mark.parametrize("kind", [Dense, Conv])
def test_chunks_in_a_loop_give_what_the_loop_written_out_gives(kind):
    """Called again and again: see `test_engine` for the sizes at which TensorFlow's optimizer used to break this."""
    network, rule, (x, x_prime) = kind(), quadrature.midpoint(6), segment(kind.shape)

    def step(x_prime):
        with tf.GradientTape() as tape:
            tape.watch(x_prime)
            size = tf.reduce_sum(
                sizes.power(integrated_gradients(network.staged, x, x_prime, rule, chunk=2, variables=False), 2.0)
            )
        return x_prime + 0.01 * tf.sign(tape.gradient(size, x_prime))

    @tf.function(autograph=False)
    def ascend(x_prime):
        return tf.while_loop(
            lambda k, _: k < 3, lambda k, z: (k + 1, step(z)), (0, x_prime), maximum_iterations=3, parallel_iterations=1
        )[1]

    expected = x_prime
    for _ in range(3):
        expected = step(expected)
    for _ in range(3):
        np.testing.assert_allclose(ascend(x_prime), expected, **ROUNDING)
