"""Weight sharing: the weights of a layer take few values, and each weight only says which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnopt_lab.arguments import require_choice, require_integer
from nnopt_lab.pruning.prunable import chosen_layers, prunable_layers
from nnopt_lab.sharing.clusters import Clustering, cluster_values

MAX_BITS = 16
"""Largest width of an index."""


@dataclass(frozen=True, eq=False)
class SharedLayer:
    """The weight of one layer as a codebook and one index a weight.

    Attributes
    ----------
    codebook : Tensor
        Shape (clusters,): the values.
    indices : Tensor
        int64, shape of the weight.
    keeps_zero : bool
        Whether ``codebook[0]`` is the 0 of pruned weights, which no training moves.
    """

    codebook: Tensor
    indices: Tensor
    keeps_zero: bool = False

    @property
    def weight(self) -> Tensor:
        """The weight: for each index its value."""
        return self.codebook[self.indices]

    @property
    def bits(self) -> int:
        """Width of an index, if all have the same."""
        return max(1, (len(self.codebook) - 1).bit_length())

    @property
    def counts(self) -> Tensor:
        """How many weights have each value: int64, shape (clusters,)."""
        return torch.bincount(self.indices.flatten(), minlength=len(self.codebook))


@dataclass(frozen=True, eq=False)
class Shared:
    """The shared weights of a network.

    Sharing removes no weight and no multiplication: it makes the file smaller, once indices are what is stored
    (see `write_shared`).

    Attributes
    ----------
    layers : dict of SharedLayer
        By the path of the layer, such as ``"stage1.0.conv1"``.
    """

    layers: dict[str, SharedLayer]

    @torch.no_grad()
    def apply(self, model: nn.Module) -> None:
        """Put the shared values into the weights of ``model``, in place.

        Training would pull them apart again: see `tie_weights`.

        Raises
        ------
        ValueError
            If ``model`` lacks a layer, or a weight has another shape.
        """
        require_layers(model, self)
        layers = prunable_layers(model)
        for name, shared in self.layers.items():
            layers[name].weight.copy_(shared.weight)


def share_weights(
    model: nn.Module,
    *,
    bits: int | Mapping[str, int],
    init: str = "linear",
    layers: Iterable[str] | None = None,
    seed: int = 0,
) -> Shared:
    """Cluster the weights of each layer by k-means (Han et al., 2016, arXiv:1510.00149, section 3.1).

    A layer has 2^bits values of its own. If some of its weights are exactly 0, as after pruning, the first of these
    values is 0 and theirs alone, and 2^bits − 1 are left for the others. A layer with no more different weights than
    values keeps them all as they are.

    Parameters
    ----------
    model : nn.Module
        Is not changed; `Shared.apply` does that.
    bits : int or mapping
        Width of an index, 1–16: the same for all layers, or for each of some. All others stay as they are.
    init, seed
        As in `initial_centers`.
    layers : iterable of str, optional
        Which layers, if ``bits`` is a number. Default: all convolutions and linear layers.

    Raises
    ------
    ValueError
        If an argument is unknown or out of range, a weight is not finite, or two layers have one weight.

    Examples
    --------
    >>> layer = nn.Linear(4, 1, bias=False)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([[0.5, 0.0, 0.75, -2.0]]))
    >>> shared = share_weights(nn.Sequential(layer), bits=1)
    >>> shared.layers["0"].codebook.tolist(), shared.layers["0"].indices.tolist()
    ([0.0, -0.25], [[1, 0, 1, 1]])
    """
    if isinstance(bits, Mapping):
        if layers is not None:
            raise ValueError("layers is given, but bits names its layers: leave layers out.")
        widths = {name: bits[name] for name in chosen_layers(model, bits, "weight")}
    else:
        widths = dict.fromkeys(chosen_layers(model, layers, "weight"), bits)
    weights = prunable_layers(model)
    shared = {}
    for name, width in widths.items():
        label = f"bits[{name!r}]" if isinstance(bits, Mapping) else "bits"
        width = require_integer(label, width, at_most=MAX_BITS)
        try:
            shared[name] = _share(weights[name].weight.detach(), 2**width, init, seed)
        except ValueError as error:
            raise ValueError(f"layer {name!r}: {error}") from None
    return Shared(shared)


def require_layers(model: nn.Module, shared: Shared) -> None:
    """Check that every shared layer is one of ``model`` with a weight of that shape.

    Raises
    ------
    ValueError
        If one is not; the message names the first.
    """
    layers = prunable_layers(model)
    for name, layer in shared.layers.items():
        require_choice("shared", name, layers)
        if layers[name].weight.shape != layer.indices.shape:
            raise ValueError(
                f"shared has shape {tuple(layer.indices.shape)} for {name!r}, "
                f"but it must have that of the weight, {tuple(layers[name].weight.shape)}."
            )


def _share(weight: Tensor, most: int, init: str, seed: int) -> SharedLayer:
    weight = weight.cpu().contiguous()
    indices = torch.zeros(weight.shape, dtype=torch.int64)
    stays = weight != 0
    if stays.all():
        found = _cluster(weight, most, init, seed)
        return SharedLayer(found.centers, found.indices)
    codebook = torch.zeros(1, dtype=weight.dtype)
    if stays.any():
        found = _cluster(weight[stays], most - 1, init, seed)
        indices[stays] = found.indices + 1
        codebook = torch.cat([codebook, found.centers])
    return SharedLayer(codebook, indices, keeps_zero=True)


def _cluster(values: Tensor, most: int, init: str, seed: int) -> Clustering:
    return cluster_values(values, min(most, len(values.unique())), init=init, seed=seed)
