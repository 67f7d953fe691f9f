"""Attribution priors: the draws of their maps, priors of one's own, what training does to maps, arguments, files."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, dense_model, wrapped

import keras_rar
from keras_rar.core import map_priors
from keras_rar.core.network_functions import Network

X, Y = batch(6)
BACKGROUND = np.random.default_rng(3).uniform(size=(3, 4))
LAPLACIAN = np.array([[1, -1, 0, 0], [-1, 2, -1, 0], [0, -1, 1, 0], [0, 0, 0, 0]], "float32")  # of two edges


def cubic(x, step=0, **options):
    """Terms of the logit `Σ zᵢ³ + z₁ z₂`."""
    logit = lambda y, z: tf.reduce_sum(z**3, axis=1) + z[:, 0] * z[:, 1]  # noqa: E731
    return keras_rar.Terms(Network(lambda z, _: z, logit, logit), x, x, [0] * len(x), rule=None, step=step, **options)


def graph_prior(maps):
    return tf.reduce_sum(maps * tf.linalg.matmul(maps, tf.constant(LAPLACIAN, maps.dtype)), axis=1)


registered_prior = keras.saving.register_keras_serializable("test_attribution_priors")(graph_prior)


def test_in_the_mean_over_steps_the_map_is_expected_gradients():
    x = X.astype("float64")
    draw = tf.function(lambda step: cubic(x, step).expected_map(BACKGROUND, 2))
    drawn = np.array([draw(step) for step in tf.range(600)])
    logit = lambda z: tf.reduce_sum(z**3, axis=1) + z[:, 0] * z[:, 1]  # noqa: E731
    expected = keras_rar.ExpectedGradients(BACKGROUND, keras_rar.quadrature.gauss_legendre(3))(logit, tf.constant(x))
    error = drawn.std(axis=0) / np.sqrt(len(drawn))
    assert np.all(np.abs(drawn.mean(axis=0) - expected) < 5 * error)
    assert error.max() < 0.1 * np.abs(expected).max()  # so that it says something
    away = keras_rar.ExpectedGradients(0.0, keras_rar.quadrature.gauss_legendre(3))(logit, tf.constant(x))
    assert np.any(np.abs(drawn.mean(axis=0) - away) > 20 * error)  # negative control: another background


def test_of_a_linear_logit_and_one_baseline_every_draw_is_the_map():
    weights = np.array([1.0, -2.0, 3.0, 0.0])
    logit = lambda y, z: tf.linalg.matvec(z, weights)  # noqa: E731
    terms = keras_rar.Terms(Network(lambda z, _: z, logit, logit), X.astype("float64"), X, Y, rule=None, step=7)
    np.testing.assert_allclose(terms.expected_map([[0.5] * 4]), (X - 0.5) * weights, rtol=1e-6)


def test_draws_differ_from_step_to_step_and_are_shared_by_the_batch():
    x = np.repeat(X[:1].astype("float64"), 3, axis=0)
    first, second = (cubic(x, tf.constant(step, tf.int64)).expected_map(BACKGROUND).numpy() for step in (0, 1))
    np.testing.assert_array_equal(first, np.repeat(first[:1], 3, axis=0))
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_array_equal(first, cubic(x, 0).expected_map(BACKGROUND))


def test_more_samples_are_less_noise():
    x = X.astype("float64")
    spread = []
    for samples in (1, 8):
        draw = tf.function(lambda step, samples=samples: cubic(x, step).expected_map(BACKGROUND, samples))
        spread.append(np.std([draw(step) for step in tf.range(60)], axis=0).mean())
    assert 2 < spread[0] / spread[1] < 4  # √8


def test_without_a_background_the_baseline_is_the_only_one():
    base_model = dense_model()
    found = wrapped("prior", base_model, factor=1.0, baseline=[0.2, 0.1, 0.0, 0.3]).objective(X, X, Y)
    given = wrapped("prior", base_model, factor=1.0, background=[[0.2, 0.1, 0.0, 0.3]]).objective(X, X, Y)
    np.testing.assert_allclose(found, given, rtol=1e-6)
    assert np.abs(found - wrapped("prior", base_model, factor=1.0).objective(X, X, Y)).max() > 1e-3


def test_what_has_no_baseline_gets_no_share():
    found = cubic(X.astype("float64")).expected_map([[0.0, None, 0.0, None]])
    assert np.all(found.numpy()[:, [1, 3]] == 0)
    assert np.all(found.numpy()[:, [0, 2]] != 0)


def test_a_prior_of_ones_own_by_its_formula():
    """The graph prior of the paper: squares of the differences along edges."""
    base_model = dense_model()
    model, plain = (wrapped(method, base_model, **o) for method, o in (("prior", OWN), ("natural", {})))
    maps = model.objective(X, X, Y) - plain.objective(X, X, Y)
    flat = wrapped("prior", base_model, factor=1.0, prior=first_entry).objective(X, X, Y)
    entries = [flat - plain.objective(X, X, Y)]  # the map itself, entry by entry
    for place in (1, 2):
        one = wrapped("prior", base_model, factor=1.0, prior=lambda m, at=place: m[:, at]).objective(X, X, Y)
        entries.append(one - plain.objective(X, X, Y))
    expected = (entries[0] - entries[1]) ** 2 + (entries[1] - entries[2]) ** 2
    np.testing.assert_allclose(maps, 0.5 * expected, rtol=1e-4, atol=1e-6)


def first_entry(maps):
    return maps[:, 0]


OWN = {"factor": 0.5, "prior": registered_prior}


def test_a_model_with_a_function_and_a_background_is_saved(tmp_path):
    model = wrapped("prior", dense_model(), background=BACKGROUND, samples=2, **OWN)
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "a.keras")
    loaded = keras.saving.load_model(tmp_path / "a.keras")
    assert loaded.regularizer.prior is registered_prior
    np.testing.assert_allclose(loaded.objective(X, X, Y), model.objective(X, X, Y), rtol=1e-6)


def test_in_a_sum_it_leaves_x_star_to_the_other():
    base_model = dense_model()
    madry = keras_rar.MadryRegularizer(steps=2)
    both = madry + 0.5 * keras_rar.AttributionPriorRegularizer(factor=1.0, steps=2)
    found, alone = (wrapped(one, base_model) for one in (both, madry))
    np.testing.assert_array_equal(found.perturb(X, Y, seed=1), alone.perturb(X, Y, seed=1))
    x_prime = np.clip(X + 0.1, 0, 1)
    expected = 0.5 * wrapped("prior", base_model, factor=1.0).objective(X, X, Y) + alone.objective(X, x_prime, Y)
    np.testing.assert_allclose(found.objective(X, x_prime, Y), expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("prior", ["total_variation", "gini"])
def test_training_brings_maps_nearer_to_the_prior(prior):
    """Of exact IG, on the clean input; plain training, with a factor of 0, is the control."""
    x, y = batch(64, seed=4)
    found = []
    for factor in (0.0, 0.5):
        keras.utils.set_random_seed(1)
        model = wrapped("prior", factor=factor, prior=prior, optimizer=keras.optimizers.Adam(0.02))
        model.fit(x, y, batch_size=32, epochs=20, verbose=0)
        terms = model._compiled.terms(tf.constant(x), tf.constant(x), tf.constant(y), keras_rar.quadrature.midpoint(20))
        found.append(float(tf.reduce_mean(map_priors.PRIORS[prior](terms.clean_map))))
    assert found[1] < found[0] - 0.1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prior": "smooth"}, ValueError, r"`prior` must be one of \['total_variation', 'gini'\] or a function"),
        ({"prior": 3}, ValueError, r"`prior` must be one of .* Received: prior=3"),
        ({"background": [0.0, 1.0]}, ValueError, r"`background` must be None or an array \(n, \.\.\.\)"),
        ({"background": np.zeros((0, 4))}, ValueError, r"`background` must be None or an array \(n, \.\.\.\)"),
        ({"background": [[0.0, np.nan]]}, ValueError, "`background` must be finite"),
        ({"background": "train"}, TypeError, "`background` must be a float or an array of floats"),
        ({"samples": 0}, ValueError, "`samples` must be a positive integer"),
        ({"factor": -1.0}, ValueError, "`factor` must be"),
    ],
    ids=str,
)
def test_arguments_are_validated(options, error, message):
    with pytest.raises(error, match=message):
        keras_rar.AttributionPriorRegularizer(**options)


def test_a_background_that_does_not_fit_the_inputs_is_refused_when_wrapped():
    with pytest.raises(ValueError, match=r"`background` must be .* broadcasts to an input, of shape \(4,\)\. Received"):
        keras_rar.wrap(dense_model(), "prior", background=np.zeros((2, 5)))


def test_a_prior_that_is_not_one_number_per_example_is_refused():
    with pytest.raises(ValueError, match=r"`prior` must be a function maps -> \(batch,\), one number per example"):
        keras_rar.wrap(dense_model(), "prior", prior=lambda maps: maps)


def test_at_a_layer_the_background_has_the_shape_of_its_output():
    """Which is not that of the inputs."""
    words = keras.layers.Embedding(9, 3, mask_zero=True, name="words")
    layers = [words, keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(3)]
    network = keras.Sequential([keras.Input((5,), dtype="int32"), *layers])
    x, y = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]]), np.array([0, 1])
    background = np.random.default_rng(0).normal(size=(2, 5, 3))
    model = wrapped("prior", network, layer="words", background=background, factor=1.0, bounds=None)
    plain = wrapped("natural", network, layer="words", bounds=None)
    h = words(x)
    assert np.all(np.abs(model.objective(x, h, y) - plain.objective(x, h, y)) > 1e-4)
    with pytest.raises(ValueError, match=r"`background` must be .* broadcasts to an input, of shape \(5, 3\)"):
        wrapped("prior", network, layer="words", background=np.zeros((2, 5)), bounds=None)
