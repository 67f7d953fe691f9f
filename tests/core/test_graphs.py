"""What is one node of a graph, and what a graph knows of shapes."""

import numpy as np
import pytest
import tensorflow as tf

from keras_rar.core import graphs


def test_a_body_is_one_node_of_a_graph():
    traced = tf.function(lambda x: graphs.body(lambda z: tf.square(z) + 1.0)(x)).get_concrete_function(tf.constant(2.0))
    calls = [op for op in traced.graph.get_operations() if "PartitionedCall" in op.type]
    assert len(calls) == 1
    assert "Square" not in {op.type for op in traced.graph.get_operations()}
    (definition,) = [f for f in traced.graph.as_graph_def().library.function if f.attr["_noinline"].b]
    assert "Square" in {node.op for node in definition.node_def}
    assert float(traced(tf.constant(2.0))) == 5.0


def test_a_body_outside_of_graphs_is_the_function_itself():
    function = tf.square
    assert graphs.body(function) is function


def test_what_a_graph_knows_of_a_shape():
    seen = []

    @tf.function
    def traced(x):
        seen.extend([graphs.of_unknown_batch(x).shape, graphs.known_as(x, [None, None]).shape])
        return graphs.of_unknown_batch(x) + graphs.known_as(x, [None, None])

    x = tf.ones([2, 3])
    assert traced(x).numpy().tolist() == [[2.0] * 3] * 2
    assert [shape.as_list() for shape in seen] == [[None, 3], [None, None]]
    assert graphs.known_as(x, [None, None]) is x


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}])
@pytest.mark.parametrize(("batch", "size", "seen"), [(1, 3, 1), (6, 3, 3), (7, 3, 3), (10, 4, 4), (9, 4, 3), (5, 9, 5)])
def test_parts_are_of_one_size_and_make_the_whole(batch, size, seen, options):
    x, y = np.arange(2.0 * batch, dtype="float32").reshape(batch, 2), np.arange(batch)
    sizes = []

    def function(x, y):
        sizes.append(x.shape[0])
        return x**2 + tf.cast(y, x.dtype)[:, tf.newaxis] - tf.reduce_max(x, axis=1, keepdims=True)

    found = tf.function(lambda: graphs.in_parts(function, (x, y), size), **options)()
    np.testing.assert_array_equal(found, x**2 + y[:, None] - x.max(axis=1, keepdims=True))
    assert sizes == [seen]  # traced once


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}])
@pytest.mark.parametrize(("batch", "size"), [(1, 3), (6, 3), (7, 3), (5, 9)])
def test_sums_in_parts_are_those_of_the_whole(batch, size, options):
    """The last part is filled up with rows that count nothing, not even where they are infinite."""
    x, weights = np.arange(2.0 * batch, dtype="float32").reshape(batch, 2), np.linspace(1, 2, batch, dtype="float32")
    x[-1, 0] = np.inf
    spec, total = tf.TensorSpec([2], tf.float32), tf.zeros([2])

    def function(x, w):
        finite = tf.where(tf.math.is_finite(x), x, 0.0)
        return [x**2], [tf.reduce_sum(w[:, tf.newaxis] * finite, axis=0)]

    def whole():
        return graphs.sums_in_parts(function, [x], tf.constant(weights), size, results=[spec], sums=[total])

    (squares,), (found,) = tf.function(whole, **options)()
    np.testing.assert_array_equal(squares, x**2)
    np.testing.assert_allclose(found, weights @ np.where(np.isfinite(x), x, 0), rtol=1e-6)


def test_sums_of_a_batch_that_the_graph_does_not_know():
    @tf.function(input_signature=[tf.TensorSpec([None])])
    def whole(x):
        f = lambda x, w: ([2 * x], [tf.reduce_sum(w * x)])  # noqa: E731
        return graphs.sums_in_parts(f, [x], x, 4, results=[tf.TensorSpec([], x.dtype)], sums=[tf.constant(0.0)])

    for batch in (9, 4, 1, 0):
        x = np.arange(batch, dtype="float32")
        (doubled,), (total,) = whole(x)
        np.testing.assert_array_equal(doubled, 2 * x)
        assert float(total) == np.sum(x**2)


def test_variables_made_outside_of_a_trace_cause_no_second_one():
    def traced_times(make):
        traces, made = [], []

        @tf.function
        def function(x):
            traces.append(None)
            if not made:
                make(lambda: made.append(tf.Variable(2.0)))
            return made[0] * x

        assert float(function(tf.constant(3.0))) == 6.0
        return len(traces)

    assert traced_times(graphs.outside) == 1
    assert traced_times(lambda function: function()) == 2  # negative control
    assert graphs.outside(lambda: 5) == 5


def test_parts_of_a_batch_that_the_graph_does_not_know():
    traces, largest = [], tf.Variable(0)

    def function(x):
        largest.assign(tf.maximum(largest, tf.shape(x)[0]))
        return x + 1.0

    @tf.function(input_signature=[tf.TensorSpec([None, 2])])
    def whole(x):
        traces.append(None)
        return graphs.in_parts(function, [x], 4)

    for batch, seen in ((9, 3), (4, 4), (1, 1), (0, 0)):
        largest.assign(0)
        np.testing.assert_array_equal(whole(tf.ones([batch, 2])), np.full([batch, 2], 2.0))
        assert (len(traces), int(largest)) == (1, seen)
    assert graphs.in_parts(function, [tf.ones([3, 2])], 2).shape == (3, 2)  # eagerly
