"""Fine-tuning of shared weights: what is trained are the values of the codebooks."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nnopt_lab.pruning.prunable import prunable_layers
from nnopt_lab.sharing.shared import Shared, SharedLayer


class Lookup(nn.Module):
    """Computes a weight from the codebook that is trained in its place.

    The derivative by a value of the codebook is the sum of the derivatives by all weights that have it (Han et al.,
    2016, equation 3): autograd does in the backward pass of the lookup what `sum_by_cluster` spells out.
    """

    def __init__(self, shared: SharedLayer) -> None:
        super().__init__()
        self.clusters, self.keeps_zero = len(shared.codebook), shared.keeps_zero
        self.register_buffer("indices", shared.indices.clone())

    def forward(self, codebook: Tensor) -> Tensor:
        """Return the weight; the 0 of pruned weights is no part of ``codebook``, and so stays."""
        return torch.take(self.whole(codebook), self.indices)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return the codebook of ``weight``, in which the weights of a cluster are equal."""
        codebook = weight.new_zeros(self.clusters)
        codebook[self.indices] = weight
        return codebook[1:] if self.keeps_zero else codebook

    def whole(self, codebook: Tensor) -> Tensor:
        """Return the codebook with the 0 of pruned weights in front, if there are any."""
        return torch.cat([codebook.new_zeros(1), codebook]) if self.keeps_zero else codebook


def tie_weights(model: nn.Module, shared: Shared) -> nn.Module:
    """Return a copy of ``model`` whose weights are looked up in codebooks, to be trained as any other network.

    The copy's parameters are the codebooks (and biases and batch norm, as before), so ``fit(tied, data, settings)``
    moves the values, never an index. A value's gradient is a sum over its weights, hundreds or thousands of them: take
    a learning rate that much lower than before, or Adam, which does not mind. Weights that were pruned stay 0.

    Raises
    ------
    ValueError
        If ``shared`` is not of ``model``.
    """
    tied = copy.deepcopy(model)
    shared.apply(tied)
    layers = prunable_layers(tied)
    for name, layer in shared.layers.items():
        parametrize.register_parametrization(layers[name], "weight", Lookup(layer).to(layers[name].weight.device))
    return tied


def untie_weights(tied: nn.Module) -> tuple[nn.Module, Shared]:
    """Return an ordinary copy of a network by `tie_weights`, and its shared weights as they are now.

    Raises
    ------
    ValueError
        If ``tied`` is an ordinary network.
    """
    model = copy.deepcopy(tied)
    shared = {}
    for name, layer in model.named_modules():
        lookup = layer.parametrizations.weight[0] if parametrize.is_parametrized(layer, "weight") else None
        if isinstance(lookup, Lookup):
            trained = layer.parametrizations.weight.original
            codebook = lookup.whole(trained.detach()).cpu().clone()
            shared[name] = SharedLayer(codebook, lookup.indices.cpu().contiguous(), lookup.keeps_zero)
            weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=trained.requires_grad)
            # Not remove_parametrizations: it takes the weight from the class, which copies of a network have in common.
            layer.__class__ = parametrize.type_before_parametrizations(layer)
            del layer.parametrizations
            layer.weight = weight
    if not shared:
        raise ValueError(f"tied is {type(tied).__name__} without shared weights, but it must come from tie_weights.")
    return model, Shared(shared)


def sum_by_cluster(gradient: Tensor, indices: Tensor, clusters: int) -> Tensor:
    """Return the sum of the gradients of the weights of each cluster: shape (clusters,).

    Examples
    --------
    >>> sum_by_cluster(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0, 1], [1, 2]]), 3).tolist()
    [1.0, 5.0, 4.0]
    """
    return gradient.new_zeros(clusters).index_add(0, indices.flatten(), gradient.flatten())
