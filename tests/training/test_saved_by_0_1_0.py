"""Files saved by version 0.1.0, before the modules moved: they load, predict as they did, and go on."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_rar

SAVED = Path(__file__).parents[1] / "data/saved_by_0_1_0"
EXPECTED = json.loads((SAVED / "expected.json").read_text())
with np.load(SAVED / "data.npz") as file:
    X, Y = file["x"], file["y"]


@pytest.fixture(scope="module")
def loaded():
    return keras.saving.load_model(SAVED / "model.keras")


def predicted(model):
    return model.predict(X, verbose=0)


def test_a_model_predicts_as_it_did(loaded):
    """Float32 on another processor: products are summed in another order."""
    assert isinstance(loaded, keras_rar.RARModel)
    np.testing.assert_allclose(predicted(loaded), EXPECTED["predict"], rtol=1e-5, atol=1e-5)


def test_the_unwrapped_model_predicts_alike():
    np.testing.assert_allclose(
        predicted(keras.saving.load_model(SAVED / "plain.keras")), EXPECTED["predict"], rtol=1e-5, atol=1e-5
    )


def test_a_model_goes_on_with_its_training():
    """Two epochs of three updates. The steps of the inner maximum have the sign of a gradient: where an entry is nearly
    zero, rounding of another processor or version decides it, and one pixel of 36 moves by a step."""
    model = keras.saving.load_model(SAVED / "model.keras")
    history = model.fit(X, Y, epochs=2, batch_size=8, shuffle=False, verbose=0).history
    assert set(history) == set(EXPECTED["history_of_two_more_epochs"])
    for name, values in EXPECTED["history_of_two_more_epochs"].items():
        np.testing.assert_allclose(history[name], values, rtol=2e-3, err_msg=name)
    assert model.skipped_updates == EXPECTED["skipped"]


def test_its_weights_load_into_a_model_that_is_built_again(loaded):
    """With the state of the random starts, which is all that such a file has of seeds."""
    base = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(4, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    model = keras_rar.wrap(base, "ig_topk", epsilon=0.1, k=4, steps=2, seed=3)
    state = model.seed_generator.state.numpy()
    model.load_weights(SAVED / "model.weights.h5")
    np.testing.assert_allclose(predicted(model), EXPECTED["predict"], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(model.seed_generator.state.numpy(), loaded.seed_generator.state.numpy())
    assert not np.array_equal(model.seed_generator.state.numpy(), state)
