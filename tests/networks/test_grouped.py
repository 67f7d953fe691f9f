"""Convolutions with a group for each channel: depthwise ones in twins, the same numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_rar.networks.output import head_of

L = keras.layers
DEPTHWISE = [
    {"groups": 4},
    {"groups": 4, "strides": 2},
    {"groups": 4, "dilation_rate": 2, "padding": "valid", "activation": "tanh"},
]


def traced(options, x):
    convolution = L.Conv2D(8, 3, **{"padding": "same", "bias_initializer": "normal", **options})
    model = keras.Sequential([keras.Input((9, 8, 4)), convolution, L.Flatten(), L.Dense(3)])
    logits = tf.function(lambda x: head_of(model).logits(x), autograph=False)
    operations = {operation.type for operation in logits.get_concrete_function(x).graph.get_operations()}
    return model, logits, operations


@pytest.mark.parametrize("options", DEPTHWISE)
def test_one_channel_in_a_group_is_a_depthwise_convolution(options):
    x = tf.random.stateless_uniform([2, 9, 8, 4], [0, 0])
    model, logits, operations = traced(options, x)
    assert "DepthwiseConv2dNative" in operations
    assert not operations & {"PartitionedCall", "StatefulPartitionedCall"}
    np.testing.assert_allclose(logits(x), model(x), rtol=1e-5, atol=1e-5)  # float32, some hundred terms
    assert "convolution_op" not in vars(model.layers[0])  # the user's layer is as it was


def test_several_channels_in_a_group_stay_as_they_are():
    x = tf.random.stateless_uniform([2, 9, 8, 4], [0, 0])
    model, logits, operations = traced({"groups": 2}, x)
    assert "DepthwiseConv2dNative" not in operations
    np.testing.assert_allclose(logits(x), model(x), rtol=1e-5, atol=1e-5)
