"""Weights of two or three numbers: the binary and the ternary grid."""

from __future__ import annotations

import torch
from torch import Tensor

from nnopt_lab.quantization.grids import Grid, as_rows, value_range

TERNARY_THRESHOLD = 0.7
"""Times the mean of |w|; nearly the best for normal and evenly spread weights (Li et al., 2016)."""


def binarize(weight: Tensor, *, axis: int | None = 0) -> Grid:
    """Return the grid of −α and α, with α the mean of |w| (Rastegari et al., 2016, arXiv:1603.05279, section 3.1).

    That α makes the squared error Σ (w − α · sign w)² least. There is no 0: a weight of 0 becomes α.

    Parameters
    ----------
    weight : Tensor
        Finite.
    axis : int or None
        One α for each index of this dimension, by default for each output channel; None: one for all.

    Returns
    -------
    Grid
        ``bits`` is 1, the whole numbers are −1 and 1.

    Raises
    ------
    ValueError
        If ``weight`` is empty or not finite.

    Examples
    --------
    >>> grid = binarize(torch.tensor([[0.1, -0.3], [2.0, 4.0]]))
    >>> grid.levels().tolist()
    [[-0.20000000298023224, 0.20000000298023224], [-3.0, 3.0]]
    """
    return _grid(_finite_rows(weight, axis).abs().mean(1), axis, bits=1)


def ternarize(weight: Tensor, *, axis: int | None = 0) -> Grid:
    """Return the grid of −α, 0 and α of Li, Zhang and Liu (2016, arXiv:1605.04711, section 2).

    α is the mean of those |w| that exceed `TERNARY_THRESHOLD` times the mean of all |w|. Weights are then rounded to
    the nearest of the three, as on any grid: those beyond α / 2 stay. For a given α nothing has a smaller squared
    error; the paper's own threshold is near (0.70 of the mean of |w|, for normal weights α / 2 is 0.74 of it).

    Parameters
    ----------
    weight : Tensor
        Finite.
    axis : int or None
        As in `binarize`.

    Returns
    -------
    Grid
        ``bits`` is 2, the whole numbers are −1, 0 and 1.

    Raises
    ------
    ValueError
        If ``weight`` is empty or not finite.

    Examples
    --------
    >>> grid = ternarize(torch.tensor([[0.1, -0.1, 1.0, -2.0]]))
    >>> grid.levels().tolist()
    [[-1.5, 0.0, 1.5]]
    """
    rows = _finite_rows(weight, axis).abs()
    large = rows > TERNARY_THRESHOLD * rows.mean(1, keepdim=True)
    return _grid((rows * large).sum(1) / large.sum(1).clamp(min=1), axis, bits=2)


def _finite_rows(weight: Tensor, axis: int | None) -> Tensor:
    low, high = value_range(weight, axis=axis)
    if not (low.isfinite().all() and high.isfinite().all()):
        raise ValueError("weight holds NaN or infinity, but every weight must be a finite number.")
    return as_rows(weight.detach().float(), axis=axis)


def _grid(scale: Tensor, axis: int | None, *, bits: int) -> Grid:
    scale = scale if axis is not None else scale[0]
    scale = torch.where(scale < torch.finfo(torch.float32).tiny, 1.0, scale) if bits > 1 else scale
    return Grid(scale, torch.zeros_like(scale, dtype=torch.int32), bits, -1, 1, axis)
