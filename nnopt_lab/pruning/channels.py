"""Channels taken out for good: a plan of what stays, the network with the rest masked, and the smaller network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnopt_lab import inspecting
from nnopt_lab.arguments import require_choice, require_integer, require_number
from nnopt_lab.datasets.image_data import IMAGE_SHAPE, ImageData
from nnopt_lab.pruning.criteria import score_weights
from nnopt_lab.pruning.dependencies import ChannelGroup, channel_groups


@dataclass(frozen=True)
class ChannelPlan:
    """Which channels of each group stay; groups that are not named stay whole.

    Attributes
    ----------
    channels : mapping of int
        Channels of each group before, by the group's name.
    kept : mapping of tuple of int
        Indices of those that stay, ascending, at least one a group.

    Raises
    ------
    ValueError
        If a group keeps nothing, or an index is out of range, twice there or out of order.
    """

    channels: Mapping[str, int]
    kept: Mapping[str, tuple[int, ...]]

    def __post_init__(self) -> None:
        for name, kept in self.kept.items():
            require_choice("group", name, self.channels)
            size = require_integer(f"channels of {name!r}", self.channels[name])
            if not kept or list(kept) != sorted(set(kept)) or kept[0] < 0 or kept[-1] >= size:
                raise ValueError(
                    f"kept of {name!r} is {list(kept)}, but it must be at least one index between 0 and {size - 1}, "
                    "each once and ascending."
                )

    @property
    def rates(self) -> dict[str, float]:
        """Share of the channels of each group that is removed."""
        return {name: 1 - len(kept) / self.channels[name] for name, kept in self.kept.items()}

    def as_dict(self) -> dict[str, dict[str, object]]:
        """Return the plan as JSON can hold it; `from_dict` is the way back."""
        return {name: {"channels": self.channels[name], "kept": list(kept)} for name, kept in self.kept.items()}

    @classmethod
    def from_dict(cls, described: Mapping[str, Mapping[str, object]]) -> ChannelPlan:
        """Return the plan that `as_dict` described."""
        return cls(
            {name: int(group["channels"]) for name, group in described.items()},  # type: ignore[call-overload]
            {name: tuple(group["kept"]) for name, group in described.items()},  # type: ignore[arg-type]
        )


def plan_channels(
    model: nn.Module,
    *,
    macs_share: float | None = None,
    rate: float | None = None,
    criterion: str = "l1",
    scores: Mapping[str, Tensor] | None = None,
    data: ImageData | None = None,
    pictures: int = 512,
    even: bool = True,
    multiple_of: int = 1,
    seed: int = 0,
    image_shape: tuple[int, int, int] = IMAGE_SHAPE,
) -> ChannelPlan:
    """Choose the channels to remove, weakest first.

    A channel's score is the sum over all weights that go with it, in every member of its group.

    Parameters
    ----------
    macs_share : float
        Remove until the multiply–accumulates are at most this share of the model's, above 0 and at most 1; then give
        back what still fits, so that no group could keep any more.
    rate : float
        Instead: share of the channels to remove, in [0, 1).
    criterion, data, pictures, seed
        How weights are scored; see `nnopt_lab.pruning.criteria.score_weights`.
    scores : mapping of Tensor, optional
        Scores of the weights by layer, each of the weight's shape, in place of ``criterion``.
    even : bool
        True: all groups shrink at the same rate. False: all channels are ranked in one list, by their score over the
        mean of their group.
    multiple_of : int
        Channels that stay come in multiples of this (kernels like 8), in every group that has as many.

    Raises
    ------
    ValueError
        If not exactly one of ``macs_share`` and ``rate`` is given, one is out of range, or ``macs_share`` cannot be
        met although every group keeps no more than it must.
    """
    if (macs_share is None) == (rate is None):
        raise ValueError(f"macs_share is {macs_share!r} and rate is {rate!r}, but exactly one of them must be given.")
    require_integer("multiple_of", multiple_of)
    if macs_share is not None:
        require_number("macs_share", macs_share, above=0, at_most=1)
    else:
        require_number("rate", rate, at_least=0, below=1)
    groups = channel_groups(model, image_shape=image_shape)
    if scores is None:
        scores = score_weights(model, criterion, data=data, pictures=pictures, seed=seed)
    by_group = {group.name: score_channels(model, group, scores) for group in groups}
    chunks = _removal_order(by_group, even=even, multiple_of=multiple_of)
    keeping = {group.name: group.channels for group in groups}
    if rate is not None:
        for chunk in chunks:
            if chunk.rank <= rate:
                keeping[chunk.group] -= chunk.size
    else:
        _shrink_to(keeping, chunks, _macs_by_channels(model, groups, image_shape), macs_share)
    kept = {
        name: tuple(sorted(values.argsort(descending=True, stable=True)[: keeping[name]].tolist()))
        for name, values in by_group.items()
    }
    return ChannelPlan({group.name: group.channels for group in groups}, kept)


def score_channels(model: nn.Module, group: ChannelGroup, scores: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of the scores of all weights that go with each channel of ``group``: shape (channels,)."""
    total = torch.zeros(group.channels)
    for (layer, side), positions in group.positions.items():
        if layer in scores:
            dimension = 0 if side == "outputs" else 1
            weights = scores[layer].detach().cpu().float()
            total += weights.transpose(0, dimension).flatten(1).sum(1)[positions].sum(1)
    return total


def mask_channels(model: nn.Module, plan: ChannelPlan, *, image_shape: tuple[int, int, int] = IMAGE_SHAPE) -> nn.Module:
    """Return a copy of ``model`` in which the channels that the plan removes are zero, in every member.

    Weights, biases and the scale and shift of batch norm are zeroed, so that such a channel puts out exactly 0.

    Raises
    ------
    ValueError
        If ``plan`` is not of this model.
    """
    masked = copy.deepcopy(model)
    for module, side, removed in _cuts(masked, plan, image_shape):
        with torch.no_grad():
            if side == "inputs":
                module.weight[:, removed] = 0
            else:
                module.weight[removed] = 0
                if module.bias is not None:
                    module.bias[removed] = 0
    return masked


def remove_channels(
    model: nn.Module, plan: ChannelPlan, *, image_shape: tuple[int, int, int] = IMAGE_SHAPE
) -> nn.Module:
    """Return a smaller copy of ``model`` without the channels that the plan removes.

    In evaluation mode it computes what the masked network of `mask_channels` computes.

    Raises
    ------
    ValueError
        If ``plan`` is not of this model.
    """
    smaller = copy.deepcopy(model)
    for module, side, removed in _cuts(smaller, plan, image_shape):
        keep = torch.ones(module.weight.shape[0 if side == "outputs" else 1], dtype=torch.bool)
        keep[removed] = False
        _keep(module, side, keep.nonzero().squeeze(1).to(module.weight.device))
    _replace_narrow_strided(smaller)
    return smaller


def _cuts(
    model: nn.Module, plan: ChannelPlan, image_shape: tuple[int, int, int]
) -> list[tuple[nn.Module, str, Tensor]]:
    """Return each layer that is cut, its side, and the rows or columns that go."""
    groups = {group.name: group for group in channel_groups(model, image_shape=image_shape)}
    modules = dict(model.named_modules())
    found = []
    for name, kept in plan.kept.items():
        require_choice("group", name, groups)
        if groups[name].channels != plan.channels[name]:
            raise ValueError(
                f"The plan is of a network with {plan.channels[name]} channels in {name!r}, "
                f"but this one has {groups[name].channels}."
            )
        gone = torch.ones(groups[name].channels, dtype=torch.bool)
        gone[list(kept)] = False
        for (layer, side), positions in groups[name].positions.items():
            found.append((modules[layer], side, positions[gone].flatten()))
    return found


def _keep(module: nn.Module, side: str, kept: Tensor) -> None:
    def shorten(name: str, dimension: int = 0) -> None:
        tensor = getattr(module, name)
        if tensor is None:
            return
        shorter = tensor.detach().index_select(dimension, kept)
        if isinstance(tensor, nn.Parameter):
            setattr(module, name, nn.Parameter(shorter, requires_grad=tensor.requires_grad))
        else:
            setattr(module, name, shorter)

    if isinstance(module, nn.BatchNorm2d):
        for name in ("weight", "bias", "running_mean", "running_var"):
            shorten(name)
        module.num_features = len(kept)
        return
    shorten("weight", 0 if side == "outputs" else 1)
    if side == "outputs":
        shorten("bias")
    unit = "channels" if isinstance(module, nn.Conv2d) else "features"
    setattr(module, f"{'out' if side == 'outputs' else 'in'}_{unit}", len(kept))


def _replace_narrow_strided(model: nn.Module) -> None:
    # torch 2.15 on a CPU writes past its memory in the backward pass of a strided 1×1 convolution of fewer than
    # 8 channels in channels-last layout; picking the pixels first is the same function.
    for name, module in list(model.named_modules()):
        if (
            isinstance(module, nn.Conv2d)
            and module.kernel_size == (1, 1)
            and module.stride != (1, 1)
            and module.padding == (0, 0)
            and module.in_channels < 8
        ):
            pick = nn.MaxPool2d(1, stride=module.stride)
            module.stride = (1, 1)
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, nn.Sequential(pick, module))


@dataclass(frozen=True)
class _Chunk:
    """Channels of one group that are removed at once; ``rank`` orders them, from 0 (first) to 1 (last)."""

    rank: float
    group: str
    size: int


def _removal_order(scores: Mapping[str, Tensor], *, even: bool, multiple_of: int) -> list[_Chunk]:
    ascending = {name: values.double().sort().values for name, values in scores.items()}
    relative = {name: values / values.mean().clamp_min(1e-30) for name, values in ascending.items()}
    if even:
        ranks = {name: (torch.arange(len(values)).double() + 0.5) / len(values) for name, values in relative.items()}
    else:
        every = torch.cat(list(relative.values()))
        places = torch.empty_like(every)
        places[every.argsort(stable=True)] = (torch.arange(len(every)).double() + 0.5) / len(every)
        parts = places.split([len(values) for values in relative.values()])
        ranks = dict(zip(relative, parts, strict=True))
    chunks: list[tuple[float, _Chunk]] = []
    for name, group_ranks in ranks.items():
        start, channels = 0, len(group_ranks)
        while channels - start > multiple_of:
            size = (channels - start) % multiple_of or multiple_of
            strength = float(relative[name][start : start + size].mean())
            chunks.append((strength, _Chunk(float(group_ranks[start : start + size].mean()), name, size)))
            start += size
    # Of chunks with the same rank, the weakest for its group goes first.
    return [chunk for _, chunk in sorted(chunks, key=lambda pair: (pair[1].rank, pair[0]))]


def _shrink_to(
    keeping: dict[str, int], chunks: list[_Chunk], macs: Callable[[Mapping[str, int]], int], share: float
) -> None:
    whole = macs(keeping)
    removed = []
    for chunk in chunks:
        if macs(keeping) <= share * whole:
            break
        keeping[chunk.group] -= chunk.size
        removed.append(chunk)
    if macs(keeping) > share * whole:
        raise ValueError(
            f"macs_share is {share!r}, but it must be at least {macs(keeping) / whole:.4f}: "
            "what is left when every group keeps as little as it must."
        )
    full: set[str] = set()
    for chunk in reversed(removed):
        if chunk.group in full:
            continue
        keeping[chunk.group] += chunk.size
        if macs(keeping) > share * whole:
            keeping[chunk.group] -= chunk.size
            full.add(chunk.group)


def _macs_by_channels(
    model: nn.Module, groups: list[ChannelGroup], image_shape: tuple[int, int, int]
) -> Callable[[Mapping[str, int]], int]:
    """Return a function from the number of channels that each group keeps to the network's multiply–accumulates."""
    modules = dict(model.named_modules())
    before = {layer.name: layer.macs for layer in inspecting.layers(model, image_shape=image_shape) if layer.macs}
    sizes = {
        (layer, side): modules[layer].weight.shape[side == "inputs"]
        for layer in before
        for side in ("outputs", "inputs")
    }
    cuts = [
        (group, member, positions.shape[1])
        for group in groups
        for member, positions in group.positions.items()
        if member in sizes
    ]

    def macs(keeping: Mapping[str, int]) -> int:
        left = dict(sizes)
        for group, member, width in cuts:
            left[member] -= (group.channels - keeping[group.name]) * width
        return sum(
            total // (sizes[layer, "outputs"] * sizes[layer, "inputs"]) * left[layer, "outputs"] * left[layer, "inputs"]
            for layer, total in before.items()
        )

    return macs
