"""Convolutions and linear layers in whole numbers alone, as an integer processor runs them.

With x = s₁(q₁ − z₁), w = s₂ q₂ (symmetric) and y = s₃(q₃ − z₃), a layer y = Σ w x + b becomes

    q₃ = z₃ + M · (Σ q₂ (q₁ − z₁) + q_b),   M = s₁ s₂ / s₃,   q_b = round(b / (s₁ s₂))

(Jacob et al., 2018, arXiv:1712.05877, equations 4–7). The sum is of whole numbers and kept in 32 bits. M is the one
real number left; it is replaced by a whole number and a shift: M ≈ multiplier · 2^−shift.

A ReLU behind the layer costs nothing: a grid for outputs that starts at 0 clips what is negative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnopt_lab.quantization.grids import Grid, integer_type, quantize

LARGEST_SUM = 2**31 - 1
"""Of an int32. A product of 8 bits is at most 127 · 255, so 66 311 of them always fit; ResNet-20 adds up 576."""


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """A convolution or linear layer that takes and gives whole numbers, from `integer_layer`.

    Attributes
    ----------
    weight : Tensor
        int8 (int16, int32 beyond 8 bits), shape of the layer's weight.
    bias : Tensor
        int32, shape (out,), in units of s₁ s₂.
    multiplier, shift : Tensor
        int64, shape (out,): M ≈ multiplier · 2^−shift, with 2³⁰ ≤ multiplier < 2³¹.
    input_grid, output_grid : Grid
        One for the whole tensor.
    largest_sum : int
        What a sum can come to at worst, in absolute value; at most `LARGEST_SUM`.
    stride, padding, dilation : tuple of int or None
        Of a convolution; None for a linear layer.
    groups : int
        Of a convolution.
    """

    weight: Tensor
    bias: Tensor
    multiplier: Tensor
    shift: Tensor
    input_grid: Grid
    output_grid: Grid
    largest_sum: int
    stride: tuple[int, ...] | None = None
    padding: tuple[int, ...] | None = None
    dilation: tuple[int, ...] | None = None
    groups: int = 1

    def accumulate(self, integers: Tensor) -> Tensor:
        """Return Σ q₂ (q₁ − z₁) + q_b as int32, shape of the output, from whole numbers of ``input_grid``.

        Raises
        ------
        ValueError
            If a number is none of ``input_grid``: then sums might overflow.
        """
        integers = integers.to(torch.int32)
        grid = self.input_grid
        if integers.numel() and not grid.lowest <= integers.min() <= integers.max() <= grid.highest:
            raise ValueError(
                f"integers reach from {integers.min()} to {integers.max()}, but the numbers of input_grid only from "
                f"{grid.lowest} to {grid.highest}."
            )
        centered = integers - grid.zero_point
        if self.stride is None:
            return centered @ self.weight.to(torch.int32).T + self.bias
        return _convolve(centered, self)

    def __call__(self, integers: Tensor) -> Tensor:
        """Map whole numbers of ``input_grid`` to whole numbers of ``output_grid``."""
        sums = self.accumulate(integers)
        channel = (-1, 1, 1) if self.stride is not None else (-1,)
        scaled = requantize(sums, self.multiplier.reshape(channel), self.shift.reshape(channel))
        grid = self.output_grid
        return (scaled + grid.zero_point).clamp(grid.lowest, grid.highest).to(integer_type(grid))


def integer_layer(
    layer: nn.Conv2d | nn.Linear, *, weight_grid: Grid, input_grid: Grid, output_grid: Grid
) -> IntegerLayer:
    """Turn ``layer`` into whole numbers.

    Parameters
    ----------
    weight_grid : Grid
        Symmetric (every zero point is 0); one for the tensor, or one for each output channel (``axis=0``).
    input_grid, output_grid : Grid
        One for the whole tensor.

    Raises
    ------
    ValueError
        If a grid is of another kind, the layer pads with anything but zeros, or a sum or a bias might not fit into
        32 bits; the message says by how much.

    Examples
    --------
    >>> from nnopt_lab.quantization import choose_grid, dequantize, grid_for
    >>> layer = nn.Linear(2, 1)
    >>> layer.weight.data, layer.bias.data = torch.tensor([[0.5, -1.0]]), torch.tensor([0.25])
    >>> grid = choose_grid(0.0, 2.55, bits=8, symmetric=False)  # steps of 0.01
    >>> whole = integer_layer(layer, weight_grid=grid_for(layer.weight, bits=8), input_grid=grid, output_grid=grid)
    >>> whole.weight.tolist(), whole(torch.tensor([[200, 30]])).tolist()  # 0.5 · 2 − 1 · 0.3 + 0.25 = 0.95
    ([[64, -127]], [[96]])
    """
    for name, grid in (("input_grid", input_grid), ("output_grid", output_grid)):
        if grid.axis is not None:
            raise ValueError(f"{name} has axis {grid.axis}, but it must be one grid for the whole tensor.")
    if weight_grid.axis not in (None, 0) or weight_grid.group is not None or weight_grid.zero_point.any():
        raise ValueError(
            f"weight_grid has axis {weight_grid.axis}, group {weight_grid.group} and zero points up to "
            f"{weight_grid.zero_point.abs().max()}, but it must be symmetric, for the whole weight or with axis=0."
        )
    weight = quantize(layer.weight.detach(), weight_grid)
    outputs = len(weight)
    unit = (input_grid.scale.double() * weight_grid.scale.double()).expand(outputs)
    real_bias = torch.zeros(outputs) if layer.bias is None else layer.bias.detach()
    bias = (real_bias.double() / unit).round()
    furthest = max(
        input_grid.highest - int(input_grid.zero_point), int(input_grid.zero_point) - input_grid.lowest
    )  # the largest |q₁ − z₁|
    worst = weight.flatten(1).double().abs().sum(1) * furthest + bias.abs()
    if worst.max() > LARGEST_SUM:
        raise ValueError(
            f"A sum of the layer can reach {worst.max().item():.3g}, but an int32 holds at most {LARGEST_SUM:.3g}; "
            "take fewer bits for weights or inputs."
        )
    parts = [fixed_point(factor) for factor in (unit / output_grid.scale.double()).tolist()]
    multiplier, shift = torch.tensor(parts).T
    options = {}
    if isinstance(layer, nn.Conv2d):
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise ValueError(
                f"The layer has padding {layer.padding!r} of mode {layer.padding_mode!r}, but it must be numbers of "
                "pixels, of mode 'zeros'."
            )
        options = dict(stride=layer.stride, padding=layer.padding, dilation=layer.dilation, groups=layer.groups)
    bias = bias.to(torch.int32)
    return IntegerLayer(weight, bias, multiplier, shift, input_grid, output_grid, int(worst.max()), **options)


def fixed_point(factor: float) -> tuple[int, int]:
    """Return (multiplier, shift) with factor ≈ multiplier · 2^−shift and 2³⁰ ≤ multiplier < 2³¹.

    Off by at most one part in 2³¹ (Jacob et al., 2018, equation 6, where the shift counts from 31).

    Raises
    ------
    ValueError
        If ``factor`` is not above 2⁻³¹ and below 2³⁰: grids that differ that much do not belong to one layer.

    Examples
    --------
    >>> fixed_point(0.75), 1610612736 / 2**31
    ((1610612736, 31), 0.75)
    """
    if not 2.0**-31 < factor < 2.0**30:
        raise ValueError(f"factor is {factor:g}, but it must be above 2⁻³¹ and below 2³⁰.")
    mantissa, exponent = math.frexp(factor)  # 0.5 ≤ mantissa < 1
    multiplier = round(mantissa * 2**31)
    if multiplier == 2**31:
        multiplier, exponent = 2**30, exponent + 1
    return multiplier, 31 - exponent


def requantize(sums: Tensor, multiplier: Tensor, shift: Tensor) -> Tensor:
    """Return sums · multiplier · 2^−shift rounded to whole numbers, with integer arithmetic alone.

    Half a unit is added before the shift, which drops what is behind the point. The product needs 62 bits.

    Parameters
    ----------
    sums : Tensor
        int32.
    multiplier, shift : Tensor
        int64, as from `fixed_point`; shapes that broadcast with ``sums``.

    Returns
    -------
    Tensor
        int64.

    Examples
    --------
    >>> requantize(torch.tensor([-3, -2, 2, 3]), *torch.tensor(fixed_point(0.75))).tolist()  # −2.25, −1.5, 1.5, 2.25
    [-2, -1, 2, 2]
    """
    half = torch.bitwise_left_shift(torch.ones_like(shift), shift - 1)
    return torch.bitwise_right_shift(sums.to(torch.int64) * multiplier + half, shift)


def _convolve(centered: Tensor, layer: IntegerLayer) -> Tensor:
    """Convolve int32 pictures, shape (n, in, h, w): torch's own convolution knows real numbers only."""
    weight = layer.weight.to(torch.int32)
    (rows, columns), (down, right) = layer.padding, layer.stride
    # A zero of padding stands for the real 0: after z₁ is taken off, that is 0.
    padded = F.pad(centered, (columns, columns, rows, rows))
    reach = [gap * (size - 1) + 1 for gap, size in zip(layer.dilation, weight.shape[2:], strict=True)]
    patches = padded.unfold(2, reach[0], down).unfold(3, reach[1], right)
    patches = patches[..., :: layer.dilation[0], :: layer.dilation[1]]  # (n, in, h, w, kernel rows, kernel columns)
    parts = []
    for inputs, filters in zip(patches.chunk(layer.groups, 1), weight.chunk(layer.groups), strict=True):
        matrix = inputs.permute(0, 2, 3, 1, 4, 5).flatten(3)
        parts.append(matrix @ filters.flatten(1).T)
    return torch.cat(parts, 3).permute(0, 3, 1, 2) + layer.bias[:, None, None]
