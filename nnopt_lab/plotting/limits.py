"""Axis limits that rarely move: a picture whose limits stand still is redrawn cheaply."""

from __future__ import annotations

import math

ROOM = 0.3
"""How far past the data a limit is moved when it has to move, as a share of the data's span."""

TOO_WIDE = 0.2
"""Limits are drawn in again when the data fill less than this share of them."""

EDGE = 0.05
"""How close to the edge of a log axis, in decades, data are as if on it."""


def linear_limits(current: tuple[float, float], low: float, high: float) -> tuple[float, float]:
    """Return ``current`` while the data fit it reasonably, and roomier limits when they do not.

    Examples
    --------
    >>> linear_limits((0.0, 1.0), 0.1, 0.9)
    (0.0, 1.0)
    >>> linear_limits((0.0, 1.0), 0.0, 2.0)
    (0.0, 2.6)
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return current
    bottom, top = current
    fits = bottom <= low and high <= top
    if fits and high - low >= TOO_WIDE * (top - bottom):
        return current
    span = (high - low) or abs(high) or 1.0
    # A side that the data do not touch keeps its limit, so that an axis that starts at 0 goes on doing so.
    if not fits:
        return (bottom if low >= bottom else low - ROOM * span, top if high <= top else high + ROOM * span)
    return (max(bottom, low - ROOM * span), min(top, high + ROOM * span))


def log_limits(current: tuple[float, float], low: float, high: float) -> tuple[float, float]:
    """Return whole decades around the data, which touch neither edge when they move; wider ``current`` limits stay.

    A curve on the lower edge would lie on the axis and not be seen.

    Examples
    --------
    >>> log_limits((0.1, 1.0), 0.02, 3.0)
    (0.01, 10.0)
    >>> log_limits((0.1, 1.0), 0.001, 0.5)
    (0.0001, 1.0)
    """
    if not (math.isfinite(low) and math.isfinite(high)) or low <= 0:
        return current
    bottom, top = current
    # Not exact powers only: 0.00099 also lies on the edge for the eye.
    return (
        bottom if low >= bottom else 10.0 ** math.floor(math.log10(low) - EDGE),
        top if high <= top else 10.0 ** math.ceil(math.log10(high) + EDGE),
    )
