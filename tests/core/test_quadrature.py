"""Quadrature rules: weights, exactness degree, empirical order, validation."""

import dataclasses
import json
import math

import numpy as np
import pytest
from scipy import integrate

from keras_rar.core import quadrature
from keras_rar.core.quadrature import RULES, QuadratureRule

ORDER = {"left": 1, "right": 1, "midpoint": 2, "trapezoid": 2, "gauss_legendre": math.inf}
every_rule = pytest.mark.parametrize("name", RULES)


def integral(rule, f):
    return np.dot(rule.weights, f(np.asarray(rule.nodes)))


def degree(name, m):
    return 2 * m - 1 if name == "gauss_legendre" else ORDER[name] - 1


def test_the_table_of_orders_is_complete():
    assert set(ORDER) == set(RULES)


@every_rule
@pytest.mark.parametrize("m", [1, 2, 3, 10, 50])
def test_weights_sum_to_one_and_nodes_lie_in_the_unit_interval(name, m):
    rule = quadrature.get(name, m)
    assert sum(rule.weights) == pytest.approx(1, abs=1e-12)
    assert min(rule.nodes) >= 0
    assert max(rule.nodes) <= 1
    assert list(rule.nodes) == sorted(set(rule.nodes))
    assert len(rule) == (m + 1 if name == "trapezoid" else m)


@pytest.mark.parametrize(
    ("name", "nodes", "weights"),
    [
        ("left", [0, 0.25, 0.5, 0.75], [0.25] * 4),
        ("right", [0.25, 0.5, 0.75, 1], [0.25] * 4),
        ("midpoint", [0.125, 0.375, 0.625, 0.875], [0.25] * 4),
        ("trapezoid", [0, 0.25, 0.5, 0.75, 1], [0.125, 0.25, 0.25, 0.25, 0.125]),
    ],
)
def test_nodes_and_weights_of_four(name, nodes, weights):
    assert quadrature.get(name, 4) == QuadratureRule(nodes, weights)


def test_trapezoid_is_scipys():
    rule = quadrature.trapezoid(7)
    samples = np.exp(rule.nodes)
    assert np.dot(rule.weights, samples) == pytest.approx(integrate.trapezoid(samples, rule.nodes), rel=1e-13)


def test_gauss_legendre_is_scipys():
    assert integral(quadrature.gauss_legendre(5), np.sin) == pytest.approx(
        integrate.fixed_quad(np.sin, 0, 1, n=5)[0], rel=1e-13
    )


@every_rule
@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_exactness_degree(name, m):
    rule = quadrature.get(name, m)
    exact = degree(name, m)
    for p in range(exact + 1):
        assert integral(rule, lambda a, p=p: a**p) == pytest.approx(1 / (p + 1), abs=1e-14)
    # Negative control: one degree more is not exact (for gauss_legendre(4) the error is 2e-5).
    assert abs(integral(rule, lambda a: a ** (exact + 1)) - 1 / (exact + 2)) > 1e-5


@pytest.mark.parametrize("name", ["left", "right", "midpoint", "trapezoid"])
def test_empirical_order(name):
    """The slope of log error against log m on a smooth function that is not periodic."""
    m = np.array([8, 16, 32, 64, 128])
    errors = [abs(integral(quadrature.get(name, k), np.exp) - (np.e - 1)) for k in m]
    slope = np.polyfit(np.log(m), np.log(errors), 1)[0]
    # The next term of the error's expansion bends the line by less than 0.01.
    assert slope == pytest.approx(-ORDER[name], abs=0.02)


def test_gauss_legendre_converges_faster_than_any_power():
    errors = np.array([abs(integral(quadrature.gauss_legendre(m), np.exp) - (np.e - 1)) for m in range(1, 6)])
    assert np.all(errors[1:] < errors[:-1] / 100)  # geometric: every node adds at least two digits


@every_rule
@pytest.mark.parametrize("size", [None, 1, 2, 3, 100])
def test_chunks_are_the_rule_in_order(name, size):
    rule = quadrature.get(name, 5)
    chunks = list(rule.chunks(size))
    assert sum((nodes for nodes, _ in chunks), ()) == rule.nodes
    assert sum((weights for _, weights in chunks), ()) == rule.weights
    assert all(0 < len(nodes) == len(weights) <= (size or len(rule)) for nodes, weights in chunks)
    assert len(chunks) == math.ceil(len(rule) / (size or len(rule)))


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-1, ValueError), (1.5, ValueError), ("2", TypeError)])
def test_chunk_size_is_validated(size, error):
    with pytest.raises(error, match=r"`chunk` must be a positive integer. Received: chunk="):
        list(quadrature.right(4).chunks(size))


@every_rule
@pytest.mark.parametrize(
    ("m", "error"),
    [
        (0, ValueError),
        (-3, ValueError),
        (2.0, ValueError),
        (2.5, ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        ("3", TypeError),
        (True, TypeError),
        (None, TypeError),
        ([3], TypeError),
    ],
)
def test_number_of_nodes_is_validated(name, m, error):
    with pytest.raises(error, match=r"`m` must be a positive integer. Received: m="):
        quadrature.get(name, m)


def test_number_of_nodes_may_be_a_numpy_integer():
    assert quadrature.right(np.int64(3)) == quadrature.right(3)


@pytest.mark.parametrize("name", ["simpson", "Right", "", None, 3])
def test_unknown_rule_lists_the_known(name):
    with pytest.raises(ValueError, match=r"`rule` must be one of .*left.*right.*midpoint.*trapezoid.*gauss_legendre"):
        quadrature.get(name, 3)


@pytest.mark.parametrize(
    ("nodes", "weights", "named"),
    [
        ([], [], "nodes"),
        ([-0.1, 0.5], [0.5, 0.5], "nodes"),
        ([0.5, 1.1], [0.5, 0.5], "nodes"),
        ([math.nan], [1], "nodes"),
        ([math.inf], [1], "nodes"),
        ([0.5], [0.5, 0.5], "weights"),
        ([0.25, 0.75], [1], "weights"),
        ([0.5], [0.98], "weights"),  # a trapezoid rule without its last panel: a constant integrates to 0.98
        ([0.5], [math.nan], "weights"),
        ([0, 1], [math.inf, -math.inf], "weights"),
    ],
)
def test_rule_checks_itself(nodes, weights, named):
    with pytest.raises(ValueError, match=f"`{named}` must be .*Received: {named}="):
        QuadratureRule(nodes, weights)


@pytest.mark.parametrize("values", [0.5, None, ["a"], [None], [[0.5]]])
@pytest.mark.parametrize("named", ["nodes", "weights"])
def test_rule_refuses_what_is_not_a_sequence_of_floats(values, named):
    with pytest.raises((TypeError, ValueError), match=f"`{named}` must be .*Received: {named}="):
        QuadratureRule(**{"nodes": [0.5], "weights": [1.0], named: values})


def test_rule_is_plain_immutable_data():
    rule = QuadratureRule(np.array([0.0, 1.0]), [1 / 2, 1 / 2])
    assert rule == QuadratureRule((0.0, 1.0), (0.5, 0.5))
    assert {type(value) for value in rule.nodes + rule.weights} == {float}
    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.nodes = (0.5,)
    assert QuadratureRule.from_config(json.loads(json.dumps(rule.get_config()))) == rule


def test_a_rule_of_ones_own_is_used_as_given():
    simpson = QuadratureRule([0, 0.5, 1], [1 / 6, 4 / 6, 1 / 6])
    assert integral(simpson, lambda a: a**3) == pytest.approx(1 / 4)
