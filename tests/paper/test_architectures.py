"""The networks of the paper: sizes, and outputs against NumPy."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.signal import correlate

import keras_rar
from keras_rar.networks.standardization import PerImageStandardization
from keras_rar.paper import networks


def small(units=1):
    keras.utils.set_random_seed(3)
    return networks.resnet((8, 8, 3), 5, units=units, filters=(4, 4, 8, 12))


def images(n=3, size=8):
    return np.random.default_rng(0).uniform(0, 255, size=(n, size, size, 3)).astype("float32")


def same_convolution(x, kernel, stride):
    """Of one image `(h, w, c)`, padded as TensorFlow's "SAME" is."""
    size, out = x.shape[0], -(-x.shape[0] // stride)
    padding = max((out - 1) * stride + 3 - size, 0)
    x = np.pad(x, ((padding // 2, padding - padding // 2),) * 2 + ((0, 0),))
    found = [correlate(x, kernel[..., o], mode="valid")[..., 0] for o in range(kernel.shape[-1])]
    return np.stack(found, axis=-1)[::stride, ::stride]


def reference(x, weights, units):
    """The residual network of Chen et al. 2019 (after Madry et al. 2018), one image, in float64."""

    def leaky(a):
        return np.where(a < 0, 0.1 * a, a)

    x, weights = np.asarray(x, "float64"), iter([np.asarray(w, "float64") for w in weights])
    x = (x - x.mean()) / max(x.std(), 1 / np.sqrt(x.size))
    x = same_convolution(x, next(weights), 1)
    for stage in range(3):
        for unit in range(units):
            before, x = x, leaky(x)
            if stage == unit == 0:
                before = x
            stride = 2 if stage and not unit else 1
            x = same_convolution(x, next(weights), stride)
            x = same_convolution(leaky(x), next(weights), 1)
            more = x.shape[-1] - before.shape[-1]
            if more:
                h, w, c = before.shape
                before = before.reshape(h // stride, stride, w // stride, stride, c).mean(axis=(1, 3))
                before = np.pad(before, ((0, 0), (0, 0), (more // 2, more // 2)))
            x = x + before
    return leaky(x).mean(axis=(0, 1)) @ next(weights) + next(weights)


@pytest.mark.parametrize("units", [1, 2])
def test_the_resnet_computes_what_the_papers_does(units):
    model, x = small(units), images()
    expected = [reference(image, model.get_weights(), units) for image in x]
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-5)


def test_the_parameters_are_those_of_the_papers_networks():
    """Counted by hand: convolutions 3 × 3 without biases, and a dense layer with."""
    convolutions = {2: [3 * 16, 4 * 16 * 16, 16 * 32, 3 * 32 * 32, 32 * 64, 3 * 64 * 64]}
    convolutions[1] = [3 * 16, 2 * 16 * 16, 16 * 32, 32 * 32, 32 * 64, 64 * 64]
    for units, shape, classes in ((2, (32, 32, 3), 43), (1, (128, 128, 3), 17)):
        expected = 9 * sum(convolutions[units]) + 64 * classes + classes
        assert networks.resnet(shape, classes, units=units).count_params() == expected


def test_there_is_no_batch_normalization_and_every_slope_is_a_tenth():
    layers = networks.resnet().layers
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers)
    slopes = [layer.negative_slope for layer in layers if isinstance(layer, keras.layers.LeakyReLU)]
    assert slopes == pytest.approx([0.1] * 13)
    assert not any(isinstance(layer, keras.layers.Conv2D) and layer.use_bias for layer in layers)


def test_initial_weights_are_of_the_papers_size():
    weights = networks.resnet().get_weights()
    kernel, dense = weights[5], weights[-2]
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * kernel.shape[-1])), rel=0.1)
    limit = np.sqrt(3 / dense.shape[0])
    assert 0.95 * limit < np.abs(dense).max() <= limit
    assert not weights[-1].any()


def test_standardization_is_that_of_tensorflow():
    x = images()
    found = PerImageStandardization()(x)
    np.testing.assert_allclose(found, tf.image.per_image_standardization(x), atol=1e-5)


def test_standardization_of_one_color_has_a_gradient():
    """Where the standard deviation is 0, its own derivative is infinite."""
    x = tf.fill([1, 4, 4, 3], 9.0)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(PerImageStandardization()(x) ** 3)
        gradient = tape.gradient(value, x)
        total = tf.reduce_sum(gradient**2)
    assert np.isfinite(gradient).all()
    assert np.isfinite(outer.gradient(total, x)).all()


def test_the_resnet_is_saved_and_has_a_softplus_twin(tmp_path):
    model, x = small(), images()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(loaded(x), model(x), atol=1e-6)
    twin = keras_rar.softplus_twin(model)
    assert np.abs(twin(x) - model(x)).max() > 1e-3


LOAD = """
import sys
import keras, numpy as np
if sys.argv[1] == "with":
    import keras_rar
assert "keras_rar.paper.architectures" not in sys.modules
np.save(sys.argv[3], keras.saving.load_model(sys.argv[2], safe_mode=True)(np.load(sys.argv[3])))
"""


def loaded_elsewhere(how, folder):
    environment = {**os.environ, "PYTHONPATH": str(Path(keras_rar.__file__).parents[1]), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", LOAD, how, str(folder / "model.keras"), str(folder / "x.npy")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_saved_resnet_loads_where_keras_rar_alone_is_imported(tmp_path):
    model, x = small(), images()
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    without = loaded_elsewhere("without", tmp_path)  # negative control
    assert "PerImageStandardization" in without.stderr
    run = loaded_elsewhere("with", tmp_path)
    assert run.returncode == 0, run.stderr
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), model(x), atol=1e-6)


@pytest.mark.slow
def test_the_resnet_trains_with_every_method_of_the_paper():
    x, y = images(8), np.arange(8) % 5
    for method in keras_rar.METHODS:
        model = keras_rar.wrap(small(), method, epsilon=8.0, bounds=(0.0, 255.0), steps=2, m=2)
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        history = model.fit(x, y, batch_size=4, verbose=0).history
        assert np.isfinite(history["loss"]).all()


def test_weight_decay_is_half_of_the_squares_of_all_kernels():
    model = networks.resnet((8, 8, 3), 5, units=1, filters=(4, 4, 8, 12), weight_decay=0.01)
    kernels = [w.numpy() for w in model.weights if w.name == "kernel"]
    assert len(kernels) == 8
    expected = 0.01 / 2 * sum((kernel**2).sum() for kernel in kernels)
    assert float(sum(model.losses)) == pytest.approx(float(expected), rel=1e-5)
    assert not small().losses


def test_units_must_be_positive():
    with pytest.raises(ValueError, match="`units` must be a positive integer"):
        networks.resnet(units=0)
