"""Checks on arguments: one clear sentence that names the argument, the value and what is allowed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from numbers import Integral, Real

import numpy as np


def require_number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> float:
    """Return ``value`` as a float if it is a finite number inside the bounds.

    Raises
    ------
    ValueError
        If ``value`` is not a number, is NaN or infinite, or is out of bounds.
    """
    limits = []
    if above is not None:
        limits.append(f"above {above:g}")
    if at_least is not None:
        limits.append(f"at least {at_least:g}")
    if below is not None:
        limits.append(f"below {below:g}")
    if at_most is not None:
        limits.append(f"at most {at_most:g}")
    allowed = "a finite number" + (" " + " and ".join(limits) if limits else "")
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{name} is {value!r}, but it must be {allowed}.")
    try:
        number = float(value)
    except OverflowError:  # a whole number that no float can hold
        number = math.inf
    inside = (
        math.isfinite(number)
        and (above is None or number > above)
        and (at_least is None or number >= at_least)
        and (below is None or number < below)
        and (at_most is None or number <= at_most)
    )
    if not inside:
        raise ValueError(f"{name} is {value!r}, but it must be {allowed}.")
    return number


def require_integer(name: str, value: object, *, at_least: int = 1, at_most: int | None = None) -> int:
    """Return ``value`` as an int if it is a whole number inside the bounds.

    Raises
    ------
    ValueError
        If ``value`` is not a whole number or is out of bounds.
    """
    allowed = f"a whole number of at least {at_least}" + ("" if at_most is None else f" and at most {at_most}")
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{name} is {value!r}, but it must be {allowed}.")
    if value < at_least or (at_most is not None and value > at_most):
        raise ValueError(f"{name} is {value!r}, but it must be {allowed}.")
    return int(value)


def require_choice(name: str, value: object, allowed: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``allowed``.

    Raises
    ------
    ValueError
        If it is not; the message names the nearest spellings and every allowed one.
    """
    choices = list(allowed)
    if isinstance(value, str) and value in choices:
        return value
    near = difflib.get_close_matches(str(value).lower(), choices, n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(word) for word in near)}?" if near else ""
    raise ValueError(f"{name} is {value!r}, but it must be one of {', '.join(map(repr, choices))}.{hint}")


def require_numbers(
    name: str,
    values: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> np.ndarray:
    """Return ``values``, one number or an array of them, as float64 if all are finite numbers inside the bounds.

    Raises
    ------
    ValueError
        If one is not; the message names the first that is wrong.
    """
    try:
        numbers = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {values!r}, but it must be a number or an array of numbers.") from None
    inside = np.isfinite(numbers)
    for bound, holds in ((above, np.greater), (at_least, np.greater_equal), (at_most, np.less_equal)):
        if bound is not None:
            inside &= holds(numbers, bound)
    if not inside.all():
        require_number(name, float(numbers[~inside].flat[0]), above=above, at_least=at_least, at_most=at_most)
    return numbers
