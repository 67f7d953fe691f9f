"""Argument checks: what passes, what does not, and the one shape of the message."""

import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from keras_rar.core import checks

NOT_NUMBERS = ["1", None, True, False, [1.0], 1j, np.array([1.0]), np.bool_(True)]
NOT_FINITE = [math.nan, math.inf, -math.inf, np.float32("nan")]


def refused(check, value, error, must_be):
    with pytest.raises(error) as raised:
        check("argument", value)
    assert str(raised.value) == f"`argument` must be {must_be}. Received: argument={value!r}"


@pytest.mark.parametrize("value", NOT_NUMBERS, ids=repr)
def test_what_is_not_a_number_is_a_type_error(value):
    refused(checks.positive_float, value, TypeError, "a positive float")
    refused(checks.nonnegative_float, value, TypeError, "a float >= 0")
    refused(checks.positive_int, value, TypeError, "a positive integer")


@pytest.mark.parametrize("value", NOT_FINITE, ids=repr)
def test_what_is_not_finite_is_a_value_error(value):
    refused(checks.positive_float, value, ValueError, "a positive float")
    refused(checks.nonnegative_float, value, ValueError, "a float >= 0")
    refused(checks.positive_int, value, ValueError, "a positive integer")


@pytest.mark.parametrize("value", [0, 0.0, -0.0, -1, -1e-9])
def test_positive_float_refuses_zero_and_below(value):
    refused(checks.positive_float, value, ValueError, "a positive float")


@pytest.mark.parametrize("value", [-1, -1e-9])
def test_nonnegative_float_refuses_below_zero(value):
    refused(checks.nonnegative_float, value, ValueError, "a float >= 0")


@pytest.mark.parametrize("value", [0, -1, 1.0, 2.5, Fraction(1, 2)])
def test_positive_int_refuses_zero_below_and_fractions(value):
    refused(checks.positive_int, value, ValueError, "a positive integer")


@pytest.mark.parametrize("value", [1, 2.5, 1e-30, 1.2e-38, 3.4e38, np.float32(0.5), np.int64(3), Fraction(1, 2)])
def test_numbers_come_back_as_plain_floats(value):
    for check in (checks.positive_float, checks.nonnegative_float):
        number = check("argument", value)
        assert type(number) is float
        assert number == value


def test_zero_is_a_nonnegative_float():
    assert checks.nonnegative_float("argument", 0) == 0.0


@pytest.mark.parametrize("value", [1, 50, np.int32(7)])
def test_integers_come_back_as_plain_ints(value):
    number = checks.positive_int("argument", value)
    assert type(number) is int
    assert number == value


@pytest.mark.parametrize("value", [True, False])
def test_boolean_returns_it(value):
    assert checks.boolean("argument", value) is value


@pytest.mark.parametrize("value", [1, 0, None, "True"])
def test_boolean_refuses_the_rest(value):
    refused(checks.boolean, value, TypeError, "True or False")


def test_one_of_returns_a_known_value():
    assert checks.one_of("argument", "b", ["a", "b"]) == "b"
    assert checks.one_of("argument", "b", {"a": 1, "b": 2}) == "b"


@pytest.mark.parametrize("value", ["c", None, 1, ["a"]])
def test_one_of_lists_the_known(value):
    refused(lambda name, value: checks.one_of(name, value, ("a", "b")), value, ValueError, "one of ['a', 'b']")


NOT_IN_FLOAT32 = [1e-50, 1e-39, 5e-324, 1e39, 1e300, 10**400, Fraction(1, 10**400), np.float64(1e300)]


@pytest.mark.parametrize("value", NOT_IN_FLOAT32, ids=range(8))
def test_what_is_zero_or_infinite_in_float32_is_refused(value):
    refused(checks.positive_float, value, ValueError, "a positive float, also in float32")
    refused(checks.nonnegative_float, value, ValueError, "a float >= 0, also in float32")
    refused(checks.real, -value, ValueError, "a finite float, also in float32")


def test_float32_is_why_such_numbers_are_refused():
    with np.errstate(over="ignore"):
        assert np.float32(1e39) == math.inf
    assert float(tf.constant(1e-39) * tf.constant(1.0)) == 0  # not a normal number in float32


@pytest.mark.parametrize("value", [0, 7, np.int64(7), np.int32(7), np.uint8(7), 2**40, 2**63 - 1])
def test_seeds_come_back_as_plain_ints(value):
    seed = checks.seed(value)
    assert type(seed) is int
    assert seed == value


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_seeds_have_64_bits(value):
    refused(
        lambda _, value: checks.seed(value, name="argument"),
        value,
        ValueError,
        f"an integer from {-(2**63)} to {2**63 - 1}",
    )


@pytest.mark.parametrize("value", [-1, 2**32])
def test_unsigned_seeds_are_those_of_keras_and_numpy(value):
    checks.seed(value)
    must_be = "an integer from 0 to 4294967295"
    refused(lambda _, value: checks.seed(value, unsigned=True, name="argument"), value, ValueError, must_be)


@pytest.mark.parametrize(
    ("value", "error"), [(0.5, ValueError), (1.0, ValueError), (True, TypeError), (None, TypeError), ("1", TypeError)]
)
def test_a_seed_is_an_integer(value, error):
    with pytest.raises(error, match=r"^`seed` must be an integer\. Received: seed="):
        checks.seed(value)


INCREASING = "None, or a pair (lower, upper) of finite floats or arrays with lower < upper"


@pytest.mark.parametrize(
    "value",
    [(0, 1), [0.0, 1.0], np.array([0.0, 1.0]), ([0.0, 0.1], 1.0), (np.zeros(2), np.ones(2)), tf.constant([0.0, 1.0])],
    ids=str,
)
def test_increasing_bounds_come_back_as_plain_numbers(value):
    lower, upper = checks.increasing_bounds("argument", value)
    assert type(lower) in (float, list)
    np.testing.assert_array_equal(lower, np.asarray(value[0], "float64"))
    np.testing.assert_array_equal(upper, np.asarray(value[1], "float64"))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ((1.0, 1.0), ValueError),
        ((1.0, 0.0), ValueError),
        (([0.0, 1.0], 1.0), ValueError),
        ((0.0, math.nan), ValueError),
        ((-math.inf, 1.0), ValueError),
        ((np.zeros(2), np.ones(3)), TypeError),
        (1.0, TypeError),
        ((0.0, 1.0, 2.0), TypeError),
        (("0", "1"), TypeError),
        ((False, True), TypeError),
        ((0.0, 1j), TypeError),
    ],
    ids=str,
)
def test_bounds_that_do_not_increase_are_refused(value, error):
    refused(checks.increasing_bounds, value, error, INCREASING)


@pytest.mark.parametrize(
    "value", [(1.0, 1.0 + 1e-12), (-1e300, 1e300), (0.0, 1e39), ([0.0, 1.0], [1.0, 1.0 + 1e-9])], ids=str
)
def test_bounds_that_do_not_increase_in_float32_are_refused(value):
    refused(checks.increasing_bounds, value, ValueError, f"{INCREASING}, also in float32")


@pytest.mark.parametrize("value", [0, 0.5, [0.0, 1e-50], np.ones([2, 2], "float32"), np.array([1, 2])], ids=str)
def test_finite_arrays_come_back_as_plain_numbers(value):
    found = checks.finite_array("argument", value)
    assert type(found) in (float, list)
    np.testing.assert_array_equal(found, np.asarray(value, "float64"))


def test_arrays_that_are_not_finite_are_refused():
    refused(checks.finite_array, math.nan, ValueError, "finite")
    refused(checks.finite_array, [0.0, math.inf], ValueError, "finite")
    refused(checks.finite_array, [0.0, 1e39], ValueError, "finite, also in float32")
    for value in ("0", ["1"], True, 1j, [[0.0], [0.0, 1.0]], object()):
        refused(checks.finite_array, value, TypeError, "a float or an array of floats")
