"""Small models and data shared by the tests."""

import dataclasses
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest

import keras_rar
from keras_rar.evaluation import protocols

WITHOUT_INNER_MAXIMUM = {"natural", "input_gradient", "r2et", "cure", "hessian", "ssr", "prior"}
CLASSIFY_X = {"ig_norm", "loss_change", "lga", "trades"} | WITHOUT_INNER_MAXIMUM
"""Methods whose classification term is the loss at x; of the others it is that at x*."""
START_AT_RANDOM = {"ig_norm", "loss_change", "lga", "trades"}
"""Methods that refuse to start at x, where what they ascend has no gradient."""


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


@pytest.fixture
def without_controls(monkeypatch):
    """An evaluation runs its attacks alone, in a third of the time; the controls have tests of their own."""
    alone = dataclasses.replace(protocols.QUICK, noise=0, other_maps=(), faithful=0)
    monkeypatch.setitem(protocols.OF_ANY_DATA, "quick", alone)


@pytest.fixture
def policy():
    """Sets the precision of models built in a test."""
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


def dense_model(
    features=4, classes=3, hidden=8, activation="tanh", output=None, dtype=None, **layer_options
) -> keras.Model:
    """A network of two dense layers, small enough that tracing is all the cost."""
    return keras.Sequential(
        [
            keras.Input((features,), dtype=None if dtype is None else keras.DTypePolicy(dtype).variable_dtype),
            keras.layers.Dense(hidden, activation, dtype=dtype, **layer_options),
            keras.layers.Dense(classes, output, dtype=dtype, **layer_options),
        ]
    )


def conv_model(size=6, classes=3, activation="relu") -> keras.Model:
    """A ReLU network with max-pooling, small."""
    return keras.Sequential(
        [
            keras.Input((size, size, 1)),
            keras.layers.Conv2D(4, 3, padding="same", activation=activation),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(classes),
        ]
    )


def some_slow(cases, fast):
    """Cases as parameters of a test; those that are not among `fast` are marked as slow."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else [case]), marks=[pytest.mark.slow] * (case not in fast))
        for case in cases
    ]


def batch(n=8, features=(4,), classes=3, seed=0):
    """Inputs in [0, 1] and class indices."""
    rng = np.random.default_rng(seed)
    return rng.uniform(size=(n, *np.atleast_1d(features))).astype("float32"), rng.integers(0, classes, n)


def wrapped(method="ig_sum_norm", base_model=None, loss=None, optimizer="sgd", compile=None, **options):
    """A compiled RARModel with a cheap inner maximum."""
    base_model = dense_model() if base_model is None else base_model
    if not isinstance(method, keras_rar.AbstractAttributionRegularizer):
        options = {"steps": 2, "m": 3, "attack_m": 2, **options}
    model = keras_rar.wrap(base_model, method, seed=0, **options)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True) if loss is None else loss
    model.compile(optimizer, loss, **(compile or {}))
    return model


@pytest.fixture
def in_float64():
    """Networks and models that are made in a test compute in float64."""
    policy, floatx = keras.config.dtype_policy(), keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)
