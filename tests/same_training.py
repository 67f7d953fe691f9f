"""Whether two methods train alike, in float64: values, gradients, and the tolerances that are right there."""

import numpy as np
import tensorflow as tf
from conftest import batch, dense_model, wrapped

EXACT = {"rtol": 1e-10, "atol": 1e-12}  # float64 rounding through a network
ACCURATE = {"rule": "gauss_legendre", "m": 12, "attack_m": 12}  # completeness to 1e-10 on a smooth network
ONE_NODE = {"rule": "left", "m": 1, "attack_m": 1, "epsilon": 0.05, "bounds": None, "steps": 10}


def segment(features=(4,), n=5, seed=0):
    x, y = batch(n, features, seed=seed)
    x = x.astype("float64")
    x_prime = np.clip(x + np.random.default_rng(seed + 1).uniform(-0.2, 0.2, x.shape), 0, 1)
    return x, x_prime, y


def pair(method, options, other, other_options):
    """Two methods around the same network."""
    base_model = dense_model()
    return wrapped(method, base_model, **options), wrapped(other, base_model, **other_options)


def weight_gradients(model, x, x_prime, y):
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(model.objective(x, x_prime, y))
    return [g.numpy() for g in tape.gradient(value, model.trainable_variables)]


def x_prime_gradient(model, x, x_prime, y):
    x_prime = tf.constant(x_prime)
    with tf.GradientTape() as tape:
        tape.watch(x_prime)
        value = tf.reduce_sum(model.objective(x, x_prime, y))
    return tape.gradient(value, x_prime, unconnected_gradients=tf.UnconnectedGradients.ZERO).numpy()


def assert_same_training(model, other, x, x_prime, y, **tolerance):
    """Equal in the objective and in its gradients."""
    tolerance = tolerance or EXACT
    np.testing.assert_allclose(model.objective(x, x_prime, y), other.objective(x, x_prime, y), **tolerance)
    gradients = (weight_gradients(m, x, x_prime, y) for m in (model, other))
    for actual, expected in zip(*gradients, strict=True):
        np.testing.assert_allclose(actual, expected, **tolerance)
    np.testing.assert_allclose(*(x_prime_gradient(m, x, x_prime, y) for m in (model, other)), **tolerance)
