"""How much accuracy each layer costs when it alone is pruned."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from nnopt_lab.arguments import require_choice, require_integer, require_number
from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.measuring import accuracy_interval
from nnopt_lab.pruning.criteria import score_weights
from nnopt_lab.pruning.granularity import GRANULARITIES
from nnopt_lab.pruning.masks import choose_masks
from nnopt_lab.pruning.prunable import chosen_layers, prunable_layers
from nnopt_lab.training import predict, refresh_statistics


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Accuracy of a network on validation pictures, with one layer at a time pruned and nothing retrained.

    Attributes
    ----------
    layers : tuple of str
        Paths, in the order of the model.
    rates : ndarray
        Share of a layer's units that was removed: float64, shape (rates,), rising.
    accuracies : ndarray
        float64, shape (layers, rates), 0–1. NaN: not measured yet.
    low, high : ndarray
        95% Wilson interval of each, from the choice of pictures alone: float64, shape (layers, rates).
    kept_shares : ndarray
        Share of the layer's weights that stayed, units being whole: float64, shape (layers, rates).
    baseline : float
        Accuracy of the network as it was given, on the same pictures.
    pictures : int
        How many there were.
    criterion, granularity, data : str
        What was measured, and on which data.
    fresh_pictures : int or None
        Training pictures on which batch norm's statistics were measured anew each time; None: they were stale.
    """

    layers: tuple[str, ...]
    rates: np.ndarray
    accuracies: np.ndarray
    low: np.ndarray
    high: np.ndarray
    kept_shares: np.ndarray
    baseline: float
    pictures: int
    criterion: str
    granularity: str
    data: str
    fresh_pictures: int | None = None


def measure_sensitivity(
    model: nn.Module,
    data: ImageData,
    *,
    rates: Sequence[float] = (0.3, 0.5, 0.7, 0.8, 0.9),
    layers: Iterable[str] | None = None,
    criterion: str = "l1",
    granularity: str = "weight",
    pictures: int = 1000,
    fresh_pictures: int | None = None,
    seed: int = 0,
    after_each: Callable[[Sensitivity], None] | None = None,
) -> Sensitivity:
    """Prune one layer of ``model`` at a time and measure (Li et al., 2017, arXiv:1608.08710, section 3.2).

    Parameters
    ----------
    model : nn.Module
        Stays as it is: a copy is pruned, on the same device.
    data : ImageData
        The first ``pictures`` of its validation split are measured on, which is shuffled. (Criteria that look at
        pictures use the training split.)
    rates : sequence of float
        In [0, 1), rising.
    layers : iterable of str, optional
        Default: as in `choose_masks`.
    fresh_pictures : int, optional
        Measure batch norm's statistics anew on so many training pictures before each accuracy, that of the whole
        network too (see `refresh_statistics`). Default: they stay stale, and the scan mostly ranks layers by how far
        pruning them puts the statistics out of tune.
    criterion, granularity, seed
        As in `choose_masks`; all granularities but ``"n:m"``, which has one rate only.
    after_each : callable, optional
        Called after each layer with what is measured so far, the rest NaN.

    Raises
    ------
    ValueError
        If an argument is unknown or out of range, or a rate would remove a whole layer.
    """
    steps = np.array([require_number("rates", rate, at_least=0, below=1) for rate in rates])
    if not len(steps) or (np.diff(steps) <= 0).any():
        raise ValueError(f"rates is {list(rates)}, but it must hold at least one number and rise.")
    require_choice("granularity", granularity, [name for name in GRANULARITIES if name != "n:m"])
    split = data.validation.take(require_integer("pictures", pictures))
    names = chosen_layers(model, layers, granularity)
    scores = score_weights(model, criterion, granularity=granularity, data=data, seed=seed)
    pruned = copy.deepcopy(model).eval().to(memory_format=torch.channels_last)
    source = BatchSource(data, split, device=next(pruned.parameters()).device)
    accuracies, low, high, kept = np.full((4, len(names), len(steps)), np.nan)

    statistics = {name: buffer.clone() for name, buffer in pruned.named_buffers()}

    def correct() -> int:
        if fresh_pictures is not None:
            refresh_statistics(pruned, data, pictures=fresh_pictures, batch_size=min(100, fresh_pictures))
        return int((predict(pruned, source).argmax(1) == source.labels).count_nonzero())

    found = Sensitivity(
        tuple(names),
        steps,
        accuracies,
        low,
        high,
        kept,
        correct() / len(split),
        len(split),
        criterion,
        granularity,
        data.label,
        fresh_pictures,
    )
    for row, name in enumerate(names):
        weight = prunable_layers(pruned)[name].weight
        before = weight.detach().clone()
        for column, rate in enumerate(steps):
            masks = choose_masks(model, rates={name: float(rate)}, scores=scores, granularity=granularity)
            masks.apply(pruned)
            hits = correct()
            accuracies[row, column] = hits / len(split)
            low[row, column], high[row, column] = accuracy_interval(hits, len(split))
            kept[row, column] = int(masks.masks[name].count_nonzero()) / weight.numel()
            with torch.no_grad():
                weight.copy_(before)
                for buffer_name, buffer in pruned.named_buffers():
                    buffer.copy_(statistics[buffer_name])
        if after_each is not None:
            after_each(copy.deepcopy(found))
    return found
