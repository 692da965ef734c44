"""A grid of whole numbers laid over real ones: rounding onto it, and back.

A real number x is stored as a whole number q, and read back as

    x ≈ scale · (q − zero_point)          (Jacob et al., 2018, arXiv:1712.05877, equation 1)

With ``bits`` bits there are at most 2^bits such q. Between the ends of the grid x moves by at most half a step, that is
scale / 2 (rounding); outside it becomes the nearest end (clipping). A wide grid clips little and rounds coarsely; a
narrow one does the opposite.

Quantizing leaves as many numbers as there were. What shrinks is the room that each of them takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nnopt_lab.arguments import require_integer

MOST_BITS = 16
"""Wider whole numbers save nothing beside float16."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Evenly spaced numbers: ``scale · (q − zero_point)`` for every whole q from ``lowest`` to ``highest``.

    Attributes
    ----------
    scale : Tensor
        Distance of neighbors, in units of the values: float32, above 0. Shape () for one grid; (channels,) with
        ``axis``; (channels, groups) with ``group``.
    zero_point : Tensor
        The q that stands for exactly 0: int32, same shape.
    bits : int
        Of one q.
    lowest, highest : int
        The ends.
    axis : int or None
        Dimension of the values that has a grid for each index (0: one for each output channel of a weight).
    group : int or None
        So many consecutive values of a channel share a grid, counted with ``axis`` moved to the front.
    """

    scale: Tensor
    zero_point: Tensor
    bits: int
    lowest: int
    highest: int
    axis: int | None = None
    group: int | None = None

    @property
    def low(self) -> Tensor:
        """The smallest number of each grid: float32, shape of ``scale``."""
        return self.scale * (self.lowest - self.zero_point)

    @property
    def high(self) -> Tensor:
        """The largest number of each grid: float32, shape of ``scale``."""
        return self.scale * (self.highest - self.zero_point)

    @property
    def spacing(self) -> int:
        """Distance of neighboring q: 2 for the binary grid, whose q are −1 and 1 (see `binarize`), else 1."""
        return 2 if self.bits == 1 and self.lowest == -1 else 1

    def levels(self) -> Tensor:
        """Return all numbers of the grid, rising: float32, shape (\\*scale.shape, levels)."""
        steps = torch.arange(self.lowest, self.highest + 1, self.spacing, device=self.scale.device)
        return self.scale[..., None] * (steps - self.zero_point[..., None])

    def to(self, device: torch.device | str) -> Grid:
        """Return the same grid on another device."""
        ends = (self.bits, self.lowest, self.highest, self.axis, self.group)
        return Grid(self.scale.to(device), self.zero_point.to(device), *ends)


def ends_of(bits: int, *, symmetric: bool) -> tuple[int, int]:
    """Return the lowest and the highest whole number of a grid.

    An affine grid uses all 2^bits numbers from 0 up. A symmetric one leaves the lowest out, so that it has as many
    numbers below 0 as above.

    Raises
    ------
    ValueError
        If ``bits`` is not 1–16, or 1 for a symmetric grid, which would hold nothing but 0.

    Examples
    --------
    >>> ends_of(8, symmetric=False), ends_of(8, symmetric=True), ends_of(2, symmetric=True)
    ((0, 255), (-127, 127), (-1, 1))
    """
    bits = require_integer("bits", bits, at_most=MOST_BITS)
    if not symmetric:
        return 0, 2**bits - 1
    if bits == 1:
        raise ValueError(
            "bits is 1, but a symmetric grid needs at least 2: with 1 it holds nothing but 0; for weights of 1 bit "
            "see binarize."
        )
    return 1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1


def choose_grid(
    low: float | Tensor,
    high: float | Tensor,
    *,
    bits: int,
    symmetric: bool,
    axis: int | None = None,
    group: int | None = None,
) -> Grid:
    """Lay a grid over the range from ``low`` to ``high``, widened to hold 0 if it does not.

    0 must be a number of the grid: the zeros that a convolution pads with, that a ReLU puts out and that pruning leaves
    would otherwise all move. Hence the affine grid is shifted by less than one step, so that 0 falls on a whole number.

    Parameters
    ----------
    low, high : float or Tensor
        In units of the values; one number, or one for each grid, as from `value_range`. Where both are 0, as in a
        channel that is all zeros, any scale does, and it is 1.
    bits : int
        1–16; a symmetric grid needs 2.
    symmetric : bool
        True: the zero point is 0 and the ends are ±max(−low, high), whatever the other end is. Weights, which lie on
        both sides, lose little by it. Outputs of a ReLU would waste half the numbers.
        False (affine): from ``low`` to ``high``.
    axis, group : int, optional
        Which values share a grid, see `Grid`.

    Raises
    ------
    ValueError
        If an end is NaN or infinite, ``low`` is above ``high``, or an argument is out of range.

    Examples
    --------
    >>> grid = choose_grid(-1.0, 2.0, bits=2, symmetric=False)
    >>> grid.scale.item(), grid.zero_point.item(), grid.levels().tolist()
    (1.0, 1, [-1.0, 0.0, 1.0, 2.0])
    >>> choose_grid(-1.0, 2.0, bits=3, symmetric=True).levels().tolist()
    [-2.0, -1.3333333730697632, -0.6666666865348816, 0.0, 0.6666666865348816, 1.3333333730697632, 2.0]
    """
    lowest, highest = ends_of(bits, symmetric=symmetric)
    low, high = torch.as_tensor(low), torch.as_tensor(high)
    exact = torch.float32 if low.device.type == "mps" else torch.float64  # Apple's GPUs know no float64
    low, high = low.to(exact), high.to(exact)
    for name, ends in (("low", low), ("high", high)):
        if not ends.isfinite().all():
            wrong = ends[~ends.isfinite()].flatten()[0].item()
            raise ValueError(f"{name} is {wrong}, but it must be a finite number: values hold NaN or infinity.")
    if (low > high).any():
        first = (low > high).nonzero()[0].tolist()
        wrong = low[tuple(first)].item(), high[tuple(first)].item()
        raise ValueError(f"low is {wrong[0]:g}, but it must be at most {wrong[1]:g}, which is high.")
    if group is not None:
        require_integer("group", group)
        axis = 0 if axis is None else axis
    if low.ndim != (0 if axis is None else 1 if group is None else 2):
        raise ValueError(
            f"low has shape {tuple(low.shape)}, but it must be one number a grid: () without axis, (channels,) with "
            "axis, (channels, groups) with group."
        )
    low, high = low.clamp(max=0), high.clamp(min=0)
    if symmetric:
        scale = torch.maximum(-low, high) / highest
    else:
        scale = (high - low) / (highest - lowest)
    scale = scale.float()
    if not scale.isfinite().all():
        raise ValueError(f"high − low is {(high - low).max().item():g}, but its steps must be numbers of float32.")
    # Below the smallest normal number of float32, values / scale would not be finite.
    scale = torch.where(scale < torch.finfo(torch.float32).tiny, 1.0, scale)
    # By the scale as it is stored, not the exact one: the step that will be used decides where 0 falls.
    zero_point = torch.zeros_like(scale) if symmetric else lowest - (low / scale.to(exact)).round()
    return Grid(scale, zero_point.clamp(lowest, highest).to(torch.int32), bits, lowest, highest, axis, group)


def as_rows(values: Tensor, *, axis: int | None = None, group: int | None = None) -> Tensor:
    """Return ``values`` with one row for each grid: shape (grids, values a grid).

    Raises
    ------
    ValueError
        If ``axis`` is no dimension of ``values`` or ``group`` does not divide the values of a channel.

    Examples
    --------
    >>> as_rows(torch.arange(8).reshape(2, 2, 2), axis=0, group=2).tolist()
    [[0, 1], [2, 3], [4, 5], [6, 7]]
    """
    if axis is None and group is None:
        return values.reshape(1, -1)
    moved = _axis_first(values, axis or 0)
    rows = moved.reshape(len(moved), moved[0].numel() if len(moved) else 0)
    if group is None:
        return rows
    require_integer("group", group)
    if rows.shape[1] % group:
        raise ValueError(f"group is {group}, but it must divide {rows.shape[1]}, the number of values of a channel.")
    return rows.reshape(-1, group)


def value_range(values: Tensor, *, axis: int | None = None, group: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest value of each grid, for `choose_grid`.

    Returns
    -------
    low, high : Tensor
        Shape () without ``axis``, (channels,) with it, (channels, groups) with ``group``.

    Raises
    ------
    ValueError
        If ``values`` is empty, or ``axis`` or ``group`` does not fit.
    """
    rows = as_rows(values.detach(), axis=axis, group=group)
    if not rows.numel():
        raise ValueError(f"values has shape {tuple(values.shape)}, but it must hold at least one number.")
    low, high = rows.aminmax(dim=1)
    shape = grids_shape(values.shape, axis=axis, group=group)
    return low.reshape(shape), high.reshape(shape)


def grids_shape(shape: tuple[int, ...], *, axis: int | None = None, group: int | None = None) -> tuple[int, ...]:
    """Return the shape of `Grid.scale` for values of ``shape``."""
    if axis is None and group is None:
        return ()
    return (shape[axis or 0],) if group is None else (shape[axis or 0], -1)


def grid_for(
    values: Tensor, *, bits: int, symmetric: bool = True, axis: int | None = None, group: int | None = None
) -> Grid:
    """Lay grids over ``values`` from the smallest to the largest, so that nothing is clipped.

    Examples
    --------
    >>> weights = torch.tensor([[-1.0, 0.5], [-0.02, 0.04]])
    >>> grid_for(weights, bits=3).scale.item(), grid_for(weights, bits=3, axis=0).scale.tolist()
    (0.3333333432674408, [0.3333333432674408, 0.013333332724869251])
    """
    low, high = value_range(values, axis=axis, group=group)
    return choose_grid(low, high, bits=bits, symmetric=symmetric, axis=axis, group=group)


def quantize(values: Tensor, grid: Grid) -> Tensor:
    """Round ``values`` to the nearest numbers of ``grid``: clamp(round(x / scale) + zero_point, lowest, highest).

    Halfway between two whole numbers the even one is taken, so that rounding does not push all values one way.
    Infinite values become the ends of the grid.

    Returns
    -------
    Tensor
        Shape of ``values``, of the narrowest of int8, uint8, int16 and int32 that holds ``lowest`` to ``highest``.

    Raises
    ------
    ValueError
        If a value is NaN, or ``values`` do not have the shape that ``grid`` is for.

    Examples
    --------
    >>> grid = choose_grid(-1.0, 2.0, bits=2, symmetric=False)  # −1, 0, 1, 2
    >>> quantize(torch.tensor([-1.7, -0.4, 0.6, 1.5, 9.0]), grid).tolist()
    [0, 1, 2, 3, 3]
    """
    if values.isnan().any():
        raise ValueError("values hold NaN, but every value must be a number: no number of a grid is near NaN.")
    if grid.spacing == 2:
        return torch.where(values < 0, -1, 1).to(torch.int8)
    scale, zero_point = spread_over(values.shape, grid)
    return ((values / scale).round() + zero_point).clamp(grid.lowest, grid.highest).to(integer_type(grid))


def dequantize(integers: Tensor, grid: Grid) -> Tensor:
    """Return the numbers that ``integers`` stand for: scale · (q − zero_point), float32.

    Examples
    --------
    >>> dequantize(torch.tensor([0, 1, 2, 3]), choose_grid(-1.0, 2.0, bits=2, symmetric=False)).tolist()
    [-1.0, 0.0, 1.0, 2.0]
    """
    scale, zero_point = spread_over(integers.shape, grid)
    return scale * (integers.to(torch.int32) - zero_point)


def rounded(values: Tensor, grid: Grid) -> Tensor:
    """Return `dequantize` of `quantize`: what is left of ``values``, as float32."""
    return dequantize(quantize(values, grid), grid)


def bits_without_change(values: Tensor, *, symmetric: bool, axis: int | None = None) -> int | None:
    """Return the fewest bits at which `grid_for` changes nothing (the identity case), or None if 16 do not do.

    That is so where the values are whole multiples of one step, and few: the 256 values of a picture need 8 bits,
    weights of −1, 0 and 1 need 2. Trained weights are no such multiples; however fine the grid, they move by up to half
    a step. "Nothing" means less than a millionth of the largest value, which float32 cannot tell from 0 much better.

    Examples
    --------
    >>> bits_without_change(torch.arange(256) / 255, symmetric=False)
    8
    >>> bits_without_change(torch.tensor([-0.3, 0.0, 0.3]), symmetric=True)
    2
    >>> bits_without_change(torch.tensor([1.0, 2.0**0.5, torch.pi]), symmetric=True) is None
    True
    """
    tolerance = 1e-6 * values.abs().max().item() if values.numel() else 0.0
    for bits in range(2 if symmetric else 1, MOST_BITS + 1):
        back = rounded(values, grid_for(values, bits=bits, symmetric=symmetric, axis=axis))
        if (back - values).abs().max() <= tolerance:
            return bits
    return None


def spread_over(shape: tuple[int, ...], grid: Grid) -> tuple[Tensor, Tensor]:
    """Return scale and zero point of ``grid`` in a shape that broadcasts with values of ``shape``.

    Raises
    ------
    ValueError
        If ``grid`` is not for values of ``shape``.
    """
    if grid.axis is None:
        return grid.scale, grid.zero_point
    dimensions = len(shape)
    if not -dimensions <= grid.axis < dimensions or shape[grid.axis] != len(grid.scale):
        raise ValueError(
            f"values has shape {tuple(shape)}, but the grid is for {len(grid.scale)} channels in dimension {grid.axis}."
        )
    if grid.group is None:
        ones = [1] * dimensions
        ones[grid.axis] = -1
        return grid.scale.reshape(ones), grid.zero_point.reshape(ones)
    moved = torch.empty(shape, device="meta").movedim(grid.axis, 0).shape
    if moved[1:].numel() != grid.scale.shape[1] * grid.group:
        raise ValueError(
            f"values has shape {tuple(shape)}, but the grid is for {grid.scale.shape[1]} groups of {grid.group} values "
            "in each channel."
        )
    return tuple(  # type: ignore[return-value]
        numbers.repeat_interleave(grid.group, dim=1).reshape(moved).movedim(0, grid.axis)
        for numbers in (grid.scale, grid.zero_point)
    )


def integer_type(grid: Grid) -> torch.dtype:
    """Return the narrowest type of torch that holds all whole numbers of ``grid``."""
    for dtype in (torch.int8, torch.uint8, torch.int16):
        limits = torch.iinfo(dtype)
        if limits.min <= grid.lowest and grid.highest <= limits.max:
            return dtype
    return torch.int32


def _axis_first(values: Tensor, axis: int) -> Tensor:
    if not -values.ndim <= axis < values.ndim:
        raise ValueError(f"axis is {axis}, but values has only {values.ndim} dimensions: shape {tuple(values.shape)}.")
    return values.movedim(axis, 0)
