"""How much to prune each layer, so that a limit is kept and as little accuracy as possible is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nnopt_lab.arguments import require_number
from nnopt_lab.pruning.sensitivity import Sensitivity

CELLS = 10_000
"""The limit is cut into this many parts, and the cost of each layer counted in whole ones."""


def solve_budget(
    sensitivity: Sensitivity, costs: Mapping[str, float | Sequence[float]], *, limit: float
) -> dict[str, float]:
    """Choose one of the measured rates, or 0, for each layer: the least summed loss of accuracy within ``limit``.

    A layer costs the share of its weights that stays, times its cost when whole, or what is given for each rate. What
    it loses is the number of pictures that `measure_sensitivity` saw go wrong, made to grow with the rate. Many plans
    lose equally few; of those the one with the smallest sum of squared rates wins, which is gentle on every layer.
    Adding losses up takes layers for independent, which they are not: measure the result.

    One of several choices for each of several layers under a limit is the multiple-choice knapsack problem, here
    solved by its dynamic program over cells of cost (see `CELLS`). With costs rounded down, its plan is the best of all
    if it keeps the limit. If not, costs are rounded up: then the limit holds, and a better plan is missed only if it
    comes closer to the limit than one cell a layer.

    Parameters
    ----------
    sensitivity : Sensitivity
        Complete, from `measure_sensitivity`.
    costs : mapping of float or sequence of float
        Of each layer: multiply–accumulates (or whatever shrinks with the weights) when whole, or one cost when whole
        and one for each measured rate, as bytes by `nnopt_lab.sparse_storage.storage_costs`. A layer that was not
        measured stays whole.
    limit : float
        What the layers of ``costs`` may cost together, never exceeded.

    Returns
    -------
    dict of float
        A rate for each measured layer, for ``choose_masks(rates=...)``.

    Raises
    ------
    ValueError
        If the cost of a measured layer is missing, a cost is negative, there is not one for each rate, the
        measurement is not complete, or even the highest rates cost more than ``limit``.
    """
    limit = require_number("limit", limit, at_least=0)
    for name in sensitivity.layers:
        if name not in costs:
            raise ValueError(f"costs has no entry for {name!r}, but it must have one for each measured layer.")
    for name, cost in costs.items():
        for number in np.atleast_1d(cost).tolist():
            require_number(f"costs[{name!r}]", number, at_least=0)
    if np.isnan(sensitivity.accuracies).any():
        raise ValueError("sensitivity is not complete: it holds NaN, but every layer and rate must be measured.")
    rates = np.concatenate([[0.0], sensitivity.rates])
    # The squares of all layers together weigh less than one picture.
    losses = _pictures_lost(sensitivity) + rates**2 / (len(sensitivity.layers) + 1)
    kept = np.concatenate([np.ones((len(losses), 1)), sensitivity.kept_shares], axis=1)
    layer_costs = np.stack(
        [_cost_by_rate(name, costs[name], shares) for name, shares in zip(sensitivity.layers, kept, strict=True)]
    )
    free = limit - sum(float(np.atleast_1d(costs[name])[0]) for name in costs if name not in sensitivity.layers)
    free += 1e-12 * limit  # or a plan that just fits would fail for the last bit of a sum
    least = layer_costs.min(axis=1).sum()
    if least > free:
        raise ValueError(
            f"limit is {limit:g}, but the highest measured rates of all layers still cost {limit - free + least:g}."
        )
    options = layer_costs.argmin(axis=1)  # what is left if rounding up takes all else away
    layers = np.arange(len(options))
    for round_cells in (np.floor, np.ceil):
        cells = round_cells(layer_costs / max(free, 1e-9) * CELLS).clip(0, CELLS + 1).astype(int)
        found = _least_loss(losses, cells)
        if found is not None and layer_costs[layers, found].sum() <= free:
            options = found
            break
    return {name: float(rates[option]) for name, option in zip(sensitivity.layers, options, strict=True)}


def _cost_by_rate(name: str, cost: float | Sequence[float], kept: np.ndarray) -> np.ndarray:
    """Return what a layer costs when whole and at each measured rate; ``kept`` are the shares that stay."""
    if np.ndim(cost) == 0:
        return cost * kept
    if len(cost) != len(kept):
        raise ValueError(
            f"costs[{name!r}] holds {len(cost)} numbers, but it must hold {len(kept)}: rate 0 and each rate."
        )
    return np.asarray(cost, dtype=float)


def _least_loss(losses: np.ndarray, cells: np.ndarray) -> np.ndarray | None:
    """Return the option of each layer with the least loss for at most `CELLS` cells, or None if that is too few.

    Parameters
    ----------
    losses, cells : ndarray
        What each option loses and costs: shape (layers, options), float64 and int64.
    """
    best = np.zeros(CELLS + 1)  # the least loss so far for at most as many cells as the index
    choices = []
    for losses_of, cells_of in zip(losses, cells, strict=True):
        totals = np.full((len(losses_of), CELLS + 1), np.inf)
        for total, loss, taken in zip(totals, losses_of, cells_of, strict=True):
            total[taken:] = best[: CELLS + 1 - taken] + loss
        choices.append(totals.argmin(axis=0))
        best = totals.min(axis=0)
    if np.isinf(best[CELLS]):
        return None
    left, options = CELLS, []
    for choice, cells_of in zip(choices[::-1], cells[::-1], strict=True):
        options.append(choice[left])
        left -= cells_of[options[-1]]
    return np.array(options[::-1])


def _pictures_lost(sensitivity: Sensitivity) -> np.ndarray:
    """Return how many pictures each rate loses, 0 first and never falling: int64, shape (layers, rates + 1)."""
    drops = np.rint((sensitivity.baseline - sensitivity.accuracies) * sensitivity.pictures).astype(int)
    drops = np.concatenate([np.zeros((len(drops), 1), dtype=int), drops], axis=1)
    return np.maximum.accumulate(drops, axis=1)
