"""Masks: which weights stay, chosen by rate or by threshold, in one layer or across the network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from nnopt_lab.arguments import require_choice, require_number
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.pruning.criteria import CRITERIA, score_weights
from nnopt_lab.pruning.granularity import GRANULARITIES, keep_n_of_m, spread_over_weights, unit_scores
from nnopt_lab.pruning.prunable import chosen_layers, prunable_layers

SCOPES = ("global", "layer")
"""Whether the units of all layers compete with each other, or each layer loses the same share."""


@dataclass(frozen=True, eq=False)
class Masks:
    """Which weights of a network stay.

    A mask saves nothing by itself: the zeros are stored and multiplied like all other numbers.

    Attributes
    ----------
    masks : dict of Tensor
        For each layer, bool, shape of its weight; True stays.
    """

    masks: dict[str, Tensor]

    @classmethod
    def of_zeros(cls, model: nn.Module) -> Masks:
        """Return the masks that are there already: every weight of ``model`` that is not exactly 0 stays."""
        return cls({name: layer.weight.detach() != 0 for name, layer in prunable_layers(model).items()})

    @property
    def total(self) -> int:
        """How many weights the masks are for."""
        return sum(mask.numel() for mask in self.masks.values())

    @property
    def kept(self) -> int:
        """How many of them stay."""
        return sum(int(mask.count_nonzero()) for mask in self.masks.values())

    @property
    def sparsity(self) -> float:
        """Share of the weights that go, 0–1."""
        return 1 - self.kept / self.total

    def sparsity_by_layer(self) -> dict[str, float]:
        """Return the share of each layer's weights that go, 0–1."""
        return {name: 1 - int(mask.count_nonzero()) / mask.numel() for name, mask in self.masks.items()}

    @torch.no_grad()
    def apply(self, model: nn.Module) -> None:
        """Set the weights that go to 0, in place. The next optimizer step moves them again: see `HoldMasks`.

        Raises
        ------
        ValueError
            If ``model`` lacks a layer of the masks, or a weight has another shape.
        """
        layers = prunable_layers(model)
        for name, mask in self.masks.items():
            require_choice("masks", name, layers)
            weight = layers[name].weight
            if weight.shape != mask.shape:
                raise ValueError(
                    f"the mask of {name!r} has shape {tuple(mask.shape)}, "
                    f"but it must have that of the weight, {tuple(weight.shape)}."
                )
            # Not weight * mask, which would leave −0 and keep NaN.
            weight.masked_fill_(~mask.to(weight.device), 0)


def choose_masks(
    model: nn.Module,
    *,
    rate: float | None = None,
    threshold: float | None = None,
    rates: Mapping[str, float] | None = None,
    criterion: str = "l1",
    granularity: str = "weight",
    scope: str = "global",
    layers: Iterable[str] | None = None,
    data: ImageData | None = None,
    scores: Mapping[str, Tensor] | None = None,
    n: int = 2,
    m: int = 4,
    pictures: int = 512,
    seed: int = 0,
) -> Masks:
    """Choose which weights of ``model`` stay; the model is not changed.

    Exactly one of ``rate``, ``threshold`` and ``rates`` is given; none for ``granularity="n:m"``, whose rate is
    1 − n/m.

    Parameters
    ----------
    rate : float
        Share of the units to remove, in [0, 1): of n units, exactly round(rate · n), those with the lowest scores.
        Among equal scores the first in the order of the layers and of their memory go.
    threshold : float
        Remove the units whose score is below it; a score equal to it stays. The sign of a weight plays no part.
    rates : mapping
        A rate for each of some layers. All others stay whole.
    criterion, data, pictures, seed
        As in `score_weights`.
    granularity : str
        One of `GRANULARITIES`.
    scope : str
        ``"global"``: ``rate`` is of all units together, so that layers lose different shares; ``"layer"``: of each.
    layers : iterable of str, optional
        Which layers to prune. Default: all, but for kernels and channels without the last one, whose rows are the
        classes.
    scores : mapping of Tensor, optional
        One score for each weight (lower goes first), instead of ``criterion``: as `score_weights` returns for this
        granularity, which need not be repeated for each new rate.
    n, m : int
        Of ``"n:m"``.

    Returns
    -------
    Masks
        For all prunable layers of the model; those that were not to be pruned stay whole.

    Raises
    ------
    ValueError
        If an argument is unknown or out of range, a layer would lose all its weights, scores are missing, not finite
        or of the wrong shape, ``m`` does not divide a layer's inputs, or ``model`` cannot be pruned.

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Linear(4, 1, bias=False)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([[0.5, -2.0, 0.1, -0.3]]))
    >>> choose_masks(layer, rate=0.5).masks[""].int().tolist()
    [[1, 1, 0, 0]]
    """
    require_choice("granularity", granularity, GRANULARITIES)
    require_choice("scope", scope, SCOPES)
    _require_one_goal(rate, threshold, rates, granularity, layers)
    chosen = chosen_layers(model, layers if rates is None else rates, granularity)
    if scores is None:
        require_choice("criterion", criterion, CRITERIA)
        scores = score_weights(model, criterion, granularity=granularity, data=data, pictures=pictures, seed=seed)
    weights = {name: layer.weight for name, layer in prunable_layers(model).items()}
    units = {name: unit_scores(_scores_of(scores, name, weights[name]), granularity) for name in chosen}
    if granularity == "n:m":
        kept = {name: _keep_n_of_m(name, scored, n=n, m=m) for name, scored in units.items()}
    elif threshold is not None:
        kept = {name: scored >= threshold for name, scored in units.items()}
    elif rates is not None:
        kept = {name: keep_highest(scored, rates[name]) for name, scored in units.items()}
    elif scope == "layer":
        kept = {name: keep_highest(scored, rate) for name, scored in units.items()}
    else:
        together = keep_highest(torch.cat([scored.flatten() for scored in units.values()]), rate)
        parts = together.split([scored.numel() for scored in units.values()])
        kept = {name: part.reshape(scored.shape) for (name, scored), part in zip(units.items(), parts, strict=True)}
    for name, mask in kept.items():
        if not mask.any():
            raise ValueError(_whole_layer_message(name, rate, threshold, rates))
    masks = {name: torch.ones(weight.shape, dtype=torch.bool, device=weight.device) for name, weight in weights.items()}
    for name, mask in kept.items():
        masks[name].copy_(spread_over_weights(mask, weights[name].shape, granularity))
    return Masks(masks)


def keep_highest(scores: Tensor, rate: float) -> Tensor:
    """Return True for all but the round(rate · n) lowest of n scores; among equal ones the first go.

    Parameters
    ----------
    scores : Tensor
        float, any shape, finite.
    rate : float
        In [0, 1).

    Returns
    -------
    Tensor
        bool, the shape of ``scores``.

    Examples
    --------
    >>> import torch
    >>> keep_highest(torch.tensor([0.3, 0.1, 0.1, 0.1, 0.5]), 0.4).int().tolist()
    [1, 0, 0, 1, 1]
    """
    flat = scores.flatten()
    count = round(require_number("rate", rate, at_least=0, below=1) * len(flat))
    if count == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    border = _nth_lowest(flat, count)  # the highest score that goes
    kept = flat > border
    surplus = len(flat) - int(kept.count_nonzero()) - count
    if surplus:  # some of those that equal the border stay: the last
        equal = (flat == border).nonzero().squeeze(1)
        kept[equal[len(equal) - surplus :]] = True
    return kept.reshape(scores.shape)


def threshold_for(scores: Tensor | Mapping[str, Tensor], rate: float) -> float:
    """Return the threshold that removes the share ``rate`` of ``scores``: the lowest score that stays.

    Parameters
    ----------
    scores : Tensor or mapping of Tensor
        Of units: from `score_weights` for single weights, from `unit_scores` for others.
    rate : float
        In [0, 1).

    Raises
    ------
    ValueError
        If ``rate`` is out of range or so high that no score stays.

    Examples
    --------
    >>> import torch
    >>> threshold_for(torch.tensor([0.5, 2.0, 0.25, 0.125]), 0.5)
    0.5
    """
    flat = _flatten(scores)
    count = round(require_number("rate", rate, at_least=0, below=1) * len(flat))
    if count == len(flat):
        raise ValueError(f"rate is {rate!r}, but of {len(flat)} scores at least one must stay.")
    return _nth_lowest(flat, count + 1)


def rate_for(scores: Tensor | Mapping[str, Tensor], threshold: float) -> float:
    """Return the share of ``scores`` that ``threshold`` removes: those below it.

    The inverse of `threshold_for`, up to the rounding to whole units, as far as no two scores are equal.

    Examples
    --------
    >>> import torch
    >>> rate_for(torch.tensor([0.5, 2.0, 0.25, 0.125]), 0.5)
    0.5
    """
    flat = _flatten(scores)
    return int((flat < require_number("threshold", threshold)).count_nonzero()) / len(flat)


def _nth_lowest(flat: Tensor, count: int) -> float:
    # numpy's selection takes a tenth of the time of torch's kthvalue on a CPU.
    return float(np.partition(flat.detach().float().cpu().numpy(), count - 1)[count - 1])


def _flatten(scores: Tensor | Mapping[str, Tensor]) -> Tensor:
    if isinstance(scores, Tensor):
        return scores.flatten()
    return torch.cat([scored.flatten() for scored in scores.values()])


def _require_one_goal(
    rate: float | None,
    threshold: float | None,
    rates: Mapping[str, float] | None,
    granularity: str,
    layers: Iterable[str] | None,
) -> None:
    given = {"rate": rate, "threshold": threshold, "rates": rates}
    named = [name for name, value in given.items() if value is not None]
    if granularity == "n:m":
        if named:
            raise ValueError(f"{named[0]} is {given[named[0]]!r}, but n:m fixes it by n and m: leave {named[0]} out.")
        return
    if len(named) != 1:
        found = " and ".join(named) or "none of them"
        raise ValueError(f"exactly one of rate, threshold and rates must be given, but here it is {found}.")
    if rate is not None:
        require_number("rate", rate, at_least=0, below=1)
    if threshold is not None:
        require_number("threshold", threshold)
    if rates is not None:
        if layers is not None:
            raise ValueError("layers is given, but rates name their layers: leave layers out.")
        for name, value in rates.items():
            require_number(f"rates[{name!r}]", value, at_least=0, below=1)


def _scores_of(scores: Mapping[str, Tensor], name: str, weight: Tensor) -> Tensor:
    if name not in scores:
        raise ValueError(f"scores has no entry for {name!r}, but it must have one for each layer to prune.")
    if scores[name].shape != weight.shape:
        raise ValueError(
            f"scores[{name!r}] has shape {tuple(scores[name].shape)}, "
            f"but it must have that of the weight, {tuple(weight.shape)}."
        )
    lowest, highest = scores[name].aminmax()  # NaN if one score is
    if not math.isfinite(lowest) or not math.isfinite(highest):
        raise ValueError(f"scores[{name!r}] holds NaN or infinity, but scores must be finite numbers.")
    return scores[name]


def _keep_n_of_m(name: str, scores: Tensor, *, n: int, m: int) -> Tensor:
    try:
        return keep_n_of_m(scores, n=n, m=m)
    except ValueError as error:
        hint = " (layers=layers_divisible_by(model, m) takes those that it divides.)" if "divide" in str(error) else ""
        raise ValueError(f"layer {name!r}: {error}{hint}") from None


def _whole_layer_message(
    name: str, rate: float | None, threshold: float | None, rates: Mapping[str, float] | None
) -> str:
    if threshold is not None:
        given = f"threshold is {threshold!r}"
    else:
        given = f"rate is {rate!r}" if rates is None else f"rates[{name!r}] is {rates[name]!r}"
    return f"{given}, but that removes the whole layer {name!r}, and nothing would pass it; choose a lower one."
