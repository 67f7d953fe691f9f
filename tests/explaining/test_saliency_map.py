"""Saliency maps of Keras models: closed forms, any target, any method, completeness, baselines."""

import gc
import warnings
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, conv_model, dense_model, wrapped

from keras_rar.core import quadrature
from keras_rar.core.saliency_methods import Gradient, IntegratedGradients, Saliency, SmoothGrad
from keras_rar.explaining.baselines import Baseline, baseline_report
from keras_rar.explaining.saliency_maps import METHODS, saliency_map

X, Y = batch()
IMAGES, LABELS = batch(7, (6, 6, 1))
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}  # float32, through a network and sums of tens of terms
every_method = pytest.mark.parametrize("method", METHODS)
every_method_without_convolutions = pytest.mark.parametrize("method", [m for m in METHODS if m != "grad_cam"])


def linear_model(output=None, classes=3, features=4):
    """Logits `w x + b`, and its weights."""
    model = keras.Sequential([keras.Input((features,)), keras.layers.Dense(classes, output)])
    rng = np.random.default_rng(0)
    w, b = rng.normal(size=(features, classes)), rng.normal(size=classes)
    model.set_weights([w, b])
    return model, w, b


def raw(model, x=X, y=Y, method="ig", **options):
    return saliency_map(model, x, y, method, normalize=False, **options)


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


# Closed forms


@pytest.mark.parametrize("baseline", [0.0, 0.7, [0.5, 0.0, -0.5, 1.0], np.float32([0.5, 0.0, -0.5, 1.0])])
@pytest.mark.parametrize("rule", quadrature.RULES)
def test_ig_of_a_linear_model(rule, baseline):
    model, w, _ = linear_model()
    expected = (X - np.array(baseline)) * w.T[Y]
    np.testing.assert_allclose(raw(model, rule=rule, m=3, baseline=baseline), expected, **ROUNDING)


def test_gradient_methods_of_a_linear_model():
    """Without a ReLU all of them are the weights."""
    model, w, _ = linear_model()
    np.testing.assert_allclose(raw(model, method="gradient_x_input"), X * w.T[Y], **ROUNDING)
    for method in ("gradient", "smoothgrad", "guided_backprop", "deconvolution"):
        np.testing.assert_allclose(raw(model, method=method), w.T[Y], **ROUNDING)


def test_smoothgrad_of_a_quadratic_model():
    """`2w (x + σ ḡ)`: what is added is the same for every example, and proportional to the noise."""
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.ops.square(inputs)))
    w = model.get_weights()[0]

    def mean_noise(**options):
        return raw(model, method="smoothgrad", **options) / (2 * w.T[Y]) - X

    noise = mean_noise(noise=0.2)
    np.testing.assert_allclose(noise, np.broadcast_to(noise[0], X.shape), atol=1e-4)
    assert np.abs(noise).max() < 0.2 * 5 / np.sqrt(50)  # five standard errors of 50 draws
    np.testing.assert_allclose(mean_noise(noise=0.4), 2 * noise, atol=1e-4)
    assert np.abs(noise).max() > 1e-3
    for other in ({"seed": 1}, {"samples": 49}):
        assert np.abs(mean_noise(noise=0.2, **other) - noise).max() > 1e-3


def two_layers():
    """A ReLU network of two hidden layers, and its backward passes written out."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(16, "relu"),
            keras.layers.Dense(12),
            keras.layers.ReLU(),
            keras.layers.Dense(3),
        ]
    )
    w1, b1, w2, b2, w3, _ = (0.1 + weight if weight.ndim == 1 else weight for weight in model.get_weights())
    model.set_weights([w1, b1, w2, b2, w3, np.zeros(3)])

    def backward(rule):
        h1 = X @ w1 + b1
        h2 = np.maximum(h1, 0) @ w2 + b2
        d2 = rule(w3.T[Y], h2)
        return rule(d2 @ w2.T, h1) @ w1.T

    return model, backward


BACKWARD = {
    "gradient": lambda dy, x: dy * (x > 0),
    "deconvolution": lambda dy, x: np.maximum(dy, 0),
    "guided_backprop": lambda dy, x: np.maximum(dy, 0) * (x > 0),
}


@pytest.mark.parametrize("method", BACKWARD)
def test_backward_passes_of_a_relu_network(method):
    model, backward = two_layers()
    expected = backward(BACKWARD[method])
    np.testing.assert_allclose(raw(model, method=method), expected, **ROUNDING)
    for other, rule in BACKWARD.items():  # negative control: they differ
        assert other == method or np.abs(backward(rule) - expected).max() > 0.01


@every_method_without_convolutions
def test_the_model_is_as_before(method):
    model, _ = two_layers()
    before = model.predict(X, verbose=0), raw(model, method="gradient")
    raw(model, method=method)
    np.testing.assert_array_equal(model.predict(X, verbose=0), before[0])
    np.testing.assert_array_equal(raw(model, method="gradient"), before[1])


# Compiled once


class Traced(keras.layers.Layer):
    """The identity, which counts how often it is met while a graph is traced."""

    count = 0

    def call(self, x):
        Traced.count += not tf.executing_eagerly()  # of all copies
        return x


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("grad_cam", "lrp", "deeplift")])
def test_a_second_call_traces_nothing(method):
    layer = Traced()
    model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])

    def traces(target):
        before = layer.count
        saliency_map(model, X, method=method, target=target)
        return layer.count - before

    assert traces("loss") > 0
    assert traces("loss") == 0
    assert traces("probability") > 0  # negative control: another function


@pytest.mark.parametrize(
    "options", [{"rule": "left"}, {"m": 3}, {"baseline": 0.5}, {"baseline": [0.5, 0.5, 0.5, 0.0]}, {"target": "loss"}]
)
def test_other_options_are_another_function(options):
    (model, _), (fresh, _) = two_layers(), two_layers()
    fresh.set_weights(model.get_weights())
    before, options = raw(model, m=2), {"m": 2, **options}
    np.testing.assert_allclose(raw(model, **options), raw(fresh, **options), **ROUNDING)
    assert np.abs(raw(model, **options) - before).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("change", ["weights", "activation", "layer"])
def test_a_changed_model_is_explained_as_it_is(change):
    def seeded():
        keras.utils.set_random_seed(0)
        return two_layers()[0]

    def changed(explained_before):
        model = seeded()
        if explained_before:
            raw(model)
        if change == "weights":
            model.set_weights([0.5 * weight for weight in model.get_weights()])
        elif change == "activation":
            model.layers[0].activation = keras.activations.tanh
        else:
            model.add(keras.layers.Dense(3, kernel_initializer="ones"))
        return raw(model)

    expected, unchanged = changed(explained_before=False), raw(seeded())
    np.testing.assert_allclose(changed(explained_before=True), expected, **ROUNDING)
    assert np.abs(expected - unchanged).max() > 1e-3


def test_what_is_compiled_goes_with_the_model_and_into_no_file(tmp_path):
    model = Hidden()
    model(X)
    model.save_weights(tmp_path / "before.weights.h5")
    raw(model)
    model.save_weights(tmp_path / "after.weights.h5")
    before, after = Hidden(), Hidden()
    for other, name in ((before, "before"), (after, "after")):
        other(X)
        other.load_weights(tmp_path / f"{name}.weights.h5")
        np.testing.assert_array_equal(other(X).numpy(), model(X).numpy())
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


# Targets, endings, labels


def value_of(target, z, y):
    """The score in NumPy, of logits."""
    p = softmax(z)[np.arange(len(y)), y]
    return {"logit": z[np.arange(len(y)), y], "loss": -np.log(p), "probability": p}[target]


@pytest.mark.parametrize("output", [None, "softmax"])
@pytest.mark.parametrize("target", ["logit", "loss", "probability"])
def test_the_target_is_what_is_explained(target, output):
    """Against central differences of the score in NumPy: of logits, whatever the model ends in."""
    model, w, b = linear_model(output)
    h = 1e-4
    slopes = [
        (value_of(target, (X + step) @ w + b, Y) - value_of(target, (X - step) @ w + b, Y)) / (2 * h)
        for step in h * np.eye(4)
    ]
    np.testing.assert_allclose(raw(model, method="gradient", target=target), np.transpose(slopes), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("target", ["logit", "loss", "probability"])
def test_ig_is_complete_for_every_target(target):
    model, w, b = linear_model()
    change = value_of(target, X @ w + b, Y) - value_of(target, 0 * X @ w + b, Y)
    explained = raw(model, target=target, rule="gauss_legendre", m=16)
    np.testing.assert_allclose(explained.sum(axis=1), change, atol=1e-5)  # float32


def test_the_logit_of_a_sure_model_is_explained_without_saturation():
    """Where the softmax is 1 to float32, and its own gradient 0."""
    model, w, b = linear_model("softmax")
    model.set_weights([100 * w, 100 * b])
    sure = model.predict(X, verbose=0)
    y = sure.argmax(axis=1)
    assert np.any(sure == 1)
    np.testing.assert_allclose(raw(model, y=y, method="gradient"), 100 * w.T[y], **ROUNDING)


@pytest.mark.parametrize("output", [None, "sigmoid"])
def test_one_output_unit(output):
    """Its label's logit is `±z`; the loss `log(1 + e^∓z)`."""
    model, w, b = linear_model(output, classes=1)
    y = np.arange(8) % 2
    signs = (2 * y - 1)[:, np.newaxis]
    np.testing.assert_allclose(raw(model, y=y, method="gradient"), signs * w[:, 0], **ROUNDING)
    np.testing.assert_allclose(raw(model, y=y[:, np.newaxis], method="gradient"), signs * w[:, 0], **ROUNDING)
    p = 1 / (1 + np.exp(-(X @ w + b)))
    np.testing.assert_allclose(
        raw(model, y=y, method="gradient", target="loss"), (p - y[:, np.newaxis]) * w[:, 0], **ROUNDING
    )
    predicted = (X @ w + b > 0)[:, 0].astype(int)
    assert len(set(predicted)) == 2
    np.testing.assert_array_equal(raw(model, y=None), raw(model, y=predicted))


@pytest.mark.parametrize("layout", [lambda y: np.eye(3)[y], lambda y: y[:, np.newaxis], tf.constant, list])
def test_layouts_of_labels(layout):
    model = dense_model()
    np.testing.assert_array_equal(raw(model, y=layout(Y)), raw(model))


def test_labels_default_to_the_predictions():
    model = dense_model()
    predicted = model.predict(X, verbose=0).argmax(axis=1)
    np.testing.assert_array_equal(raw(model, y=None), raw(model, y=predicted))
    assert not np.allclose(raw(model, y=None), raw(model, y=(predicted + 1) % 3), atol=1e-3)


def test_a_wrapped_model_is_explained_as_its_base_model():
    model = dense_model()
    np.testing.assert_array_equal(raw(wrapped(base_model=model)), raw(model))


class Head(keras.Model):
    """A subclassed model that happens to have a `base_model`."""

    def __init__(self):
        super().__init__()
        self.base_model, self.head = dense_model(classes=5), keras.layers.Dense(3, use_bias=False)

    def call(self, x):
        return self.head(self.base_model(x))


def test_a_model_of_the_user_s_with_a_base_model_is_explained_whole():
    model = Head()
    model(X)
    whole = keras.Sequential([keras.Input((4,)), *model.base_model.layers, model.head])
    np.testing.assert_allclose(raw(model, method="gradient"), raw(whole, method="gradient"), **ROUNDING)


class Probabilities(keras.Model):
    """A subclassed model whose softmax cannot be taken off."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, x):
        return tf.function(keras.ops.softmax)(self.dense(x))


def test_probabilities_are_not_taken_for_logits():
    model = Probabilities()
    model(X)
    with pytest.raises(ValueError, match=r"`model` must return logits, or end in a layer whose softmax .*sum to 1"):
        saliency_map(model, X, Y)


# Completeness


def test_the_gap_is_reported():
    model = dense_model()
    explained, completeness = raw(model, m=4, return_completeness=True)
    np.testing.assert_array_equal(explained, raw(model, m=4))
    logits = [model.predict(x, verbose=0)[np.arange(8), Y] for x in (X, 0 * X)]
    change = logits[0] - logits[1]
    assert completeness.m == 4
    np.testing.assert_allclose(completeness.gap, explained.sum(axis=1) - change, atol=1e-6)
    np.testing.assert_allclose(completeness.relative_gap, np.abs(completeness.gap) / np.maximum(np.abs(change), 1))
    assert np.abs(completeness.gap).max() > 1e-4


@pytest.mark.slow
def test_auto_doubles_m_until_the_gap_is_small_enough():
    model = dense_model()
    model.set_weights([4 * weight for weight in model.get_weights()])
    nodes = []
    for tolerance in (0.3, 0.03, 0.003):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            explained, completeness = raw(model, m="auto", tolerance=tolerance, return_completeness=True)
        assert completeness.relative_gap.max() <= tolerance
        assert np.log2(completeness.m / 16) % 1 == 0
        np.testing.assert_allclose(explained, raw(model, m=completeness.m), **ROUNDING)
        if completeness.m > 16:  # half as many were not enough
            _, half = raw(model, m=completeness.m // 2, return_completeness=True)
            assert half.relative_gap.max() > tolerance
        nodes.append(completeness.m)
    assert nodes[0] < nodes[1] < nodes[2]


def test_auto_is_done_at_once_where_the_rule_is_exact():
    model, *_ = linear_model()
    _, completeness = raw(model, m="auto", return_completeness=True)
    assert completeness.m == 16
    assert np.abs(completeness.gap).max() < 1e-5  # rounding


@pytest.mark.slow
def test_auto_says_where_4096_nodes_are_not_enough():
    """A step of 4 that the gradient does not see: IG is 0, and the gap is the step."""
    inputs = keras.Input((4,))
    step = keras.ops.sign(keras.ops.mean(inputs, axis=1, keepdims=True) - 0.1)
    model = keras.Model(inputs, keras.layers.Dense(3, use_bias=False)(step))
    model.set_weights([np.array([[2.0, 0.0, 0.0]])])
    with pytest.warns(RuntimeWarning, match=r"IG with 4096 nodes has a completeness gap of 1 > tolerance=0.01") as seen:
        explained, completeness = raw(model, X[:2], [0, 0], m="auto", return_completeness=True)
    assert seen[0].filename == __file__
    assert completeness.m == 4096
    np.testing.assert_array_equal(explained, 0)
    np.testing.assert_array_equal(completeness.gap, -4)


def test_every_method_gives_a_pair_only_if_asked():
    assert isinstance(saliency_map(dense_model(), X, Y, return_completeness=True), tuple)
    assert isinstance(saliency_map(dense_model(), X, Y, m="auto"), np.ndarray)


# The map


@every_method
def test_the_map_sums_to_its_number_of_pixels(method):
    result = saliency_map(conv_model(), IMAGES, LABELS, method, m=5, samples=5)
    assert result.shape == (7, 6, 6)
    assert result.dtype == np.float32
    assert np.all(result >= 0)
    np.testing.assert_allclose(result.sum(axis=(1, 2)), 36, rtol=1e-5)


def color_model():
    layers = [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((5, 4, 3)), *layers])


@every_method
def test_channels_are_summed(method):
    x, y = batch(3, (5, 4, 3))
    model = color_model()
    signed = np.abs(raw(model, x, y, method))
    assert signed.shape == x.shape
    totals = signed.sum(axis=(1, 2, 3))[:, np.newaxis, np.newaxis]
    expected = 20 * signed.sum(axis=-1) / np.where(totals > 0, totals, 1)  # Grad-CAM may be 0 everywhere
    np.testing.assert_allclose(saliency_map(model, x, y, method), expected, **ROUNDING)


@every_method
@pytest.mark.parametrize("batch_size", [3, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 7, 100))])
def test_the_batch_size_changes_memory_alone(method, batch_size):
    model = conv_model()
    reference = saliency_map(model, IMAGES, LABELS, method, batch_size=7, m=5)
    result = saliency_map(model, IMAGES, LABELS, method, batch_size=batch_size, m=5)
    np.testing.assert_allclose(result, reference, rtol=1e-4, atol=1e-4)  # float32, other shapes of products


@pytest.mark.parametrize("chunk", [1, 4, None])
def test_the_chunk_changes_memory_alone(chunk):
    model = conv_model()
    for options in ({"m": 9}, {"method": "smoothgrad", "samples": 9}):
        reference = saliency_map(model, IMAGES, LABELS, **options)
        np.testing.assert_allclose(saliency_map(model, IMAGES, LABELS, chunk=chunk, **options), reference, **ROUNDING)


def test_the_default_is_the_paper_s():
    model = conv_model()
    model.set_weights([weight if weight.ndim > 1 else weight - 0.1 for weight in model.get_weights()])
    reference = saliency_map(model, IMAGES, LABELS)  # without biases one node would do, from a zero baseline
    explicit = saliency_map(model, IMAGES, LABELS, "ig", rule="right", m=100, baseline=0.0, target="logit")
    np.testing.assert_array_equal(explicit, reference)
    for other in ({"rule": "left", "m": 2}, {"m": 2}, {"baseline": 1.0}, {"target": "loss"}):
        assert np.abs(saliency_map(model, IMAGES, LABELS, **other) - reference).max() > 0.01


def test_a_model_of_constant_output_has_a_map_of_zeros():
    model = conv_model()
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    result, completeness = saliency_map(model, IMAGES, LABELS, return_completeness=True)
    np.testing.assert_array_equal(result, np.zeros((7, 6, 6)))
    np.testing.assert_array_equal(completeness.gap, 0)


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
@pytest.mark.parametrize("target", ["logit", "loss"])
def test_half_precision(precision, target):
    """To some units of the 11 and 8 bits of a float16 and a bfloat16; a loss of e⁻¹² has gradients below 6e-8."""
    reference, w, b = linear_model()
    dtype = "float32" if precision.startswith("mixed") else precision
    model = keras.Sequential([keras.Input((4,), dtype=dtype), keras.layers.Dense(3, dtype=precision)], name="half")
    y = (X @ w + b).argmax(axis=1)
    sure = 10.0 if target == "loss" else 1.0
    for each in (reference, model):
        each.set_weights([sure * w, sure * b])
    expected, result = (raw(each, y=y, method="gradient", target=target) for each in (reference, model))
    assert np.all(np.isfinite(result))
    assert np.all(np.any(result != 0, axis=1))
    bits = 2.0 ** (-10 if precision.endswith("float16") and "b" not in precision else -7)
    if target == "logit":
        np.testing.assert_allclose(result, expected, rtol=2 * bits)
        np.testing.assert_allclose(
            saliency_map(model, X, y, m=5), saliency_map(reference, X, y, m=5), rtol=20 * bits, atol=20 * bits
        )


def test_float64():
    model = dense_model(dtype="float64")
    explained, completeness = raw(model, rule="gauss_legendre", m=32, baseline=0.3, return_completeness=True)
    assert explained.dtype == np.float64
    assert np.abs(completeness.gap).max() < 1e-12  # so the baseline, too, was not rounded to float32
    logits = [model(x).numpy()[np.arange(8), Y] for x in (X.astype("float64"), np.full(X.shape, 0.3))]
    np.testing.assert_allclose(explained.sum(axis=1), logits[0] - logits[1], atol=1e-12)


# Methods of the user's


@pytest.mark.parametrize(
    ("method", "name", "options"),
    [
        (Gradient(), "gradient", {}),
        (IntegratedGradients(quadrature.midpoint(3), 0.5), "ig", {"rule": "midpoint", "m": 3, "baseline": 0.5}),
        (
            IntegratedGradients(quadrature.midpoint(3), np.full(4, 0.5)),
            "ig",
            {"rule": "midpoint", "m": 3, "baseline": 0.5},
        ),
        (SmoothGrad(7, 0.2, 3), "smoothgrad", {"samples": 7, "noise": 0.2, "seed": 3}),
    ],
)
def test_an_object_is_a_method_with_its_settings(method, name, options):
    model = dense_model()
    np.testing.assert_allclose(raw(model, method=method), raw(model, method=name, **options), **ROUNDING)


class Occlusion(Saliency):
    """`f(x) − f(x without entry i)`."""

    def __call__(self, f, x):
        kept = tf.unstack(1 - tf.eye(x.shape[1]))
        return f(x)[:, tf.newaxis] - tf.stack([f(x * row) for row in kept], axis=1)


def test_a_saliency_of_the_user_s():
    model, w, _ = linear_model()
    np.testing.assert_allclose(raw(model, method=Occlusion()), X * w.T[Y], **ROUNDING)


@pytest.mark.slow
def test_a_function_of_numpy_arrays():
    """Such as an explainer of another library: it gets the model, all the inputs and class indices."""
    model, w, _ = linear_model()

    def occlusion(model, x, y):
        assert isinstance(x, np.ndarray)
        assert x.dtype == np.float32
        rows = np.arange(len(x))
        scores = [model.predict(x * kept, verbose=0)[rows, y] for kept in 1 - np.eye(4, dtype="float32")]
        return model.predict(x, verbose=0)[rows, y][:, np.newaxis] - np.transpose(scores)

    one_hot = np.eye(3)[Y]
    np.testing.assert_allclose(raw(model, y=one_hot, method=occlusion), X * w.T[Y], **ROUNDING)
    np.testing.assert_allclose(saliency_map(model, X, Y, occlusion).sum(axis=1), 4, rtol=1e-5)
    wrapper = wrapped(base_model=model)
    np.testing.assert_allclose(raw(wrapper, method=lambda seen, x, y: (seen is model) * x), X)


def test_a_function_may_return_lists_of_integers():
    result = saliency_map(dense_model(), X, Y, lambda model, x, y: [[1, -1, 0, 2]] * len(x))
    np.testing.assert_allclose(result, [[1, 1, 0, 2]] * 8)


# Baselines


def biased_model(logits):
    model = dense_model(classes=len(logits), use_bias=True)
    weights = [np.zeros_like(weight) for weight in model.get_weights()]
    model.set_weights([*weights[:-1], np.array(logits)])
    return model


def test_baseline_report_of_known_probabilities():
    p = np.array([0.1, 0.7, 0.2])
    report = baseline_report(biased_model(np.log(p)))
    assert report == pytest.approx((1, 0.7, -np.sum(p * np.log(p)) / np.log(3)), abs=2e-6)  # six digits, float32
    assert isinstance(report, Baseline)
    assert report._fields == ("predicted", "probability", "neutrality")


def test_baseline_report_at_both_ends():
    assert baseline_report(biased_model([0.0, 0.0, 0.0, 0.0])) == Baseline(0, 0.25, 1.0)
    assert baseline_report(biased_model([0.0, 1e4])) == Baseline(1, 1.0, 0.0)


@pytest.mark.parametrize("output", [None, "sigmoid"])
def test_baseline_report_of_one_unit(output):
    model, _, b = linear_model(output, classes=1)
    p = 1 / (1 + np.exp(-b[0]))
    expected = (int(p > 0.5), max(p, 1 - p), -(p * np.log2(p) + (1 - p) * np.log2(1 - p)))
    assert baseline_report(model) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("baseline", [0.5, [1.0, 0.0, 0.0, 2.0]])
@pytest.mark.parametrize("output", [None, "softmax"])
def test_baseline_report_at_a_baseline(output, baseline):
    model, w, b = linear_model(output)
    p = softmax(np.broadcast_to(baseline, 4) @ w + b)
    report = baseline_report(
        wrapped("natural", model, loss=None if output is None else "sparse_categorical_crossentropy"), baseline
    )
    assert report == pytest.approx((p.argmax(), p.max(), -np.sum(p * np.log(p)) / np.log(3)), abs=2e-6)


def test_an_image_baseline_broadcasts():
    model = color_model()
    expected = model.predict(np.broadcast_to(np.float32([0.1, 0.2, 0.3]), (1, 5, 4, 3)), verbose=0)
    assert baseline_report(model, [0.1, 0.2, 0.3]).probability == pytest.approx(softmax(expected).max(), abs=2e-6)


def test_baseline_report_needs_a_known_shape():
    layers = [keras.layers.Conv2D(2, 3), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
    with pytest.raises(ValueError, match=r"`model` must have an input of known shape. Received: .*None, None, 1"):
        baseline_report(keras.Sequential([keras.Input((None, None, 1)), *layers]))


# Arguments


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "lime"}, ValueError, r"`method` must be one of \['ig', .*\]. Received: method='lime'"),
        ({"method": ["ig"]}, ValueError, r"`method` must be one of .* Received: method=\['ig'\]"),
        ({"method": None}, ValueError, r"`method` must be one of .* Received: method=None"),
        ({"target": "label"}, ValueError, r"`target` must be one of \['logit', 'loss', 'probability'\]"),
        ({"rule": "simpson"}, ValueError, "`rule` must be one of .*Received: rule='simpson'"),
        ({"m": 0}, ValueError, "`m` must be a positive integer. Received: m=0"),
        ({"m": "many"}, TypeError, "`m` must be a positive integer. Received: m='many'"),
        ({"baseline": [1.0, 2.0]}, ValueError, r"`baseline` must be .* of shape \(4,\). Received: .*\(2,\)"),
        ({"baseline": np.zeros((8, 4))}, ValueError, r"`baseline` must be .*Received: .*\(8, 4\)"),
        ({"baseline": np.inf}, ValueError, "`baseline` must be finite. Received: baseline=inf"),
        ({"baseline": "black"}, TypeError, "`baseline` must be a float or an array of floats"),
        ({"tolerance": 0}, ValueError, "`tolerance` must be a positive float. Received: tolerance=0"),
        ({"method": "smoothgrad", "samples": 0}, ValueError, "`samples` must be a positive integer"),
        ({"method": "smoothgrad", "noise": -1.0}, ValueError, "`noise` must be a positive float. Received: noise=-1.0"),
        ({"method": "smoothgrad", "seed": 0.5}, ValueError, "`seed` must be an integer. Received: seed=0.5"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be a positive integer. Received: batch_size=0"),
        ({"chunk": 0}, ValueError, "`chunk` must be a positive integer. Received: chunk=0"),
        ({"method": "gradient", "return_completeness": True}, ValueError, "`return_completeness` must be False unless"),
        (
            {"method": lambda model, x, y: x[1:]},
            ValueError,
            r"`method` must return one map per example, of shape \(8, 4\)\. Received: .*\(7, 4\)",
        ),
        ({"method": lambda model, x, y: x[:, 0]}, ValueError, r"`method` must return .* Received: shape \(8,\)"),
        ({"method": lambda model, x, y: 1.0}, ValueError, r"`method` must return .* Received: shape \(\)"),
        ({"y": Y[:3]}, ValueError, "`y` must hold one label per example, 8. Received: 3 labels"),
        ({"y": Y + 1}, ValueError, "`y` must be class indices from 0 to 2. Received: y="),
        ({"y": Y + 0.5}, ValueError, "`y` must be class indices from 0 to 2. Received: y="),
        ({"y": np.full((8, 3), np.nan)}, ValueError, "`y` must be finite. Received: NaN"),
        ({"y": np.zeros((8, 2))}, ValueError, r"`y` must have the shape .* with classes=3. Received: y.shape=\(8, 2\)"),
        ({"y": ["shoe"] * 8}, TypeError, "`y` must be an array of numbers. Received: dtype=str"),
        ({"x": X[0]}, ValueError, r"`x` must have the shape \(n, 4\) with n > 0. Received: x.shape=\(4,\)"),
        ({"x": X[:0]}, ValueError, r"`x` must have the shape \(n, 4\) with n > 0. Received: x.shape=\(0, 4\)"),
        ({"x": X[:, :3]}, ValueError, r"`x` must have the shape \(n, 4\)"),
        ({"x": X * np.nan}, ValueError, "`x` must be finite. Received: NaN or infinite values"),
        ({"x": ["a"]}, TypeError, "`x` must be an array of numbers. Received: dtype=str"),
        ({"model": "model.keras"}, TypeError, "must be a Keras 3 model"),
        ({"model": keras.Sequential([keras.layers.Dense(3)])}, ValueError, "must be built: give it a keras.Input"),
    ],
)
def test_arguments_are_validated(options, error, message):
    with pytest.raises(error, match=message):
        saliency_map(**{"model": dense_model(), "x": X, "y": Y, **options})


def test_baseline_report_validates_its_baseline():
    with pytest.raises(ValueError, match=r"`baseline` must be .* of shape \(4,\). Received: .*\(3,\)"):
        baseline_report(dense_model(), [0.0, 0.0, 0.0])


class Hidden(keras.Model):
    """A subclassed model, whose ReLU cannot be found."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = keras.layers.Dense(8), keras.layers.Dense(3)

    def call(self, x):
        return self.out(tf.nn.relu(self.hidden(x)))


@every_method
def test_a_subclassed_model(method):
    """Its gradients need no twin; what replaces the backward pass of its ReLUs says that it cannot find them."""
    model = Hidden()
    model(X)
    if method in ("guided_backprop", "deconvolution", "lrp", "deeplift", "grad_cam"):
        needed = "have a convolution" if method == "grad_cam" else "let its ReLUs be found and replaced"
        with pytest.raises(ValueError, match=f"`model` must {needed}"):
            raw(model, method=method)
        return
    known = keras.Sequential([keras.Input((4,)), model.hidden, keras.layers.ReLU(), model.out])
    np.testing.assert_allclose(raw(model, method=method), raw(known, method=method), **ROUNDING)
