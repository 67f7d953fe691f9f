"""Copies of networks: what is shared, what differs, and that the original is never altered."""

import functools
import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, dense_model
from keras import layers

import keras_rar
from keras_rar.networks.copies import copy_with, is_node, notes_of, operations
from keras_rar.networks.kept import compiled, kept_with
from keras_rar.networks.output import OutputHead, head_of

LINEAR = keras.activations.linear


class Holder(layers.Layer):
    """A layer of the user's that holds layers wherever one may."""

    def __init__(self):
        super().__init__()
        self.attribute = layers.Dense(4, "relu")
        self.in_a_list = [layers.Dense(4, "relu")]
        self.in_a_dictionary = {"a": (layers.Dense(4, "relu"), 1)}
        self.in_a_partial = functools.partial(self.apply, layers.Dense(4, "relu"))
        self.method = self.apply

    def apply(self, layer, x):
        return self.attribute(x) + layer(x)

    def call(self, x):
        x = self.in_a_list[0](x) + self.in_a_dictionary["a"][0](x)
        return self.in_a_partial(x) + self.method(self.attribute, x)


class Own(keras.Model):
    def __init__(self, last="softmax"):
        super().__init__(name="own")
        self.blocks = [layers.Dense(5, "relu"), layers.Dropout(0.5)]
        self.last = layers.Dense(3, last)

    def call(self, x, training=None):
        for block in self.blocks:
            x = block(x)
        return self.last(x)


def built(model, features=4):
    model(np.zeros((1, features), "float32"))
    return model


def nested():
    inputs, shared = keras.Input((4,)), layers.Dense(4, "relu")
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.BatchNormalization(), layers.ReLU()])
    x = keras.ops.maximum(shared(shared(inner(inputs))) - 0.1, 0.0)
    return keras.Model(inputs, layers.Dense(3, "softmax")(layers.Add()([x, inputs])))


def masked():
    inputs = keras.Input((4,))
    x = layers.Masking()(layers.Reshape((2, 2))(inputs))
    return keras.Model(inputs, layers.Dense(3, "softmax")(layers.GRU(3)(x)))


def regularised():
    decay = {"kernel_regularizer": keras.regularizers.L2(0.1), "activity_regularizer": keras.regularizers.L2(0.1)}
    return keras.Sequential([keras.Input((4,)), layers.Dense(5, "relu", **decay), layers.Dense(3, "softmax")])


def with_a_holder():
    return keras.Sequential([keras.Input((4,)), Holder(), layers.Dense(3, "softmax")])


def half():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3, "softmax", dtype="mixed_bfloat16")])


def in_a_dictionary():
    x = keras.Input((4,), name="x")
    return keras.Model({"x": x}, {"scores": layers.Dense(3, "softmax", name="scores")(x)})


def own():
    return built(Own())


NETWORKS = {f.__name__: f for f in (nested, masked, regularised, with_a_holder, half, in_a_dictionary, own)}
every_network = pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)


def feed(model, x):
    return {"x": x} if isinstance(getattr(model, "_inputs_struct", None), dict) else x


def attributes(model):
    """What can be seen of every layer: its attributes by identity, and what its lists hold."""
    seen = {}
    for part in operations(model):
        for name, value in vars(part).items():
            holds = tuple(map(id, value)) if isinstance(value, (list, tuple, set)) else None
            seen[part.name, name] = id(value), holds
    return seen


@every_network
def test_a_copy_computes_the_same_from_the_very_variables(build):
    model = build()
    x = feed(model, batch()[0])
    copy = copy_with(model)
    assert all(a is b for a, b in zip(copy.variables, model.variables, strict=True))
    for training in (False, True):
        keras.utils.set_random_seed(1)  # of Dropout, whose generator is shared
        expected = model(x, training=training)
        np.testing.assert_allclose(*map(np.asarray, map(_leaf, (copy(x, training=False), model(x, training=False)))))
        assert _leaf(expected).shape == (8, 3)


def _leaf(value):
    value = next(iter(value.values())) if isinstance(value, dict) else value
    return tf.cast(value, "float32")


@every_network
def test_no_layer_of_a_copy_is_one_of_the_model_s(build):
    model = build()
    assert not {id(part) for part in operations(copy_with(model))} & {id(part) for part in operations(model)}


def test_a_change_is_of_the_copy_alone():
    model = dense_model(output="softmax")
    x, _ = batch()
    expected, before = model(x).numpy(), attributes(model)
    copy = copy_with(model, [(model.layers[-1], "activation", LINEAR)])
    np.testing.assert_allclose(tf.nn.softmax(copy(x)), expected, rtol=1e-5)
    assert np.abs(copy(x) - expected).max() > 0.01
    assert attributes(model) == before
    np.testing.assert_array_equal(model(x), expected)


def test_a_changed_call_gets_the_copy():
    layer = layers.Dense(2)
    model = keras.Sequential([keras.Input((2,)), layer])
    got = []
    copy = copy_with(model, [(layer, "call", lambda copied, x: got.append(copied) or x)])
    copy(np.ones((1, 2)))
    assert got == [copy.layers[-1]]
    assert got[0] is not layer


def test_gradients_reach_the_variables_of_the_model():
    model = nested()
    x, _ = batch()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(copy_with(model)(x, training=True)[:, 0] ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(gradient is not None and np.abs(gradient).max() > 0 for gradient in gradients[-2:])


def test_batch_statistics_move_through_a_copy():
    model = nested()
    normalization = next(part for part in operations(model) if isinstance(part, layers.BatchNormalization))
    before = normalization.moving_mean.numpy()
    copy_with(model)(batch()[0], training=True)
    assert np.abs(normalization.moving_mean.numpy() - before).max() > 1e-4


def test_losses_of_layers_are_of_the_copy_that_was_called():
    model = regularised()
    copy, x = copy_with(model), batch()[0]
    model(x)
    mine = [float(loss) for loss in model.losses]
    copy(2 * x)
    assert [float(loss) for loss in model.losses] == mine
    assert float(copy.losses[0]) > 1.5 * mine[0]  # activity
    np.testing.assert_allclose(float(copy.losses[1]), mine[1])  # decay


def test_what_keras_keeps_private_is_where_it_is_looked_for():
    """Should Keras rename these, a copy of a Functional model would call the layers of the model."""
    model = nested()
    nodes = [node for nodes in vars(model)["_nodes_by_depth"].values() for node in nodes]
    assert nodes
    assert all(is_node(node) and isinstance(node.operation, keras.Operation) for node in nodes)
    assert {"_inbound_nodes", "_outbound_nodes", "_tracker"} <= vars(model.layers[-1]).keys()
    assert "train_function" in vars(model)


# What is kept with a model


def test_the_head_is_made_once_and_again_after_a_change():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5, "relu"), layers.Dense(3, "softmax")])
    first = head_of(model)
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = batch()
    model.fit(x, y, verbose=0)
    model.predict(x, verbose=0)
    assert head_of(model) is first
    for change in (
        lambda: model.pop(),
        lambda: model.add(layers.Dense(3)),
        lambda: setattr(model.layers[0], "activation", keras.activations.tanh),
        lambda: setattr(model.layers[0], "trainable", False),
        lambda: setattr(model.layers[0], "kernel_regularizer", keras.regularizers.L2(0.1)),
    ):
        change()
        assert head_of(model) is not first
        first = head_of(model)
    assert head_of(model) is first


def test_a_model_s_number_or_list_counts_too():
    model = own()
    first = head_of(model)
    model.blocks[1].rate = 0.25
    assert head_of(model) is not first


def test_logits_follow_a_layer_that_was_changed():
    model = dense_model(activation="relu", output="softmax")
    x = tf.constant(batch()[0])
    before = head_of(model).logits(x)
    model.layers[0].activation = keras.activations.tanh
    after = head_of(model).logits(x)
    assert np.abs(after - before).max() > 0.01
    np.testing.assert_allclose(tf.nn.softmax(after), model(x), rtol=1e-5)


@pytest.mark.slow
def test_what_is_kept_goes_with_the_model_and_is_not_saved(tmp_path):
    model = dense_model(activation="relu", output="softmax")
    x, y = batch()
    model.save(tmp_path / "before.keras")
    keras_rar.saliency_map(model, x, y, m=2)
    keras_rar.attacks.TopKAttack(1, 0.1, steps=1, m=1)(model, x, y)
    assert notes_of(model) != {}
    model.save(tmp_path / "after.keras")
    assert (tmp_path / "after.keras").stat().st_size == (tmp_path / "before.keras").stat().st_size
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


def test_settings_that_change_at_every_call_do_not_fill_the_memory():
    model = dense_model()
    kept = [compiled(model, number, lambda x: x) for number in range(200)]
    assert compiled(model, 199, lambda x: x) is kept[199]
    assert compiled(model, 0, lambda x: x) is not kept[0]


def test_baselines_do_not_fill_the_memory():
    """A baseline is an argument of what is compiled, not another function."""
    model, (x, y) = dense_model(), batch(2)
    maps = [keras_rar.saliency_map(model, x, y, baseline=b, m=8, normalize=False) for b in (0.0, 0.25, np.full(4, 0.5))]
    size = len(vars(kept_with(model))["_made"])
    for number in range(3):
        keras_rar.saliency_map(model, x, y, baseline=number / 10, m=8)
    assert len(vars(kept_with(model))["_made"]) == size
    assert np.abs(maps[0] - maps[2]).max() > 1e-3


# Models that were refused, or taken for what they are not


@pytest.mark.parametrize("build", [own, with_a_holder, in_a_dictionary, masked])
def test_the_softmax_is_found_and_taken_off(build):
    model = build()
    x = tf.constant(batch()[0])
    head = OutputHead(model)
    assert head.activation == "softmax"
    expected = _leaf(model(feed(model, x)))
    np.testing.assert_allclose(tf.nn.softmax(head.logits(x)), expected, rtol=1e-5)
    assert np.abs(head.logits(x) - expected).max() > 0.01


def test_a_softmax_within_a_subclassed_model_is_not_its_output():
    class Gated(keras.Model):
        def __init__(self):
            super().__init__()
            self.gate, self.last = layers.Dense(4, "softmax"), layers.Dense(3)

        def call(self, x):
            return self.last(x * self.gate(x))

    assert OutputHead(built(Gated())).activation is None


def test_a_subclassed_model_that_calls_its_last_layer_twice_keeps_its_first_softmax():
    class Twice(keras.Model):
        def __init__(self):
            super().__init__()
            self.last = layers.Dense(4, "softmax")

        def call(self, x):
            return self.last(self.last(x))

    model = built(Twice())
    x = batch()[0]
    expected = tf.matmul(model.last(x), model.last.kernel) + model.last.bias
    np.testing.assert_allclose(OutputHead(model).logits(tf.constant(x)), expected, rtol=1e-5)


@pytest.mark.slow
def test_a_subclassed_classifier_is_trained_measured_and_explained():
    model, (x, y) = own(), batch()
    result = keras_rar.attacks.TopKAttack(1, 0.2, steps=3, m=4)(model, x, y)
    assert (result.iteration > 0).any()
    trained = keras_rar.wrap(model, "ig_sum_norm", steps=1)
    trained.compile("sgd", "sparse_categorical_crossentropy")
    assert np.isfinite(trained.fit(x, y, verbose=0).history["loss"]).all()
