"""Quadrature rules on [0, 1]: `∫₀¹ f(α) dα ≈ Σₖ wₖ f(αₖ)`.

A rule is data. The paper uses `right`; `midpoint` costs the same and is one order better.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from keras_rar.core import checks


@dataclasses.dataclass(frozen=True)
class QuadratureRule:
    """Nodes αₖ and weights wₖ of a rule on [0, 1].

    `∫₀¹ f(α) dα ≈ Σₖ wₖ f(αₖ)`, with `Σₖ wₖ = 1` so that a constant is integrated exactly.

    Args:
        nodes: Sequence of floats αₖ in [0, 1].
        weights: Sequence of floats wₖ, as many as nodes, summing to 1.

    Raises:
        TypeError: If nodes or weights are not sequences of floats.
        ValueError: If the lengths differ, a node lies outside [0, 1], or the weights do not sum to 1.

    Example:

    >>> rule = QuadratureRule(nodes=[0.0, 0.5, 1.0], weights=[1 / 6, 4 / 6, 1 / 6])  # Simpson
    >>> len(rule)
    3
    """

    nodes: tuple[float, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("nodes", "weights"):
            values = getattr(self, name)
            try:
                object.__setattr__(self, name, tuple(float(value) for value in values))
            except (TypeError, ValueError):
                checks.fail(name, "a sequence of floats", values, TypeError)
        if not self.nodes or not all(0.0 <= alpha <= 1.0 for alpha in self.nodes):
            checks.fail("nodes", "one or more floats in [0, 1]", self.nodes)
        if len(self.weights) != len(self.nodes):
            checks.fail("weights", f"{len(self.nodes)} floats, one per node", self.weights)
        if not math.isclose(sum(self.weights), 1.0, abs_tol=1e-9):
            checks.fail("weights", "floats that sum to 1", self.weights)

    def __len__(self) -> int:
        return len(self.nodes)

    def chunks(self, size: int | None = None) -> Iterator[tuple[tuple[float, ...], tuple[float, ...]]]:
        """Nodes and weights, `size` of them at a time; with `None` all at once."""
        size = len(self) if size is None else checks.positive_int("chunk", size)
        for start in range(0, len(self), size):
            yield self.nodes[start : start + size], self.weights[start : start + size]

    def get_config(self) -> dict[str, list[float]]:
        return {"nodes": list(self.nodes), "weights": list(self.weights)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "QuadratureRule":
        return cls(**config)


def _uniform(nodes: np.ndarray) -> QuadratureRule:
    return QuadratureRule(tuple(nodes), (1.0 / len(nodes),) * len(nodes))


def left(m: int) -> QuadratureRule:
    """Left Riemann sum: `αₖ = k/m, wₖ = 1/m, k = 0 … m−1`. Order 1; `left(1)` is first-order IG.

    Args:
        m: Number of nodes, a positive integer.

    Returns:
        A `QuadratureRule`.

    Raises:
        TypeError: If `m` is not a number.
        ValueError: If `m` is not a positive integer.

    Example:

    >>> left(2).nodes
    (0.0, 0.5)
    """
    m = checks.positive_int("m", m)
    return _uniform(np.arange(m) / m)


def right(m: int) -> QuadratureRule:
    """Right Riemann sum: `αₖ = k/m, wₖ = 1/m, k = 1 … m`. Order 1; the paper's rule.

    Args:
        m: Number of nodes, a positive integer.

    Returns:
        A `QuadratureRule`.

    Raises:
        TypeError: If `m` is not a number.
        ValueError: If `m` is not a positive integer.

    Example:

    >>> right(2).nodes
    (0.5, 1.0)
    """
    m = checks.positive_int("m", m)
    return _uniform(np.arange(1, m + 1) / m)


def midpoint(m: int) -> QuadratureRule:
    """Midpoint rule: `αₖ = (k + ½)/m, wₖ = 1/m, k = 0 … m−1`. Order 2.

    Args:
        m: Number of nodes, a positive integer.

    Returns:
        A `QuadratureRule`.

    Raises:
        TypeError: If `m` is not a number.
        ValueError: If `m` is not a positive integer.

    Example:

    >>> midpoint(2).nodes
    (0.25, 0.75)
    """
    m = checks.positive_int("m", m)
    return _uniform((np.arange(m) + 0.5) / m)


def trapezoid(m: int) -> QuadratureRule:
    """Trapezoid rule: `αₖ = k/m, k = 0 … m; wₖ = 1/m, and 1/2m at both ends`. Order 2.

    Args:
        m: Number of panels, a positive integer; the rule has `m + 1` nodes.

    Returns:
        A `QuadratureRule`.

    Raises:
        TypeError: If `m` is not a number.
        ValueError: If `m` is not a positive integer.

    Example:

    >>> trapezoid(1).nodes
    (0.0, 1.0)
    """
    m = checks.positive_int("m", m)
    weights = np.full(m + 1, 1.0 / m)
    weights[[0, -1]] /= 2
    return QuadratureRule(tuple(np.arange(m + 1) / m), tuple(weights))


def gauss_legendre(m: int) -> QuadratureRule:
    """Gauss-Legendre rule, exact for polynomials of degree `2m − 1`.

    It is the best rule for a smooth network. For a piecewise linear one (ReLU) it is no better than `midpoint`.

    Args:
        m: Number of nodes, a positive integer.

    Returns:
        A `QuadratureRule`.

    Raises:
        TypeError: If `m` is not a number.
        ValueError: If `m` is not a positive integer.

    Example:

    >>> gauss_legendre(1).nodes
    (0.5,)
    """
    nodes, weights = np.polynomial.legendre.leggauss(checks.positive_int("m", m))
    return QuadratureRule(tuple((nodes + 1) / 2), tuple(weights / 2))


RULES: dict[str, Callable[[int], QuadratureRule]] = {
    "left": left,
    "right": right,
    "midpoint": midpoint,
    "trapezoid": trapezoid,
    "gauss_legendre": gauss_legendre,
}


def get(name: str, m: int) -> QuadratureRule:
    """A rule by its name.

    Args:
        name: A name in `RULES`.
        m: Number of nodes; for `"trapezoid"`, of panels.

    Returns:
        A `QuadratureRule`.

    Raises:
        ValueError: If `name` is not in `RULES`, or `m` is not positive.

    Example:

    >>> get("right", 4).nodes
    (0.25, 0.5, 0.75, 1.0)
    """
    return RULES[checks.one_of("rule", name, RULES)](m)
