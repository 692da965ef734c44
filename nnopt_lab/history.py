"""What a run did so far, as curves that stay cheap to draw however long it gets."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from nnopt_lab.arguments import require_integer, require_number


class Trace:
    """The points of one curve, in order; neighbors are averaged when there are many.

    Parameters
    ----------
    smoothing : float
        β of an exponential moving average with the start corrected (Kingma & Ba, 2015, section 3);
        0 leaves the values as they are.
    max_points : int
        When so many points are reached, pairs are averaged and half remain.

    Examples
    --------
    >>> trace = Trace()
    >>> trace.append(1, 2.5)
    >>> trace.append(2, 1.5)
    >>> trace.y.tolist()
    [2.5, 1.5]
    """

    def __init__(self, *, smoothing: float = 0.0, max_points: int = 600) -> None:
        self.smoothing = require_number("smoothing", smoothing, at_least=0, below=1)
        self.max_points = require_integer("max_points", max_points, at_least=2) // 2 * 2
        self._points = np.empty((2, self.max_points))
        self._count = 0  # points in use
        self._stride = 1  # values averaged in one point
        self._in_last = 0  # values averaged in the last point so far
        self._average, self._weight = 0.0, 0.0

    def append(self, x: float, y: float) -> None:
        """Add one value; one that is not finite is left out."""
        if not math.isfinite(y):
            return
        if self.smoothing:
            self._average = self.smoothing * self._average + (1 - self.smoothing) * y
            self._weight = self.smoothing * self._weight + (1 - self.smoothing)
            y = self._average / self._weight
        if self._count and self._in_last < self._stride:
            self._in_last += 1
            last = self._points[:, self._count - 1]
            last += (np.array((x, y)) - last) / self._in_last
            return
        if self._count == self.max_points:
            self._points[:, : self._count // 2] = self._points.reshape(2, -1, 2).mean(axis=2)
            self._count //= 2
            self._stride *= 2
        self._points[:, self._count] = x, y
        self._count += 1
        self._in_last = 1

    def extend(self, points: Iterable[tuple[float, float]]) -> Trace:
        """Add many values and return the trace itself."""
        for x, y in points:
            self.append(x, y)
        return self

    @property
    def x(self) -> np.ndarray:
        """Positions: float64, shape (points,)."""
        return self._points[0, : self._count]

    @property
    def y(self) -> np.ndarray:
        """Values: float64, shape (points,)."""
        return self._points[1, : self._count]

    @property
    def last(self) -> float:
        """The newest value, or NaN when there is none."""
        return float(self._points[1, self._count - 1]) if self._count else math.nan


def time_left_s(progress: float, elapsed_s: float) -> float:
    """Return the seconds that are left if the run goes on as it went; infinite before it has begun.

    Examples
    --------
    >>> time_left_s(0.25, 10.0)
    30.0
    """
    return elapsed_s * (1 - progress) / progress if progress > 0 else math.inf
