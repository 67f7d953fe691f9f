"""How many points of a network fit into memory at once."""

import math
from collections.abc import Callable

import tensorflow as tf

_SECOND_DERIVATIVES = {True: 4.0, False: 2.2}
"""Memory of second derivatives, with or without those in variables, as a multiple of the results of the forward pass.
Measured on convolutional networks, with variables in chunks."""


def bytes_per_point(f: Callable[[tf.Tensor], tf.Tensor], shape: tuple[int | None, ...], dtype: tf.DType) -> float:
    """Memory of everything that `f` computes at one point.

    Args:
        f: Function `(n, ...) -> (n,)`.
        shape: Shape of a point; sizes that vary count as 1.
        dtype: Dtype of a point.

    Returns:
        Number of bytes.

    Example:

    >>> bytes_per_point(lambda z: tf.reduce_sum(2.0 * z, axis=1), (3,), tf.float32)  # three products and a sum
    16
    """
    with tf.init_scope():
        point = tf.TensorSpec([1, *(size or 1 for size in shape)], dtype)
        graph = tf.function(f, autograph=False).get_concrete_function(point).graph
    outputs = [
        value
        for operation in graph.get_operations()
        if operation.type not in ("Const", "Placeholder", "ReadVariableOp", "Identity", "Cast", "Reshape")
        for value in operation.outputs
        if value.shape.is_fully_defined() and value.dtype.is_floating
    ]
    return sum(math.prod(value.shape.as_list()) * value.dtype.size for value in outputs)


def chunk_size(points: int, batch: int, bytes_each: float, budget: float, *, variables: bool = True) -> int | None:
    """How many points per example to evaluate at once, with second derivatives.

    At least one point of the whole batch is evaluated at once, even if it takes more than the budget.

    Args:
        points: Number of points per example.
        batch: Number of examples.
        bytes_each: Memory of the forward pass at a point, in bytes.
        budget: Memory to fill, in gigabytes.
        variables: Whether derivatives in variables are to be computed too. Defaults to `True`.

    Returns:
        A positive integer, or `None` if all points fit.

    Example:

    >>> chunk_size(50, 100, bytes_each=1e6, budget=2.0), chunk_size(4, 100, bytes_each=1e6, budget=2.0)
    (5, None)
    """
    fitting = max(1, int(points_that_fit(bytes_each * batch, budget, variables=variables)))
    return None if fitting >= points else fitting


def points_that_fit(bytes_each: float, budget: float, *, variables: bool = True) -> float:
    """How many points fit in the budget with second derivatives; below 1 if not even one does.

    Args:
        bytes_each: As for `chunk_size`.
        budget: As for `chunk_size`.
        variables: As for `chunk_size`.

    Example:

    >>> points_that_fit(1e6, 2.0), points_that_fit(1e9, 2.0)
    (500.0, 0.5)
    """
    return budget * 1e9 / max(_SECOND_DERIVATIVES[variables] * bytes_each, 1)
