"""The engine against the method written out: nested tapes, one node after the other, plain calls of the model."""

import itertools
from typing import ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, conv_model, dense_model, some_slow, wrapped

import keras_rar
from keras_rar.training.chunks import Chunks

L = keras.layers
METHODS = ["madry", "ig_norm", "ig_sum_norm", "igr"]
OPTIONS = {"epsilon": 0.3, "steps": 2, "step_size": 0.2, "m": 3, "attack_m": 2, "norm": "l2", "bounds": None}  # smooth
LAMBDA = 0.7  # λ or β


def smooth_model():
    """Convolutions with max-pooling, smooth, so that derivatives do not jump with rounding."""
    return keras.Sequential(
        [
            keras.Input((6, 6, 1), dtype=keras.config.dtype_policy().variable_dtype),
            L.Rescaling(2.0, -1.0),
            L.Conv2D(3, 3, padding="same", activation="tanh"),
            L.MaxPooling2D(2),
            L.Flatten(),
            L.Dense(4, "softplus"),
            L.Dense(3),
        ]
    )


def images(n=5, dtype="float32"):
    x, y = batch(n, (6, 6, 1))
    return x.astype(dtype), y


def regularized(method, base_model, rule="right", chunk=None, compile=None, **options):
    factor = {"madry": {}, "ig_sum_norm": {"beta": LAMBDA}}.get(method, {"factor": LAMBDA})
    options = {**OPTIONS, **factor, "rule": rule, "chunk": chunk, **options}
    if chunk == "auto":
        options = {"memory_budget": 1e-9, **options}
    return wrapped(method, base_model, optimizer=keras.optimizers.SGD(1.0), compile=compile, **options)


# The reference: formulas of the paper, nothing of the package


def nodes_and_weights(rule, m):
    k = np.arange(m + 1)
    return {
        "right": (k[1:] / m, np.ones(m) / m),
        "midpoint": ((k[:-1] + 0.5) / m, np.ones(m) / m),
        "trapezoid": (k / m, np.array([0.5, *np.ones(m - 1), 0.5]) / m),
    }[rule]


class Reference:
    """`ℓ`, IG, the objectives and their gradients, a tape in a tape."""

    def __init__(self, model, method, rule, y):
        self.model, self.method, self.rule, self.y = model, method, rule, tf.constant(y)

    def loss(self, z):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(self.y, self.model(z, training=False))

    def label_logit(self, z):
        return tf.gather(self.model(z, training=False), self.y, batch_dims=1)

    def attributions(self, f, x, x_prime, m):
        total = 0.0
        for alpha, weight in zip(*nodes_and_weights(self.rule, m), strict=True):
            z = x + alpha * (x_prime - x)
            with tf.GradientTape() as tape:
                tape.watch(z)
                value = f(z)
            total += weight * tape.gradient(value, z)
        return (x_prime - x) * total

    def map_distance(self, x, x_prime, m):
        a, b = (tf.abs(self.attributions(self.label_logit, tf.zeros_like(x), z, m)) for z in (x, x_prime))
        return 1 - self.sum(a * b) / tf.sqrt(self.sum(a**2) * self.sum(b**2))

    def sum(self, values):
        return tf.reduce_sum(values, axis=[1, 2, 3])

    def ig_l1(self, x, x_prime, m):
        return self.sum(tf.abs(self.attributions(self.loss, x, x_prime, m)))

    def objective(self, x, x_prime, m):
        if self.method == "madry":
            return self.loss(x_prime)
        if self.method == "ig_norm":
            return self.loss(x) + LAMBDA * self.ig_l1(x, x_prime, m)
        if self.method == "ig_sum_norm":
            return self.loss(x_prime) + LAMBDA * self.ig_l1(x, x_prime, m)
        return self.loss(x_prime) + LAMBDA * self.map_distance(x, x_prime, m)

    def ascended(self, x, x_prime, m):
        if self.method in ("madry", "igr"):
            return self.loss(x_prime)
        if self.method == "ig_norm":
            return self.ig_l1(x, x_prime, m)
        return self.objective(x, x_prime, m)

    def gradients(self, x, x_prime, m, weights):
        with tf.GradientTape() as tape:
            tape.watch(x_prime)
            objective = tf.reduce_mean(self.objective(x, x_prime, m))
        return objective, tape.gradient(objective, [x_prime, *weights])

    def perturbed(self, x, start, m, neighborhood):
        """Steps of the ascent; of the projection there is a test elsewhere."""
        x_prime = start
        for _ in range(OPTIONS["steps"]):
            with tf.GradientTape() as tape:
                tape.watch(x_prime)
                size = self.ascended(x, x_prime, m)
            slope = tape.gradient(size, x_prime)
            slope /= tf.sqrt(tf.reduce_sum(slope**2, axis=[1, 2, 3], keepdims=True))
            x_prime = neighborhood.project(x, x_prime + OPTIONS["step_size"] * slope)
        return x_prime


def assert_equal(found, expected, **tolerance):
    for value, wanted in zip(found, expected, strict=True):
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(value, wanted, rtol=0, atol=tolerance["rel"] * scale + 1e-12)
        assert scale > 0


BALL = keras_rar.L2Ball(OPTIONS["epsilon"], bounds=None)


def start_of(method, x, seed):
    """Where the inner maximum starts: IG-NORM at a random point, the others here at x."""
    return BALL.sample(x, tf.constant(seed, tf.int64)) if method == "ig_norm" else x


def check_inner_maximum(model, reference, x, y, rel):
    expected = reference.perturbed(x, start_of(reference.method, x, [7, 0]), OPTIONS["attack_m"], BALL)
    assert_equal([model.perturb(x, y, seed=7) - x], [expected - x], rel=rel)


def check_objective(model, reference, x, y, rel):
    """And its derivatives in x′ and in every weight; and IG."""
    weights = [weight.value for weight in model.trainable_variables]
    x_prime = tf.constant(np.random.default_rng(1).uniform(size=x.shape).astype(x.dtype.name))
    with tf.GradientTape() as tape:
        tape.watch(x_prime)
        objective = tf.reduce_mean(model.objective(x, x_prime, y))
    found = tape.gradient(objective, [x_prime, *weights])
    expected, gradients = reference.gradients(x, x_prime, OPTIONS["m"], weights)
    assert_equal([objective, *found], [expected, *gradients], rel=rel)
    attributions = reference.attributions(reference.loss, x, x_prime, OPTIONS["m"])
    assert_equal([model.attributions(x, x_prime, y)], [attributions], rel=rel)


def check_update(model, reference, x, y, rel):
    """SGD at rate 1 subtracts the gradient."""
    start = start_of(reference.method, x, model.seed_generator.state.numpy())
    x_star = reference.perturbed(x, start, OPTIONS["attack_m"], BALL)
    weights = [weight.value for weight in model.trainable_variables]
    expected, (_, *gradients) = reference.gradients(x, x_star, OPTIONS["m"], weights)
    before = model.get_weights()
    history = model.fit(x, y, batch_size=len(y), shuffle=False, verbose=0).history
    moved = [old - new for old, new in zip(before, model.get_weights(), strict=True)]
    assert_equal(moved, gradients, rel=rel)
    assert history["loss"][0] == pytest.approx(float(expected), rel=max(rel, 1e-5))  # the history is in float32


CHECKS = [check_inner_maximum, check_objective, check_update]


def check(model, method, rule, x, y, rel, checks=CHECKS):
    for each in checks:
        each(model, Reference(model.base_model, method, rule, y), tf.constant(x), y, rel)


def options_of(method):
    return {} if method == "ig_norm" else {"random_start": False}


@pytest.mark.parametrize(
    ("rule", "chunk"),
    some_slow(
        itertools.product(["right", "midpoint", "trapezoid"], [None, 1, "auto"]),
        [("right", None), ("right", "auto"), ("midpoint", "auto"), ("trapezoid", 1)],
    ),
)
def test_the_objective_as_the_reference_in_float64(rule, chunk, policy):
    policy("float64")
    model = regularized("ig_sum_norm", smooth_model(), rule, chunk, random_start=False)
    check(model, "ig_sum_norm", rule, *images(dtype="float64"), rel=1e-10, checks=[check_objective])


@pytest.mark.parametrize(
    ("method", "rule", "chunk"),
    [
        ("madry", "right", None),
        pytest.param("ig_norm", "midpoint", 1, marks=pytest.mark.slow),
        ("ig_sum_norm", "right", None),
        ("ig_sum_norm", "midpoint", "auto"),
        pytest.param("igr", "trapezoid", 2, marks=pytest.mark.slow),
    ],
)
def test_as_the_reference_in_float64(method, rule, chunk, policy):
    policy("float64")
    model = regularized(method, smooth_model(), rule, chunk, **options_of(method))
    check(model, method, rule, *images(dtype="float64"), rel=1e-10)  # sums of some hundreds of terms


@pytest.mark.parametrize("method", ["ig_sum_norm", "igr"])
def test_as_the_reference_in_float32(method):
    model = regularized(method, conv_model(), "midpoint", 2, **options_of(method))
    check(model, method, "midpoint", *images(), rel=2e-4, checks=[check_update])  # 2⁻²⁴, hundreds of terms


def test_as_the_reference_in_eager_mode():
    model = regularized("ig_sum_norm", conv_model(), "right", compile={"run_eagerly": True}, random_start=False)
    check(model, "ig_sum_norm", "right", *images(n=2), rel=2e-4)  # as in float32 above


@pytest.mark.parametrize(
    ("method", "chunk", "part"), [("ig_sum_norm", 2, check_inner_maximum), ("ig_sum_norm", None, check_objective)]
)
def test_as_the_reference_under_xla_with_max_pooling(method, chunk, part):
    """Of nearly equal entries XLA's own second derivative takes a wrong one: see `core/test_pooling.py`."""
    base_model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            L.Conv2D(3, 3, padding="same", bias_initializer=keras.initializers.Constant(8.0)),
            L.MaxPooling2D(2),
            L.Rescaling(1.0, -8.0),
            L.Flatten(),
            L.Dense(4, "tanh"),
            L.Dense(3),
        ]
    )
    model = regularized(method, base_model, "right", chunk, {"jit_compile": True}, random_start=False)
    check(model, method, "right", *images(), rel=1e-3, checks=[part])  # 2⁻²⁴ · 8, hundreds of terms


@pytest.mark.parametrize("method", ["ig_sum_norm", pytest.param("igr", marks=pytest.mark.slow)])
def test_as_float32_in_bfloat16(method, policy):
    """To some units of the 8 bits that a bfloat16 keeps, summed over nodes and pixels."""
    reference = smooth_model()
    policy("mixed_bfloat16")
    model = regularized(method, smooth_model(), "right", 2, random_start=False)
    model.base_model.set_weights(reference.get_weights())
    x, y = images()
    x_star = model.perturb(x, y)
    values = [weight.value for weight in reference.trainable_variables]
    expected, (_, *gradients) = Reference(reference, method, "right", y).gradients(tf.constant(x), x_star, 3, values)
    values = [weight.value for weight in model.trainable_variables]
    with tf.GradientTape() as tape:
        objective = tf.reduce_mean(model.objective(x, x_star, y))
    assert float(objective) == pytest.approx(float(expected), rel=0.02)
    for found, wanted in zip(tape.gradient(objective, values), gradients, strict=True):
        assert np.linalg.norm(found - wanted) < 0.1 * np.linalg.norm(wanted)


def test_negative_control_rules_methods_and_nodes_differ():
    """By far more than the tolerances above."""
    model, (x, y) = smooth_model(), images()
    values = [weight.value for weight in model.trainable_variables]

    def kernel_gradient(method, rule, m):
        return Reference(model, method, rule, y).gradients(tf.constant(x), tf.constant(x[::-1]), m, values)[1][1]

    expected = kernel_gradient("ig_sum_norm", "right", 3)
    others = [("ig_sum_norm", "midpoint", 3), ("madry", "right", 3), ("igr", "right", 3), ("ig_sum_norm", "right", 4)]
    for other in others:
        assert np.abs(kernel_gradient(*other) - expected).max() > 1e-2 * np.abs(expected).max()


# Nothing computed twice, or traced twice


class Counted(L.Layer):
    """Writes down the points that it is called on, and in which mode, each time the network runs."""

    rows: ClassVar[list] = []

    def call(self, inputs, training=None):
        mode = bool(training)
        tf.py_function(lambda n: Counted.rows.append((int(n), mode)), [tf.shape(inputs)[0]], [])
        return tf.identity(inputs)


def counted_model(*layers):
    """The layer is not the first: what the stem of the network returns at each node runs through it."""
    return keras.Sequential([keras.Input((4,)), L.Dense(6), L.Activation("tanh"), *layers, Counted(), L.Dense(3)])


def passes(function):
    Counted.rows.clear()
    function()
    return list(Counted.rows)


@pytest.mark.parametrize(
    ("rule", "points"), [("right", [6]), ("midpoint", [6, 2]), ("left", [6, 2]), ("trapezoid", [8])]
)
def test_the_loss_at_x_prime_is_the_last_node_where_the_rule_ends_there(rule, points):
    """Two examples and three nodes, or four; in each of five steps of the inner maximum."""
    x, y = batch(2)
    model = wrapped("ig_sum_norm", counted_model(), rule=rule, attack_m=3, steps=5, random_start=False)
    seen = passes(lambda: model.perturb(x, y))
    assert sorted(seen) == sorted([(n, False) for n in points] * 5)


@pytest.mark.parametrize("method", ["ig_norm", "ig_sum_norm"])
@pytest.mark.parametrize("rule", ["right", "midpoint"])
def test_one_pass_in_training_mode_a_step(method, rule):
    """The classification; and in an update every node once, whatever the rule."""
    x, y = batch(2)
    model = wrapped(method, counted_model(L.Dropout(0.5)), rule=rule, m=4, attack_m=3, steps=5)
    model.fit(x, y, verbose=0)
    seen = passes(lambda: model.fit(x, y, verbose=0))
    inner = [(6, False)] * 5 + ([(2, False)] * 5 if (method, rule) == ("ig_sum_norm", "midpoint") else [])
    metrics = [(2, False)] if method == "ig_sum_norm" else []  # predictions on the clean batch
    assert sorted(seen) == sorted([*inner, (8, False), (2, True), *metrics])


@pytest.mark.parametrize("rule", ["right", "midpoint"])
def test_the_training_pass_is_at_x_star_even_where_its_loss_is_known_already(rule):
    normalization = L.BatchNormalization(momentum=0.9)
    base_model = keras.Sequential([keras.Input((4,)), L.Dense(6), normalization, L.Activation("tanh"), L.Dense(3)])
    x, y = batch()
    model = regularized("ig_sum_norm", base_model, rule, norm="linf", random_start=False)
    means = [base_model.layers[0](z).numpy().mean(axis=0) for z in (model.perturb(x, y), x)]
    model.fit(x, y, verbose=0)
    np.testing.assert_allclose(normalization.moving_mean, 0.1 * means[0], rtol=1e-4, atol=1e-6)  # float32
    assert not np.allclose(normalization.moving_mean, 0.1 * means[1], atol=1e-3)


def test_chunks_bound_the_points_of_a_pass():
    x, y = batch(2)
    model = wrapped("ig_sum_norm", counted_model(), rule="midpoint", attack_m=6, steps=1, chunk=2, random_start=False)
    assert max(n for n, _ in passes(lambda: model.perturb(x, y))) == 4


def test_nothing_is_traced_again_over_batches_epochs_and_calls():
    traces = []

    class Traced(L.Layer):
        def call(self, inputs):
            traces.append(inputs.shape)
            return inputs

    base_model = keras.Sequential([keras.Input((4,)), L.Dense(6, "tanh"), Traced(), L.Dense(3)])
    model = wrapped("ig_sum_norm", base_model, chunk=2)
    x, y = batch(20)
    model.fit(x, y, batch_size=8, epochs=1, verbose=0)  # with a smaller last batch
    first = len(traces)
    model.fit(x, y, batch_size=8, epochs=3, verbose=0)
    assert len(traces) == first
    for n in (8, 5):
        model.perturb(x[:n], y[:n])
    first = len(traces)
    for n in (8, 5, 3, 20):
        model.perturb(x[:n], y[:n])
    assert len(traces) == first


# Memory


def chosen(monkeypatch):
    """Points, examples times nodes, whose derivatives in variables are held at once, in the order they are resolved."""
    seen, resolve = [], Chunks.nodes

    def record(self, examples, nodes, variables):
        size = resolve(self, examples, nodes, variables)
        if variables:
            seen.append(examples * (nodes if size is None else size))
        return size

    monkeypatch.setattr(Chunks, "nodes", record)
    return seen


def as_arrays(model, x, y, n):
    model.fit(x, y, n, verbose=0)


def as_dataset(model, x, y, n):
    model.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(n, drop_remainder=True), verbose=0)


def as_attributions(model, x, y, n):
    model.attributions(x[:n], x[:n][::-1], y[:n])


FEEDS = [as_arrays, as_dataset, as_attributions]


def fits(model, points):
    """Give the model the memory for so many points."""
    model.regularizer.memory_budget = (points + 0.5) * 4.0 * model._compiled.chunks._point_size / 1e9


@pytest.mark.parametrize("feed", FEEDS)
def test_chunk_auto_takes_as_many_points_as_fit(feed, monkeypatch):
    """From 5 examples with all of their 50 nodes to 63 of one node, which leave a smaller last batch."""
    x, y = batch(64)
    for n in (5, 63):
        model = wrapped("ig_sum_norm", m=50, steps=1)
        fits(model, 80)
        seen = chosen(monkeypatch)
        feed(model, x, y, n)
        assert 40 < max(seen) <= 80


def test_chunk_auto_follows_a_larger_batch_of_a_later_call(monkeypatch):
    """Traced for small batches, which fit at once, the same graph must not be used for large ones."""
    x, y = batch(64)
    for feed in (as_arrays, as_attributions):
        model = wrapped("ig_sum_norm", m=50, steps=1)
        fits(model, 300)
        seen = chosen(monkeypatch)
        feed(model, x, y, 5)
        first = len(seen)
        feed(model, x, y, 63)
        assert max(seen[:first]) == 250
        assert len(seen) > first
        assert max(seen[first:]) <= 300


@pytest.mark.parametrize(
    ("method", "budget"),
    some_slow(itertools.product(["ig_norm", "ig_sum_norm", "igr"], [1e-9, 2e-5]), [("ig_norm", 1e-9), ("igr", 2e-5)]),
)
def test_an_inner_maximum_goes_by_examples_where_the_batch_does_not_fit(method, budget, policy):
    """By as many as fit with all of their nodes, or one at a time, and finds the same."""
    policy("float64")
    base_model, (x, y) = dense_model(dtype="float64"), batch(30)
    x = x.astype("float64")
    options = {"attack_m": 10, "steps": 3, "ascend": "objective"} if method == "igr" else {"attack_m": 10, "steps": 3}
    whole = wrapped(method, base_model, chunk=None, **options)
    parts = wrapped(method, base_model, chunk="auto", memory_budget=budget, **options)
    examples, size = parts._compiled.examples_at_once(x), parts._compiled.chunks._point_size
    assert examples == max(1, int(budget * 1e9 / (2.2 * 10 * size))) < 30
    assert parts._compiled.chunks.nodes(examples, 10, False) == (1 if budget == 1e-9 else None)
    np.testing.assert_allclose(parts.perturb(x, y, seed=1), whole.perturb(x, y, seed=1), atol=1e-12)


@pytest.mark.parametrize("options", [{"method": "madry"}, {"method": "igr"}, {"method": "ig_sum_norm", "chunk": 1}])
def test_an_inner_maximum_goes_as_one_without_an_ig_or_with_a_chunk_of_ones_own(options):
    x, _ = batch(30)
    assert wrapped(**{"memory_budget": 1e-9, **options})._compiled.examples_at_once(x) is None


def test_a_model_without_a_stem_has_chunks_too():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, L.Dense(3)(L.Concatenate()([L.Dense(5, "tanh")(inputs), inputs])))
    x, y = batch()
    whole = wrapped("ig_sum_norm", model, chunk=None).attributions(x, x[::-1], y)
    for options in ({"chunk": 1}, {"chunk": "auto", "memory_budget": 1e-9}):
        chunked = wrapped("ig_sum_norm", model, **options).attributions(x, x[::-1], y)
        np.testing.assert_allclose(chunked, whole, rtol=1e-5, atol=1e-7)  # float32


def test_chunks_in_nested_loops_can_be_gone_through_again():
    """TensorFlow's optimizer made a temporary variable of large sums in the nested loop, found again at the next call.

    At these sizes and not at smaller ones.
    """
    base_model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            L.Conv2D(32, 5, padding="same", activation="relu"),
            L.MaxPooling2D(2),
            L.Flatten(),
            L.Dense(64, "relu"),
            L.Dense(10),
        ]
    )
    x, y = batch(16, (28, 28, 1), 10)
    model = wrapped("ig_sum_norm", base_model, m=30, attack_m=30, chunk=15)
    losses = [model.fit(x, y, batch_size=16, verbose=0).history["loss"][0] for _ in range(3)]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("value", [0, -1, 2.5, "all", True])
def test_chunk_is_validated(value):
    with pytest.raises((TypeError, ValueError), match="`chunk` must be a positive integer"):
        wrapped("ig_sum_norm", chunk=value)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), "1 GB"])
def test_memory_budget_is_validated(value):
    with pytest.raises((TypeError, ValueError), match="`memory_budget` must be a positive float"):
        wrapped("ig_sum_norm", memory_budget=value)


@pytest.mark.parametrize("chunk", [None, 3, "auto"])
def test_the_options_are_in_the_config(chunk):
    config = keras_rar.IGSumNormRegularizer(chunk=chunk, memory_budget=0.25).get_config()
    assert (config["chunk"], config["memory_budget"]) == (chunk, 0.25)
    assert keras_rar.IGSumNormRegularizer.from_config(config).get_config() == config


def test_defaults_are_those_written():
    regularizer = keras_rar.IGSumNormRegularizer()
    assert (regularizer.chunk, regularizer.memory_budget) == ("auto", 1.0)
