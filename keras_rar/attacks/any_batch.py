"""A compiled function whose graph serves batches of every size."""

import functools
from collections.abc import Callable, Collection
from typing import Any

import tensorflow as tf


def compiled(run: Callable, phases: Collection[str], jit_compile: bool) -> Callable:
    """`run(phase, *tensors)` with one graph for each phase that is long, whatever the batch size.

    TensorFlow would trace it anew for the second size, which is what takes the time, and warn. XLA still compiles for
    each size.

    Args:
        run: Function of the name of a phase and of tensors, and tuples of them; all of one batch but for scalars.
        phases: Names of those to compile. To compile one takes longer than to run what is run once.
        jit_compile: Whether XLA compiles.

    Returns:
        A function like `run`.
    """
    graphs: dict[Any, Callable] = {}

    def call(phase: str, *state: Any) -> Any:
        if phase not in phases:
            return run(phase, *state)
        specs = tf.nest.map_structure(_any_batch, state)
        described = (phase, *((spec.shape[1:].as_list(), spec.dtype.name) for spec in tf.nest.flatten(specs)))
        key = str(described)
        if key not in graphs:
            function = tf.function(functools.partial(run, phase), autograph=False, jit_compile=jit_compile)
            graphs[key] = function.get_concrete_function(*specs)
        return graphs[key](*state)

    return call


def _any_batch(value: tf.Tensor) -> tf.TensorSpec:
    shape = value.shape if value.shape.rank == 0 else [None, *value.shape[1:]]
    return tf.TensorSpec(shape, value.dtype)
