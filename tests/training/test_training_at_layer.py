"""Training at a layer: every weight gets the gradient of the objective, also those in front of the layer."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, wrapped
from texts import WIDTH, text_network, texts

import keras_rar

X, Y = texts()
AT = {"layer": "embedding", "epsilon": 0.2}


def objective_at(model, x, step, y):
    """The mean objective where the output of the layer moves by a fixed step."""
    problem = model._compiled
    h = problem.entered(x)
    terms = problem.terms(h, h + step, y, problem.regularizer.training_rule, training=True)
    return float(tf.reduce_mean(problem.regularizer.objective(terms)))


@pytest.mark.usefixtures("in_float64")
@pytest.mark.filterwarnings("ignore:.*does not support masking")
@pytest.mark.parametrize(
    ("method", "kind", "chunk"),
    [
        ("ig_sum_norm", "pool", "auto"),
        pytest.param("ig_topk", "convolution", 1, marks=pytest.mark.slow),
        pytest.param("ig_topk", "attention", "auto", marks=pytest.mark.slow),
        pytest.param("igr", "pool", 1, marks=pytest.mark.slow),
    ],
)
def test_the_gradient_in_the_embedding_is_that_of_finite_differences(method, kind, chunk):
    """Of words, and of the padding where the network reads it: a convolution does."""
    k = {"k": 1} if method == "ig_topk" else {}
    model = wrapped(method, text_network(kind), chunk=chunk, m=2, **AT, **k)
    x, y = tf.constant(X), tf.constant(Y)
    star = model._compiled.inner_maximum(x, y, tf.constant([1, 0], tf.int64))
    step = star - model._compiled.entered(x)
    assert not step.numpy()[X == 0].any()
    outcome = model._steps["whole"]._at_once(x, star, y, tf.reduce_mean)
    embeddings = model.base_model.get_layer("embedding").embeddings
    (found,) = (
        tf.convert_to_tensor(gradient).numpy()
        for gradient, variable in zip(outcome.gradients, model.trainable_variables, strict=True)
        if variable is embeddings
    )
    values = embeddings.numpy()
    for row, column in [(0, 0), (X[0, 0], 1), (X[1, 1], 2)]:
        ends = []
        for side in (1e-6, -1e-6):
            moved = values.copy()
            moved[row, column] += side
            embeddings.assign(moved)
            ends.append(objective_at(model, x, step, y))
        embeddings.assign(values)
        np.testing.assert_allclose(found[row, column], (ends[0] - ends[1]) / 2e-6, rtol=1e-6, atol=1e-8)
    assert np.abs(found[X[0, 0]]).max() > 1e-4
    assert found[0].any() == (kind == "convolution")


def test_texts_of_no_more_than_k_words_are_trained_too():
    """Of a text of two words the higher one counts: the k highest of all would be the same after any attack."""
    network = text_network(activation="relu")
    distances = {}
    for k in (1, 4):
        problem = wrapped("ig_topk", network, k=k, m=3, **AT)._compiled
        h = problem.entered(tf.constant(X))
        step = np.random.default_rng(0).normal(size=(*X.shape, WIDTH))
        moved = problem.columns.joined(problem.columns.free(h) + tf.constant(step, h.dtype), h)
        terms = problem.terms(h, moved, tf.constant(Y), problem.regularizer.training_rule)
        problem.regularizer.objective(terms)
        distances[k] = terms.reported["map_distance"].numpy()
    assert distances[1][0] > 0.01
    assert distances[4][0] == pytest.approx(distances[1][0], rel=1e-5)
    assert np.all(distances[4][2:] != distances[1][2:])  # of five words, which have a choice of four


def test_the_inner_maximum_is_in_the_ball_and_padding_stays():
    """Of a linear network of two classes the loss rises most at `ε sign(w)`, for every word alike."""
    network = text_network("linear", classes=2)
    model = wrapped("madry", network, random_start=False, steps=3, **AT)
    y = Y % 2
    found = model.perturb(X, y).numpy() - network.get_layer("embedding")(X).numpy()
    w = network.layers[-1].get_weights()[0]
    away = np.sign(w[:, 1 - y] - w[:, y]).T
    np.testing.assert_allclose(found, 0.2 * (X > 0)[..., None] * away[:, None], atol=1e-6)


def test_attributions_at_the_layer_are_complete():
    model = wrapped("ig_sum_norm", text_network(), rule="gauss_legendre", m=8, **AT)
    x_star = model.perturb(X, Y, seed=0)
    assert x_star.shape == (*X.shape, WIDTH)
    terms = [float(tf.reduce_mean(model.objective(X, end, Y))) for end in (model.base_model.layers[1](X), x_star)]
    found = model.attributions(X, x_star, Y).numpy()
    assert not found[X == 0].any()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
    clean = loss(Y, model(X)).numpy()
    tail = model.seen
    packed = tail.columns.joined(x_star, tail.entered(tf.constant(X)))
    np.testing.assert_allclose(found.sum(axis=(1, 2)), loss(Y, tail(packed)) - clean, atol=1e-5)
    np.testing.assert_allclose(terms[0], clean.mean(), atol=1e-5)
    assert terms[1] > terms[0]
    with pytest.raises(ValueError, match=r"^`x_prime` must have the shape that 'embedding' returns, \(8, 5, 3\)\."):
        model.attributions(X, X.astype("float32"), Y)


def test_at_a_layer_that_changes_nothing_training_is_that_at_the_input():
    inputs = keras.Input((4,))
    same = keras.layers.Identity(name="same")(inputs)
    network = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dense(5, "tanh")(same)))
    x, y = batch()
    trained = []
    for layer in ("same", None):
        copied = keras.models.clone_model(network)
        copied.set_weights(network.get_weights())
        model = wrapped("ig_sum_norm", copied, layer=layer, epsilon=0.1, bounds=(0.0, 1.0))
        model.fit(x, y, batch_size=4, epochs=1, shuffle=False, verbose=0)
        trained.append(copied.get_weights())
    for there, here, before in zip(*trained, network.get_weights(), strict=True):
        np.testing.assert_allclose(there, here, atol=1e-6)
        assert np.abs(here - before).max() > 1e-4


def test_a_model_of_texts_is_fitted_saved_and_unwrapped(tmp_path):
    network = text_network("linear")
    model = wrapped("ig_sum_norm", network, optimizer="adam", compile={"metrics": ["accuracy"]}, m=2, **AT)
    assert model.regularizer.bounds is None
    before = network.get_weights()
    history = model.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert all(np.abs(now - then).max() > 1e-5 for now, then in zip(network.get_weights(), before, strict=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layer == "embedding"
    np.testing.assert_array_equal(loaded.perturb(X, Y, seed=3), model.perturb(X, Y, seed=3))
    for one in (model, loaded):
        one.fit(X, Y, batch_size=4, epochs=3, initial_epoch=2, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    keras_rar.unwrap(model).save(tmp_path / "plain.keras")
    plain = keras.saving.load_model(tmp_path / "plain.keras")
    np.testing.assert_array_equal(plain(X), model(X))


@pytest.mark.slow
def test_an_update_by_parts_is_that_at_once():
    """Derivatives go by examples where they do not fit."""
    weights = []
    for budget in (0.35, 1e-6):
        keras.utils.set_random_seed(0)
        model = wrapped("ig_topk", text_network(), k=1, memory_budget=budget, **AT)
        assert (model._compiled.differentiated_at_once(tf.constant(X)) is None) == (budget == 0.35)
        model.fit(X, Y, batch_size=8, epochs=1, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    for whole, parts in zip(*weights, strict=True):
        np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_bad_layers_and_bounds_are_refused():
    with pytest.raises(
        ValueError, match=r"^`layer` must be the name of one layer of 'functional\w*', such as 'embedding'"
    ):
        keras_rar.wrap(text_network(), "madry", layer="embeddings")
    with pytest.raises(
        ValueError, match=r"^`bounds` must be a float or an array that broadcasts to an input, of shape"
    ):
        keras_rar.wrap(text_network(), "madry", layer="embedding", bounds=(np.zeros(4), np.ones(4)))
    model = wrapped("madry", text_network(), bounds=(0.0, 1.0), **AT)
    with pytest.raises(ValueError, match=r"^`x` must lie within `bounds`=\(0.0, 1.0\)\. Received: values from -"):
        model.fit(X, Y, verbose=0)
