"""Batch norm put into the convolution before it, and the shift that rounded weights cause taken back.

When a network is only evaluated, batch norm multiplies and adds fixed numbers, and so does the convolution. Together
they are one convolution; an integer processor then has one layer less, with one rounding instead of two.
"""

from __future__ import annotations

import copy
from collections import Counter

import torch
from torch import Tensor, fx, nn

from nnopt_lab.arguments import require_integer
from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.datasets.image_data import ImageData, Split
from nnopt_lab.quantization.fake import (
    QuantizedConv2d,
    QuantizedLinear,
    fake_quantize,
    quantized_layers,
    run_unquantized,
)


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Return a copy of ``model``, in evaluation mode, whose batch norms are part of the convolutions before them.

    With the scale a = γ / √(σ² + ε) of each channel, weights become a · w and the bias β + a · (b − μ) (Jacob et al.,
    2018, arXiv:1712.05877, equation 14). An ``Identity`` takes the place of the batch norm, so layers keep their names.

    A batch norm stays where it has no convolution of its own directly before it. Max pooling may stand between them if
    all scales are above 0: then the largest pixel stays the largest.

    Raises
    ------
    ValueError
        If the path of the data through ``model`` depends on the data, so that it cannot be followed, or a batch norm
        keeps no running statistics, or ``model`` is from `prepare`.

    Examples
    --------
    >>> from nnopt_lab.models import ResNet
    >>> folded = fold_batch_norm(ResNet(depth=8))
    >>> any(isinstance(module, nn.BatchNorm2d) for module in folded.modules()), folded.conv1.bias.shape
    (False, torch.Size([16]))
    """
    if any(isinstance(module, (QuantizedConv2d, QuantizedLinear)) for module in model.modules()):
        raise ValueError(f"model is a {type(model).__name__} from prepare, but batch norm must be folded before that.")
    folded = copy.deepcopy(model).eval()
    modules = dict(folded.named_modules())
    try:
        nodes = list(fx.Tracer().trace(folded).nodes)
    except (fx.proxy.TraceError, TypeError) as error:
        raise ValueError(f"model is a {type(model).__name__} that torch.fx cannot follow: {error}") from error
    calls = Counter(node.target for node in nodes if node.op == "call_module")
    for node in nodes:
        norm = modules.get(node.target) if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm2d) or calls[node.target] > 1:
            continue
        if norm.running_mean is None:
            raise ValueError(f"{node.target!r} keeps no running statistics, but without them it cannot be folded.")
        scale, shift = _scale_and_shift(norm)
        before = node.args[0]
        if _module_of(before, modules, nn.MaxPool2d) and len(before.users) == 1 and (scale > 0).all():
            before = before.args[0]
        conv = _module_of(before, modules, nn.Conv2d)
        if conv is None or len(before.users) > 1 or calls[before.target] > 1:
            continue
        _fold(conv, scale, shift)
        parent, _, child = node.target.rpartition(".")
        setattr(folded.get_submodule(parent), child, nn.Identity())
    return folded


@torch.no_grad()
def correct_bias(model: nn.Module, data: ImageData, *, pictures: int = 256, seed: int = 0) -> None:
    """Shift the biases of a network from `prepare`, so that rounded weights give the mean outputs that real ones give.

    Rounding errors of a few hundred weights do not cancel: the mean of a channel moves, and everything behind it sees
    inputs it was not trained for. What the error of the weights adds to each channel, on average over ``pictures`` that
    run through the real network, is subtracted from its bias (Nagel et al., 2019, arXiv:1906.04721, section 4.2).
    Takes effect only if batch norm is folded or keeps its running statistics.

    Parameters
    ----------
    model : nn.Module
        From `prepare`; changed in place. A layer without a bias gets one.
    data : ImageData
        Training pictures are taken, without augmentation.
    pictures : int
        How many of them, drawn by ``seed``.

    Raises
    ------
    ValueError
        If ``model`` is not from `prepare`, or ``pictures`` is below 1.
    """
    layers = quantized_layers(model)
    count = require_integer("pictures", pictures)
    sums = {layer: torch.zeros(len(layer.weight), device=layer.weight.device) for layer in layers.values()}
    seen = Counter()

    def after(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        grid = layer.weight_grid()
        if grid is None:
            return
        error = fake_quantize(layer.weight, grid) - layer.weight
        if isinstance(layer, nn.Conv2d):
            moved = layer._conv_forward(inputs[0], error, None).movedim(1, -1)
        else:
            moved = nn.functional.linear(inputs[0], error)
        moved = moved.flatten(0, -2)
        sums[layer] += moved.sum(0)
        seen[layer] += len(moved)

    chosen = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))[:count]
    split = Split(data.train.images[chosen], data.train.labels[chosen])
    handles = [layer.register_forward_hook(after) for layer in layers.values()]
    try:
        run_unquantized(model, BatchSource(data, split, device=next(model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    for layer, total in sums.items():
        if not seen[layer]:
            continue
        shift = total / seen[layer]
        if layer.bias is None:
            layer.bias = nn.Parameter(torch.zeros_like(shift))
        layer.bias -= shift


def _module_of(node: object, modules: dict[str, nn.Module], kind: type[nn.Module]) -> nn.Module | None:
    """Return the module that ``node`` of the traced graph calls, if it is of ``kind``."""
    module = modules.get(node.target) if isinstance(node, fx.Node) and node.op == "call_module" else None
    return module if isinstance(module, kind) else None


@torch.no_grad()
def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    scale = (norm.running_var + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
    return scale, (0 if norm.bias is None else norm.bias) - scale * norm.running_mean


@torch.no_grad()
def _fold(conv: nn.Conv2d, scale: Tensor, shift: Tensor) -> None:
    bias = shift if conv.bias is None else shift + scale * conv.bias
    conv.weight.mul_(scale.reshape(-1, 1, 1, 1))
    conv.bias = nn.Parameter(bias.clone())
