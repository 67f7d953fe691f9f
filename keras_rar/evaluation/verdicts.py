"""What a paired difference says, in words."""

import math

FEWEST = 6
"""Paired differences that a claim needs: six of one sign have p = 2 · 2⁻⁶ = 0.03 by the sign test, five have 0.06."""


def verdict(row: dict[str, float], idle: str = "") -> str:
    """What a paired difference says, in words; two models whose interval holds 0 are not ranked.

    Args:
        row: `mean`, `low`, `high` and `n` of the difference.
        idle: Why it says nothing whatever it is. Defaults to no reason.

    Example:

    >>> verdict({"mean": 0.1, "low": -0.05, "high": 0.25, "n": 40})
    'no difference beyond the interval'
    """
    if idle:
        return idle
    if not row["n"]:
        return "not measured"
    if math.isnan(row["mean"]):
        return "undefined"
    if row["n"] < FEWEST:
        return "too few to tell"
    if row["low"] <= 0 <= row["high"]:
        return "no difference beyond the interval"
    return "higher" if row["mean"] > 0 else "lower"
