"""Short trainings in phases, shared by tests."""

import keras
import numpy as np
import pytest
from conftest import batch, dense_model

from keras_rar.training import Phase, train

X, Y = batch(24)
ONE_HOT = np.eye(3, dtype="float32")[Y]
WEIGHTS = np.linspace(0, 2, 24).astype("float32")
NATURAL = [Phase("natural", 2)]
SGD = {"optimizer": keras.optimizers.SGD(0.1), "schedule": "constant", "average": False}


def weights(network):
    return np.concatenate([value.ravel() for value in network.get_weights()])


def network(output=None, classes=3, activation="tanh"):
    keras.utils.set_random_seed(0)
    return dense_model(classes=classes, output=output, activation=activation)


def trained(net=None, x=X, y=Y, phases=NATURAL, **options):
    net = network() if net is None else net
    options = {"verbose": 0, **({} if y is None else {"batch_size": 8}), **options}
    return net, train(net, x, y, phases, **options)


class StopAfter(keras.callbacks.Callback):
    """As if the process were killed after so many epochs."""

    def __init__(self, epochs):
        super().__init__()
        self.left = epochs

    def on_epoch_begin(self, epoch, logs=None):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def stopped(after, net, **options):
    callbacks = [*options.pop("callbacks", []), StopAfter(after)]
    with pytest.raises(KeyboardInterrupt):
        trained(net, callbacks=callbacks, **options)
