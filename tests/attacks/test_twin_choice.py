"""`softplus_beta="auto"`: the twin that an attack follows fits the network."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from attacking import X, Y, eagerly, mean, same, small, tabular
from conftest import batch

import keras_rar
from keras_rar.attacks import PGDAttack, RandomAttack, TopKAttack, TwinAgreement, agreement
from keras_rar.evaluation import protocols
from keras_rar.networks.classifier import Classifier
from keras_rar.networks.spreads import relu_spread
from keras_rar.networks.surrogates import softplus_twin


@pytest.fixture(autouse=True)
def _eager(request):
    yield from eagerly(request)


INPUTS = batch(24, 12)[0]
OPTIONS = {"epsilon": 0.1, "steps": 20, "m": 6}


@functools.cache
def network(size):
    """One function of twelve features for every size of its hidden units."""
    rng = np.random.default_rng(1)
    layers = [keras.layers.Dense(64, "relu"), keras.layers.Dense(64, "relu"), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((12,)), *layers])
    shapes = [weight.shape for weight in model.get_weights()]
    scales = [np.sqrt(2 / shape[0]) if len(shape) > 1 else 0.3 for shape in shapes]
    units = [size, size, 1, size, 1 / size, 1]  # of kernel, bias, kernel, …: the last layer undoes it
    model.set_weights([rng.normal(size=shape) * a * b for shape, a, b in zip(shapes, scales, units, strict=True)])
    return model


def scaled_tabular(model, c):
    """The same function with hidden units times c."""
    other = tabular()
    kernel, bias, last, last_bias = model.get_weights()
    other.set_weights([kernel * c, bias * c, last / c, last_bias])
    return other


@functools.cache
def found(size, **options):
    """The top-k intersection that an attack finds."""
    attack = TopKAttack(3, **OPTIONS, step_size=0.02, **options)
    return mean(attack(network(size), INPUTS), "topk_intersection")


@pytest.mark.slow
def test_small_units_hide_nothing():
    """The case: softplus with β = 1 is another network where units are small, and finds no more than noise."""
    noise = mean(RandomAttack(**OPTIONS, k_report=3)(network(0.02), INPUTS), "topk_intersection")
    best = min(found(0.02, softplus_beta=beta) for beta in (300.0, 3000.0))
    assert found(0.02, softplus_beta=1.0) > noise - 0.03
    assert best < noise - 0.06
    assert found(0.02) < best + 0.03


def test_the_size_of_hidden_units_does_not_matter():
    assert found(0.02) == pytest.approx(found(2.0), abs=0.03)
    sizes = [relu_spread(Classifier(network(size)), tf.constant(INPUTS)) for size in (0.02, 2.0)]
    assert 100 * sizes[0] == pytest.approx(sizes[1], rel=1e-4)


def test_the_choice_is_the_smoothest_that_agrees():
    x, classifier = tf.constant(INPUTS[:8]), Classifier(network(0.02))
    beta, own = agreement.found(classifier, x), classifier.logits(x).numpy()
    correlations = [agreement.correlation(agreement.twin_logits(classifier, b, x), own) for b in (beta, beta / 4)]
    assert correlations[0] >= agreement.ENOUGH["scores"] > correlations[1]


def test_the_paper_is_attacked_as_published():
    assert all(protocol.softplus_beta == 1.0 for protocol in protocols.PAPER.values())
    assert protocols.PAPER["mnist"].attribution_attack(784).softplus_beta == 1.0
    assert protocols.QUICK.attribution_attack(784).softplus_beta == "auto"


def test_what_an_evaluation_leaves_to_the_paper_is_one():
    """`"auto"` there is "left to the protocol"."""
    x, y = batch(4, 12)
    report = keras_rar.evaluate_robustness(
        network(1.0),
        x,
        y,
        protocol="paper",
        dataset="fashion_mnist",
        steps=1,
        m=1,
        pgd_steps=1,
        k=5,
        k_report=5,
        progress=False,
    )
    assert report.protocol["softplus_beta"] == 1.0


def test_a_network_without_relus_is_its_own_twin():
    model = tabular("tanh")
    attack = small()
    assert attack.twin_agreement(model, X, Y) == TwinAgreement(None, 1.0, 1.0, 1.0)
    assert same(attack(model, X, Y), small(softplus_beta=None)(model, X, Y), 0, 0)


@pytest.mark.slow
def test_the_same_choice_each_time_and_from_any_row():
    model, attack = tabular(), small(batch_size=2)
    first = attack.twin_agreement(model, X, Y)
    assert first == small(batch_size=2).twin_agreement(model, X, Y)
    whole, rest = list(attack.iterate(model, X, Y)), list(attack.iterate(model, X, Y, first=2))
    assert all(same(a, b, 0, 0) for a, b in zip(whole[1:], rest, strict=True))
    assert same(whole[0], next(small(batch_size=2, softplus_beta=first.beta).iterate(model, X, Y)), 0, 0)


def test_a_settled_attack_takes_its_sharpness_to_other_rows():
    model = tabular()
    other = scaled_tabular(model, 10.0)
    settled = small().settled(model, X)
    assert settled.softplus_beta == small().twin_agreement(model, X).beta
    assert small(softplus_beta=3.0).settled(model, X).softplus_beta == 3.0
    assert small().settled(other, X).softplus_beta == pytest.approx(settled.softplus_beta / 10, rel=0.1)
    assert small().settled(model, X, gradient_model=other).softplus_beta is None


def test_agreement_of_a_given_sharpness():
    model = tabular()
    sharp, smooth = (small(softplus_beta=beta).twin_agreement(model, X, Y) for beta in (1e4, 0.1))
    assert (sharp.beta, sharp.predictions) == (1e4, 1.0)
    assert sharp.scores > 0.999
    assert sharp.maps > 0.99
    assert sharp.warning is None
    assert smooth.maps < sharp.maps
    assert smooth.scores < sharp.scores
    assert small(softplus_beta=None).twin_agreement(model, X, Y) == TwinAgreement(None, 1.0, 1.0, 1.0)


def test_agreement_is_what_it_says():
    model, beta = tabular(), 2.0
    found, twin = small(softplus_beta=beta).twin_agreement(model, X, Y), softplus_twin(model, beta)
    own, other = (network(X).numpy() for network in (model, twin))
    maps = [keras_rar.saliency_map(network, X, Y, m=4).reshape(len(X), -1) for network in (model, twin)]
    cosines = keras_rar.metrics.cosine_similarity(*maps)
    np.testing.assert_allclose(found.predictions, np.mean(own.argmax(1) == other.argmax(1)))
    np.testing.assert_allclose(found.scores, np.corrcoef(own.ravel(), other.ravel())[0, 1], rtol=1e-4)
    np.testing.assert_allclose(found.maps, np.mean(cosines), rtol=1e-4)


def test_agreement_of_a_twin_of_the_users():
    model = tabular()
    found = small().twin_agreement(model, X, Y, gradient_model=tabular("softplus"))
    assert found.beta is None
    assert found.maps < 1
    assert small().twin_agreement(model, X, Y, gradient_model=model).maps == pytest.approx(1)


def test_a_saliency_function_gets_the_twin_too():
    def saliency(model, x, y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            score = tf.gather(model(x), y, axis=1, batch_dims=1)
        return tape.gradient(score, x)

    model, attack = tabular(), small(saliency=saliency)
    beta = attack.twin_agreement(model, X, Y).beta
    assert beta == small().twin_agreement(model, X, Y).beta
    assert same(attack(model, X, Y), small(saliency=saliency, softplus_beta=beta)(model, X, Y), 0, 0)


def test_a_warning_where_the_twin_is_not_the_network():
    assert "β = 1)" in TwinAgreement(1.0, 0.1, 0.0, 0.6).warning
    assert "50 %" in TwinAgreement(None, 0.5, 1.0, 1.0).warning
    assert TwinAgreement(1.0, 1.0, 1.0, float("nan")).warning is not None
    assert TwinAgreement(1.0, 1.0, 1.0, 0.95).warning is None


def test_only_attacks_on_maps_find_a_sharpness():
    with pytest.raises(TypeError, match="`softplus_beta` must be a positive float"):
        PGDAttack(0.1, softplus_beta="auto")
    with pytest.raises(TypeError, match="`softplus_beta` must be"):
        small(softplus_beta="sharp")


def test_noise_follows_no_twin():
    assert RandomAttack(0.1, steps=1, m=1).twin_agreement(tabular(), X, Y) == TwinAgreement(None, 1.0, 1.0, 1.0)
