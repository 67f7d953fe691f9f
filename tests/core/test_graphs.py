"""What is one node of a graph, and what a graph knows of shapes."""

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
