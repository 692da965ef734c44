"""Points of gradient zero in many dimensions: how many of them are minima, and what gradient descent does near one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnopt_lab.arguments import require_integer, require_number, require_numbers

DIMENSIONS = (2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
REACH = 2.0
"""Curvatures are looked at up to so many spreads from 0: all but one in thousands, even in two dimensions."""


def spread(dimensions: int) -> float:
    """Return 2 √n: the curvatures of a large random Hessian lie between −2 √n and 2 √n (Wigner, 1958)."""
    return 2 * math.sqrt(require_integer("dimensions", dimensions))


@dataclass(frozen=True, eq=False)
class RandomHessians:
    """Random symmetric matrices: independent normal numbers of deviation 1, and √2 on the diagonal.

    Turning the axes changes neither curvatures nor the paths of gradient descent, and turned suitably, such a matrix is
    zero but on its diagonal and beside it (Dumitriu & Edelman, 2002). Drawn in that form, a thousand dimensions take
    two thousand numbers, not a million. The first rows and columns are a random Hessian of fewer dimensions.

    Attributes
    ----------
    own : ndarray
        The diagonals: float64, shape (dimensions, draws).
    beside : ndarray
        The numbers beside them: float64, shape (dimensions - 1, draws).
    """

    own: np.ndarray
    beside: np.ndarray

    def count_below(self, limits: Sequence[float] | np.ndarray, *, dimensions: int | None = None) -> np.ndarray:
        """Return how many curvatures of each Hessian lie below each limit.

        As many as Gaussian elimination of H − limit · I meets negative pivots (Sylvester's law of inertia).

        Parameters
        ----------
        limits : sequence of float
            Shape (k,).
        dimensions : int, optional
            Of the Hessians, at most as many as were drawn; all by default.

        Returns
        -------
        ndarray
            Whole numbers, shape (k, draws).

        Raises
        ------
        ValueError
            If a limit is not a finite number, or ``dimensions`` is out of range.
        """
        size = self._size(dimensions)
        limits = np.atleast_1d(require_numbers("a limit", limits))[:, None]
        pivot = self.own[0] - limits
        count = (pivot < 0).astype(np.int64)
        with np.errstate(divide="ignore"):  # a pivot of 0 makes the next one infinite, and is rightly counted so
            for own, square in zip(self.own[1:size], self.beside[: size - 1] ** 2, strict=True):
                pivot = own - limits - square / pivot
                count += pivot < 0
        return count

    def extremes(self, *, dimensions: int | None = None) -> tuple[float, float]:
        """Return the smallest and the largest curvature of the first Hessian, to about a millionth of the largest."""
        size = self._size(dimensions)
        first = RandomHessians(self.own[:, :1], self.beside[:, :1])
        bound = float(np.abs(self.own[:size, 0]).max() + 2 * self.beside[: size - 1, 0].max(initial=0.0)) + 1.0
        ends = []
        for wanted in (1, size):  # the first limit with so many curvatures below it
            low, high = -bound, bound
            for _ in range(5):
                limits = np.linspace(low, high, 33)
                at = int(np.argmax(first.count_below(limits, dimensions=size)[:, 0] >= wanted))
                low, high = float(limits[at - 1]), float(limits[at])
            ends.append((low + high) / 2)
        return ends[0], ends[1]

    def _size(self, dimensions: int | None) -> int:
        return len(self.own) if dimensions is None else require_integer("dimensions", dimensions, at_most=len(self.own))


def draw_hessians(dimensions: int = DIMENSIONS[-1], *, draws: int = 200, seed: int = 2) -> RandomHessians:
    """Return random Hessians of up to so many dimensions.

    Raises
    ------
    ValueError
        If an argument is not a whole number in its range.
    """
    size, draws = require_integer("dimensions", dimensions), require_integer("draws", draws)
    rng = np.random.default_rng(require_integer("seed", seed, at_least=0))
    own = math.sqrt(2) * rng.standard_normal((size, draws))
    return RandomHessians(own, np.sqrt(rng.chisquare(np.arange(1, size)[:, None], size=(size - 1, draws))))


@dataclass(frozen=True, eq=False)
class CriticalPoints:
    """What was counted in random Hessians of several dimensions, for any lift.

    The **lift** adds the same number, in spreads of 2 √n, to every curvature: at the critical points of a random
    landscape it is the larger, the lower the loss there (Bray & Dean, 2007).

    Attributes
    ----------
    dimensions : tuple of int
        d of them.
    limits : ndarray
        Curvatures without lift, in spreads, rising: float64, shape (k,).
    below : ndarray
        Share of all directions that curve less than each limit: float64, shape (d, k).
    minima : ndarray
        Share of the Hessians of which no direction does: float64, shape (d, k).
    extremes : ndarray
        Smallest and largest curvature of the first Hessian, without lift: float64, shape (d, 2).
    draws : int
        Hessians a dimension.
    """

    dimensions: tuple[int, ...]
    limits: np.ndarray
    below: np.ndarray
    minima: np.ndarray
    extremes: np.ndarray
    draws: int

    def share_of_minima(self, lift: float) -> np.ndarray:
        """Return the share of the points where all directions curve up, for each dimension: shape (d,)."""
        return np.array([np.interp(-_lift(lift), self.limits, row) for row in self.minima])

    def share_up(self, lift: float) -> np.ndarray:
        """Return the share of the directions that curve up, over all points, for each dimension: shape (d,)."""
        return np.array([1 - np.interp(-_lift(lift), self.limits, row) for row in self.below])

    def histogram(self, dimensions: int, lift: float, edges: np.ndarray) -> np.ndarray:
        """Return the share of the curvatures, in spreads, between each edge and the next: shape (edges - 1,)."""
        row = self.below[self._index(dimensions)]
        return np.diff(np.interp(np.asarray(edges, dtype=float) - _lift(lift), self.limits, row))

    def ends(self, dimensions: int, lift: float) -> tuple[float, float]:
        """Return the smallest and the largest curvature of the first Hessian, lifted."""
        low, high = self.extremes[self._index(dimensions)] + _lift(lift) * spread(dimensions)
        return float(low), float(high)

    def _index(self, dimensions: int) -> int:
        if dimensions not in self.dimensions:
            raise ValueError(
                f"dimensions is {dimensions!r}, but it must be one of those counted: "
                f"{', '.join(map(str, self.dimensions))}."
            )
        return self.dimensions.index(dimensions)


def count_critical_points(hessians: RandomHessians, dimensions: Sequence[int] = DIMENSIONS) -> CriticalPoints:
    """Return what is counted in ``hessians``, cut to each of ``dimensions``.

    Raises
    ------
    ValueError
        If one of ``dimensions`` is more than were drawn.

    Examples
    --------
    >>> points = count_critical_points(draw_hessians(20, draws=500), (2, 20))
    >>> points.share_of_minima(0.0).round(2).tolist()
    [0.14, 0.0]
    """
    limits = np.linspace(-REACH, REACH, 81)
    below, minima = np.empty((2, len(dimensions), len(limits)))
    for index, size in enumerate(dimensions):
        counts = hessians.count_below(limits * spread(size), dimensions=size)
        below[index], minima[index] = counts.mean(axis=1) / size, (counts == 0).mean(axis=1)
    extremes = np.array([hessians.extremes(dimensions=size) for size in dimensions])
    return CriticalPoints(tuple(dimensions), limits, below, minima, extremes, hessians.own.shape[1])


def gradient_lengths_near(
    hessians: RandomHessians, *, dimensions: int, lift: float, learning_rate: float, steps: int = 200, seed: int = 0
) -> np.ndarray:
    """Follow gradient descent from a random point beside the critical point with the first of ``hessians``.

    The loss is ½ θᵀ(H + lift · 2 √n · I)θ, and the start lies at distance 1.

    Returns
    -------
    ndarray
        The gradient's length before the first step and after each one, as a share of the first: shape (steps + 1,).

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    size = require_integer("dimensions", dimensions, at_most=len(hessians.own))
    rate = require_number("learning_rate", learning_rate, above=0)
    own = hessians.own[:size, 0] + _lift(lift) * spread(size)
    beside = hessians.beside[: size - 1, 0]
    theta = np.random.default_rng(seed).standard_normal(len(hessians.own))[:size]
    theta /= np.linalg.norm(theta)
    lengths = np.empty(require_integer("steps", steps) + 1)
    with np.errstate(over="ignore", invalid="ignore"):  # beyond the stable rate the path may overflow
        for step in range(len(lengths)):
            gradient = own * theta
            gradient[1:] += beside * theta[:-1]
            gradient[:-1] += beside * theta[1:]
            lengths[step] = math.sqrt(gradient @ gradient)
            theta = theta - rate * gradient
    return np.nan_to_num(lengths / lengths[0], nan=np.inf)


def _lift(lift: float) -> float:
    return require_number("lift", lift, at_least=-REACH, at_most=REACH)
