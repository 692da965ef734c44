"""Neurons that can go almost for free: those that never fire, and those that say what another one says."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from nnopt_lab.arguments import require_choice, require_integer, require_number
from nnopt_lab.pruning.channels import ChannelPlan, remove_channels
from nnopt_lab.pruning.dependencies import ChannelGroup, channel_groups

_BATCH = 250


def find_dead(model: nn.Module, inputs: Tensor) -> dict[str, tuple[int, ...]]:
    """Find the channels and neurons whose output is the same number for all ``inputs``, at every position.

    Most are ReLUs that never fire and put out 0. What is looked at is what the next layer gets. A constant other than
    0 counts only where `remove_dead` can move it into a bias: not in front of a convolution that pads with zeros, nor
    of a layer without a bias.

    Parameters
    ----------
    inputs : Tensor
        Normalized pictures, shape (n, 3, height, width), or whatever else ``model`` takes. Only for them is
        anything found: a neuron may fire for others.

    Returns
    -------
    dict of tuple of int
        Indices by the name of their channel group (see `channel_groups`); groups without any are left out.
    """
    found = {}
    for group, constant, _ in _constants(model, inputs):
        if constant.any():
            found[group.name] = tuple(constant.nonzero().squeeze(1).tolist())
    return found


def remove_dead(model: nn.Module, inputs: Tensor) -> nn.Module:
    """Return a smaller copy of ``model`` without the channels of `find_dead`, their constants moved into biases.

    For ``inputs`` it computes what ``model`` computes in evaluation mode. (Every group keeps at least one channel.)
    """
    folded = copy.deepcopy(model)
    modules = dict(folded.named_modules())
    channels, kept = {}, {}
    for group, constant, values in _constants(model, inputs):
        if constant.all():
            constant[0] = False
        for (reader, _), value in values.items():
            columns = group.positions[reader, "inputs"][constant].flatten()
            bias = modules[reader].bias
            if bias is not None:
                weight = modules[reader].weight.detach()[:, columns]
                with torch.no_grad():
                    bias += (weight.flatten(2).sum(2) if weight.ndim == 4 else weight) @ value[columns]
        channels[group.name] = group.channels
        kept[group.name] = tuple((~constant).nonzero().squeeze(1).tolist())
    return remove_channels(folded, ChannelPlan(channels, kept), image_shape=tuple(inputs.shape[1:]))


@dataclass(frozen=True)
class Merge:
    """Neuron ``removed`` taken out, and its outgoing weights added to those of ``kept``.

    Attributes
    ----------
    kept, removed : int
        Indices in the layer before any merging.
    distance : float
        Euclidean distance of their incoming weights, the bias and batch norm included.
    reach : float
        Largest sum of \\|outgoing weights\\| of ``removed``, over the outputs of the next layer.
    """

    kept: int
    removed: int
    distance: float
    reach: float


@dataclass(frozen=True)
class Merged:
    """What `merge_similar` returns: the smaller network, the layer and its next one, and every merge in order."""

    model: nn.Module
    layer: str
    reader: str
    merges: tuple[Merge, ...]


@dataclass(frozen=True)
class MergingError:
    """Largest change of any input of the next layer's activation, as measured and as it is bounded."""

    measured: float
    bound: float


def merge_similar(
    model: nn.Module,
    layer: str,
    *,
    count: int | None = None,
    max_distance: float | None = None,
    image_shape: tuple[int, ...] = (3, 32, 32),
) -> Merged:
    """Merge neurons (or channels) of ``layer`` that have nearly the same incoming weights, the cheapest pair first.

    If h_i = h_j for every input, then a_i·h_i + a_j·h_j = (a_i + a_j)·h_i: one of the two can go. Pairs are
    taken in the order of their saliency ‖a_j‖² · ‖w_i − w_j‖² (Srinivas & Babu, 2015, arXiv:1507.06149, section 3).
    Without training, and for exact duplicates without any change of the function.

    Parameters
    ----------
    layer : str
        A convolution or linear layer, perhaps with batch norm right behind it, whose channels, through ReLU and
        pooling, only one next layer reads.
    count : int
        How many to merge away.
    max_distance : float
        Instead: merge all pairs that are no farther apart than this.

    Raises
    ------
    ValueError
        If not exactly one of ``count`` and ``max_distance`` is given, one is out of range, or the channels of
        ``layer`` have several writers or readers (as those that run through shortcuts have).
    """
    if (count is None) == (max_distance is None):
        raise ValueError(f"count is {count!r} and max_distance is {max_distance!r}, but exactly one must be given.")
    group, reader = _only_reader(model, layer, image_shape)
    if count is not None:
        require_integer("count", count, at_least=0, at_most=group.channels - 1)
    else:
        require_number("max_distance", max_distance, at_least=0)
    merged = copy.deepcopy(model)
    incoming = _incoming_weights(merged, group)
    weight = dict(merged.named_modules())[reader].weight
    columns = group.positions[reader, "inputs"]
    outgoing = weight.detach()[:, columns].movedim(1, 0).flatten(2).cpu()  # (channels, outputs, numbers)
    distances = torch.cdist(incoming, incoming, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    signs = _signs(merged, group)
    distances[signs[:, None] != signs] = torch.inf
    merges: list[Merge] = []
    limit = group.channels - 1 if count is None else count
    while len(merges) < limit:
        allowed = distances if max_distance is None else distances.where(distances <= max_distance, torch.inf)
        saliency = allowed.square() * outgoing.flatten(1).square().sum(1)  # entry (i, j): j goes, i stays
        saliency = saliency.where(allowed.isfinite(), torch.inf)
        best = int(saliency.argmin())
        kept, removed = divmod(best, group.channels)
        if not saliency[kept, removed].isfinite():
            break
        reach = float(outgoing[removed].abs().sum(1).max())
        merges.append(Merge(kept, removed, float(distances[kept, removed]), reach))
        outgoing[kept] += outgoing[removed]
        distances[removed] = distances[:, removed] = torch.inf
    with torch.no_grad():
        shape = weight[:, columns].movedim(1, 0).shape
        weight[:, columns] = outgoing.reshape(shape).movedim(0, 1).to(weight.device)
    gone = {merge.removed for merge in merges}
    plan = ChannelPlan(
        {layer: group.channels}, {layer: tuple(index for index in range(group.channels) if index not in gone)}
    )
    return Merged(remove_channels(merged, plan, image_shape=image_shape), layer, reader, tuple(merges))


@torch.no_grad()
def merging_error(model: nn.Module, merged: Merged, inputs: Tensor) -> MergingError:
    """Compare what the next layer puts out before and after merging, for ``inputs``, with what theory allows.

    ReLU and pooling bring no two numbers farther apart, so \\|h_i − h_j\\| ≤ ‖w_i − w_j‖ · ‖x‖ (Cauchy and Schwarz),
    with x what the layer sees at one position and a 1 for the bias. An output of the next layer then moves by at most
    Σ\\|a_j\\| times that, and the steps of several merges add up: bound = max‖x‖ · Σ reach · distance.
    """
    largest, measured = 0.0, 0.0
    for batch in inputs.split(_BATCH):
        before = _watch(model, batch, (merged.layer, merged.reader))
        after = _watch(merged.model, batch, (merged.reader,))
        layer = model.get_submodule(merged.layer)
        largest = max(largest, _largest_patch(layer, before[merged.layer][0]))
        measured = max(measured, float((before[merged.reader][1] - after[merged.reader][1]).abs().max()))
    return MergingError(measured, largest * sum(merge.reach * merge.distance for merge in merged.merges))


def _constants(model: nn.Module, inputs: Tensor) -> list[tuple[ChannelGroup, Tensor, dict[tuple[str, str], Tensor]]]:
    """For each group: which channels are constant (bool), and each reader's inputs (their values where constant)."""
    groups = channel_groups(model, image_shape=tuple(inputs.shape[1:]))
    modules = dict(model.named_modules())
    readers = {member for group in groups for member in group.members if member[1] == "inputs"}
    lows: dict[str, Tensor] = {}
    highs: dict[str, Tensor] = {}
    for batch in inputs.split(_BATCH):
        for name, (given, _) in _watch(model, batch, [reader for reader, _ in readers]).items():
            flat = given.transpose(0, 1).flatten(1)
            lows[name] = torch.minimum(flat.amin(1), lows.get(name, flat[:, 0]))
            highs[name] = torch.maximum(flat.amax(1), highs.get(name, flat[:, 0]))
    found = []
    for group in groups:
        constant = torch.ones(group.channels, dtype=torch.bool)
        values = {}
        for member in group.members:
            if member in readers:
                low, high, reader = lows[member[0]], highs[member[0]], modules[member[0]]
                padded = isinstance(reader, nn.Conv2d) and reader.padding != (0, 0)
                movable = torch.full_like(low, reader.bias is not None and not padded, dtype=torch.bool)
                constant &= ((low == high) & (movable | (low == 0))).cpu()[group.positions[member]].all(1)
                values[member] = low
        found.append((group, constant, values))
    return found


@torch.no_grad()
def _watch(model: nn.Module, batch: Tensor, names: list[str] | tuple[str, ...]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return what goes into and comes out of the named layers, in evaluation mode."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def watch(name: str) -> RemovableHandle:
        def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen[name] = (inputs[0], output)

        return model.get_submodule(name).register_forward_hook(after)

    handles = [watch(name) for name in names]
    was_training = model.training
    model.eval()
    try:
        model(batch)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return seen


def _only_reader(model: nn.Module, layer: str, image_shape: tuple[int, ...]) -> tuple[ChannelGroup, str]:
    groups = {group.name: group for group in channel_groups(model, image_shape=image_shape)}
    require_choice("layer", layer, groups)
    modules = dict(model.named_modules())
    sides: dict[str, list[str]] = {"outputs": [], "inputs": []}
    for name, side in groups[layer].members:
        if not isinstance(modules[name], nn.BatchNorm2d):
            sides[side].append(name)
    for side, what in (("outputs", "written"), ("inputs", "read")):
        if len(sides[side]) != 1:
            problem = f"layer is {layer!r}, but its channels are {what} by {', '.join(sides[side])}; "
            raise ValueError(problem + "choose one inside a block.")
    return groups[layer], sides["inputs"][0]


def _incoming_weights(model: nn.Module, group: ChannelGroup) -> Tensor:
    """Return the incoming weights and bias of each channel with batch norm multiplied in: shape (channels, k + 1)."""
    modules = dict(model.named_modules())
    layer = modules[group.name]
    weight = layer.weight.detach().flatten(1).double().cpu()
    bias = torch.zeros(len(weight)).double() if layer.bias is None else layer.bias.detach().double().cpu()
    for name, _ in group.members:
        norm = modules[name]
        if isinstance(norm, nn.BatchNorm2d):
            scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach().double().cpu()
            shift = norm.bias.detach().double().cpu() - norm.running_mean.double().cpu() * scale
            weight, bias = weight * scale[:, None], bias * scale + shift
    return torch.cat([weight, bias[:, None]], dim=1).float()


def _signs(model: nn.Module, group: ChannelGroup) -> Tensor:
    # Max pooling in front of batch norm picks the smallest, not the largest, where the scale is negative; two
    # channels are alike behind it only if their scales have the same sign.
    signs = torch.ones(group.channels)
    for name, _ in group.members:
        norm = model.get_submodule(name)
        if isinstance(norm, nn.BatchNorm2d):
            signs = norm.weight.detach().sign().cpu()
    return signs


def _largest_patch(layer: nn.Module, given: Tensor) -> float:
    squares = given.square()
    if isinstance(layer, nn.Conv2d):
        window = torch.ones(1, 1, *layer.kernel_size, device=given.device)
        squares = F.conv2d(squares.sum(1, keepdim=True), window, stride=layer.stride, padding=layer.padding)
    return float((squares.sum(1) + 1).max().sqrt())
