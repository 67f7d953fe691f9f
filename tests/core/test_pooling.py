"""Max-pooling: the values and the derivatives of TensorFlow's own, of every order, and under XLA as without."""

import numpy as np
import pytest
import tensorflow as tf

from keras_rar.core.pooling import max_pool

SIZES = [(2, 2), (3, 3), (2, 3), (1, 2), (1, 1)]
every_size = pytest.mark.parametrize("size", SIZES)


def window(size):
    return {"ksize": [1, *size, 1], "strides": [1, *size, 1], "padding": "VALID"}


def tensorflow_pool(x, size):
    return tf.nn.max_pool2d(x, size, size, "VALID")


def random(*shape, dtype="float64", seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape).astype(dtype))


def with_ties(*shape, dtype="float64"):
    """Of three values alone, with a constant patch."""
    x = np.random.default_rng(0).integers(-1, 2, shape).astype(dtype)
    x[:, : shape[1] // 2] = 1
    return tf.constant(x)


INPUTS = {"random": random, "ties": with_ties, "constant": lambda *shape, dtype="float64": tf.zeros(shape, dtype)}
every_input = pytest.mark.parametrize("inputs", INPUTS.values(), ids=INPUTS.keys())


def pullback(pool, x, dy):
    """`Jᵀ dy` at x."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = pool(x)
    return tape.gradient(y, x, output_gradients=dy)


def pushforward(pool, x, dy, ddx):
    """The derivative in dy of `⟨ddx, Jᵀ dy⟩`, which is `J ddx`."""
    with tf.GradientTape() as tape:
        tape.watch(dy)
        total = tf.reduce_sum(ddx * pullback(pool, x, dy))
    return tape.gradient(total, dy)


# As TensorFlow's


@every_size
@every_input
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_values_and_first_derivatives_are_those_of_tensorflow(size, inputs, dtype):
    x, dy = inputs(3, 6, 6, 2, dtype=dtype), random(3, 6 // size[0], 6 // size[1], 2, dtype=dtype, seed=1)
    np.testing.assert_array_equal(max_pool(x, size), tensorflow_pool(x, size))
    ours, theirs = (pullback(lambda x, pool=pool: pool(x, size), x, dy) for pool in (max_pool, tensorflow_pool))
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == dtype


def test_the_gradient_goes_to_the_first_maximum_of_a_window():
    x = tf.constant([[1.0, 1, 0, 5], [1, 0, 5, 5]])[tf.newaxis, :, :, tf.newaxis]
    gradient = pullback(lambda x: max_pool(x, (2, 2)), x, tf.constant([[[[2.0], [3.0]]]]))
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[2, 0, 0, 3], [0, 0, 0, 0]])


@every_size
@every_input
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-15), ("float32", 1e-6)])
def test_the_second_derivative_is_that_of_tensorflow(size, inputs, dtype, rtol):
    """One entry a window, and zeros: exact but for the division by the number of entries, and back."""
    x, ddx = inputs(3, 6, 6, 2, dtype=dtype), random(3, 6, 6, 2, dtype=dtype, seed=2)
    dy = random(3, 6 // size[0], 6 // size[1], 2, dtype=dtype, seed=1)
    expected = tf.raw_ops.MaxPoolGradGrad(orig_input=x, orig_output=tensorflow_pool(x, size), grad=ddx, **window(size))
    found = pushforward(lambda x: max_pool(x, size), x, dy, ddx)
    np.testing.assert_allclose(found, expected, rtol=rtol)
    np.testing.assert_array_equal(pushforward(lambda x: tensorflow_pool(x, size), x, dy, ddx), expected)


# Of any order


def network(x, pool):
    """A function whose derivatives of every order do not vanish, pooled twice."""
    kernel = tf.constant(np.random.default_rng(3).normal(size=(3, 3, 2, 3)))
    h = pool(tf.tanh(tf.nn.conv2d(x, kernel, 1, "SAME")), (2, 2))
    return tf.reduce_sum(tf.sin(pool(h**2 + h, (1, 2))), axis=[1, 2, 3])


def orders(x, pool):
    """A function, its gradient, and those of sizes of that: to the third order."""
    with tf.GradientTape() as third:
        third.watch(x)
        with tf.GradientTape() as second:
            second.watch(x)
            with tf.GradientTape() as first:
                first.watch(x)
                value = network(x, pool)
            slope = first.gradient(value, x)
            size = tf.reduce_sum(tf.sin(slope))
        curvature = second.gradient(size, x)
        bend = tf.reduce_sum(tf.sin(curvature))
    return [value, slope, curvature, third.gradient(bend, x)]


def test_derivatives_to_the_third_order_are_those_of_tensorflow():
    x = random(2, 4, 8, 2)
    for ours, theirs in zip(orders(x, max_pool), orders(x, tensorflow_pool), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)  # float64
        assert np.abs(ours).max() > 0.1


@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_by_central_differences(order):
    x, h = random(1, 4, 4, 2), 1e-6
    totals = {1: lambda z: tf.reduce_sum(network(z, max_pool))}
    totals |= {k: lambda z, k=k: tf.reduce_sum(tf.sin(orders(z, max_pool)[k - 1])) for k in (2, 3)}
    derivative = orders(x, max_pool)[order].numpy().ravel()
    for i in range(0, 32, 5):
        step = np.zeros(32)
        step[i] = h
        step = step.reshape(x.shape)
        numeric = (totals[order](x + step) - totals[order](x - step)) / (2 * h)
        assert derivative[i] == pytest.approx(float(numeric), rel=1e-5, abs=1e-7)  # h² f‴, rounding 1e-16 / h


# Compiled


@every_size
@every_input
def test_xla_computes_the_same(size, inputs):
    x, ddx = inputs(3, 6, 6, 2, dtype="float32"), random(3, 6, 6, 2, dtype="float32", seed=2)
    dy = random(3, 6 // size[0], 6 // size[1], 2, dtype="float32", seed=1)

    def both(x, dy, ddx):
        pool = lambda x: max_pool(x, size)  # noqa: E731
        return pool(x), pullback(pool, x, dy), pushforward(pool, x, dy, ddx)

    compiled = tf.function(both, autograph=False, jit_compile=True)(x, dy, ddx)
    for found, expected in zip(compiled, both(x, dy, ddx), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)  # float32


def test_why_xla_does_not_get_tensorflow_s_own():
    """It looks for the maximum among entries rounded to bfloat16, of which the largest two may be equal."""
    x = tf.reshape(tf.constant([1.0, 1.0001, 0.0, 0.5]), [1, 2, 2, 1])
    ddx = tf.reshape(tf.constant([1.0, 2.0, 4.0, 8.0]), [1, 2, 2, 1])

    def second(pool):
        function = lambda x, ddx: pushforward(lambda x: pool(x, (2, 2)), x, tf.ones([1, 1, 1, 1]), ddx)  # noqa: E731
        return [float(f(x, ddx)[0, 0, 0, 0]) for f in (function, tf.function(function, jit_compile=True))]

    assert second(max_pool) == [2, 2]
    assert second(tensorflow_pool)[0] == 2
    assert second(tensorflow_pool)[1] != 2


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_batch_of_unknown_size(jit_compile):
    signature = [tf.TensorSpec([None, 4, 4, 2]), tf.TensorSpec([None, 2, 2, 2]), tf.TensorSpec([None, 4, 4, 2])]

    def both(x, dy, ddx):
        pool = lambda x: max_pool(x, (2, 2))  # noqa: E731
        return pool(x), pullback(pool, x, dy), pushforward(pool, x, dy, ddx)

    compiled = tf.function(both, autograph=False, input_signature=signature, jit_compile=jit_compile)
    for n in (1, 3):
        values = [random(n, *spec.shape[1:], dtype="float32", seed=i) for i, spec in enumerate(signature)]
        for found, expected in zip(compiled(*values), both(*values), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)  # float32


def test_an_empty_batch():
    """In eager mode: compiled for a processor, TensorFlow's own gradient of a max-pooling aborts there."""
    x, dy = tf.zeros([0, 4, 4, 2]), tf.zeros([0, 2, 2, 2])
    pool = lambda x: max_pool(x, (2, 2))  # noqa: E731
    assert pool(x).shape == (0, 2, 2, 2)
    assert pullback(pool, x, dy).shape == (0, 4, 4, 2)
    assert pushforward(pool, x, dy, x).shape == (0, 2, 2, 2)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_half_precision(dtype):
    """Values and first derivatives to the bit; a product with the number of entries, 4, is exact."""
    x, dy, ddx = (
        tf.cast(random(2, *shape, seed=i), dtype) for i, shape in enumerate([(4, 4, 2), (2, 2, 2), (4, 4, 2)])
    )
    pool = lambda x: max_pool(x, (2, 2))  # noqa: E731
    found = [pool(x), pullback(pool, x, dy), pushforward(pool, x, dy, ddx)]
    x, dy, ddx = (tf.cast(value, "float64") for value in (x, dy, ddx))
    expected = [pool(x), pullback(pool, x, dy), pushforward(pool, x, dy, ddx)]
    for value, wanted in zip(found, expected, strict=True):
        assert value.dtype == dtype
        np.testing.assert_array_equal(tf.cast(value, "float64"), wanted)
