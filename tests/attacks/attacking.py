"""A small convolutional ReLU network trained on 14 x 14 images, and attacks on it, for the tests of attacks."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, dense_model

from keras_rar.attacks import MassCenterAttack, RandomAttack, TargetAttack, TopKAttack
from keras_rar.paper import datasets

EPSILON = 0.1
OPTIONS = {"epsilon": EPSILON, "steps": 10, "step_size": 0.02, "m": 8, "softplus_beta": 10.0}
REGION = np.zeros((14, 14), bool)
REGION[4:10, :7] = True
LOWER = np.full((14, 14, 1), -0.05)
UPPER = np.ones((14, 14, 1))
UPPER[:7] += EPSILON / 2
KINDS = {
    "topk": lambda **options: TopKAttack(20, **{**OPTIONS, **options}),
    "mass center": lambda **options: MassCenterAttack(**{**OPTIONS, "k_report": 20, **options}),
    "target": lambda **options: TargetAttack(REGION, **{**OPTIONS, "k_report": 20, **options}),
    "random": lambda **options: RandomAttack(**{**OPTIONS, "k_report": 20, "step_size": None, **options}),
    "restarts": lambda **options: TopKAttack(20, **{**OPTIONS, "restarts": 2, **options}),
    "l2": lambda **options: TopKAttack(20, **{**OPTIONS, "epsilon": 0.5, "step_size": 0.1, "norm": "l2", **options}),
    "bounds": lambda **options: TopKAttack(20, **{**OPTIONS, "bounds": (LOWER, UPPER), **options}),
    "gradient": lambda **options: TopKAttack(20, **{**OPTIONS, "saliency": "gradient", **options}),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
X, Y = batch(6, 5)


def images(split, n, black=0.05):
    """Small images, of which no pixel is black: see `test_kendall_of_a_black_background_counts_its_ties`."""
    x, y = datasets.load("fashion_mnist_mini", split)
    return black + (1 - 2 * black) * x[:n, ::2, ::2], y[:n]


def conv_network(**options):
    return keras.Sequential(
        [
            keras.Input((14, 14, 1)),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu", **options),
            keras.layers.Conv2D(16, 3, activation="relu", **options),
            keras.layers.Flatten(),
            keras.layers.Dense(32, "relu", **options),
            keras.layers.Dense(10, **options),
        ]
    )


def eagerly(request):
    """Attacks without compilation, which costs more than such an attack; but for tests marked with `compiled`."""
    tf.config.run_functions_eagerly("compiled_functions" not in request.fixturenames)
    yield
    tf.config.run_functions_eagerly(False)


compiled = pytest.mark.usefixtures("compiled_functions")


@functools.cache
def trained():
    """A small network of images."""
    keras.utils.set_random_seed(0)
    model = conv_network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    eager = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(False)
    model.fit(*images("train", 6000), epochs=8, batch_size=64, verbose=0)
    tf.config.run_functions_eagerly(eager)
    assert model.evaluate(*images("test", 1000), verbose=0)[1] > 0.7
    return model


@functools.cache
def images_right():
    """32 images that the network gets right."""
    network = trained()
    x, y = images("test", 100)
    right = network.predict(x, verbose=0).argmax(axis=1) == y
    return x[right][:32], y[right][:32]


@functools.cache
def result_of(kind):
    """The result of each kind of attack, made once."""
    return KINDS[kind]()(trained(), *images_right())


def tabular(activation="relu", classes=3, output=None):
    """Five features, and biases, so that IG depends on its nodes."""
    model = dense_model(features=5, hidden=16, classes=classes, activation=activation, output=output)
    model.set_weights([w if w.ndim > 1 else np.linspace(-0.3, 0.3, w.size) for w in model.get_weights()])
    return model


def small(**options):
    """An attack on five features that traces in a second."""
    return TopKAttack(**{"k": 2, "epsilon": 0.2, "steps": 4, "m": 4, **options})


def same(a, b, rtol=1e-5, atol=1e-5):
    """Whether two results are one, to the rounding of float32."""
    a, b = (np.concatenate([r.x_adv.ravel(), r.map_after.ravel(), *r.scores.values()]) for r in (a, b))
    return np.allclose(a, b, rtol, atol)


def mean(result, name="kendall_tau"):
    return result.scores[name].mean()
