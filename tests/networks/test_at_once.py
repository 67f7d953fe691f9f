"""As many examples at once as fit, by one rule, and what is found does not depend on it."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from conftest import batch, conv_model, dense_model

import keras_rar
from keras_rar import attacks
from keras_rar.core.saliency_methods import Gradient, IntegratedGradients, SmoothGrad
from keras_rar.networks import at_once

SHAPE = (6, 6, 1)
X, Y = batch(7, SHAPE)


@pytest.fixture(autouse=True)
def _eager():
    """Each batch size would be traced."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def model():
    return conv_model()


@pytest.fixture
def fits(monkeypatch):
    """Sets the budget to that of some points, with derivatives of a kind."""

    def set_budget(model, derivatives, points):
        each = at_once.bytes_of_example(model, SHAPE, derivatives)
        monkeypatch.setattr(at_once, "BUDGET", (points + 0.5) * each / 1e9)

    return set_budget


def test_the_memory_of_an_example_is_that_of_what_is_computed():
    """A product, its bias and its activation; a product and its bias; the score."""
    model = dense_model(features=4, hidden=8, classes=3)
    for kind, factor in at_once.FACTORS.items():
        assert at_once.bytes_of_example(model, (4,), kind) == factor * 4 * (3 * 8 + 2 * 3 + 1)


def test_more_derivatives_take_more_memory(model):
    sizes = [at_once.bytes_of_example(model, SHAPE, kind) for kind in ("none", "first", "second")]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


@pytest.mark.parametrize(("points", "each", "expected"), [(3, 1, 3), (3, 2, 1), (6, 2, 3), (1000, 1, 100), (1, 5, 1)])
def test_as_many_examples_as_fit_but_no_more_than_are_needed(model, fits, points, each, expected):
    fits(model, "first", points)
    assert at_once.examples(model, SHAPE, "first", 100, each) == expected


def test_one_sentence_says_that_not_even_one_example_fits(model, fits):
    fits(model, "first", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert at_once.examples(model, SHAPE, "first", 100) == 1
    fits(model, "first", 0)
    with pytest.warns(
        RuntimeWarning, match=r"^One example of '.*' takes .* GB, more than the budget of .* GB: [a-z ]*\.$"
    ):
        assert at_once.examples(model, SHAPE, "first", 100) == 1


def test_points_go_in_chunks_that_fit(model, fits):
    x = tf.constant(X)
    fits(model, "second", 14)
    assert at_once.chunked(IntegratedGradients(), model, x, "second").chunk == 2
    assert at_once.chunked(SmoothGrad(), model, x, "second").chunk == 2
    for own in (IntegratedGradients(chunk=9), SmoothGrad(chunk=None), Gradient(), len):
        assert at_once.chunked(own, model, x, "second") is own
    fits(model, "second", 10**6)
    assert at_once.chunked(IntegratedGradients(), model, x, "second").chunk == "auto"


# Whatever fits, the same is found

OPTIONS = {"epsilon": 0.1, "steps": 1, "restarts": 1}
ATTACKS = {
    "pgd": (attacks.PGDAttack(**OPTIONS), "first"),
    "topk": (attacks.TopKAttack(3, saliency="gradient", softplus_beta=10.0, **OPTIONS), "second"),
    "random": (attacks.RandomAttack(saliency="gradient", **OPTIONS), "first"),
    "ensemble": (attacks.EnsembleAttack(saliency="gradient", softplus_beta=10.0, **OPTIONS), "second"),
    "predictions": (attacks.PredictionEnsembleAttack(queries=3, **OPTIONS), "first"),
}


@pytest.mark.parametrize(
    "name", [*ATTACKS][:3] + [pytest.param(name, marks=pytest.mark.slow) for name in [*ATTACKS][3:]]
)
def test_an_attack_finds_the_same_whatever_fits(model, fits, name):
    attack, derivatives = ATTACKS[name]
    given = (model, X, model.predict(X, verbose=0).argmax(axis=1))
    (whole,) = attack.iterate(*given)
    fits(model, derivatives, 3)
    parts = list(attack.iterate(*given))
    assert [len(part.x) for part in parts] == [3, 3, 1]
    np.testing.assert_allclose(type(whole).concatenate(parts).x_adv, whole.x_adv, atol=1e-5)
    (rest,) = attack.iterate(*given, first=6)
    np.testing.assert_allclose(rest.x_adv, whole.x_adv[6:], atol=1e-5)


def test_random_starts_depend_on_a_batch_size_that_is_asked_for(model):
    """Negative control of the test above: what the starts are drawn with matters."""
    found = [attacks.RandomAttack(batch_size=size, saliency="gradient", **OPTIONS)(model, X).x_adv for size in (7, 3)]
    assert not np.allclose(found[0][3:], found[1][3:], atol=1e-5)


def test_without_a_batch_size_starts_are_those_of_the_most_examples(model):
    found = [attacks.PGDAttack(batch_size=size, **OPTIONS)(model, X, Y).x_adv for size in (None, 100)]
    np.testing.assert_array_equal(*found)


MEASURES = {
    "ig": ("first", lambda model, y: keras_rar.saliency_map(model, X, m=4)),
    "smoothgrad": ("first", lambda model, y: keras_rar.saliency_map(model, X, method="smoothgrad", samples=4)),
    "certify": (
        "first",
        lambda model, y: keras_rar.certify(model, X[:2], samples=60, confidence=0.5, progress=False).maps,
    ),
    "faithfulness": (
        "none",
        lambda model, y: keras_rar.metrics.faithfulness(model, X, X[..., 0], y, points=4)["map"]["deletion"],
    ),
}


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_is_the_same_whatever_fits(fits, monkeypatch, name):
    model, (derivatives, measure) = conv_model(), MEASURES[name]
    sizes = []
    examples = at_once.examples
    monkeypatch.setattr(at_once, "examples", lambda *given: sizes.append(examples(*given)) or sizes[-1])
    whole = measure(model, Y)
    fits(model, derivatives, 3)
    np.testing.assert_allclose(measure(model, Y), whole, atol=1e-4)
    assert sizes[0] > 3
    assert sizes[-1] == 3


def test_a_batch_size_that_is_given_is_taken(monkeypatch):
    """It is not even looked for what would fit."""
    monkeypatch.delattr(at_once, "examples")
    model = dense_model()
    x, y = batch(3)
    keras_rar.saliency_map(model, x, m=2, batch_size=2)
    attacks.PGDAttack(0.1, steps=1, batch_size=2)(model, x, y)
    keras_rar.metrics.deletion(model, x, x, y, points=2, batch_size=2)
    with pytest.raises(AttributeError, match="examples"):
        keras_rar.saliency_map(model, x, m=2)
