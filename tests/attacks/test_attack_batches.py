"""Batches, chunks and compilation change time and memory alone."""

import numpy as np
import pytest
import tensorflow as tf
from attacking import KINDS, X, Y, compiled, eagerly, images_right, mean, same, small, tabular, trained
from conftest import batch, conv_model

from keras_rar import attacks
from keras_rar.attacks import TopKAttack
from keras_rar.core.saliency_methods import Gradient, SmoothGrad
from keras_rar.explaining.saliency_maps import saliency_map
from keras_rar.paper import architectures


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


@pytest.mark.parametrize("batch_size", [4, 5, 100])
def test_the_batch_size_changes_memory_alone(batch_size):
    model = tabular()
    reference = small(batch_size=6)(model, X, Y)
    result = small(batch_size=batch_size)(model, X, Y)
    assert same(result, reference)
    for name in ("iteration", "correct", "y", "restart"):
        np.testing.assert_array_equal(getattr(result, name), getattr(reference, name))


@pytest.mark.slow
def test_batches_can_be_had_one_by_one_and_gone_on_with():
    model, attack = tabular(), small(batch_size=4, restarts=1)
    whole = attack(model, X, Y)
    parts = list(attack.iterate(model, X, Y))
    assert [len(part.x) for part in parts] == [4, 2]
    np.testing.assert_array_equal(attacks.AttackResult.concatenate(parts).x_adv, whole.x_adv)
    (rest,) = attack.iterate(model, X, Y, first=4)
    np.testing.assert_array_equal(rest.x_adv, whole.x_adv[4:])
    np.testing.assert_array_equal(rest.scores["kendall_tau"], whole.scores["kendall_tau"][4:])


@pytest.mark.parametrize("saliency", ["ig", SmoothGrad(5, chunk=3)])
def test_chunks_change_memory_alone(saliency):
    model = tabular()
    chunked = small(saliency=saliency, m=5, chunk=3)
    whole = small(saliency=SmoothGrad(5, chunk=None) if saliency != "ig" else "ig", m=5, chunk=None)
    assert same(chunked(model, X), whole(model, X), atol=1e-4)


class Counted(Gradient):
    """`x ⊙ ∇f(x)`, which counts how often Python comes by."""

    calls = 0

    def __call__(self, f, x):
        Counted.calls += 1
        return x * super().__call__(f, x)


@pytest.mark.slow
@compiled
def test_an_attack_is_traced_once_and_follows_the_weights():
    model, attack = tabular("tanh"), small(saliency=Counted(), batch_size=4)
    first = attack(model, X)
    calls = Counted.calls
    assert calls > 0
    assert same(attack(model, X), first)
    attack(model, X[::-1], Y)
    model.set_weights([w[::-1] for w in model.get_weights()])
    after = attack(model, X)
    assert Counted.calls == calls
    assert same(after, small(saliency="gradient_x_input")(model, X))
    assert not same(after, first)
    attack(tabular(), X)  # negative control: another model is another trace
    assert Counted.calls > calls


# Compilation


@pytest.mark.slow
@compiled
def test_a_compiled_attack_is_the_attack():
    model, options = tabular(), {"saliency": SmoothGrad(5, chunk=3), "norm": "l2", "restarts": 1}
    result = small(**options)(model, X, Y)
    tf.config.run_functions_eagerly(True)
    assert same(result, small(**options)(model, X, Y))


@pytest.mark.slow
@compiled
def test_xla_gives_the_same_numbers():
    model = tabular()
    results = [small(restarts=1, steps=2, m=2, jit_compile=jit)(model, X) for jit in (True, False)]
    assert same(*results)
    np.testing.assert_array_equal(results[0].iteration, results[1].iteration)
    assert mean(results[0]) < 0.95


@compiled
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["topk", "mass center", "target", "l2", "smoothgrad", "chunked"])
def test_xla_gives_the_same_numbers_for_every_attack(network, data, kind):
    x, y = data[0][:8], data[1][:8]
    options = {"smoothgrad": {"saliency": "smoothgrad"}, "chunked": {"chunk": 3}}.get(kind, {})
    make = KINDS.get(kind, KINDS["topk"])
    results = [make(steps=5, jit_compile=jit, **options)(network, x, y) for jit in (True, False)]
    assert same(*results, atol=1e-4)


@compiled
@pytest.mark.slow
def test_max_pooling_under_xla():
    """XLA's second derivative of max-pooling is computed in a reduced precision, of about 1 % on a CPU.

    Maps need the first alone, and are exact. Where the direction of a pixel is near zero its signed step may go the
    other way: scores agree to a few hundredths, not to rounding.
    """
    x, y = batch(8, (8, 8, 1))
    model = conv_model(8)
    results = [TopKAttack(8, 0.1, steps=5, m=4, jit_compile=jit)(model, x, y) for jit in (True, False)]
    np.testing.assert_allclose(results[0].map_before, results[1].map_before, rtol=1e-4, atol=1e-5)
    for result in results:
        np.testing.assert_allclose(result.map_after, saliency_map(model, result.x_adv, y, m=4), rtol=1e-3, atol=1e-4)
    assert mean(results[0]) == pytest.approx(mean(results[1]), abs=0.05)
    assert mean(results[0]) < 0.9


@pytest.mark.slow
def test_chunks_of_nodes_can_be_gone_through_again():
    """TensorFlow's optimizer made a temporary variable of sums in the nested loop, found again at the next call."""
    attack = TopKAttack(98, 0.1, steps=1, m=30, chunk=15, batch_size=16)
    x, model = np.random.default_rng(0).uniform(size=(16, 28, 28, 1)), architectures.cnn()
    first, second = attack(model, x), attack(model, x)
    np.testing.assert_allclose(second.x_adv, first.x_adv, atol=1e-6)
