"""The network that several tests prune, quantize or share: two convolutions, batch norm and a linear layer."""

from __future__ import annotations

import torch
from torch import nn

from nnopt_lab.pruning import choose_masks


def tiny_network(*, seed: int = 0, pruned: float = 0.0) -> nn.Sequential:
    """Return it untrained, for the four classes of `tiny_data`, with the share ``pruned`` of its weights at 0."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=4),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    if pruned:
        choose_masks(model, rate=pruned).apply(model)
    return model
