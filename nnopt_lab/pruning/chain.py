"""Channels taken out of a plain chain of layers, by hand: the idea behind `nnopt_lab.pruning.channels` on one page."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnopt_lab.arguments import require_choice
from nnopt_lab.datasets.image_data import IMAGE_SHAPE


def remove_from_chain(
    model: nn.Module, layer: str, kept: Sequence[int], *, image_shape: tuple[int, int, int] = IMAGE_SHAPE
) -> nn.Module:
    """Return a smaller copy of ``model`` in which ``layer`` puts out only the channels ``kept``.

    Three layers change: the rows (filters, neurons) of ``layer`` itself, the channels of a batch norm behind it, and
    the columns of the next convolution or linear layer. Behind a flattening, one channel is not one column but all
    height × width pixels of its map. In evaluation mode the copy computes what ``model`` computes once the removed
    channels are zeroed, batch norm's scale and shift included.

    Parameters
    ----------
    model : nn.Module
        Applies its layers one after another, in the order in which they are defined.
    layer : str
        Path of a convolution or linear layer that is not the last one.
    kept : sequence of int
        Indices of the channels that stay, ascending.

    Raises
    ------
    ValueError
        If ``model`` is no chain (shortcuts make it none), ``layer`` cannot be cut, or ``kept`` is empty, out of
        range or out of order.

    Examples
    --------
    >>> from nnopt_lab.models import ArticleCNN
    >>> smaller = remove_from_chain(ArticleCNN(), "conv2", range(8))
    >>> smaller.conv2.weight.shape, smaller.fc1.weight.shape
    (torch.Size([8, 6, 5, 5]), torch.Size([120, 200]))
    """
    _require_chain(model, image_shape)
    smaller = copy.deepcopy(model)
    layers = _leaves(smaller)
    weighted = [name for name, module in layers.items() if isinstance(module, (nn.Conv2d, nn.Linear))]
    require_choice("layer", layer, weighted[:-1])
    writer, reader = layers[layer], layers[weighted[weighted.index(layer) + 1]]
    channels = writer.weight.shape[0]
    keep = _require_indices(kept, channels).to(writer.weight.device)

    _keep_outputs(writer, keep)
    for module in _between(layers, writer, reader):
        if isinstance(module, nn.BatchNorm2d):
            _keep_norm(module, keep)
    # Channel c of a (channels, height, width) stack lies, flattened, at c·h·w … (c + 1)·h·w − 1.
    pixels = reader.weight.shape[1] // channels
    _keep_inputs(reader, (keep[:, None] * pixels + torch.arange(pixels, device=keep.device)).flatten())
    return smaller


def _keep_outputs(layer: nn.Conv2d | nn.Linear, keep: Tensor) -> None:
    layer.weight = nn.Parameter(layer.weight.detach()[keep])
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias.detach()[keep])
    setattr(layer, "out_channels" if isinstance(layer, nn.Conv2d) else "out_features", len(keep))


def _keep_norm(norm: nn.BatchNorm2d, keep: Tensor) -> None:
    norm.weight = nn.Parameter(norm.weight.detach()[keep])
    norm.bias = nn.Parameter(norm.bias.detach()[keep])
    norm.running_mean = norm.running_mean[keep]
    norm.running_var = norm.running_var[keep]
    norm.num_features = len(keep)


def _keep_inputs(layer: nn.Conv2d | nn.Linear, keep: Tensor) -> None:
    layer.weight = nn.Parameter(layer.weight.detach()[:, keep])
    setattr(layer, "in_channels" if isinstance(layer, nn.Conv2d) else "in_features", len(keep))


def _leaves(model: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in model.named_modules() if not list(module.children())}


def _between(layers: dict[str, nn.Module], first: nn.Module, last: nn.Module) -> list[nn.Module]:
    modules = list(layers.values())
    return modules[modules.index(first) + 1 : modules.index(last)]


def _require_chain(model: nn.Module, image_shape: tuple[int, int, int]) -> None:
    copied = copy.deepcopy(model).eval()
    images = torch.randn(2, *image_shape, generator=torch.Generator().manual_seed(0))
    images = images.to(next(copied.parameters()).device)
    with torch.no_grad():
        expected = copied(images)
        try:
            for module in _leaves(copied).values():
                images = module(images)
        except RuntimeError:  # shapes that do not fit
            images = None
    if images is None or not torch.allclose(images, expected, rtol=1e-4, atol=1e-5):
        raise ValueError(
            f"model is a {type(model).__name__}, which is no chain: its layers one after another do not give its "
            "output; use nnopt_lab.pruning.remove_channels."
        )


def _require_indices(kept: Sequence[int], channels: int) -> Tensor:
    indices = list(kept)
    if not indices or indices != sorted(set(indices)) or indices[0] < 0 or indices[-1] >= channels:
        raise ValueError(
            f"kept is {indices}, but it must be at least one index between 0 and {channels - 1}, each once and "
            "ascending."
        )
    return torch.tensor(indices)
