"""An attack in segments is the attack, to the bit, and says how far it has come."""

import numpy as np
import pytest
from conftest import batch, conv_model, dense_model

from keras_rar.attacks import AttackResult, MassCenterAttack, PGDAttack, PGDResult, RandomAttack, TopKAttack, watch
from keras_rar.attacks.watch import Watch

X, Y = batch(7, 5)
OPTIONS = {"epsilon": 0.2, "steps": 9, "batch_size": 4, "restarts": 1}


def model():
    return dense_model(features=5, hidden=16, activation="relu")


def test_without_anyone_to_tell_a_run_is_one_segment():
    assert list(Watch(20, 1, None).segments()) == [(0, 20)]


def test_segments_go_on_from_each_other_to_the_end(monkeypatch):
    """They double while they are fast, and shrink where they are slow; the length found is kept."""
    now = [0.0]
    monkeypatch.setattr(watch.time, "perf_counter", lambda: now[0])
    told = []
    watched = Watch(20, 2, told.append)
    watched.begin(slice(10, 14))
    found, seconds = [], 0.1
    for _ in range(2):
        for first, last in watched.segments():
            found.append((first, last))
            now[0] += seconds * (last - first)
        seconds = 3.0
    assert found[:4] == [(0, 1), (1, 3), (3, 7), (7, 15)]
    assert found[4] == (15, 20)
    assert [last - first for first, last in found[5:]] == [8, 4, 2, 1, 1, 1, 1, 1, 1]
    assert told[0] == pytest.approx(10 + 4 * 1 / 40)
    assert told[4] == pytest.approx(12)
    assert told[-1] == pytest.approx(14)
    assert told == sorted(told)


@pytest.mark.slow
@pytest.mark.parametrize(
    "attack",
    [
        lambda **options: TopKAttack(2, m=3, **options),
        lambda **options: RandomAttack(m=3, **options),
        lambda **options: TopKAttack(2, m=3, norm="l2", saliency="smoothgrad", **options),
    ],
    ids=["topk", "random", "smoothgrad"],
)
@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_a_watched_attack_is_the_attack(attack, seconds, monkeypatch):
    """With segments as short as can be, and with those that grow."""
    monkeypatch.setattr(watch, "SECONDS", seconds)
    network, made, told = model(), attack(**OPTIONS), []
    whole = made(network, X, Y)
    parts = AttackResult.concatenate(list(made.iterate(network, X, Y, progress=told.append)))
    for name in ("x_adv", "map_before", "map_after", "iteration", "restart"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name), err_msg=name)
    assert np.any(whole.iteration > 0)
    assert told == sorted(told)
    assert told[-1] == 7
    assert len(told) == 2 * 2 * 9 if seconds == 0 else len(told) < 2 * 2 * 9  # batches, starts, steps


def test_a_watched_attack_on_predictions_is_the_attack(monkeypatch):
    monkeypatch.setattr(watch, "SECONDS", 0.0)
    network, made, told = model(), PGDAttack(**OPTIONS), []
    whole = made(network, X, Y)
    parts = PGDResult.concatenate(list(made.iterate(network, X, Y, progress=told.append)))
    np.testing.assert_array_equal(whole.x_adv, parts.x_adv)
    assert told[-1] == 7
    assert len(told) == 2 * 2 * 2 * 9  # batches, starts, objectives, steps
    assert np.any(whole.x_adv != X)


def test_going_on_tells_the_rows_done_before():
    told = []
    list(PGDAttack(**OPTIONS).iterate(model(), X, Y, first=4, progress=told.append))
    assert 4 < told[0] < told[-1] == 7


@pytest.mark.slow
def test_segments_under_xla(monkeypatch):
    monkeypatch.setattr(watch, "SECONDS", 0.0)
    network = model()
    made = TopKAttack(2, m=2, jit_compile=True, **{**OPTIONS, "steps": 3})
    whole = made(network, X, Y)
    parts = AttackResult.concatenate(list(made.iterate(network, X, Y, progress=lambda done: None)))
    np.testing.assert_array_equal(whole.x_adv, parts.x_adv)


@pytest.mark.slow
def test_the_map_of_the_smooth_twin_is_handed_to_every_segment(monkeypatch):
    """`MassCenterAttack` ascends from it."""
    monkeypatch.setattr(watch, "SECONDS", 0.0)
    network, x = conv_model(), batch(3, (6, 6, 1))[0]
    made = MassCenterAttack(0.2, steps=4, m=2)
    whole = made(network, x)
    parts = AttackResult.concatenate(list(made.iterate(network, x, progress=lambda done: None)))
    np.testing.assert_array_equal(whole.x_adv, parts.x_adv)
    assert np.any(whole.iteration > 0)
