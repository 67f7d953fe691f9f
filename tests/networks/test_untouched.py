"""Nobody touches the user's network: not before, during or after a public call, and not in another thread."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, some_slow
from keras import layers

import keras_rar
from keras_rar.networks.copies import operations

X, Y = batch(6, (6, 6, 1))


class Witness(layers.Layer):
    """A callback inside the network: it looks at the layers of the user's model whenever a network runs."""

    def __init__(self):
        super().__init__(name="witness")
        self.seen = Seen()

    def call(self, x):
        self.seen.look()
        return x + 0.0


class Seen:
    """What was seen of a model, as a set of states."""

    model = None

    def __init__(self):
        self.states = []

    def look(self):
        if self.model is not None:
            self.states.append(attributes(self.model))


def attributes(model):
    """The attributes of every layer by identity, and what their lists and dictionaries hold."""
    seen = {}
    for part in operations(model):
        for name, value in list(vars(part).items()):
            holds = tuple(map(id, value)) if isinstance(value, (list, tuple, set)) else None
            holds = tuple(map(id, value.values())) if isinstance(value, dict) else holds
            seen[part.name, name] = id(value), holds
    return seen


def network(witness=None):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 1))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", activity_regularizer="l2")(inputs)
    x = layers.MaxPooling2D(2)(x)
    x = witness(x) if witness is not None else x
    inner = keras.Sequential([keras.Input((3, 3, 4)), layers.BatchNormalization(), layers.ReLU(), layers.Dropout(0.2)])
    x = keras.ops.maximum(layers.Flatten()(inner(x)), 0.0)
    return keras.Model(inputs, layers.Dense(3, "softmax", kernel_regularizer="l2")(x))


def attack(**options):
    return keras_rar.attacks.TopKAttack(4, 0.1, steps=2, m=2, **options)


def fit(model, rate=0.0, **options):
    trained = keras_rar.wrap(model, "ig_sum_norm", steps=1, m=2, attack_m=1, seed=0, **options)
    trained.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy")
    return trained


def measured(model):
    options = {"epsilon": 0.1, "steps": 1, "m": 2, "pgd_steps": 1, "progress": False}
    return keras_rar.evaluate_robustness(model, X, Y, **options)


CALLS = {
    "saliency_map": lambda model, path: keras_rar.saliency_map(model, X, m=2),
    "guided": lambda model, path: keras_rar.saliency_map(model, X, method="guided_backprop"),
    "baseline_report": lambda model, path: keras_rar.baseline_report(model),
    "softplus_twin": lambda model, path: keras_rar.softplus_twin(model)(X),
    "top-k attack": lambda model, path: attack()(model, X),
    "PGD": lambda model, path: keras_rar.attacks.PGDAttack(0.1, steps=1)(model, X, Y),
    "evaluate": lambda model, path: measured(model),
    "wrap": lambda model, path: keras_rar.wrap(model),
    "fit": lambda model, path: fit(model, 0.1).fit(X, Y, verbose=0),
    "fit eagerly": lambda model, path: eagerly(fit(model, 0.1)),
    "perturb": lambda model, path: fit(model).perturb(X, Y),
    "attributions": lambda model, path: fit(model).attributions(X, X + 0.1 * (X < 0.5), Y),
    "objective": lambda model, path: fit(model).objective(X, X, Y),
    "export": lambda model, path: keras_rar.export_saved_model(model, path / "saved", m=2, verbose=False),
}


def eagerly(model):
    model.run_eagerly = True
    return model.fit(X, Y, verbose=0)


@pytest.mark.parametrize("name", some_slow(CALLS, list(CALLS)[::2]))
def test_every_layer_is_as_it_was_before_during_and_after_a_call(name, tmp_path):
    witness = Witness()
    model = network(witness)
    model(X, training=True)
    model.predict(X, verbose=0)
    witness.seen.model = model
    before = attributes(model)
    CALLS[name](model, tmp_path)
    assert len(witness.seen.states) > 0 or name in ("wrap",)
    for during in [*witness.seen.states, attributes(model)]:
        assert {key for key in during if during[key] != before.get(key)} == set()
        assert during.keys() == before.keys()


def test_a_change_during_a_call_is_seen():
    """Negative control: what the package did before."""
    witness = Witness()
    model = network(witness)
    model(X)
    witness.seen.model = model
    before = attributes(model)
    activation, model.layers[-1].activation = model.layers[-1].activation, keras.activations.linear
    model(X)
    model.layers[-1].activation = activation
    assert any(during != before for during in witness.seen.states)


def test_eight_threads_give_the_numbers_of_one():
    """The learning rate of `fit` is 0 and batch normalisation frozen, so that the numbers stay what they are."""
    normalization = layers.BatchNormalization(trainable=False)
    hidden = [layers.Flatten(), layers.Dense(6, "relu"), normalization]
    model = keras.Sequential([keras.Input((6, 6, 1)), *hidden, layers.Dense(3, "softmax")])
    one = attack()
    jobs = {
        "map": lambda: keras_rar.saliency_map(model, X, Y, m=3),
        "guided": lambda: keras_rar.saliency_map(model, X, Y, "guided_backprop"),
        "shared attack": lambda: one(model, X, Y).map_after,
        "attack": lambda: attack(softplus_beta=2.0)(model, X, Y).map_after,
        "pgd": lambda: keras_rar.attacks.PGDAttack(0.1, steps=3)(model, X, Y).x_adv,
        "fit": lambda: fit(model).fit(X, Y, batch_size=2, shuffle=False, verbose=0).history["ig_l1"],
        "predict": lambda: model.predict(X, verbose=0),
        "call": lambda: model(X).numpy(),
    }
    expected = {name: job() for name, job in jobs.items()}
    found, errors = {name: [] for name in jobs}, []
    together = threading.Barrier(len(jobs), timeout=300)

    def run(name):
        try:
            for _ in range(3):
                together.wait()
                found[name].append(jobs[name]())
        except Exception as error:
            errors.append((name, error))
            together.abort()

    threads = [threading.Thread(target=run, args=(name,)) for name in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for name, results in found.items():
        assert len(results) == 3
        for result in results:
            np.testing.assert_allclose(result, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
    assert model.layers[-1].activation is keras.activations.softmax


@pytest.mark.slow
def test_an_attack_used_again_after_the_model_got_another_layer_attacks_the_new_one():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(16, "relu"), layers.Dense(3)])
    x = tf.random.stateless_uniform([8, 6], [0, 0]).numpy()
    one = keras_rar.attacks.TopKAttack(2, 0.1, steps=2, m=8)
    one(model, x)
    model.pop()
    model.add(layers.Dense(3))
    y = model.predict(x, verbose=0).argmax(1)
    np.testing.assert_allclose(one(model, x, y).map_before, keras_rar.saliency_map(model, x, y, m=8), atol=1e-4)
    found = one._compiled
    one(model, x, y)
    assert one._compiled is found  # and is not compiled again for the same one


def test_weights_that_change_are_read_anew():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    x = np.ones((2, 6), "float32")
    before = keras_rar.saliency_map(model, x, [0, 1], m=1, normalize=False)
    model.set_weights([2 * w for w in model.get_weights()])
    np.testing.assert_allclose(keras_rar.saliency_map(model, x, [0, 1], m=1, normalize=False), 2 * before, rtol=1e-5)
