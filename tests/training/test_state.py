"""State that is neither weight nor optimizer: every seed generator is found, saved and loaded."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch

import keras_rar
from keras_rar.training.state import random_states, values_of

OF_MODULE = keras.random.SeedGenerator(11)


class Held:
    """An object of the user's that Keras does not track."""

    def __init__(self):
        self.generator = keras.random.SeedGenerator(5)


@keras.saving.register_keras_serializable("tests")
class Noise(keras.layers.Layer):
    """Noise from a generator that is kept in one of several ways."""

    shared = keras.random.SeedGenerator(12)

    def __init__(self, kind="attribute", **options):
        super().__init__(**options)
        self.kind = kind
        if kind == "attribute":
            self.generator = keras.random.SeedGenerator(1)
        elif kind == "list":
            self.generators = [[keras.random.SeedGenerator(2)], {"a": keras.random.SeedGenerator(3)}]
        elif kind == "object":
            self.held = Held()
        elif kind == "layer":
            self.inner = keras.layers.GaussianNoise(0.1)
        elif kind == "tensorflow":
            self.generator = tf.random.Generator.from_seed(4)

    def call(self, x, training=False):
        if not training:
            return x
        if self.kind == "tensorflow":
            return x + self.generator.normal(tf.shape(x), stddev=0.1)
        if self.kind == "layer":
            return self.inner(x, training=training)
        return x + keras.random.normal(keras.ops.shape(x), stddev=0.1, seed=self._generator)

    @property
    def _generator(self):
        return {
            "attribute": lambda: self.generator,
            "list": lambda: self.generators[0][0],
            "object": lambda: self.held.generator,
        }[self.kind]()

    def get_config(self):
        return {**super().get_config(), "kind": self.kind}


class OfModule(keras.layers.Layer):
    def call(self, x, training=False):
        return x + keras.random.normal(keras.ops.shape(x), seed=OF_MODULE)


def in_closure():
    generator = keras.random.SeedGenerator(6)
    return keras.layers.Lambda(lambda x: x + keras.random.normal(keras.ops.shape(x), seed=generator))


def model_of(*layers, shape=(8,)):
    return keras.Sequential([keras.Input(shape), *layers])


def built_attention():
    layer = keras.layers.MultiHeadAttention(1, 2, dropout=0.1)
    layer.build((None, 3, 2), (None, 3, 2))
    return layer


layers = keras.layers
CASES = {
    "dropout": lambda: (model_of(layers.Dropout(0.5)), 1),
    "no rate": lambda: (model_of(layers.Dropout(0.0), layers.Dense(2)), 0),
    "noise": lambda: (model_of(layers.GaussianNoise(0.1), layers.GaussianDropout(0.5), layers.AlphaDropout(0.5)), 3),
    "augmentation": lambda: (model_of(layers.RandomFlip(), layers.RandomRotation(0.1), shape=(4, 4, 1)), 2),
    "nested": lambda: (model_of(model_of(model_of(layers.Dropout(0.5)))), 1),
    "called twice": lambda: (model_of(*[layers.Dropout(0.5)] * 2), 1),
    "cell": lambda: (model_of(layers.GRU(2, dropout=0.5), shape=(3, 2)), 1),
    "attention": lambda: (built_attention(), 1),
    "wrapper": lambda: (model_of(layers.TimeDistributed(layers.Dropout(0.5)), shape=(3, 2)), 1),
    "attribute": lambda: (model_of(Noise()), 2),  # with that of its class
    "list": lambda: (model_of(Noise("list")), 3),
    "object": lambda: (model_of(Noise("object")), 2),
    "layer": lambda: (model_of(Noise("layer")), 2),
    "tensorflow": lambda: (model_of(Noise("tensorflow")), 2),
    "module": lambda: (model_of(OfModule()), 1),
    "closure": lambda: (model_of(in_closure()), 1),
}


@pytest.mark.parametrize("case", CASES)
def test_every_seed_generator_is_found(case):
    model, count = CASES[case]()
    states = random_states(model)
    assert len({id(state) for state in states}) == len(states) == count


def test_generators_of_other_models_are_not_found():
    """Which share a tensor or a layer with the model."""
    inputs = keras.Input((4,))
    shared = keras.layers.Dropout(0.5)(inputs)
    keras.Model(inputs, keras.layers.GaussianNoise(0.1)(shared))
    assert len(random_states(keras.Model(inputs, shared))) == 1


def test_the_order_is_that_of_every_building():
    def network():
        inputs = keras.Input((4,))
        a, b = layers.Dropout(0.5, seed=1)(inputs), layers.GaussianNoise(0.1, seed=2)(inputs)
        return keras.Model(inputs, layers.Add()([Noise("object")(b), a]))

    first = network()
    again = keras.Model.from_config(first.get_config(), {"Noise": Noise})
    np.testing.assert_array_equal(values_of(random_states(network())), values_of(random_states(first)))
    np.testing.assert_array_equal(values_of(random_states(again)), values_of(random_states(first)))


def random_network():
    return keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.RandomFlip(),
            layers.RandomTranslation(0.3, 0.3),
            keras.Sequential([layers.GaussianNoise(0.1)]),
            layers.Flatten(),
            layers.Dense(8, "relu"),
            layers.Dropout(0.5),
            Noise("object"),
            Noise("tensorflow"),
            layers.Dense(3),
        ]
    )


def compiled(network):
    model = keras_rar.wrap(network, "madry", steps=1, random_start=True, seed=0)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


X, Y = batch(24, (4, 4, 1))


def fitted(model, epochs):
    model.fit(X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return np.concatenate([value.ravel() for value in model.get_weights()])


def test_a_loaded_model_goes_on_as_if_it_had_not_been_saved(tmp_path):
    """To the last bit; and not with the seeds alone that a file of 0.1.0 has: the control."""
    model = compiled(random_network())
    fitted(model, 1)
    model._guard.skipped = 2
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.skipped_updates == 2
    before = values_of(random_states(loaded.base_model))
    for ours, theirs in zip(before, values_of(random_states(model.base_model)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    Noise.shared.state.assign([12, 0])
    whole = fitted(model, 1)
    Noise.shared.state.assign([12, 0])
    np.testing.assert_array_equal(fitted(loaded, 1), whole)

    other = compiled(random_network())
    other.optimizer.build(other.trainable_variables)
    other.load_weights(tmp_path / "model.weights.h5")
    for state in random_states(other.base_model):
        state.assign(state + 1)
    assert np.abs(fitted(other, 1) - whole).max() > 1e-6


def test_weights_load_into_a_network_with_other_random_layers(tmp_path):
    """Its seeds stay as they are."""
    dropout = compiled(model_of(layers.Dropout(0.5, seed=1), layers.Dense(3)))
    dropout.save_weights(tmp_path / "model.weights.h5")
    both = compiled(model_of(layers.GaussianNoise(0.1, seed=2), layers.Dropout(0.5, seed=3), layers.Dense(3)))
    before = values_of(random_states(both.base_model))
    both.load_weights(tmp_path / "model.weights.h5", skip_mismatch=True)
    np.testing.assert_array_equal(values_of(random_states(both.base_model)), before)
