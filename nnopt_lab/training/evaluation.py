"""Loss and accuracy of a network on one split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnopt_lab.arguments import require_integer
from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.datasets.image_data import ImageData, Split


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy and accuracy (0–1) over ``count`` pictures."""

    loss: float
    accuracy: float
    count: int


@torch.no_grad()
def predict(model: nn.Module, source: BatchSource, *, batch_size: int = 250) -> Tensor:
    """Return the logits of every picture of ``source``, in order, on its device: shape (n, num_classes).

    The model is put into evaluation mode and then back into the mode it was in.
    """
    batch_size = require_integer("batch_size", batch_size)
    was_training = model.training
    model.eval()
    try:
        return torch.cat([model(images).float() for images, _ in source.in_order(batch_size)])
    finally:
        model.train(was_training)


def evaluate(
    model: nn.Module, data: ImageData, split: Split | BatchSource, *, device: torch.device | str | None = None
) -> Evaluation:
    """Return the loss and accuracy of ``model`` on ``split``."""
    if isinstance(split, Split):
        if device is None:
            device = next(model.parameters()).device
        split = BatchSource(data, split, device=device)
    logits = predict(model, split)
    loss = F.cross_entropy(logits, split.labels).item()
    accuracy = (logits.argmax(1) == split.labels).float().mean().item()
    return Evaluation(loss, accuracy, len(split))
