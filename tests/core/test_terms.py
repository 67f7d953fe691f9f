"""Terms: lazy, computed once, one training pass, reported by name."""

import concurrent.futures
import dataclasses
import threading

import numpy as np
import pytest
import tensorflow as tf

from keras_rar.core import quadrature
from keras_rar.core.held import Columns
from keras_rar.core.integration import integrated_gradients
from keras_rar.core.network_functions import Network
from keras_rar.core.terms import Terms

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
    "clean_gradient",
    "perturbed_gradient",
    "clean_logit_gradient",
    "perturbed_logit_gradient",
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
    rows = 3 * NODES if name in ("attributions", "clean_map", "perturbed_map") else 3
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
    assert len(fake.passes) == 9  # logits at x and x′, three maps, four gradients
    assert not any(training for _, training in fake.passes)


def test_gradients_are_those_of_the_loss_and_of_the_logit_at_both_inputs(fake):
    terms, loss = make_terms(fake), FakeNetwork().loss
    for z, of_loss, of_logit in (
        (X, terms.clean_gradient, terms.clean_logit_gradient),
        (X_PRIME, terms.perturbed_gradient, terms.perturbed_logit_gradient),
    ):
        steps = 1e-6 * np.eye(4)[:, None]

        def slopes(f, z=z, steps=steps):
            return np.transpose([(f(z + step) - f(z - step)) / 2e-6 for step in steps])

        np.testing.assert_allclose(of_loss, slopes(lambda z: loss(Y, tf.tanh(z @ WEIGHTS))), atol=1e-8)
        np.testing.assert_allclose(of_logit, slopes(label_logit), atol=1e-8)
        np.testing.assert_array_equal(terms.gradient_at(z), of_loss)
        np.testing.assert_array_equal(terms.gradient_at(z, FakeNetwork().label_logit), of_logit)
    assert np.abs(terms.clean_gradient - terms.perturbed_gradient).max() > 1e-3
    assert (terms.gradients, terms.integrals, terms.integrated) == (8, 0, True)


def test_a_score_that_is_not_known_is_refused(fake):
    with pytest.raises(ValueError, match=r"`score` must be one of \['loss', 'logit'\]\. Received: score='margin'"):
        make_terms(fake).gradient_at(X, "margin")


def test_the_gradient_scale_changes_no_gradient(fake):
    scaled = dataclasses.replace(fake.network, gradient_scale=8.0)
    terms = Terms(scaled, X, X_PRIME, Y, rule=RULE)
    np.testing.assert_array_equal(terms.clean_gradient, make_terms(fake).clean_gradient)


@pytest.mark.parametrize("by_rows", [False, True])
def test_gradients_are_zero_in_what_is_held(by_rows):
    """Two columns of which the second says which rows count; the second row does not."""
    x = tf.constant([[[1.0, 2.0, 1.0, 5.0], [3.0, 4.0, 0.0, 6.0]]])
    columns = Columns(2, masked=True)
    total = lambda y, z: tf.reduce_sum(z**2, axis=[1, 2])  # noqa: E731
    network = Network(lambda z, training: z, total, total, columns=columns, by_rows=by_rows)
    terms = Terms(network, x, x, tf.constant([0]), rule=RULE)
    np.testing.assert_array_equal(terms.clean_gradient, [[[2, 4, 0, 0], [0, 0, 0, 0]]])
    assert terms.by_rows == by_rows


@pytest.mark.parametrize("chunk", [1, 2, NODES])
def test_maps_in_chunks_go_one_after_the_other(fake, chunk):
    """With the values and derivatives of the maps, and at once no more points than one chunk of one map has."""
    weights = tf.Variable(WEIGHTS)

    def logits(z, training):
        fake.passes.append((len(z), training))
        return tf.tanh(z @ weights)

    network = dataclasses.replace(fake.network, logits=logits)

    def derivatives(**options):
        with tf.GradientTape() as tape:
            tape.watch([X, X_PRIME])
            terms = Terms(network, X, X_PRIME, Y, rule=RULE, baseline=0.2, **options)
            maps = terms.clean_map, terms.perturbed_map
            total = tf.reduce_sum(maps[0] ** 2 * maps[1])
        return [*maps, *tape.gradient(total, [X, X_PRIME, weights])]

    expected = derivatives()
    fake.passes.clear()
    found = derivatives(maps_together=True, chunk=chunk)
    assert max(n for n, _ in fake.passes) == (3 * chunk if chunk < NODES else 6 * NODES)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
        assert np.abs(b).max() > 1e-3


@pytest.mark.parametrize("baseline", [0.0, [0.3, None, 0.1, 0.2]])
def test_maps_computed_together_are_the_maps(fake, baseline):
    apart = make_terms(fake, baseline=baseline)
    expected = apart.clean_map, apart.perturbed_map
    assert [n for n, _ in fake.passes] == [3 * NODES, 3 * NODES]
    fake.passes.clear()
    terms = make_terms(fake, baseline=baseline, maps_together=True)
    np.testing.assert_allclose(terms.perturbed_map, expected[1], rtol=1e-12)
    np.testing.assert_allclose(terms.clean_map, expected[0], rtol=1e-12)
    assert [n for n, _ in fake.passes] == [6 * NODES]
    assert terms.integrals == 2
    assert terms.read_of_x == {"clean_map"}

    moved = terms.at(X_PRIME + 0.3)
    np.testing.assert_array_equal(moved.clean_map, terms.clean_map)
    np.testing.assert_allclose(moved.perturbed_map, make_terms(fake, baseline=baseline).map_of(X_PRIME + 0.3))
    assert fake.passes[1:] == [(3 * NODES, False)] * 2  # of x nothing was computed again


@pytest.mark.parametrize("first", ["clean_loss", "perturbed_loss", "loss_change"])
def test_the_change_of_the_loss_is_of_one_network(first):
    """In inference mode, whichever logits are those of the classification pass; what is known is not computed again."""
    seen = []

    def logits(z, training):
        seen.append(training)
        return z @ WEIGHTS + 10.0 * training * tf.constant([1.0, -1.0], tf.float64)

    network = Network(logits, FakeNetwork().loss, FakeNetwork().label_logit)
    terms = Terms(network, X, X_PRIME, Y, rule=RULE, training=True)
    getattr(terms, first)
    expected = [FakeNetwork().loss(Y, z @ WEIGHTS) for z in (X, X_PRIME)]
    np.testing.assert_allclose(terms.loss_change, expected[1] - expected[0])
    assert seen == {"loss_change": [False, False]}.get(first, [True, False, False])
    assert terms.depends_on_x_prime


def test_the_change_of_the_loss_costs_nothing_where_both_losses_are_known(fake):
    terms = make_terms(fake)
    change = terms.perturbed_loss - terms.clean_loss
    np.testing.assert_array_equal(terms.loss_change, change)
    assert len(fake.passes) == 2


def test_reading_x_prime_itself_is_depending_on_it(fake):
    terms = make_terms(fake)
    assert not terms.depends_on_x_prime
    np.testing.assert_array_equal(terms.x_prime, X_PRIME)
    assert terms.depends_on_x_prime


@pytest.mark.parametrize(("name", "after"), [("clean_gradient", True), ("loss_change", True), (None, False)])
def test_the_classification_pass_knows_what_was_before_it(fake, name, after):
    terms = make_terms(fake, training=True)
    _ = name and getattr(terms, name)
    _ = terms.clean_loss
    assert terms.first_pass.after_others == after


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
