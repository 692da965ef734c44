"""The checks let in what is allowed and name what is not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnopt_lab.arguments import require_choice, require_integer, require_number, require_numbers


@given(st.floats(allow_nan=True, allow_infinity=True) | st.integers())
def test_numbers_are_let_in_exactly_inside_the_bounds(value):
    try:
        inside = 0 < float(value) <= 10
    except OverflowError:
        inside = False
    if inside:
        assert require_number("rate", value, above=0, at_most=10) == value
    else:
        with pytest.raises(ValueError, match="rate is .*, but it must be a finite number above 0 and at most 10"):
            require_number("rate", value, above=0, at_most=10)


@given(st.floats(allow_nan=True, allow_infinity=True) | st.integers())
def test_the_other_two_bounds(value):
    if math.isfinite(value if isinstance(value, float) else 0) and 1 <= value < 2:
        assert require_number("x", value, at_least=1, below=2) == value
    else:
        with pytest.raises(ValueError, match="at least 1 and below 2"):
            require_number("x", value, at_least=1, below=2)


@pytest.mark.parametrize("value", [True, "1", None, [1], 1j, math.nan, math.inf, -math.inf, 10**400])
def test_what_is_no_finite_number_is_refused(value):
    with pytest.raises(ValueError, match=r"^x is .*, but it must be a finite number\.$"):
        require_number("x", value)


@pytest.mark.parametrize("value", [np.float32(0.5), np.float64(0.5), np.int64(1), 1])
def test_numpys_numbers_are_numbers(value):
    result = require_number("x", value)
    assert result == value
    assert type(result) is float


@given(st.integers())
def test_integers_are_let_in_exactly_inside_the_bounds(value):
    if 2 <= value <= 9:
        assert require_integer("count", value, at_least=2, at_most=9) == value
    else:
        with pytest.raises(ValueError, match=f"count is {value}, but .* at least 2 and at most 9"):
            require_integer("count", value, at_least=2, at_most=9)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, math.nan])
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(ValueError, match="count is .*, but it must be a whole number of at least 1"):
        require_integer("count", value)


def test_choices_name_the_nearest_and_all():
    assert require_choice("color", "red", ["red", "blue"]) == "red"
    with pytest.raises(ValueError, match=r"color is 'rde', but it must be one of 'red', 'blue'\. Did you mean 'red'\?"):
        require_choice("color", "rde", ["red", "blue"])
    with pytest.raises(ValueError, match=r"color is 'RED'.*Did you mean 'red'\?"):
        require_choice("color", "RED", ["red", "blue"])
    with pytest.raises(ValueError, match=r"color is 7, but it must be one of 'red'\.$"):
        require_choice("color", 7, ["red"])


@given(st.text() | st.integers() | st.none())
def test_no_value_breaks_the_message(value):
    if value not in ("red", "blue"):
        with pytest.raises(ValueError, match="color is "):
            require_choice("color", value, iter(["red", "blue"]))


def test_arrays_of_numbers_are_let_in_whole_or_not_at_all():
    assert require_numbers("x", [[1, 2.5], [3, 0]], at_least=0, at_most=3).tolist() == [[1, 2.5], [3, 0]]
    assert require_numbers("x", 2, above=1).shape == ()
    assert require_numbers("x", []).size == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, -2, -3], "x is -2.0, but it must be a finite number above 0 and at most 9"),
        ([1, math.nan], "x is nan, but it must be a finite number above 0"),
        (np.array([[1, math.inf]]), "x is inf"),
        (0, "x is 0.0"),
        (9.5, "x is 9.5"),
        (["a"], r"x is \['a'\], but it must be a number or an array of numbers"),
        ([1, [2]], "x is .* a number or an array of numbers"),
        (None, "x is nan"),
    ],
)
def test_arrays_with_a_wrong_number_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        require_numbers("x", values, above=0, at_most=9)
