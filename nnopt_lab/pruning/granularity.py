"""What is removed at once: a single weight, n of every m, a kernel or a whole channel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nnopt_lab.arguments import require_choice, require_integer

GRANULARITIES = ("weight", "n:m", "kernel", "channel")
"""Units, from fine to coarse.

``"weight"``: each weight on its own. ``"n:m"``: n weights stay of every m consecutive inputs (Mishra et al., 2021,
arXiv:2104.08378; GPUs run 2:4). ``"kernel"``: the 2-D slice of a filter that looks at one input channel; of a linear
layer, a row. ``"channel"``: a filter, or the row of a neuron.
"""


def unit_scores(scores: Tensor, granularity: str) -> Tensor:
    """Return one score for each unit of a layer: the mean over its weights.

    A mean, not a sum, so that units of different sizes can be compared: a 1×1 kernel is one weight, a 3×3 kernel nine.
    Within a layer it makes no difference.

    Parameters
    ----------
    scores : Tensor
        One score for each weight: shape (out, in, height, width) or (out, in).
    granularity : str
        One of `GRANULARITIES`.

    Returns
    -------
    Tensor
        For ``"weight"`` and ``"n:m"``, ``scores`` itself; for ``"kernel"``, shape (out, in), or (out,) of a linear
        layer; for ``"channel"``, shape (out,).

    Raises
    ------
    ValueError
        If ``granularity`` is unknown.

    Examples
    --------
    >>> import torch
    >>> unit_scores(torch.tensor([[1.0, 3.0], [0.0, 5.0]]), "channel").tolist()
    [2.0, 2.5]
    """
    dims = _dims_of_unit(scores.ndim, granularity)
    return scores.mean(dims) if dims else scores


def spread_over_weights(units: Tensor, shape: Sequence[int], granularity: str) -> Tensor:
    """Give each weight of a layer what its unit has: `unit_scores` backwards.

    Parameters
    ----------
    units : Tensor
        One value for each unit, of any type, shaped as by `unit_scores`.
    shape : sequence of int
        Of the layer's weight.

    Returns
    -------
    Tensor
        Shape ``shape``; a view of ``units``.
    """
    for dim in _dims_of_unit(len(shape), granularity):
        units = units.unsqueeze(dim)
    return units.expand(*shape)


def unit_shape(shape: Sequence[int], granularity: str) -> tuple[int, ...]:
    """Return the shape of `unit_scores` for a weight of shape ``shape``."""
    dims = _dims_of_unit(len(shape), granularity)
    return tuple(size for dim, size in enumerate(shape) if dim not in dims)


def keep_n_of_m(scores: Tensor, *, n: int = 2, m: int = 4) -> Tensor:
    """Keep the ``n`` highest scores of every ``m`` consecutive inputs; of equal ones, the later.

    Parameters
    ----------
    scores : Tensor
        Shape (out, in, height, width) or (out, in). In a convolution, the m weights of a group look at the same pixel
        of m consecutive input channels.

    Returns
    -------
    Tensor
        bool, the shape of ``scores``: True is kept.

    Raises
    ------
    ValueError
        If ``n`` is not below ``m`` or the inputs do not come in whole groups of ``m``.

    Examples
    --------
    >>> import torch
    >>> keep_n_of_m(torch.tensor([[0.1, -9.0, 0.7, 0.3]]).abs()).int().tolist()
    [[0, 1, 1, 0]]
    """
    m = require_integer("m", m, at_least=2)
    n = require_integer("n", n, at_most=m - 1)
    inputs = scores.shape[1]
    if inputs % m:
        raise ValueError(f"m is {m}, but it must divide the number of inputs, which is {inputs}.")
    groups = scores.unflatten(1, (inputs // m, m))
    lowest = groups.argsort(dim=2, stable=True).narrow(2, 0, m - n)
    return torch.ones_like(groups, dtype=torch.bool).scatter_(2, lowest, False).flatten(1, 2)


def _dims_of_unit(ndim: int, granularity: str) -> tuple[int, ...]:
    """Return the dimensions of a weight that run within a unit."""
    require_choice("granularity", granularity, GRANULARITIES)
    if granularity == "channel":
        return tuple(range(1, ndim))
    if granularity == "kernel":
        return (2, 3) if ndim == 4 else (1,)
    return ()
