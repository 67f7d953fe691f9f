"""Argument checks: what passes, what does not, and the one shape of the message."""

import math
from fractions import Fraction

import numpy as np
import pytest

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


@pytest.mark.parametrize("value", [1, 2.5, 1e-30, np.float32(0.5), np.int64(3), Fraction(1, 2)])
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
