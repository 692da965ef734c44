"""Whole residual blocks taken out: where the shortcut is the identity, the network still fits together without them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from nnopt_lab import inspecting
from nnopt_lab.arguments import require_choice, require_integer
from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.models import ResidualBlock
from nnopt_lab.pruning.masks import Masks, keep_highest
from nnopt_lab.pruning.prunable import prunable_layers
from nnopt_lab.training import evaluate


@dataclass(frozen=True)
class BlockImportance:
    """What a network loses without one residual block, before any training.

    Attributes
    ----------
    name : str
        Path of the block.
    loss_increase : float
        Of the mean cross-entropy, when the block is skipped.
    accuracy_drop : float
        In percentage points; below 0 if skipping it helps.
    similarity : float
        Mean cosine between what goes in and what comes out, over pictures: near 1, the block does little. It needs
        one pass for all blocks, where the other two need one for each.
    parameters, macs : int
        What removing it saves, multiply–accumulates for one picture.
    """

    name: str
    loss_increase: float
    accuracy_drop: float
    similarity: float
    parameters: int
    macs: int


def removable_blocks(model: nn.Module) -> list[str]:
    """Return the paths of the residual blocks whose shortcut is the identity."""
    return [name for name, block in _blocks(model).items() if _has_identity(block)]


@contextmanager
def skip_block(model: nn.Module, name: str) -> Iterator[nn.Module]:
    """Let ``model`` run without the block for the time being: ``with skip_block(model, "stage1.1"): ...``.

    Raises
    ------
    ValueError
        As `remove_blocks`.
    """
    _require_removable(model, name)
    path, _, key = name.rpartition(".")
    parent = model.get_submodule(path)
    block = getattr(parent, key)
    setattr(parent, key, nn.Identity())
    try:
        yield model
    finally:
        setattr(parent, key, block)


def remove_blocks(model: nn.Module, names: Iterable[str]) -> nn.Module:
    """Return a copy of ``model`` without the named blocks; the others keep their paths.

    A block puts out ReLU(x + F(x)), and its input x is the output of a ReLU already: without F, that is x itself.

    Raises
    ------
    ValueError
        If there is no such block, or its shortcut is not the identity: it changes the shape, or there is none.
    """
    chosen = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    for name in chosen:
        _require_removable(model, name)
    smaller = copy.deepcopy(model)
    for name in chosen:
        path, _, key = name.rpartition(".")
        delattr(smaller.get_submodule(path), key)
    return smaller


def mask_blocks(model: nn.Module, *, rate: float, scores: Mapping[str, Tensor]) -> Masks:
    """Choose the residual blocks to remove as `choose_masks` chooses smaller units; the model is not changed.

    A mask of zeros is not the block removed, since its batch norm still adds a shift: see `removed_blocks`.

    Parameters
    ----------
    rate : float
        Share of the removable blocks, in [0, 1).
    scores : mapping of Tensor
        One for each weight, as `score_weights` returns. A block's score is the mean over its weights.

    Returns
    -------
    Masks
        For all prunable layers of the model; nothing of a removed block stays.

    Raises
    ------
    ValueError
        If ``rate`` is out of range.
    """
    layers, names = prunable_layers(model), removable_blocks(model)
    members = {name: [layer for layer in layers if layer.startswith(f"{name}.")] for name in names}
    means = [torch.cat([scores[layer].flatten() for layer in members[name]]).mean() for name in names]
    stays = keep_highest(torch.stack(means), rate).tolist() if names else []
    gone = {layer for name, kept in zip(names, stays, strict=True) if not kept for layer in members[name]}
    return Masks(
        {name: torch.full_like(layer.weight, name not in gone, dtype=torch.bool) for name, layer in layers.items()}
    )


def removed_blocks(model: nn.Module, masks: Masks) -> list[str]:
    """Return the removable blocks of which ``masks`` leave nothing, for `remove_blocks` or `skip_block`."""
    left = {name for name, mask in masks.masks.items() if mask.any()}
    return [
        block
        for block in removable_blocks(model)
        if not any(name.startswith(f"{block}.") for name in left)
        and any(name.startswith(f"{block}.") for name in masks.masks)
    ]


def measure_blocks(model: nn.Module, data: ImageData, *, pictures: int = 1000) -> list[BlockImportance]:
    """Measure every removable block on the first ``pictures`` of the validation split, with the others in place.

    The similarity of input and output is the "block influence" of Men et al. (2024, arXiv:2403.03853), there of a
    language model's layers, as a similarity.

    Raises
    ------
    ValueError
        If ``model`` has no residual block that can be removed.
    """
    require_integer("pictures", pictures)
    names = removable_blocks(model)
    if not names:
        raise ValueError(
            f"model is {type(model).__name__}, but it must have a residual block whose shortcut is the identity."
        )
    model = copy.deepcopy(model).to(memory_format=torch.channels_last)
    split = BatchSource(data, data.validation.take(pictures), device=next(model.parameters()).device)
    costs = dict.fromkeys(names, 0)
    for layer in inspecting.layers(model):
        block = next((name for name in names if layer.name.startswith(f"{name}.")), None)
        if block is not None:
            costs[block] += layer.macs
    similarities: dict[str, list[Tensor]] = {name: [] for name in names}

    def compare(name: str) -> RemovableHandle:
        def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            similarities[name].append(F.cosine_similarity(inputs[0].flatten(1), output.flatten(1)))

        return model.get_submodule(name).register_forward_hook(after)

    handles = [compare(name) for name in names]
    try:
        whole = evaluate(model, data, split)
    finally:
        for handle in handles:
            handle.remove()
    found = []
    for name in names:
        with skip_block(model, name):
            without = evaluate(model, data, split)
        found.append(
            BlockImportance(
                name=name,
                loss_increase=without.loss - whole.loss,
                accuracy_drop=100 * (whole.accuracy - without.accuracy),
                similarity=torch.cat(similarities[name]).mean().item(),
                parameters=sum(parameter.numel() for parameter in model.get_submodule(name).parameters()),
                macs=costs[name],
            )
        )
    return found


def _blocks(model: nn.Module) -> dict[str, ResidualBlock]:
    return {name: module for name, module in model.named_modules() if isinstance(module, ResidualBlock)}


def _has_identity(block: ResidualBlock) -> bool:
    return block.has_shortcut and isinstance(block.shortcut, nn.Identity)


def _require_removable(model: nn.Module, name: str) -> None:
    blocks = _blocks(model)
    require_choice("block", name, blocks)
    if not _has_identity(blocks[name]):
        problem = "changes the shape" if blocks[name].has_shortcut else "has no shortcut"
        allowed = ", ".join(removable_blocks(model)) or "none here"
        raise ValueError(f"The block {name!r} {problem}, so nothing fits in its place; those that can go: {allowed}.")
