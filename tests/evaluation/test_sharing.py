"""Replicas that share an evaluation find what one finds, in the same order; two processes are in `test_cluster`."""

import types

import numpy as np
import pytest
from conftest import batch, dense_model, some_slow

from keras_rar import attacks
from keras_rar.evaluation import sharing
from keras_rar.evaluation.sharing import Sharing

X, Y = batch(7)
OPTIONS = {"softplus_beta": None, "m": 2, "steps": 2, "batch_size": 2}
ATTACKS = {
    "topk": attacks.TopKAttack(1, 0.1, restarts=1, **OPTIONS),
    "pgd": attacks.PGDAttack(0.1, steps=2, batch_size=2),
    "ensemble": attacks.EnsembleAttack(0.1, k=1, **OPTIONS),
    "predictions": attacks.PredictionEnsembleAttack(0.1, steps=2, queries=2, batch_size=2),
}


@pytest.fixture(scope="module")
def model():
    return dense_model()


def shared(model, replicas):
    """A `Sharing` of several replicas on one device."""
    extended = types.SimpleNamespace(worker_devices=["CPU:0"] * replicas)
    model = types.SimpleNamespace(
        distribute_strategy=types.SimpleNamespace(num_replicas_in_sync=replicas, extended=extended)
    )
    return Sharing(model)


def assert_same(actual, expected):
    assert [type(result) for result in actual] == [type(result) for result in expected]
    for one, other in zip(actual, expected, strict=True):
        found, known = (sharing._flat("", vars(result)) for result in (one, other))
        assert found.keys() == known.keys()
        for name, value in known.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)
            assert type(found[name]) is type(value), name


@pytest.mark.parametrize(("replicas", "first"), some_slow([(2, 0), (3, 0), (4, 2), (5, 0)], [(3, 0), (4, 2)]))
def test_batches_come_in_their_order_whoever_attacks_them(model, replicas, first):
    attack = ATTACKS["pgd"]
    expected = list(attack.iterate(model, X, Y, first=first))
    assert len(expected) == 4 - first // 2
    assert_same(list(shared(model, replicas).iterate(attack, model, X, Y, first=first)), expected)


def test_each_replica_attacks_its_own_batches(model):
    """Negative control: a share alone is not the whole."""
    parts = [list(ATTACKS["pgd"].share(number, 3).iterate(model, X, Y)) for number in range(3)]
    assert [len(part) for part in parts] == [2, 1, 1]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "ensemble" else name for name in ATTACKS]
)
def test_what_is_sent_to_other_processes_is_read_as_it_was(name, model):
    results = list(shared(model, 2).iterate(ATTACKS[name], model, X[:3], Y[:3]))
    assert_same([sharing._read(sharing._written(result)) for result in results], results)
    assert sharing._read(sharing._written(None)) is None
