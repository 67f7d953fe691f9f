"""Updates that go by examples: they are those of the whole batch, in memory that does not grow with it."""

import warnings
from typing import ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, some_slow, wrapped

from keras_rar.training.in_parts import InParts

L = keras.layers
OTHERS = [("ig_sum_norm", 0.1), ("igr", 3), ("igr", 0.1), ("ig_topk", 3), ("ig_topk", 0.1)]
OTHERS += [(method, 3) for method in ("input_gradient", "r2et", "cure", "hessian", "kendall", "lga", "art", "ssr")]
OTHERS += [("contrast", 3), ("contrast", 0.1), ("prior", 3)]
"""Methods, and how many examples fit: of a tenth of one, only some nodes."""


def network():
    """Everything that a batch has in common: batch statistics, dropout, losses of layers; and a frozen layer."""
    frozen = L.Dense(6, "tanh", trainable=False)
    layers = [
        L.Dense(6, kernel_regularizer="l2"),
        L.BatchNormalization(momentum=0.5),
        L.Activation("softplus"),
        L.Dropout(0.3, seed=1),
        frozen,
        L.Dense(5, "tanh", activity_regularizer="l2"),
        L.Dense(3),
    ]
    return keras.Sequential([keras.Input((4,), dtype=keras.config.dtype_policy().variable_dtype), *layers])


def budget_of(model, examples):
    """Gigabytes that a number of examples take, with all of their nodes and gradients."""
    problem = model._compiled
    outline = problem.reads.outline
    points = len(problem.regularizer.training_rule) * outline.integrals + outline.gradients
    return (examples + 0.5) * points * 4.0 * problem.chunks._point_size / 1e9


def trained(method, budget=None, updates=2, **options):
    """Weights and logs after some updates, of batches that cannot be divided evenly."""
    keras.utils.set_random_seed(0)
    x, y = batch(7)
    weight = np.linspace(0, 2, 7)
    chunk = {} if "chunk" in options else {"chunk": "auto" if budget else None}
    model = wrapped(method, network(), optimizer=keras.optimizers.Adam(0.1), **chunk, **options)
    if budget:
        model.regularizer.memory_budget = budget_of(model, budget)
    logs = [model.train_on_batch(x, y, weight, return_dict=True) for _ in range(updates)]
    return model, np.concatenate([np.ravel(value) for value in model.get_weights()]), logs


@pytest.mark.parametrize(
    ("method", "budget"),
    some_slow([("ig_norm", 3), ("ig_sum_norm", 3), ("ig_norm", 0.1), *OTHERS], [("ig_norm", 3), ("ig_sum_norm", 3)]),
)
def test_an_update_by_examples_is_that_of_the_batch(method, budget, policy):
    policy("float64")
    _, expected, logs = trained(method)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        model, found, logs_in_parts = trained(method, budget)
    assert model._compiled.differentiated_at_once(tf.zeros([7, 4])) == max(1, int(budget))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)  # Adam divides small gradients by themselves
    for parts, whole in zip(logs_in_parts, logs, strict=True):
        assert parts.keys() == whole.keys()
        for name, value in whole.items():
            assert float(parts[name]) == pytest.approx(float(value), rel=1e-6)  # the history is in float32


def test_nodes_in_chunks_of_ones_own_read_the_statistics_that_the_whole_reads(policy):
    """The derivative computes the nodes a second time, after the classification pass has moved the statistics."""
    policy("float64")
    np.testing.assert_allclose(trained("ig_sum_norm", chunk=1)[1], trained("ig_sum_norm")[1], rtol=0, atol=1e-9)


def test_batches_that_fit_go_at_once(monkeypatch):
    """In one graph, as small networks always did."""
    monkeypatch.setattr(InParts, "__call__", None)
    x, y = batch(32)
    for method in ("natural", "ig_norm", "igr"):
        wrapped(method).train_on_batch(x, y)
    wrapped("madry", memory_budget=1e-9).train_on_batch(x, y)  # no IG: as plain training


class Rows(L.Layer):
    """Writes down how many points it is called on, each time the network runs."""

    seen: ClassVar[list] = []

    def call(self, inputs):
        tf.py_function(lambda n: Rows.seen.append(int(n)), [tf.shape(inputs)[0]], [])
        return tf.identity(inputs)


def as_dataset(x, y):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(60)


def as_generator(x, y):
    for start in (0, 60):
        yield x[start : start + 60], y[start : start + 60]


@pytest.mark.parametrize("feed", [as_dataset, as_generator])
def test_batches_whose_size_only_the_run_tells_count_as_they_are(feed):
    """They were taken for 32 examples."""
    x, y = batch(80)
    base_model = keras.Sequential([keras.Input((4,)), L.Dense(6), L.Activation("tanh"), Rows(), L.Dense(3)])
    model = wrapped("ig_sum_norm", base_model, m=4, attack_m=2, steps=1, rule="right")
    model.regularizer.memory_budget = budget_of(model, 35)
    Rows.seen.clear()
    model.fit(feed(x, y), verbose=0)
    assert max(Rows.seen) == 4 * 30  # 60 examples in two parts
    assert {20, 60} <= set(Rows.seen)  # the classification pass of each batch; 20 examples fit at once


def test_a_budget_below_one_node_of_one_example_is_said_once_before_training():
    x, y = batch(8)
    model = wrapped("ig_sum_norm", memory_budget=1e-9)
    with pytest.warns(RuntimeWarning, match="One node of one example takes about .* GB .* memory_budget=1e-09"):
        model.train_on_batch(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.train_on_batch(x, y)


# The first step


class Traced(L.Layer):
    """Counts how often Python runs it."""

    calls = 0

    def call(self, inputs):
        Traced.calls += 1
        return tf.identity(inputs)


@pytest.mark.parametrize("budget", [None, 3], ids=["whole", "parts"])
@pytest.mark.parametrize(("method", "calls"), [("madry", 3), ("ig_sum_norm", 6), ("ig_topk", 8)])
def test_the_network_is_traced_a_few_times_before_the_first_step(method, calls, budget):
    """Once for each place of an update where it is needed, and once to know its size; metrics add none."""
    x, y = batch(8)
    base_model = keras.Sequential([keras.Input((4,)), L.Dense(6), L.Activation("tanh"), Traced(), L.Dense(3)])
    model = wrapped(method, base_model, optimizer="adam", compile={"metrics": ["accuracy"]})
    if budget:
        model.regularizer.memory_budget = budget_of(model, budget)
    Traced.calls = 0
    model.train_on_batch(x, y)
    assert 0 < Traced.calls <= calls
