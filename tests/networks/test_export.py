"""Export: a SavedModel that predicts and explains without Keras and without keras_rar.

`NEAR`: the artifact adds the same float32 terms as the reference, in chunks, so in another order; maps are scaled
to a mean of 1.
"""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, conv_model, dense_model, wrapped
from texts import text_network, texts

import keras_rar

NEAR = {"rtol": 1e-4, "atol": 1e-5}
IMAGES, TABULAR = batch(3, (6, 6, 1))[0], batch(3)[0]


def colour_model():
    return keras.Sequential(
        [
            keras.Input((5, 4, 3)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


def regularized_model():
    """Layers that do something else in training."""
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, "tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3),
        ]
    )


def without_softmax(model):
    """The same network with its logits as output."""
    twin = dense_model()
    twin.set_weights(model.get_weights())
    return twin


# name -> model, inputs, and the same network with logits out
NETWORKS = {
    "images, logits": (conv_model, IMAGES, lambda model: model),
    "colour images, logits": (colour_model, batch(3, (5, 4, 3))[0], lambda model: model),
    "tabular, logits": (regularized_model, TABULAR, lambda model: model),
    "tabular, softmax": (lambda: dense_model(output="softmax"), TABULAR, without_softmax),
}


def saliency(logits, x, labels=None, baseline=0.0, rule=None):
    """`Mⱼ = d Σ_c |IG_jc| / Σ |IG|` of the logit of the label, the predicted class unless given."""
    labels = np.argmax(logits(x), axis=-1) if labels is None else labels
    x = tf.convert_to_tensor(x)

    def logit(z):
        return tf.gather(logits(z), tf.tile(labels, [tf.shape(z)[0] // len(labels)]), batch_dims=1)

    start = tf.zeros_like(x) + tf.cast(baseline, x.dtype)
    sizes = np.abs(keras_rar.integrated_gradients(logit, start, x, rule or keras_rar.quadrature.right(100)))
    sizes = sizes.sum(axis=-1) if sizes.ndim == 4 else sizes
    axes = tuple(range(1, sizes.ndim))
    return sizes / sizes.mean(axis=axes, keepdims=True)


def exported(model, path, **options):
    keras_rar.export_saved_model(model, path, verbose=False, **options)
    return tf.saved_model.load(path)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request, tmp_path_factory):
    """A base model, inputs, its logits, and its artifact, written by the wrapped model."""
    build, x, logits_of = NETWORKS[request.param]
    keras.utils.set_random_seed(0)
    base_model = build()
    path = tmp_path_factory.mktemp("served")
    keras_rar.wrap(base_model).export(path, verbose=False)
    return base_model, x, logits_of(base_model), tf.saved_model.load(path)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    keras.utils.set_random_seed(0)
    base_model = conv_model()
    return base_model, exported(base_model, tmp_path_factory.mktemp("images"), m=4)


def test_serve_is_the_output_of_the_base_model(network):
    base_model, x, _, served = network
    np.testing.assert_allclose(served.serve(x), base_model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_attribute_is_the_saliency_of_the_predicted_class(network):
    _, x, logits, served = network
    np.testing.assert_allclose(served.attribute(x), saliency(logits, x), **NEAR)


def test_attribute_explains_the_predicted_class_and_no_other(network):
    _, x, logits, served = network
    other = (np.argmax(logits(x), axis=-1) + 1) % 3
    assert not np.allclose(served.attribute(x), saliency(logits, x, other), atol=0.01)


def test_maps_have_one_number_a_pixel_and_sum_to_their_number(network):
    _, x, _, served = network
    maps = served.attribute(x).numpy()
    assert maps.shape == x.shape[:3] if x.ndim == 4 else x.shape
    assert np.all(maps >= 0)
    np.testing.assert_allclose(maps.reshape(len(x), -1).sum(axis=1), maps[0].size, rtol=1e-5)


@pytest.mark.parametrize("n", [1, 3, 17])
def test_one_artifact_takes_every_batch_size(n, images):
    base_model, served = images
    x = batch(17, (6, 6, 1))[0]
    np.testing.assert_allclose(served.serve(x[:n]), base_model.predict(x, verbose=0)[:n], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(served.attribute(x[:n]), served.attribute(x)[:n], **NEAR)


def test_signatures_serve_both_endpoints(images):
    _, served = images
    assert set(served.signatures) >= {"serve", "attribute", "serving_default"}
    for name, endpoint in (("serve", served.serve), ("attribute", served.attribute), ("serving_default", served.serve)):
        (output,) = served.signatures[name](x=tf.constant(IMAGES)).values()
        np.testing.assert_array_equal(output, endpoint(IMAGES))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "baseline", "rule"),
    [
        ({"baseline": 0.5}, 0.5, keras_rar.quadrature.right(100)),
        ({"baseline": IMAGES[1][::-1]}, IMAGES[1][::-1], keras_rar.quadrature.right(100)),
        ({"rule": "trapezoid", "m": 2}, 0.0, keras_rar.quadrature.trapezoid(2)),
        ({"m": 1}, 0.0, keras_rar.quadrature.right(1)),
    ],
    ids=["grey", "image", "rule", "m"],
)
def test_baseline_rule_and_m_are_the_ones_asked_for(options, baseline, rule, tmp_path):
    model = conv_model(activation="tanh")  # along a ray from 0, ReLU without biases has one gradient
    model.set_weights([3 * weights for weights in model.get_weights()])
    served = exported(model, tmp_path, **options)
    maps = served.attribute(IMAGES)
    np.testing.assert_allclose(maps, saliency(model, IMAGES, baseline=baseline, rule=rule), **NEAR)
    assert not np.allclose(maps, saliency(model, IMAGES), atol=0.01)  # negative control: the defaults


@pytest.mark.parametrize("chunk", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_chunk_does_not_change_the_map(chunk, images, tmp_path):
    base_model, served = images  # chunk=10
    other = exported(base_model, tmp_path, m=4, chunk=chunk)
    np.testing.assert_allclose(other.attribute(IMAGES), served.attribute(IMAGES), **NEAR)


def passes(served):
    """Forward passes of the graph of `attribute`."""
    definition = served.signatures["attribute"].graph.as_graph_def()
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    return sum(node.op == "Conv2D" for node in nodes)


@pytest.mark.slow
def test_the_graph_does_not_grow_with_the_number_of_nodes(tmp_path):
    """Chunks are passes of one loop."""
    model = conv_model()
    few, many = (exported(model, tmp_path / str(m), m=m, chunk=2) for m in (4, 40))
    assert passes(few) == passes(many) > 0


def test_map_of_the_baseline_itself_is_zero(images):
    _, served = images
    np.testing.assert_array_equal(served.attribute(np.zeros_like(IMAGES)), np.zeros((3, 6, 6)))


@pytest.mark.parametrize("kind", ["pool", pytest.param("attention", marks=pytest.mark.slow)])
@pytest.mark.parametrize("by", [pytest.param("name", marks=pytest.mark.slow), "training"])
def test_words_are_explained_at_their_embedding(kind, by, tmp_path):
    """Padding counts nothing; a layer that was trained at is the one that is explained."""
    x, network = texts()[0].astype("int32"), text_network(kind)
    model = keras_rar.wrap(network, "madry", layer="embedding", epsilon=0.1) if by == "training" else network
    keras_rar.export_saved_model(model, tmp_path / "served", m=4, **({"layer": "embedding"} if by == "name" else {}))
    served = tf.saved_model.load(tmp_path / "served")
    np.testing.assert_allclose(served.serve(x), network.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    maps = served.attribute(x).numpy()
    np.testing.assert_allclose(maps, keras_rar.saliency_map(network, x, layer="embedding", m=4), rtol=1e-4, atol=1e-5)
    assert maps.shape == x.shape
    np.testing.assert_array_equal(maps[x == 0], 0)


def test_one_sigmoid_unit_is_explained_by_its_logit(tmp_path):
    model = dense_model(classes=1, output="sigmoid")
    served = exported(model, tmp_path, m=4)
    twin = dense_model(classes=1)
    twin.set_weights(model.get_weights())
    expected = saliency(twin, TABULAR, np.zeros(3, int), rule=keras_rar.quadrature.right(4))
    np.testing.assert_allclose(served.attribute(TABULAR), expected, **NEAR)
    np.testing.assert_allclose(served.serve(TABULAR), model.predict(TABULAR, verbose=0), rtol=1e-5)


@pytest.mark.slow
def test_trained_weights_are_exported_and_stay_as_they_were(tmp_path):
    model = wrapped("natural", optimizer=keras.optimizers.SGD(1.0))
    before = exported(model, tmp_path / "before", m=2)
    model.fit(*batch(), epochs=2, verbose=0)
    after = exported(model, tmp_path / "after", m=2)
    np.testing.assert_allclose(after.serve(TABULAR), model.predict(TABULAR, verbose=0), rtol=1e-5, atol=1e-6)
    assert not np.allclose(before.serve(TABULAR), after.serve(TABULAR), atol=1e-3)


SERVE = """
import sys

for name in ("keras", "tf_keras", "keras_rar"):
    sys.modules[name] = None  # as if it were not installed
import numpy as np
import tensorflow as tf

served = tf.saved_model.load(sys.argv[1])
data = dict(np.load(sys.argv[2]))
np.savez(sys.argv[3], serve=served.serve(data["x"]), attribute=served.attribute(data["x"]))
for name in ("keras", "tf_keras", "keras_rar"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(name + " was not blocked")
"""


@pytest.mark.slow
def test_a_process_without_keras_and_keras_rar_serves_the_same(tmp_path):
    model = dense_model(output="softmax")
    served = exported(model, tmp_path / "served")
    np.savez(tmp_path / "data.npz", x=TABULAR)
    command = [sys.executable, "-c", SERVE, *(str(tmp_path / name) for name in ("served", "data.npz", "results.npz"))]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    results = np.load(tmp_path / "results.npz")
    np.testing.assert_allclose(results["serve"], model.predict(TABULAR, verbose=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(results["attribute"], served.attribute(TABULAR), **NEAR)
    np.testing.assert_allclose(results["attribute"], saliency(without_softmax(model), TABULAR), **NEAR)


def test_other_formats_export_the_base_model(monkeypatch):
    asked = []
    model = wrapped("natural")
    monkeypatch.setattr(
        type(model.base_model), "export", lambda self, *args, **kwargs: asked.append((self, args, kwargs))
    )
    model.export("model.onnx", format="onnx", verbose=False)
    assert asked == [(model.base_model, ("model.onnx",), {"format": "onnx", "verbose": False})]


def test_endpoints_are_printed_only_when_asked(tmp_path, capsys):
    model = dense_model()
    keras_rar.export_saved_model(model, tmp_path / "quiet", m=1)
    assert capsys.readouterr().out == ""
    keras_rar.export_saved_model(model, tmp_path / "told", m=1, verbose=True)
    assert "attribute" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"m": 0}, ValueError, "`m` must be a positive integer. Received: m=0"),
        ({"m": 2.5}, ValueError, "`m` must be a positive integer. Received: m=2.5"),
        ({"m": "many"}, TypeError, "`m` must be a positive integer. Received: m='many'"),
        ({"chunk": 0}, ValueError, "`chunk` must be a positive integer. Received: chunk=0"),
        ({"chunk": None}, TypeError, "`chunk` must be a positive integer. Received: chunk=None"),
        ({"rule": "simpson"}, ValueError, "`rule` must be one of ['left', 'right', 'midpoint', 'trapezoid'"),
        ({"baseline": float("nan")}, ValueError, "`baseline` must be"),
        ({"baseline": "black"}, TypeError, "`baseline` must be"),
        ({"baseline": np.zeros(3)}, ValueError, "`baseline` must be"),
        ({"baseline": np.zeros((2, 4))}, ValueError, "`baseline` must be"),  # it would serve batches of 2 alone
    ],
)
def test_bad_options_are_refused_and_nothing_is_written(options, error, message, tmp_path):
    with pytest.raises(error) as raised:
        keras_rar.export_saved_model(dense_model(), tmp_path / "served", verbose=False, **options)
    assert str(raised.value).startswith(message)
    assert not (tmp_path / "served").exists()


def test_what_is_not_a_classifier_is_refused(tmp_path):
    with pytest.raises(TypeError, match="must be a Keras 3 model"):
        keras_rar.export_saved_model(lambda x: x, tmp_path / "served")


@pytest.mark.slow
def test_the_export_is_quiet_unless_asked(tmp_path, capfd):
    model = dense_model()
    keras_rar.export_saved_model(model, tmp_path / "quiet")
    assert "Endpoint" not in "".join(capfd.readouterr())
    keras_rar.export_saved_model(model, tmp_path / "loud", verbose=True)
    assert "Endpoint 'attribute'" in capfd.readouterr().out
