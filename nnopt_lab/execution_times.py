"""How long a network takes, by way of saving multiplications: masked, sparse kernels, fewer channels or blocks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnopt_lab import inspecting
from nnopt_lab.arguments import require_integer, require_number
from nnopt_lab.datasets.image_data import IMAGE_SHAPE
from nnopt_lab.execution import SparseConv2d, SparseLinear, to_sparse, to_two_four, why_no_two_four
from nnopt_lab.measuring import compare_latency
from nnopt_lab.pruning.blocks import removable_blocks, remove_blocks
from nnopt_lab.pruning.channels import plan_channels, remove_channels
from nnopt_lab.pruning.masks import choose_masks


@dataclass(frozen=True)
class Timed:
    """One network or layer, as it was timed beside the dense one.

    Attributes
    ----------
    way : str
        ``"dense"``, ``"masked"``, ``"CSR"``, ``"fewer channels"``, ``"fewer channels, in eights"`` …
    name : str
        ``way`` with its amount, for example ``"masked, 90%"``.
    macs : int
        Multiply–accumulates by a weight that is not zero, for one picture. A masked network executes the zeros too.
    latency_ms : float
        Median time of a batch.
    speedup : float
        How many times as fast as the dense one: median of the ratios within each round.
    low, high : float
        Its 95% interval; see `nnopt_lab.measuring.Comparison.speedup_interval`.
    batch_size : int
        Pictures a call.
    """

    way: str
    name: str
    macs: int
    latency_ms: float
    speedup: float
    low: float
    high: float
    batch_size: int

    @property
    def verdict(self) -> str:
        """Say what the interval shows: ``"faster"``, ``"slower"`` or ``"no difference shown"``."""
        return "faster" if self.low > 1 else "slower" if self.high < 1 else "no difference shown"


def time_network(
    model: nn.Module,
    *,
    batch_size: int = 1,
    sparsities: Sequence[float] = (0.7, 0.9, 0.98),
    macs_shares: Sequence[float] = (0.75, 0.5, 0.25),
    rounds: int = 10,
    warmup: int = 2,
    seed: int = 0,
) -> list[Timed]:
    """Time ``model`` on the CPU as it is and pruned in each way, all in turns.

    Weights go by magnitude, at the same rate in each layer; channels as `plan_channels` chooses, in any number and in
    multiples of 8; of the residual blocks, if there are any to remove, every second one.

    Parameters
    ----------
    batch_size : int
        Pictures a call; random ones, as a time does not depend on what they show.
    sparsities, macs_shares : sequence of float
        How much to prune: shares of zeros, and of the multiply–accumulates that stay.
    rounds, warmup : int
        Of `compare_latency`.
    seed : int
        Of the pictures.
    """
    require_integer("batch_size", batch_size)
    dense = copy.deepcopy(model).cpu().eval().to(memory_format=torch.channels_last)
    networks: dict[tuple[str, str], tuple[Callable[[Tensor], object], int]] = {}
    networks["dense", "dense"] = dense, _effective_macs(dense)
    for sparsity in sparsities:
        masked = copy.deepcopy(dense)
        choose_masks(masked, rate=sparsity, scope="layer").apply(masked)
        macs = _effective_macs(masked)
        networks["masked", f"masked, {sparsity:.0%}"] = masked, macs
        networks["CSR", f"CSR, {sparsity:.0%}"] = to_sparse(masked), macs
    for share in macs_shares:
        for multiple_of, way in ((1, "fewer channels"), (8, "fewer channels, in eights")):
            plan = plan_channels(dense, macs_share=share, multiple_of=multiple_of)
            smaller = remove_channels(dense, plan).to(memory_format=torch.channels_last)
            networks[way, f"{way}, {share:.0%} of the MACs"] = smaller, _effective_macs(smaller)
    every_second = removable_blocks(dense)[::2]
    if every_second:
        shorter = remove_blocks(dense, every_second)
        networks["fewer blocks", f"fewer blocks, by {len(every_second)}"] = shorter, _effective_macs(shorter)
    images = _random((batch_size, *IMAGE_SHAPE), seed)
    return _timed(networks, images, rounds, warmup, seed)


def time_widths(
    widths: Sequence[int] = (12, 13, 14, 15, 16, 17, 20, 24),
    *,
    size: int = 32,
    batch_size: int = 1,
    rounds: int = 30,
    warmup: int = 5,
    seed: int = 0,
) -> list[Timed]:
    """Time a 3×3 convolution from c to c channels of ``size``² pixels for each width c; the widest is the "dense" one.

    Kernels work on several channels at once: an odd number may take longer than a larger even one.
    """
    widest = max(require_integer("width", width) for width in widths)
    layers = {("dense" if width == widest else "fewer channels", f"{width} channels"): width for width in widths}
    candidates: dict[tuple[str, str], tuple[Callable[[Tensor], object], int]] = {}
    for key, width in sorted(layers.items(), key=lambda item: -item[1]):
        conv = _conv(width, seed)
        images = _random((require_integer("batch_size", batch_size), width, size, size), seed)
        candidates[key] = _bound(conv, images), width * width * 9 * size * size
    return _timed(candidates, images, rounds, warmup, seed)


def time_layer(
    *,
    channels: int = 64,
    size: int = 8,
    batch_size: int = 1,
    sparsity: float = 0.7,
    rounds: int = 30,
    warmup: int = 5,
    seed: int = 0,
) -> list[Timed]:
    """Time a 3×3 convolution and cheaper stand-ins for it, by MACs; some of them take longer.

    ``"masked"`` and ``"CSR"``: with ``sparsity`` zeros. ``"one channel less"``: in and out. ``"depthwise"``: each
    channel for itself, then a 1×1 convolution across (Howard et al., 2017, arXiv:1704.04861).
    ``"half the channels"`` in and out.
    """
    require_integer("channels", channels, at_least=4)
    require_number("sparsity", sparsity, at_least=0, below=1)
    dense = _conv(channels, seed)
    masked = copy.deepcopy(dense)
    alone = nn.Sequential(masked)
    choose_masks(alone, rate=sparsity, layers=["0"]).apply(alone)
    depthwise = nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
    ).to(memory_format=torch.channels_last)
    macs, left = channels**2 * 9 * size**2, int(masked.weight.count_nonzero()) * size**2
    shape = (require_integer("batch_size", batch_size), channels, size, size)

    def narrower(width: int) -> tuple[Callable[[Tensor], object], int]:
        return _bound(_conv(width, seed), _random((batch_size, width, size, size), seed)), width**2 * 9 * size**2

    candidates: dict[tuple[str, str], tuple[Callable[[Tensor], object], int]] = {
        ("dense", "dense"): (dense, macs),
        ("masked", f"masked, {sparsity:.0%}"): (masked, left),
        ("CSR", f"CSR, {sparsity:.0%}"): (SparseConv2d(masked), left),
        ("fewer channels", "one channel less"): narrower(channels - 1),
        ("fewer channels", "half the channels"): narrower(channels // 2),
        ("depthwise", "depthwise and 1×1"): (depthwise, channels * (9 + channels) * size**2),
    }
    return _timed(candidates, _random(shape, seed), rounds, warmup, seed)


def time_linear(
    *,
    inputs: int = 8192,
    outputs: int = 1024,
    batch_size: int = 1,
    sparsities: Sequence[float] = (0.7, 0.9, 0.95, 0.99),
    rounds: int = 30,
    warmup: int = 5,
    seed: int = 0,
) -> list[Timed]:
    """Time a linear layer against CSR kernels that skip its zeros, at several sparsities.

    One picture needs each weight once, so that the time is spent on fetching weights: CSR fetches fewer.
    """
    linear = nn.Linear(require_integer("inputs", inputs), require_integer("outputs", outputs)).eval()
    candidates: dict[tuple[str, str], tuple[Callable[[Tensor], object], int]] = {}
    candidates["dense", "dense"] = linear, inputs * outputs
    for sparsity in sparsities:
        pruned = nn.Sequential(copy.deepcopy(linear))
        choose_masks(pruned, rate=sparsity, layers=["0"]).apply(pruned)
        candidates["CSR", f"CSR, {sparsity:.0%}"] = SparseLinear(pruned[0]), int(pruned[0].weight.count_nonzero())
    return _timed(candidates, _random((require_integer("batch_size", batch_size), inputs), seed), rounds, warmup, seed)


def time_two_four(
    *, inputs: int = 4096, outputs: int = 4096, batch_size: int = 1024, rounds: int = 30, warmup: int = 5, seed: int = 0
) -> list[Timed]:
    """Time a linear layer in half precision on the GPU against the same one pruned 2:4, with the kernels made for it.

    Raises
    ------
    RuntimeError
        If this machine cannot; `nnopt_lab.execution.why_no_two_four` says why.
    """
    reason = why_no_two_four()
    if reason is not None:
        raise RuntimeError(reason)
    pruned = nn.Sequential(nn.Linear(inputs, outputs))
    choose_masks(pruned, granularity="n:m", layers=["0"]).apply(pruned)
    candidates: dict[tuple[str, str], tuple[Callable[[Tensor], object], int]] = {
        ("dense", "dense"): (copy.deepcopy(pruned[0]).half().cuda().requires_grad_(False), inputs * outputs),
        ("2:4", "2:4"): (to_two_four(pruned[0]), inputs * outputs // 2),
    }
    return _timed(candidates, _random((batch_size, inputs), seed).half().cuda(), rounds, warmup, seed)


def _timed(
    candidates: Mapping[tuple[str, str], tuple[Callable[[Tensor], object], int]],
    images: Tensor,
    rounds: int,
    warmup: int,
    seed: int,
) -> list[Timed]:
    functions = {name: function for (_, name), (function, _) in candidates.items()}
    compared = compare_latency(functions, images, rounds=rounds, warmup=warmup, seed=seed)
    whole = next(name for way, name in candidates if way == "dense")
    return [
        Timed(
            way,
            name,
            macs,
            compared.latencies[name].median_ms,
            compared.speedup(name, over=whole),
            *compared.speedup_interval(name, over=whole),
            len(images),
        )
        for (way, name), (_, macs) in candidates.items()
    ]


def _effective_macs(model: nn.Module) -> int:
    """Count the multiply–accumulates by weights that are not zero, for one picture."""
    weights = {
        name: module.weight for name, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))
    }
    return sum(
        layer.macs * int(weights[layer.name].count_nonzero()) // weights[layer.name].numel()
        for layer in inspecting.layers(model)
        if layer.name in weights
    )


def _conv(width: int, seed: int) -> nn.Conv2d:
    conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
    conv.weight.data.normal_(generator=torch.Generator().manual_seed(seed))
    return conv.eval().to(memory_format=torch.channels_last)


def _bound(layer: nn.Module, images: Tensor) -> Callable[[Tensor], object]:
    return lambda _: layer(images)


def _random(shape: tuple[int, ...], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(require_integer("seed", seed, at_least=0))
    images = torch.randn(shape, generator=generator)
    return images.to(memory_format=torch.channels_last) if len(shape) == 4 else images
