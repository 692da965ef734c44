"""A number of bits for each layer: many where the network is sensitive, few where it is not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from nnopt_lab.arguments import require_integer
from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.measuring import accuracy_interval
from nnopt_lab.pruning.budget import solve_budget
from nnopt_lab.pruning.prunable import prunable_layers
from nnopt_lab.pruning.sensitivity import Sensitivity
from nnopt_lab.quantization.fake import prepare, quantized_layers
from nnopt_lab.quantization.grids import ends_of
from nnopt_lab.training import predict

REAL_BITS = 32
"""Of a weight that is not quantized."""


def measure_bits(
    model: nn.Module,
    data: ImageData,
    *,
    bits: Sequence[int] = (8, 6, 4, 3, 2),
    observer: str = "mse",
    pictures: int = 1000,
    after_each: Callable[[Sensitivity], None] | None = None,
) -> Sensitivity:
    """Quantize the weights of one layer of ``model`` at a time, for each channel by itself, and measure the accuracy.

    Parameters
    ----------
    model : nn.Module
        Stays as it is.
    data : ImageData
        The first ``pictures`` of its validation split are measured on, which is shuffled.
    bits : sequence of int
        2–16, falling.
    observer : str
        As in `prepare`.
    after_each : callable, optional
        Called after each layer with what is measured so far, the rest NaN.

    Returns
    -------
    Sensitivity
        ``rates`` are the shares of 32 bits that are saved, 1 − bits / 32; ``kept_shares`` what the weights then take of
        their bytes, scales included; ``criterion`` is ``observer``; ``granularity`` is ``"bits"``.

    Raises
    ------
    ValueError
        If an argument is unknown or out of range, or ``bits`` does not fall.
    """
    widths = [require_integer("bits", width) for width in bits]
    if not widths or widths != sorted(set(widths), reverse=True):
        raise ValueError(f"bits is {list(bits)}, but it must hold at least one number and fall.")
    for width in widths:
        ends_of(width, symmetric=True)
    split = data.validation.take(require_integer("pictures", pictures))
    source = BatchSource(data, split, device=next(model.parameters()).device)
    names = list(prunable_layers(model))
    accuracies, low, high, kept = np.full((4, len(names), len(widths)), np.nan)

    def correct(network: nn.Module) -> int:
        return int((predict(network, source).argmax(1) == source.labels).count_nonzero())

    found = Sensitivity(
        tuple(names),
        1 - np.array(widths) / REAL_BITS,
        accuracies,
        low,
        high,
        kept,
        correct(model) / len(split),
        len(split),
        observer,
        "bits",
        data.label,
    )
    for row, name in enumerate(names):
        for column, width in enumerate(widths):
            quantized = prepare(model, weight_bits={name: width}, activation_bits=None, observer=observer)
            layer = quantized_layers(quantized)[name]
            with torch.no_grad():  # once, instead of in every batch
                layer.weight.copy_(layer.quantized_weight())
            for each in quantized_layers(quantized).values():
                each.enabled = False
            hits = correct(quantized.to(memory_format=torch.channels_last))
            accuracies[row, column] = hits / len(split)
            low[row, column], high[row, column] = accuracy_interval(hits, len(split))
            kept[row, column] = (layer.weight.numel() * width / 8 + 4 * len(layer.weight)) / (4 * layer.weight.numel())
        if after_each is not None:
            after_each(copy.deepcopy(found))
    return found


def choose_bits(model: nn.Module, sensitivity: Sensitivity, *, limit_bytes: float) -> dict[str, int]:
    """Choose bits for the weights of each layer, so that all together take at most ``limit_bytes``, scales included.

    The choice of `nnopt_lab.pruning.solve_budget`: the least sum of the accuracies that each layer costs alone. Layers
    are not independent: measure the result.

    Parameters
    ----------
    model : nn.Module
        The network that was measured.
    sensitivity : Sensitivity
        From `measure_bits`.
    limit_bytes : float
        For the weights of convolutions and linear layers; biases, batch norm and the file's header are not in it.

    Returns
    -------
    dict of int
        For ``prepare(weight_bits=...)``. A layer that is not in it keeps its 32 bits.

    Raises
    ------
    ValueError
        If even the fewest bits take more than ``limit_bytes``.
    """
    costs = {name: 4.0 * layer.weight.numel() for name, layer in prunable_layers(model).items()}
    rates = solve_budget(sensitivity, costs, limit=limit_bytes)
    return {name: round(REAL_BITS * (1 - rate)) for name, rate in rates.items() if rate > 0}
