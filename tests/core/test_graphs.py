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
