"""Terms: lazy, computed once, one training pass, reported by name."""

import concurrent.futures
import threading

import numpy as np
import pytest
import tensorflow as tf

from keras_rar.core import quadrature
from keras_rar.core.integration import integrated_gradients
from keras_rar.core.terms import Network, Terms

X = tf.constant(np.random.default_rng(0).uniform(size=(3, 4)))
X_PRIME = X + 0.1
Y = tf.constant([0, 1, 1])
WEIGHTS = tf.constant(np.random.default_rng(1).normal(size=(4, 2)))
NODES = 5
RULE = quadrature.midpoint(NODES)
TERMS = [
    "clean_logits",
    "perturbed_logits",
    "clean_loss",
    "perturbed_loss",
    "attributions",
    "clean_map",
    "perturbed_map",
]


class FakeNetwork:
    """A small network that writes down every pass: its rows, and whether in training mode."""

    def __init__(self):
        self.passes, self.labels = [], []
        self.network = Network(self.logits, self.loss, self.label_logit)

    def logits(self, z, training):
        self.passes.append((len(z), training))
        return tf.tanh(z @ WEIGHTS)

    def loss(self, y, logits):
        self.labels.append(y.numpy())
        return tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)

    def label_logit(self, y, logits):
        self.labels.append(y.numpy())
        return tf.gather(logits, y, batch_dims=1)


@pytest.fixture
def fake():
    return FakeNetwork()


def make_terms(fake, **options):
    return Terms(fake.network, X, X_PRIME, Y, **{"rule": RULE, **options})


def label_logit(z):
    return FakeNetwork().label_logit(tf.tile(Y, [len(z) // 3]), tf.tanh(z @ WEIGHTS))


def test_nothing_is_computed_until_asked(fake):
    terms = make_terms(fake, training=True)
    assert (fake.passes, fake.labels, terms.reported) == ([], [], {})
    assert not terms.depends_on_x_prime


@pytest.mark.parametrize("name", TERMS)
def test_each_term_is_one_pass_however_often_it_is_read(fake, name):
    terms = make_terms(fake)
    first = getattr(terms, name)
    assert getattr(terms, name) is first
    rows = 3 if "lo" in name else 3 * NODES  # logits and losses, or maps
    assert fake.passes == [(rows, False)]


def test_a_loss_and_its_logits_share_a_pass(fake):
    terms = make_terms(fake)
    _ = terms.clean_loss, terms.clean_logits, terms.perturbed_logits, terms.perturbed_loss
    assert len(fake.passes) == 2


def test_labels_are_repeated_for_the_folded_nodes(fake):
    _ = make_terms(fake).attributions
    np.testing.assert_array_equal(fake.labels, [np.tile(Y, NODES)])


def test_values(fake):
    terms = make_terms(fake, baseline=0.2)
    logits = np.tanh(X @ WEIGHTS), np.tanh(X_PRIME @ WEIGHTS)
    losses = [np.log(np.exp(z).sum(axis=1)) - z[np.arange(3), Y] for z in logits]
    np.testing.assert_allclose(terms.clean_logits, logits[0])
    np.testing.assert_allclose(terms.perturbed_logits, logits[1])
    np.testing.assert_allclose(terms.clean_loss, losses[0])
    np.testing.assert_allclose(terms.perturbed_loss, losses[1])
    change = tf.reduce_sum(terms.attributions, axis=1)
    np.testing.assert_allclose(change, losses[1] - losses[0], atol=1e-4)  # completeness, midpoint(5)
    start = tf.fill(X.shape, tf.constant(0.2, tf.float64))
    np.testing.assert_allclose(terms.clean_map, integrated_gradients(label_logit, start, X, RULE))
    np.testing.assert_allclose(terms.perturbed_map, integrated_gradients(label_logit, start, X_PRIME, RULE))


def test_the_baseline_may_be_an_array_of_one_input(fake):
    baseline = [0.1, 0.2, 0.3, 0.4]
    start = tf.constant([baseline] * 3, tf.float64)
    np.testing.assert_allclose(
        make_terms(fake, baseline=baseline).clean_map, integrated_gradients(label_logit, start, X, RULE)
    )


@pytest.mark.parametrize("first", ["clean", "perturbed"])
@pytest.mark.parametrize("before", ["attributions", "clean_map", None])
def test_only_the_first_classification_is_in_training_mode(fake, first, before):
    terms = make_terms(fake, training=True)
    second = {"clean": "perturbed", "perturbed": "clean"}[first]
    order = [before] * bool(before) + [f"{first}_loss", f"{second}_loss", "attributions", "perturbed_map"]
    for name in order:
        getattr(terms, name)
    terms.ensure_classified()
    modes = [training for _, training in fake.passes]
    assert modes.count(True) == 1
    assert modes.index(True) == (1 if before else 0)


def test_inference_has_no_training_pass(fake):
    terms = make_terms(fake)
    for name in TERMS:
        getattr(terms, name)
    terms.ensure_classified()
    assert len(fake.passes) == 5  # logits at x and x′, three maps
    assert not any(training for _, training in fake.passes)


def test_ensure_classified_runs_the_one_pass_that_is_missing(fake):
    terms = make_terms(fake, training=True)
    _ = terms.attributions
    terms.ensure_classified()
    terms.ensure_classified()
    assert fake.passes == [(3 * NODES, False), (3, True)]


@pytest.mark.parametrize("name", TERMS)
def test_depends_on_x_prime(fake, name):
    terms = make_terms(fake)
    getattr(terms, name)
    assert terms.depends_on_x_prime == ("perturbed" in name or name == "attributions")


def test_losses_report_themselves_and_an_objective_reports_the_rest(fake):
    terms = make_terms(fake)
    _ = terms.attributions, terms.clean_map, terms.clean_logits
    assert terms.reported == {}
    clean, perturbed = terms.clean_loss, terms.perturbed_loss
    mine = tf.ones([3])
    assert terms.report("mine", mine) is mine
    assert list(terms.reported) == ["clean_loss", "perturbed_loss", "mine"]
    assert terms.reported["clean_loss"] is clean
    assert terms.reported["perturbed_loss"] is perturbed


def test_terms_of_two_replicas_do_not_wait_for_each_other():
    """The first pauses within its forward pass until the second has come as far, as a sum over replicas does."""
    together = threading.Barrier(2, timeout=20)

    def logits(z, training):
        together.wait()
        return z

    def read():
        network = Network(logits, lambda y, logits: logits[:, 0], lambda y, logits: logits[:, 0])
        x = tf.ones([1, 2])
        return Terms(network, x, x, tf.constant([0]), rule=RULE, baseline=0.0).perturbed_loss

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first, second = [pool.submit(read) for _ in range(2)]
        assert float(first.result()[0]) == float(second.result()[0]) == 1
