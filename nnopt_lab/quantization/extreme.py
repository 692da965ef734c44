"""Weights of two or three numbers, and products of nothing but signs: binary, ternary, XNOR-Net.

Where both factors are −1 or 1, a product says whether two signs agree. So a dot product of n of them is counting:
2 · (how many agree) − n, that is an XNOR of bits and a count of ones, 8 products in one operation on a byte.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nnopt_lab.arguments import require_integer
from nnopt_lab.quantization.grids import Grid, as_rows, value_range

_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.int32)
"""How many bits of a byte are 1."""

TERNARY_THRESHOLD = 0.7
"""Times the mean of |w|; nearly the best for normal and evenly spread weights (Li et al., 2016)."""


def binarize(weight: Tensor, *, axis: int | None = 0) -> Grid:
    """Return the grid of −α and α, with α the mean of |w| (Rastegari et al., 2016, arXiv:1603.05279, equation 6).

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


def pack_signs(values: Tensor) -> np.ndarray:
    """Return a bit for each number, 1 where it is 0 or more: uint8, shape (\\*leading, ⌈n / 8⌉) for (\\*leading, n).

    The last byte of a row is filled up with zeros.

    Raises
    ------
    ValueError
        If ``values`` has no dimension or holds NaN.

    Examples
    --------
    >>> pack_signs(torch.tensor([0.7, -0.2, 1.5, -0.4])).tolist()  # 1010 0000
    [160]
    """
    if not values.ndim or values.isnan().any():
        raise ValueError(f"values has shape {tuple(values.shape)}, but it must be rows of numbers, none of them NaN.")
    return np.packbits((values.detach() >= 0).cpu().numpy(), axis=-1)


def sign_product(x: Tensor, weight: Tensor) -> Tensor:
    """Return Σ sign(x) · sign(w) for each row of ``x`` and each row of ``weight``, computed from bits alone.

    Parameters
    ----------
    x : Tensor
        Shape (rows, inputs). A 0 counts as positive, as in `binarize`.
    weight : Tensor
        Shape (outputs, inputs).

    Returns
    -------
    Tensor
        int32, shape (rows, outputs): exactly what the matrix product of the signs would be.

    Raises
    ------
    ValueError
        If the shapes do not fit or a number is NaN.

    Examples
    --------
    >>> sign_product(torch.tensor([[0.7, -0.2, 1.5, -0.4]]), torch.tensor([[0.5, 0.3, 0.2, -0.9]])).tolist()
    [[2]]
    """
    if x.ndim != 2 or weight.ndim != 2 or x.shape[1] != weight.shape[1]:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, but with a weight of shape {tuple(weight.shape)} it must be (rows, inputs) "
            "and (outputs, inputs)."
        )
    inputs = x.shape[1]
    ours, theirs = pack_signs(x), pack_signs(weight)
    filled = -inputs % 8  # zeros at the end of both, which agree
    agree = np.empty((len(ours), len(theirs)), dtype=np.int32)
    for output, bits in enumerate(theirs):
        agree[:, output] = _ONES[~(ours ^ bits)].sum(1) - filled
    return torch.from_numpy(2 * agree - inputs)


def xnor_conv2d(x: Tensor, weight: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
    """Return the convolution of an XNOR-Net: of signs, by `sign_product`, times a factor for each place and channel.

    x ∗ w ≈ (sign x ⊛ sign w) · K · α, with α the mean of |w| of an output channel, as in `binarize`, and K the mean of
    |x| under the window (Rastegari et al., 2016, arXiv:1603.05279, equations 10 and 11). Behind a ReLU all signs are
    the same; hence batch norm comes right before it there.

    Parameters
    ----------
    x : Tensor
        Pictures, shape (n, channels, height, width).
    weight : Tensor
        Shape (outputs, channels, size, size).
    stride, padding : int
        As in `torch.nn.functional.conv2d`. The zeros around the picture have the sign 1 and the magnitude 0.

    Returns
    -------
    Tensor
        float32, shape (n, outputs, height, width), on the CPU.

    Raises
    ------
    ValueError
        If the shapes do not fit, a number is not finite, or an argument is out of range.

    Examples
    --------
    >>> x = torch.tensor([[[[2.0, -4.0], [4.0, 6.0]]]])
    >>> xnor_conv2d(x, torch.tensor([[[[0.5, -0.5], [0.1, 0.1]]]])).item()  # all 4 agree: 4 · 4.0 · 0.3
    4.800000190734863
    """
    stride = require_integer("stride", stride)
    padding = require_integer("padding", padding, at_least=0)
    if x.ndim != 4 or weight.ndim != 4 or x.shape[1] != weight.shape[1]:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, but with a weight of shape {tuple(weight.shape)} it must be (n, channels, "
            "height, width) and (outputs, channels, size, size)."
        )
    size = weight.shape[2:]
    if any(side + 2 * padding < window for side, window in zip(x.shape[2:], size, strict=True)):
        raise ValueError(
            f"x has pictures of {x.shape[2]} × {x.shape[3]}, padding {padding}, but they must hold a window of "
            f"{size[0]} × {size[1]}."
        )
    _finite_rows(x, None, name="x")
    rows, alpha = _finite_rows(weight, 0).cpu(), binarize(weight).scale.cpu()
    windows = F.unfold(x.detach().float().cpu(), tuple(size), padding=padding, stride=stride).transpose(1, 2)
    signs = sign_product(windows.flatten(0, 1), rows).reshape(*windows.shape[:2], len(rows))
    out = signs * windows.abs().mean(2, keepdim=True) * alpha
    height = (x.shape[2] + 2 * padding - size[0]) // stride + 1
    return out.transpose(1, 2).reshape(len(x), len(rows), height, -1)


def _finite_rows(values: Tensor, axis: int | None, *, name: str = "weight") -> Tensor:
    low, high = value_range(values, axis=axis)
    if not (low.isfinite().all() and high.isfinite().all()):
        raise ValueError(f"{name} holds NaN or infinity, but it must hold finite numbers.")
    return as_rows(values.detach().float(), axis=axis)


def _grid(scale: Tensor, axis: int | None, *, bits: int) -> Grid:
    scale = scale if axis is not None else scale[0]
    scale = torch.where(scale < torch.finfo(torch.float32).tiny, 1.0, scale) if bits > 1 else scale
    return Grid(scale, torch.zeros_like(scale, dtype=torch.int32), bits, -1, 1, axis)
