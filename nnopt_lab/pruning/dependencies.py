"""Which channels have to go together: what one cut drags along through shortcuts and batch norm."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor, nn

from nnopt_lab.datasets.image_data import IMAGE_SHAPE
from nnopt_lab.pruning.prunable import prunable_layers

Member = tuple[str, str]
"""A layer's path and which side of it is cut: ``"outputs"`` or ``"inputs"``."""

CUT_LAYERS = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Channels that several layers share: removing the k-th means removing it from every member.

    Attributes
    ----------
    name : str
        Path of the first layer that writes these channels.
    channels : int
        How many there are.
    members : tuple of (str, str)
        Layers in the order in which they are called, and the side that is cut: ``"outputs"`` (filters of a
        convolution, rows of a linear layer, channels of batch norm) or ``"inputs"``.
    positions : mapping of Tensor
        For each member, int64, shape (channels, k): the rows or columns of the layer that belong to each channel.
        k is 1, but height × width for a linear layer behind a flattened picture.
    """

    name: str
    channels: int
    members: tuple[Member, ...]
    positions: Mapping[Member, Tensor]

    def __str__(self) -> str:
        return "\n".join(self.in_words())

    def in_words(self) -> list[str]:
        """Return one line for the group and one for each member.

        Examples
        --------
        >>> from nnopt_lab.models import ArticleCNN
        >>> print(channel_groups(ArticleCNN())[1])
        Removing one of the 16 channels of 'conv2' removes
          1 of 16 outputs of conv2
          25 of 400 inputs of fc1
        """
        lines = [f"Removing one of the {self.channels} channels of {self.name!r} removes"]
        for (layer, side), positions in self.positions.items():
            lines.append(f"  {positions.shape[1]} of {positions.numel()} {side} of {layer}")
        return lines


def channel_groups(model: nn.Module, *, image_shape: tuple[int, int, int] = IMAGE_SHAPE) -> list[ChannelGroup]:
    """Find the groups by following one picture through ``model``, in the order of their first layers.

    The dependency graph is that of the package ``torch_pruning`` (Fang et al., 2023, "DepGraph"). The outputs of
    the layer that is called last are the logits and in no group.

    Raises
    ------
    ValueError
        If channels pass through a layer with weights that is no convolution, linear layer or batch norm, or
        through a convolution in groups; or if weights are shared or already pruned (see `prunable_layers`).
    ImportError
        If ``torch_pruning`` is not installed.
    """
    tp = _torch_pruning()
    prunable_layers(model)
    traced = copy.deepcopy(model).cpu().eval().requires_grad_(True)
    order = _call_order(traced, image_shape)
    layers = [name for name, module in order.items() if isinstance(module, (nn.Conv2d, nn.Linear))]
    names = {module: name for name, module in order.items()}
    with torch.enable_grad():
        graph = tp.DependencyGraph().build_dependency(traced, torch.zeros(1, *image_shape), verbose=False)
    found: list[ChannelGroup] = []
    grouped = {layers[-1]} if layers else set()
    for root in layers:
        if root in grouped:
            continue
        module = order[root]
        channels = module.weight.shape[0]
        cut = graph.get_pruner_of_module(module).prune_out_channels
        positions: dict[Member, Tensor] = {}
        for item in graph.get_pruning_group(module, cut, list(range(channels))):
            layer = names.get(item.dep.target.module)
            if layer is None:  # an addition, a flattening: nothing to cut
                continue
            side = "outputs" if graph.is_out_channel_pruning_fn(item.dep.handler) else "inputs"
            _require_known(layer, order[layer])
            positions[layer, side] = _positions(item.idxs, item.root_idxs, channels)
        grouped |= {layer for layer, side in positions if side == "outputs"}
        if (layers[-1], "outputs") not in positions:
            calls = list(order)
            members = sorted(positions, key=lambda member: (calls.index(member[0]), member[1] == "outputs"))
            found.append(ChannelGroup(root, channels, tuple(members), {m: positions[m] for m in members}))
    return found


def _positions(indices: list[int], roots: list[int], channels: int) -> Tensor:
    by_channel: list[list[int]] = [[] for _ in range(channels)]
    for index, root in zip(indices, roots, strict=True):
        by_channel[root].append(index)
    return torch.tensor(by_channel)


def _call_order(model: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, nn.Module]:
    names = {module: name for name, module in model.named_modules() if list(module.parameters(recurse=False))}
    called: dict[str, nn.Module] = {}

    def note(module: nn.Module, inputs: object, output: object) -> None:
        called.setdefault(names[module], module)

    handles = [module.register_forward_hook(note) for module in names]
    try:
        with torch.no_grad():
            model(torch.zeros(1, *image_shape))
    finally:
        for handle in handles:
            handle.remove()
    return called


def _require_known(name: str, module: nn.Module) -> None:
    if not isinstance(module, CUT_LAYERS):
        raise ValueError(
            f"The layer {name!r} is a {type(module).__name__}, but channels can be cut only from "
            f"{', '.join(kind.__name__ for kind in CUT_LAYERS)}."
        )
    if isinstance(module, nn.Conv2d) and module.groups != 1:
        raise ValueError(f"The layer {name!r} has groups={module.groups}, but channels can be cut only with groups=1.")


def _torch_pruning() -> ModuleType:
    try:
        import torch_pruning
    except ImportError as error:
        problem = "torch_pruning is not installed, but finding channels that belong together needs it; install it: "
        raise ImportError(problem + "pip install torch-pruning") from error
    return torch_pruning
