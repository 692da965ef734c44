"""A few numbers and their grid: how much of the error is rounding, how much is clipping, and where the best lies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from nnopt_lab.arguments import require_number
from nnopt_lab.quantization.grids import Grid, choose_grid, rounded, value_range
from nnopt_lab.quantization.observers import signal_to_noise_db


@dataclass(frozen=True)
class GridError:
    """How far a grid moves values, in two parts.

    Attributes
    ----------
    rounding, clipping : float
        Mean squared error over all values: the part of those between the ends of the grid (and half a step beyond),
        and that of the others.
    decibels : float
        Signal-to-noise ratio of both together; infinite where nothing moves.
    """

    rounding: float
    clipping: float
    decibels: float


def clipped_grid(values: Tensor, *, bits: int, symmetric: bool, clip: float = 1.0) -> Grid:
    """Lay a grid over the share ``clip`` of the range of ``values``; above 0, at most 1, which clips nothing.

    Examples
    --------
    >>> import torch
    >>> clipped_grid(torch.tensor([-1.0, 2.0]), bits=2, symmetric=True, clip=0.5).levels().tolist()
    [-1.0, 0.0, 1.0]
    """
    share = require_number("clip", clip, above=0, at_most=1)
    low, high = value_range(values)
    return choose_grid(low * share, high * share, bits=bits, symmetric=symmetric)


def grid_error(values: Tensor, grid: Grid) -> GridError:
    """Return what ``grid``, one without ``axis``, costs ``values``.

    Examples
    --------
    >>> import torch
    >>> error = grid_error(torch.tensor([0.25, 3.0]), choose_grid(-1.0, 1.0, bits=2, symmetric=True))
    >>> error.rounding, error.clipping
    (0.03125, 2.0)
    """
    restored = rounded(values, grid)
    squares = (values - restored).double().square()
    # An asymmetric grid's zero point is rounded: a value may stand half a step beyond its end, give or take a bit.
    half = grid.scale * grid.spacing / 2 * (1 + 1e-5)
    inside = (values >= grid.low - half) & (values <= grid.high + half)
    rounding, clipping = ((squares * part).mean().item() for part in (inside, ~inside))
    return GridError(rounding, clipping, signal_to_noise_db(values, restored))


def best_clip(values: Tensor, *, bits: int, symmetric: bool, clips: Iterable[float]) -> tuple[float, GridError]:
    """Return the one of ``clips`` with the highest signal-to-noise ratio, and its error."""
    errors = {
        clip: grid_error(values, clipped_grid(values, bits=bits, symmetric=symmetric, clip=clip)) for clip in clips
    }
    best = max(errors, key=lambda clip: errors[clip].decibels)
    return best, errors[best]
