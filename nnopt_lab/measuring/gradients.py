"""How strongly the loss pulls at each layer."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def gradient_norms_by_layer(model: nn.Module, images: Tensor, labels: Tensor) -> list[tuple[str, float]]:
    """Return the Euclidean norm of the cross-entropy's gradient with respect to each layer's parameters.

    A layer is a module that has trainable parameters of its own. The gradient is taken in training mode
    on a copy: weights, gradients and batch norm's statistics of ``model`` stay as they are.

    Parameters
    ----------
    images : Tensor
        Normalized floats, shape (n, 3, 32, 32), on the model's device.
    labels : Tensor
        int64, shape (n,).

    Returns
    -------
    list of (str, float)
        The layer's name and its norm, in the model's order.
    """
    model = copy.deepcopy(model).train()
    model.zero_grad(set_to_none=True)
    with torch.enable_grad():
        F.cross_entropy(model(images).float(), labels).backward()
    norms = []
    for name, module in model.named_modules():
        gradients = [p.grad for p in module.parameters(recurse=False) if p.grad is not None]
        if gradients:
            norms.append((name, nn.utils.get_total_norm(gradients).item()))
    return norms
