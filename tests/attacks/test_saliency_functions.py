"""A saliency of the user's returns one map per example, of that example alone: in attacks, evaluations and maps."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from attacking import eagerly
from conftest import batch

import keras_rar
from keras_rar.attacks import MassCenterAttack, RandomAttack, TargetAttack, TopKAttack
from keras_rar.core.saliency_methods import Gradient, Saliency
from keras_rar.evaluation.callback import AttributionRobustness

fast = pytest.fixture(autouse=True)(eagerly)
L = keras.layers
X, Y = batch(4, (5, 5, 2))
OPTIONS = {"epsilon": 0.1, "steps": 3, "m": 3}


@pytest.fixture(scope="module")
def model():
    layers = [L.Conv2D(3, 2, activation="relu"), L.Flatten(), L.Dense(3)]
    return keras.Sequential([keras.Input((5, 5, 2)), *layers])


def gradient(model, x, y):
    with tf.GradientTape() as tape:
        tape.watch(x)
        score = tf.gather(model(x), y, batch_dims=1)
    return tape.gradient(score, x)


def unknown_sizes(m):
    """The same values, of a shape that a graph does not know."""
    return tf.reshape(m, tf.shape(m) + tf.cast(tf.reduce_sum(tf.shape(m) * 0), tf.int32))


def of_whole_batch(m):
    return tf.zeros_like(m) + tf.reduce_mean(m, axis=0, keepdims=True)


def with_nan(m):
    return m / tf.zeros_like(m)


def first_label(model, x, y):
    return gradient(model, x, tf.fill(tf.shape(y), y[0]))


ONE_MAP = "^`saliency` must return one map per example"
ALONE = f"{ONE_MAP}, of that example alone.*change with the other examples"
REFUSED = {
    "a scalar": (lambda model, x, y: tf.reduce_sum(x), ValueError, ONE_MAP),
    "a vector": (lambda model, x, y: tf.reduce_sum(x, axis=[1, 2, 3]), ValueError, ONE_MAP),
    "one map": (lambda model, x, y: tf.reduce_sum(gradient(model, x, y), 0), ValueError, ONE_MAP),
    "a batch of one map": (lambda model, x, y: tf.reduce_sum(gradient(model, x, y), 0, True), ValueError, ONE_MAP),
    "another size": (lambda model, x, y: gradient(model, x, y)[:, 1:], ValueError, ONE_MAP),
    "rows": (lambda model, x, y: tf.reshape(gradient(model, x, y), [-1, 50]), ValueError, ONE_MAP),
    "complex": (lambda model, x, y: tf.complex(x, x), TypeError, "`saliency` must return floating-point numbers"),
    "integers": (lambda model, x, y: tf.cast(x, tf.int32), TypeError, "`saliency` must return floating-point numbers"),
    "NaN": (lambda model, x, y: with_nan(gradient(model, x, y)), ValueError, "`saliency` must return finite numbers"),
    "the mean map": (lambda model, x, y: of_whole_batch(gradient(model, x, y)), ValueError, ALONE),
    "the mean map of unknown size": (lambda model, x, y: unknown_sizes(of_whole_batch(gradient(model, x, y))),
                                     ValueError, ALONE),
    "the mean taken off": (lambda model, x, y: x - tf.reduce_mean(x, axis=0), ValueError, ALONE),
    "batches turned round": (lambda model, x, y: gradient(model, x, y)[::-1], ValueError, ALONE),
    "the first label for all": (first_label, ValueError, ALONE),
    "a size that changes": (lambda model, x, y: x[:, : tf.where(tf.reduce_all(x[0] == x[1]), 5, 4)], ValueError,
                            f"{ONE_MAP}, of one shape"),
    "noise": (lambda model, x, y: tf.random.uniform(tf.shape(x)), ValueError, "`saliency` must return the same map"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_one_map_per_example_is_refused_before_an_attack(model, name):
    function, error, message = REFUSED[name]
    attack = TopKAttack(3, **OPTIONS, saliency=function)
    with pytest.raises(error, match=message):
        attack(model, X, Y)
    with pytest.raises(error, match=message):
        attack.check(model, X[:1], Y[:1])  # another example is made up


class OfTheBatch(Saliency):
    def __call__(self, f, x):
        return of_whole_batch(Gradient()(f, x))


class Flat(Saliency):
    def __call__(self, f, x):
        return tf.reshape(Gradient()(f, x), [tf.shape(x)[0], -1])


class Centred(Saliency):
    """Right: each map less its own mean."""

    def __call__(self, f, x):
        found = Gradient()(f, x)
        return found - tf.reduce_mean(found, axis=[1, 2, 3], keepdims=True)


@pytest.mark.parametrize(("saliency", "message"), [(OfTheBatch(), "of that example alone"), (Flat(), "one map per")])
def test_objects_are_checked_too(model, saliency, message):
    with pytest.raises(ValueError, match=message):
        RandomAttack(**OPTIONS, saliency=saliency)(model, X, Y)
    with pytest.raises(ValueError, match=message):
        keras_rar.saliency_map(model, X, Y, saliency)


def channels_summed(model, x, y):
    return tf.reduce_sum(tf.abs(gradient(model, x, y)), axis=-1)


RIGHT = {
    "an object": Centred(),
    "in the shape of inputs": gradient,
    "in the shape of maps": channels_summed,
    "of one channel": lambda model, x, y: channels_summed(model, x, y)[..., tf.newaxis],
    "of unknown size": lambda model, x, y: unknown_sizes(gradient(model, x, y)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_one_map_per_example_is_attacked(model, name):
    result = TopKAttack(3, **OPTIONS, saliency=RIGHT[name])(model, X, Y)
    assert result.map_before.shape == (4, 5, 5)
    np.testing.assert_allclose(result.map_before.sum(axis=(1, 2)), 25, rtol=1e-4)
    if name != "an object":
        np.testing.assert_allclose(result.map_before, keras_rar.saliency_map(model, X, Y, "gradient"), rtol=1e-4)


def of_layers(layers):
    """The gradient of what some layers of the model make of x; of no layers it is that of x itself."""

    def saliency(model, x, y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            h = x
            for layer in layers(model):
                h = layer(h)
            score = tf.reduce_sum(h**2, axis=[1, 2, 3])
        return tape.gradient(score, x)

    return saliency


def test_a_saliency_that_reads_layers_is_refused_with_a_twin(model):
    """Not followed along the input in silence, as a twin has no list of layers; without the twin it is attacked."""
    loop, named = of_layers(lambda model: model.layers[:1]), of_layers(lambda model: [model.get_layer(index=0)])
    for saliency in (loop, named):
        with pytest.raises(AttributeError, match=r"The layers of .*_softplus_twin' cannot be read.*softplus_beta=None"):
            TopKAttack(saliency=saliency, softplus_beta=10.0, k=5, **OPTIONS)(model, X, Y)
    found = TopKAttack(saliency=loop, softplus_beta=None, k=5, **OPTIONS)(model, X, Y)
    assert np.abs(found.x_adv - X).max() > 0


def test_the_check_runs_once_for_a_model(model):
    calls = []

    def counted(model, x, y):
        calls.append(x.shape[0])
        return gradient(model, x, y)

    attack = RandomAttack(**{**OPTIONS, "steps": 1}, saliency=counted)
    attack(model, X, Y)
    first = len(calls)
    attack(model, X, Y)
    again = len(calls) - first
    assert calls[0] == 2  # a pair, before anything is attacked
    assert again == first - 1  # all but the trace of the pair


@pytest.mark.parametrize("name", ["one map", "the mean map", "NaN"])
def test_evaluations_and_callbacks_refuse_it_before_work(model, name, monkeypatch):
    function, error, message = REFUSED[name]
    monkeypatch.setattr(keras_rar.attacks.PGDAttack, "iterate", lambda *args, **kwargs: pytest.fail("attacked"))
    with pytest.raises(error, match=message):
        keras_rar.evaluate_robustness(model, X, Y, **OPTIONS, saliency=function, progress=False)
    callback = AttributionRobustness(X, Y, attack=TopKAttack(3, **OPTIONS, saliency=function))
    callback.set_model(model)
    with pytest.raises(error, match=message):
        callback.on_train_begin()


# Functions of arrays

ARRAYS = {
    "one map": (lambda model, x, y: x[0], "`method` must return one map per example"),
    "a vector": (lambda model, x, y: x.sum(axis=(1, 2, 3)), "`method` must return one map per example"),
    "other sizes": (lambda model, x, y: x[:, 1:], "`method` must return one map per example"),
    "complex": (lambda model, x, y: x + 1j, "`method` must return one map per example, of real numbers"),
    "objects": (lambda model, x, y: [None] * len(x), "`method` must return one map per example, of real numbers"),
    "NaN": (lambda model, x, y: x * np.nan, "`method` must return finite numbers"),
    "the mean taken off": (lambda model, x, y: x - x.mean(axis=0), "`method` must return one map per example, of that"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_functions_of_arrays_are_checked(model, name):
    function, message = ARRAYS[name]
    with pytest.raises(ValueError, match=message):
        keras_rar.saliency_map(model, X, Y, function)


def test_functions_of_arrays_may_be_random_or_return_maps(model):
    rng = np.random.default_rng(0)
    assert keras_rar.saliency_map(model, X, Y, lambda model, x, y: rng.uniform(size=x.shape)).shape == (4, 5, 5)
    given = [lambda model, x, y: x, lambda model, x, y: x.sum(axis=-1), lambda model, x, y: x.sum(-1, keepdims=True)]
    maps = [keras_rar.saliency_map(model, X, Y, function) for function in given]
    np.testing.assert_allclose(maps[1], maps[0], rtol=1e-4)
    np.testing.assert_allclose(maps[2], maps[0], rtol=1e-4)


# Channels first


REGION = np.zeros((5, 5), bool)
REGION[:2, 3:] = True
KINDS = {
    "topk": lambda **options: TopKAttack(3, **options),
    "mass center": lambda **options: MassCenterAttack(**options, keep="mass_center"),
    "target": lambda **options: TargetAttack(REGION, **options),
    "random": lambda **options: RandomAttack(**options),
}


@pytest.fixture(scope="module")
def first(model):
    """The same network for inputs with channels first."""
    return keras.Sequential([keras.Input((2, 5, 5)), L.Permute((2, 3, 1)), *model.layers])


@pytest.mark.parametrize("kind", KINDS)
def test_an_attack_on_channels_first_is_that_on_the_twin(model, first, kind):
    """RandomAttack draws in the order of entries: there only the ball and the shapes are the same."""
    make, transposed = KINDS[kind], np.moveaxis(X, -1, 1)
    expected, found = make(**OPTIONS)(model, X, Y), make(**OPTIONS)(first, transposed, Y)
    assert found.map_before.shape == (4, 5, 5)
    np.testing.assert_allclose(found.map_before, expected.map_before, rtol=1e-4, atol=1e-4)
    if kind != "random":
        np.testing.assert_allclose(np.moveaxis(found.x_adv, 1, -1), expected.x_adv, atol=1e-4)
        np.testing.assert_allclose(found.map_after, expected.map_after, rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(found.iteration, expected.iteration)
    assert np.any(found.iteration > 0)


def test_what_is_said_of_the_channels_counts(model):
    """Negative control: another axis gives another map."""
    maps = [RandomAttack(**OPTIONS, data_format=name)(model, X, Y).map_before for name in ("auto", "channels_first")]
    assert [m.shape for m in maps] == [(4, 5, 5), (4, 5, 2)]


def test_inputs_of_which_nothing_tells_are_refused_until_it_is_said():
    cube = keras.Sequential([keras.Input((3, 3, 3)), L.Flatten(), L.Dense(3)])
    x, y = batch(2, (3, 3, 3))
    with pytest.raises(ValueError, match=r"^`data_format` must be"):
        RandomAttack(**OPTIONS)(cube, x, y)
    assert RandomAttack(**OPTIONS, data_format="none")(cube, x, y).map_before.shape == (2, 3, 3, 3)
    with pytest.raises(ValueError, match=r"^`data_format` must be one of"):
        RandomAttack(**OPTIONS, data_format="first")


def test_maps_of_volumes_have_no_channels_and_no_mass_centre():
    volumes = keras.Sequential([keras.Input((3, 3, 4, 2)), L.Conv3D(2, 2, activation="relu"), L.Flatten(), L.Dense(3)])
    x, y = batch(2, (3, 3, 4, 2))
    result = TopKAttack(3, **OPTIONS)(volumes, x, y)
    assert result.map_after.shape == (2, 3, 3, 4)
    with pytest.raises(ValueError, match="`MassCenterAttack` needs maps of shape"):
        MassCenterAttack(**OPTIONS)(volumes, x, y)
