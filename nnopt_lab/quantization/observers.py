"""From which value to which a grid should reach: four answers, and how good one is, in decibels.

From the smallest to the largest value nothing is clipped, but one outlier makes every step coarse. The other three
clip a little in order to round finer.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from nnopt_lab.arguments import require_choice, require_integer, require_number
from nnopt_lab.quantization.grids import as_rows, ends_of, grids_shape, value_range

OBSERVERS = ("minmax", "percentile", "mse", "entropy")
"""See `observe`."""

SAMPLE = 2**15
"""So many values of each batch are kept by a `RangeObserver`, drawn at random."""

_SHRINKS = np.linspace(1.0, 0.02, 99)
_BINS = 2048
_VALUES_A_LEVEL = 8
"""With fewer, it is faster to round every value than to search for the borders between levels."""
_MOST_CELLS = 2**20
"""Levels of all grids that are searched for at once; 8 MiB each time they are written down."""
_FEW_GRIDS, _MANY_GRIDS = 6, 25
"""So many grids are tried before it is asked whether a narrower one can still be the best."""
_LEAST_SHARE = 1e-6
"""What an empty bin of Q counts as, so that its logarithm is finite."""


def observe(
    values: Tensor,
    observer: str = "minmax",
    *,
    bits: int,
    symmetric: bool,
    axis: int | None = None,
    group: int | None = None,
    percentile: float = 99.9,
) -> tuple[Tensor, Tensor]:
    """Return the range that a grid for ``values`` should cover, for `choose_grid`.

    ``"minmax"``
        From the smallest to the largest value.
    ``"percentile"``
        Leaves out the smallest and the largest (100 − ``percentile``) / 2 percent.
    ``"mse"``
        Of 99 shares of the whole range, from all of it to a fiftieth, the one with the least mean squared error after
        rounding and clipping. It depends on ``bits``: the fewer, the more is clipped. What is clipped only shrinks, so
        the values get smaller on average; over many layers of weights that adds up, and the outputs may be further off
        than with ``"minmax"`` although every single weight is closer.
    ``"entropy"``
        The bound on |x| at which the histogram after quantization tells the original one best: with the least
        Kullback–Leibler divergence (Migacz, 2017, "8-bit inference with TensorRT"). For many values that share a grid,
        such as activations.

    Parameters
    ----------
    values : Tensor
        Finite numbers, at least one.
    observer : str
        One of `OBSERVERS`.
    bits, symmetric, axis, group
        Of the grid to be, as in `choose_grid`.
    percentile : float
        Above 0, at most 100.

    Returns
    -------
    low, high : Tensor
        float32, one number for each grid: shape (), (channels,) or (channels, groups). Never outside the values.

    Raises
    ------
    ValueError
        If ``values`` are empty or not finite, an argument is unknown or out of range, or ``"entropy"`` is asked for
        channels or groups: their histograms have too few values.

    Examples
    --------
    >>> values = torch.cat([torch.linspace(-1, 1, 999), torch.tensor([50.0])])
    >>> [end.item() for end in observe(values, "minmax", bits=8, symmetric=False)]
    [-1.0, 50.0]
    >>> [round(end.item(), 2) for end in observe(values, "percentile", bits=8, symmetric=False, percentile=99.0)]
    [-0.99, 0.99]
    """
    require_choice("observer", observer, OBSERVERS)
    lowest, highest = ends_of(bits, symmetric=symmetric)
    share = require_number("percentile", percentile, above=0, at_most=100) / 100
    values = values.detach().float()
    low, high = value_range(values, axis=axis, group=group)
    _require_finite(low, high)
    if observer == "minmax":
        return low, high
    rows = as_rows(values, axis=axis, group=group)
    if observer == "percentile":
        chosen = _quantiles(rows, (1 - share) / 2), _quantiles(rows, (1 + share) / 2)
    elif observer == "mse":
        chosen = _least_squared_error(rows, lowest, highest, symmetric=symmetric)
    else:
        if axis is not None or group is not None:
            raise ValueError("observer is 'entropy', but with axis or group it must be one of the other three.")
        # One side of a symmetric grid, or of an affine one over values of both signs, has half the numbers.
        one_sided = not symmetric and low >= 0
        bound = _least_divergence(rows.abs().flatten().cpu().numpy(), (highest - lowest + 1) // (1 if one_sided else 2))
        chosen = low.clamp(min=-bound), high.clamp(max=bound)
    shape = grids_shape(values.shape, axis=axis, group=group)
    return chosen[0].reshape(shape), chosen[1].reshape(shape)


class RangeObserver:
    """Watches batch after batch and then tells the range, as `observe` would of all of them together.

    Of each batch it keeps the smallest and the largest value and `SAMPLE` others, not all.

    Parameters
    ----------
    observer, bits, symmetric, percentile
        As in `observe`.
    momentum : float, optional
        Only with ``"minmax"``: instead of the extremes of all batches, their moving average, in which the range so far
        weighs ``momentum`` and the new batch the rest (Jacob et al., 2018, section 3.1). One odd batch then counts
        little. Above 0, below 1.
    seed : int
        Of the sample.

    Examples
    --------
    >>> observer = RangeObserver("minmax", bits=8, symmetric=False, momentum=0.9)
    >>> observer.update(torch.tensor([0.0, 1.0]))
    >>> observer.update(torch.tensor([0.0, 11.0]))
    >>> [end.item() for end in observer.range()]
    [0.0, 2.0]
    """

    def __init__(
        self,
        observer: str = "minmax",
        *,
        bits: int,
        symmetric: bool,
        percentile: float = 99.9,
        momentum: float | None = None,
        seed: int = 0,
    ) -> None:
        self.observer = require_choice("observer", observer, OBSERVERS)
        ends_of(bits, symmetric=symmetric)
        self.bits, self.symmetric = bits, symmetric
        self.percentile = require_number("percentile", percentile, above=0, at_most=100)
        if momentum is not None:
            require_number("momentum", momentum, above=0, below=1)
            if observer != "minmax":
                raise ValueError(f"momentum is {momentum:g}, but with observer {observer!r} it must be None.")
        self.momentum = momentum
        self.generator = torch.Generator().manual_seed(require_integer("seed", seed, at_least=0))
        self.low = self.high = torch.tensor(0.0)
        self.batches = self.values = 0
        self.sample: list[Tensor] = []

    def update(self, values: Tensor) -> None:
        """Look at one more batch, of any shape.

        Raises
        ------
        ValueError
            If it is empty or holds NaN or infinity.
        """
        flat = values.detach().flatten()
        low, high = (end.float().cpu() for end in value_range(flat))
        _require_finite(low, high)
        if not self.batches:
            self.low, self.high = low, high
        elif self.momentum is None:
            self.low, self.high = torch.minimum(self.low, low), torch.maximum(self.high, high)
        else:
            self.low, self.high = self.low.lerp(low, 1 - self.momentum), self.high.lerp(high, 1 - self.momentum)
        if self.observer != "minmax":
            if len(flat) > SAMPLE:
                flat = flat[torch.randint(len(flat), (SAMPLE,), generator=self.generator).to(flat.device)]
            self.sample.append(flat.float().cpu())
        self.batches += 1
        self.values += values.numel()

    def range(self) -> tuple[Tensor, Tensor]:
        """Return the range to cover: float32, shape (), on the CPU.

        Raises
        ------
        ValueError
            If no batch was seen.
        """
        if not self.batches:
            raise ValueError("The observer has seen 0 batches, but it must see at least one before it knows a range.")
        if self.observer == "minmax":
            return self.low, self.high
        seen = torch.cat(self.sample)
        if len(seen) < self.values:  # with the extremes, which a sample is likely to miss
            seen = torch.cat([seen, torch.stack([self.low, self.high])])
        return observe(seen, self.observer, bits=self.bits, symmetric=self.symmetric, percentile=self.percentile)


def signal_to_noise_db(values: Tensor, restored: Tensor) -> float:
    """Return 10 · log₁₀(Σ x² / Σ (x − x̂)²): how many times the values outweigh their errors, in decibels.

    Infinite where nothing changed. Compare with `uniform_noise_line`.

    Raises
    ------
    ValueError
        If the shapes differ, or ``values`` hold nothing but zeros or NaN.

    Examples
    --------
    >>> signal_to_noise_db(torch.tensor([10.0, -10.0]), torch.tensor([11.0, -9.0]))
    20.0
    """
    if values.shape != restored.shape:
        raise ValueError(
            f"restored has shape {tuple(restored.shape)}, but it must be that of values, {tuple(values.shape)}."
        )
    before, after = values.detach().cpu().double(), restored.detach().cpu().double()
    signal, noise = before.square().sum().item(), (before - after).square().sum().item()
    if not signal > 0 or not math.isfinite(signal):
        raise ValueError(f"values have a sum of squares of {signal:g}, but it must be a finite number above 0.")
    return math.inf if noise == 0 else 10 * math.log10(signal / noise)


def uniform_noise_line(bits: int) -> float:
    """Return the decibels of values spread evenly over the whole grid: 20 · log₁₀ 2 ≈ 6.02 for each bit.

    Each bit halves the step, so the error, evenly spread over one step, halves too. Values that are not spread evenly
    lie below this line, by the same distance at any number of bits: a bell curve uses the ends of its range little.

    Examples
    --------
    >>> round(uniform_noise_line(8), 2)
    48.16
    """
    return 20 * math.log10(2) * require_integer("bits", bits)


def _require_finite(low: Tensor, high: Tensor) -> None:
    if not (low.isfinite().all() and high.isfinite().all()):
        raise ValueError("values hold NaN or infinity, but every value must be a finite number.")


def _quantiles(rows: Tensor, share: float) -> Tensor:
    # Not torch.quantile, which refuses more than 16 million values; and not kthvalue, which orders more than the tail.
    count, position = rows.shape[1], share * (rows.shape[1] - 1)
    below, above = math.floor(position), math.ceil(position)
    if 2 * position < count:
        tail = rows.topk(above + 1, dim=1, largest=False).values
    else:
        tail = rows.topk(count - below, dim=1).values
        below, above = count - 1 - below, count - 1 - above
    return torch.lerp(tail[:, below], tail[:, above], position - math.floor(position))


def _least_squared_error(rows: Tensor, lowest: int, highest: int, *, symmetric: bool) -> tuple[Tensor, Tensor]:
    low, high = rows.amin(1), rows.amax(1)
    shrinks = torch.from_numpy(_SHRINKS).to(rows)
    lows, highs = (low[:, None] * shrinks).clamp(max=0), (high[:, None] * shrinks).clamp(min=0)
    if symmetric:
        scales = torch.maximum(-lows, highs) / highest
    else:
        scales = (highs - lows) / (highest - lowest)
    scales = scales.clamp(min=torch.finfo(torch.float32).tiny)
    zeros = torch.zeros_like(scales) if symmetric else lowest - (lows / scales).round()
    levels = highest - lowest + 1
    if _VALUES_A_LEVEL * levels > rows.shape[1]:
        best = _best_by_value(rows, scales, zeros, lowest, highest)
    else:
        some = max(1, _MOST_CELLS // (len(_SHRINKS) * levels))
        parts = zip(rows.split(some), scales.split(some), zeros.split(some), strict=True)
        best = torch.cat([_best_by_cell(*part, lowest, highest) for part in parts])
    return low * shrinks[best], high * shrinks[best]


def _best_by_value(rows: Tensor, scales: Tensor, zeros: Tensor, lowest: int, highest: int) -> Tensor:
    """Return which of its grids, ever narrower ones, has the least sum of squared errors: int64, shape (rows,).

    A row is done once clipping alone, of which a narrower grid has more, costs more than the best so far.
    """
    # Rows shorter than they are many lie side by side: otherwise each would be a loop of its own.
    along = 0 if len(rows) > rows.shape[1] else 1
    values, shifted = rows if along else rows.T.contiguous(), bool(zeros.any())
    scales, zeros = scales.T.contiguous(), zeros.T.contiguous()
    left, chosen, least = _nothing_yet(rows)
    for index in range(len(scales)):
        scale, zero = (numbers[index][left].unsqueeze(along) for numbers in (scales, zeros))
        steps = (values / scale).round_()
        steps = steps.add_(zero).clamp_(lowest, highest).sub_(zero) if shifted else steps.clamp_(lowest, highest)
        errors = steps.mul_(scale).sub_(values).square_().sum(along)
        chosen[left[errors < least]] = index
        least = torch.minimum(least, errors)
        if index % _FEW_GRIDS == _FEW_GRIDS - 1:
            still = (_least_clipped(values, scale, zero, lowest, highest, along) <= least).nonzero().flatten()
            if not len(still):
                break
            left, least, values = left[still], least[still], values.index_select(1 - along, still)
    return chosen


def _best_by_cell(rows: Tensor, scales: Tensor, zeros: Tensor, lowest: int, highest: int) -> Tensor:
    """Return what `_best_by_value` does, in the time of a search for each level: a level's values lie together.

    With r the level, Σ (x − r)² = Σ x² − 2 r Σ x + n r², and the sums over sorted values are differences.
    """
    # NumPy sorts many times faster than torch does on a processor.
    on_cpu = rows.device.type == "cpu"
    ordered = (torch.from_numpy(np.sort(rows.numpy(), axis=1)) if on_cpu else rows.sort(1).values).double()
    sums = torch.cat([ordered.new_zeros(len(ordered), 1), ordered.cumsum(1)], dim=1)
    squares = ordered.square().sum(1, keepdim=True)
    steps = torch.arange(lowest, highest + 1, device=rows.device)
    left, chosen, least = _nothing_yet(ordered)
    every = scales.shape[1]
    at_once = _MANY_GRIDS if len(steps) > 16 else every  # with few levels, to ask costs more than to go on
    for first in range(0, every, at_once):
        some = slice(first, first + at_once)
        scale, zero = scales[left, some], zeros[left, some]
        levels = (scale[..., None] * (steps - zero[..., None])).double()
        borders = (levels[..., :-1] + levels[..., 1:]) / 2
        inner = torch.searchsorted(ordered, borders.flatten(1)).reshape(borders.shape)
        ends = torch.cat([torch.zeros_like(inner[..., :1]), inner, torch.full_like(inner[..., :1], rows.shape[1])], 2)
        totals = sums.gather(1, ends.flatten(1)).reshape(ends.shape).diff(dim=2)
        errors = squares + (levels * (levels * ends.diff(dim=2) - 2 * totals)).sum(2)
        best = errors.min(1)
        better = best.values < least
        chosen[left[better]] = first + best.indices[better]
        least = torch.minimum(least, best.values)
        if first + at_once >= every:
            break
        clipped = _least_clipped(ordered, scale[:, -1:], zero[:, -1:], lowest, highest, 1)
        still = (clipped <= least).nonzero().flatten()
        if not len(still):
            break
        if len(still) < len(left):
            left, least, ordered, sums, squares = (each[still] for each in (left, least, ordered, sums, squares))
    return chosen


def _nothing_yet(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return which rows are still looked at, the grid chosen for each, and its error."""
    every = torch.arange(len(rows), device=rows.device)
    return every, torch.zeros_like(every), torch.full_like(rows[:, 0], torch.inf)


def _least_clipped(values: Tensor, scale: Tensor, zero: Tensor, lowest: int, highest: int, along: int) -> Tensor:
    """Return what clipping costs every narrower grid at least: zero points are rounded, hence a step on each side."""
    clamped = values.clamp(scale * (lowest - 1 - zero), scale * (highest + 1 - zero))
    return 0.999 * (values - clamped).square_().sum(along)


def _least_divergence(magnitudes: np.ndarray, levels: int) -> float:
    """Return the bound of Migacz: of 2048 bins, cut at every 16th from ``levels`` on.

    P is the histogram with what is clipped in its last bin; Q is it without that (or clipping would cost nothing), each
    level of the grid spread evenly over its bins that are not empty. Σ P log(P / Q) is taken apart: Q is the same in
    all bins of a level, so sums over levels, which are differences of cumulated counts, do for all cuts at once.
    """
    largest = float(magnitudes.max())
    if largest == 0 or levels >= _BINS:
        return largest
    counts, edges = np.histogram(magnitudes, bins=_BINS, range=(0, largest))
    counts[0] = 0  # Exact zeros have their own number on every grid and say nothing about the bound.
    total = counts.sum()
    if not total:
        return largest
    cuts = np.arange(max(levels, 16), _BINS + 1, 16)[:, None]
    borders = -(-np.arange(levels + 1) * cuts // levels)  # bin i of a cut is in level ⌊i · levels / cut⌋
    inside, filled = (np.concatenate([[0], each.cumsum()])[borders] for each in (counts, counts > 0))
    in_level, kept = np.diff(inside), inside[:, -1:]
    q = in_level / np.maximum(np.diff(filled), 1) / np.maximum(kept, 1)
    log_q = np.log(np.maximum(q, _LEAST_SHARE))
    last, clipped = counts[cuts - 1], total - kept
    log_q_last = np.where(last > 0, log_q[:, -1:], math.log(_LEAST_SHARE))
    before = np.concatenate([[0.0], _n_log_n(counts).cumsum()])[cuts - 1]
    divergence = before + _n_log_n(last + clipped) - (in_level * log_q).sum(1, keepdims=True) - clipped * log_q_last
    return float(edges[cuts[divergence.argmin(), 0]])


def _n_log_n(counts: np.ndarray) -> np.ndarray:
    return counts * np.log(np.maximum(counts, 1))
