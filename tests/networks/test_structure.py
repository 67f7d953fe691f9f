"""One array in a structure: by name, in a list, or as it is; what a model with such an input or output accepts."""

import keras
import numpy as np
import pytest
from conftest import batch

import keras_rar
from keras_rar.networks.structure import like, only

X, Y = batch()
LABELS = [0, 1, 2, 0, 1, 2, 0, 1]


@pytest.mark.parametrize("wrap", [lambda x: {"features": x}, lambda x: [x], lambda x: (x,), lambda x: [{"a": x}]])
def test_the_one_leaf_is_taken_out(wrap):
    assert only("x", wrap(X)) is X


@pytest.mark.parametrize("value", [X, X.tolist(), list(X), list(np.int64(LABELS)), LABELS, [[1.0, 2.0]], None])
def test_what_is_an_array_is_left_alone(value):
    assert only("x", value) is value


def test_a_list_of_one_row_is_a_batch_where_the_rank_is_known():
    row = [X[0]]
    assert only("x", row, rank=2) is row
    assert only("x", [X], rank=2) is X


def test_several_leaves_are_refused():
    with pytest.raises(ValueError, match=r"`x` must hold one array. Received: a dict of \['a', 'b'\]"):
        only("x", {"a": X, "b": X})


@pytest.mark.parametrize("value", [[X, X], (X, X), [{"a": X}, {"b": X}]])
def test_a_list_of_several_arrays_is_refused(value):
    with pytest.raises(ValueError, match=r"`x` must hold one array. Received: a (list|tuple) of 2"):
        only("x", value)


@pytest.mark.parametrize("structure", [{"a": None}, [None], (None,), None, X])
def test_a_leaf_is_put_in_where_there_is_a_structure(structure):
    assert only("x", like(structure, Y)) is Y


def models():
    x = keras.Input((4,), name="features")
    outputs = keras.layers.Dense(3, "softmax", name="scores")(x)
    yield "tensor", keras.Model(x, outputs)
    yield "dictionary", keras.Model({"features": x}, {"scores": outputs})
    yield "list", keras.Model([x], [outputs])


MODELS = dict(models())


@pytest.mark.parametrize("fed", [lambda x: x, lambda x: {"features": x}, lambda x: [x]], ids=["array", "dict", "list"])
@pytest.mark.parametrize("name", MODELS)
def test_inputs_and_labels_by_name_or_in_a_list(name, fed):
    model, y = MODELS[name], np.array(LABELS)
    expected = keras_rar.saliency_map(MODELS["tensor"], X, y, m=2)
    model.set_weights(MODELS["tensor"].get_weights())
    np.testing.assert_allclose(keras_rar.saliency_map(model, fed(X), fed(y), m=2), expected, rtol=1e-5)
