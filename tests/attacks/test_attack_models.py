"""Attribution attacks on any classifier and any saliency, and attacks of one's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from attacking import (
    KINDS,
    OPTIONS,
    X,
    Y,
    compiled,
    conv_network,
    eagerly,
    images_right,
    mean,
    result_of,
    same,
    small,
    tabular,
    trained,
)
from conftest import dense_model, wrapped

from keras_rar.attacks import AttributionAttack, RandomAttack
from keras_rar.core.saliency_methods import METHODS, Gradient, Saliency
from keras_rar.explaining.saliency_maps import saliency_map
from keras_rar.networks.classifier import Classifier


@pytest.fixture
def compiled_functions():
    """Marks a test whose attacks are compiled."""


@pytest.fixture(autouse=True)
def _eager(request):
    yield from eagerly(request)


@pytest.fixture(scope="module")
def network():
    return trained()


@pytest.fixture(scope="module")
def data():
    return images_right()


@pytest.fixture(scope="module")
def found():
    return result_of


@pytest.mark.slow
@pytest.mark.parametrize("saliency", METHODS)
def test_every_differentiable_saliency_can_be_attacked(network, data, saliency):
    x, y = data[0][:8], data[1][:8]
    result, random = (KINDS[k](saliency=saliency, keep="topk_intersection")(network, x, y) for k in ("topk", "random"))
    assert mean(result, "topk_intersection") < mean(random, "topk_intersection")
    options = {"m": 8} if saliency == "ig" else {}
    expected = saliency_map(network, result.x_adv, y, saliency, **options)
    np.testing.assert_allclose(result.map_after, expected, rtol=1e-3, atol=1e-4)  # float32


@pytest.mark.parametrize("output", [None, "softmax"])
@pytest.mark.parametrize("target", ["logit", "loss", "probability"])
def test_softmax_or_logits(target, output):
    reference, model = tabular(), tabular(output=output)
    model.set_weights(reference.get_weights())
    result = small(target=target)(model, X, Y)
    assert same(result, small(target=target)(reference, X, Y))
    np.testing.assert_allclose(result.map_after, saliency_map(model, result.x_adv, Y, m=4, target=target), rtol=1e-3)


@pytest.mark.parametrize("output", [None, "sigmoid"])
def test_one_output_unit(output):
    model = tabular(classes=1, output=output)
    predicted = (Classifier(model).logits(X).numpy()[:, 0] > 0).astype(int)
    result = small()(model, X, predicted)
    assert np.all(result.correct)
    assert np.any(result.iteration > 0)
    assert same(small()(model, X), result)
    np.testing.assert_array_equal(small()(model, X, 1 - predicted).correct, False)
    after = Classifier(model).logits(result.x_adv).numpy()[:, 0] > 0
    np.testing.assert_array_equal(after, predicted)


def test_labels_are_indices_or_one_hot_and_default_to_the_predictions():
    model = tabular()
    predicted = model.predict(X, verbose=0).argmax(axis=1)
    reference = small()(model, X)
    np.testing.assert_array_equal(reference.y, predicted)
    assert np.all(reference.correct)
    for y in (predicted, predicted[:, np.newaxis], np.eye(3)[predicted], tf.constant(predicted)):
        assert same(small()(model, X, y), reference)


def test_a_wrapped_model_is_attacked_through_its_base_model():
    model = tabular()
    assert same(small()(wrapped(base_model=model), X, Y), small()(model, X, Y))


def test_a_nested_model():
    model = tabular()
    inner = keras.Sequential([keras.Input((5,)), model.layers[0]])
    nested = keras.Sequential([keras.Input((5,)), inner, model.layers[1]])
    assert same(small()(nested, X, Y), small()(model, X, Y))


class Hidden(keras.Model):
    """A subclassed model, whose ReLU cannot be found."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = keras.layers.Dense(16), keras.layers.Dense(3)

    def call(self, x):
        return self.out(tf.nn.relu(self.hidden(x)))


@pytest.fixture
def hidden():
    model = Hidden()
    model(X)
    model.set_weights(tabular().get_weights())
    return model


def test_a_relu_out_of_reach_is_an_error_that_says_what_to_do(hidden):
    with pytest.raises(ValueError, match=r"`model` must let its ReLUs be found .* or pass a smooth twin of your own"):
        small()(hidden, X, Y)


def test_a_smooth_twin_of_the_user_s_is_a_way_out(hidden):
    smooth, plain = tabular("softplus"), tabular()
    for model in (smooth, plain):
        model.set_weights(hidden.get_weights())
    attack = small(saliency="gradient", softplus_beta=1.0)  # that of a softplus layer
    reference = attack(plain, X, Y)
    assert same(attack(hidden, X, Y, gradient_model=smooth), reference)
    assert not same(attack(hidden, X, Y, gradient_model=plain), reference)  # negative control


def test_gradients_through_the_model_as_it_is_are_another(hidden):
    plain = tabular()
    plain.set_weights(hidden.get_weights())
    assert same(small(softplus_beta=None)(hidden, X, Y), small(softplus_beta=None)(plain, X, Y))


def test_the_random_attack_needs_no_twin(hidden):
    assert np.any(RandomAttack(0.2, steps=3, m=4)(hidden, X, Y).iteration > 0)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(network, data, found, precision):
    """Its maps are not zeros, and it is attacked as well: within 0.05 of the mean Kendall in float32."""
    model = conv_network(dtype=precision)
    model.set_weights(network.get_weights())
    result = KINDS["topk"]()(model, *data)
    assert np.all(np.isfinite(result.map_before))
    assert np.all(result.map_before.max(axis=(1, 2)) > 1)
    assert np.mean(result.iteration > 0) > 0.9
    assert mean(result) == pytest.approx(mean(found("topk")), abs=0.05)


def test_float64():
    model = dense_model(5, activation="relu", dtype="float64")
    result = small()(model, X.astype("float64"), Y)
    assert result.x_adv.dtype == result.map_after.dtype == result.scores["kendall_tau"].dtype == np.float64


# Extensions


class RaiseTheLeft(AttributionAttack):
    """An attack of one's own is its objective."""

    def objective(self, before, after):
        return tf.reduce_sum(after[:, 4:10, :7], axis=[1, 2])


@pytest.mark.slow
def test_an_attack_of_one_s_own(network, data, found):
    assert same(RaiseTheLeft(**OPTIONS, k_report=20)(network, *data), found("target"))


@pytest.mark.parametrize("smooth", [False, True])
def test_an_objective_sees_the_map_at_x_and_that_of_the_smooth_twin(network, data, smooth):
    seen = {}

    class Recording(AttributionAttack):
        def objective(self, before, after):
            seen.setdefault("maps", [before.numpy(), after.numpy()])
            return tf.reduce_sum(after**2, axis=[1, 2])

    class OfTheTwin(Recording):
        def reference(self, before, smooth_before):
            return smooth_before()

    x, y = data[0][:4], data[1][:4]
    options = {**OPTIONS, "softplus_beta": 1.0}
    result = (OfTheTwin if smooth else Recording)(**options)(network, x, y)
    before, first = seen["maps"]
    twin = saliency_map(conv_network_of(network, "softplus"), x, y, m=8)
    np.testing.assert_allclose(before, twin if smooth else result.map_before, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(first, twin, rtol=1e-3, atol=1e-4)  # the first step is taken at x
    assert np.abs(twin - result.map_before).max() > 0.1


def conv_network_of(network, activation):
    """The network with another activation."""
    config = network.get_config()
    for layer in config["layers"]:
        if layer["config"].get("activation") == "relu":
            layer["config"]["activation"] = activation
    model = keras.Sequential.from_config(config)
    model.set_weights(network.get_weights())
    return model


class SquaredGradient(Saliency):
    def __call__(self, f, x):
        return Gradient()(f, x) ** 2


def test_a_saliency_of_one_s_own():
    model = tabular()
    result = small(saliency=SquaredGradient())(model, X, Y)
    assert np.any(result.iteration > 0)
    gradients = saliency_map(model, result.x_adv, Y, "gradient", normalize=False)
    squares = gradients**2
    np.testing.assert_allclose(result.map_after, 5 * squares / squares.sum(axis=1, keepdims=True), rtol=1e-4)


def gradient_times_input(model, x, y):
    """A function of a model, made of TensorFlow operations."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        score = tf.gather(model(x), y, batch_dims=1)
    return x * tape.gradient(score, x)


@pytest.mark.parametrize("beta", [1.0, 5.0, None])
def test_a_function_of_tensors(beta):
    model, options = tabular(), {"softplus_beta": beta}
    reference = small(saliency="gradient_x_input", **options)(model, X, Y)
    assert same(small(saliency=gradient_times_input, **options)(model, X, Y), reference)
    if beta is not None:
        twin = tabular("softplus")
        twin.set_weights(model.get_weights())
        given = small(saliency=gradient_times_input)(model, X, Y, gradient_model=twin)
        assert same(given, reference) == (beta == 1)


@compiled
@pytest.mark.parametrize(
    "function",
    [
        lambda model, x, y: np.abs(x),
        lambda model, x, y: np.asarray(x),
        lambda model, x, y: np.zeros((6, 5)),
        lambda model, x, y: tf.constant(x.numpy()),
        lambda model, x, y: model.predict(x, verbose=0),
    ],
)
def test_a_function_made_of_numpy_is_refused(function):
    with pytest.raises(TypeError, match="`saliency` must be made of TensorFlow operations to be attacked"):
        small(saliency=function)(tabular(), X, Y)
