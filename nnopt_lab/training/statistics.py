"""Batch norm's statistics, measured anew for a network whose weights were changed without training."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from nnopt_lab.arguments import require_integer
from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.datasets.image_data import ImageData, Split


def refresh_statistics(model: nn.Module, data: ImageData, *, pictures: int = 300, batch_size: int = 100) -> nn.Module:
    """Measure the means and variances of batch norm anew; no weight is changed, nothing is learned.

    They were averaged while other weights were there: after pruning or quantization they are stale, and a network is
    judged too harshly by them (Li et al., 2020, arXiv:2007.02491, section 3.3, "adaptive batch normalization").

    Parameters
    ----------
    model : nn.Module
        Changed in place; one without batch norm stays as it is.
    data : ImageData
        ``pictures`` of its training split, evenly spaced, are passed through without augmentation. (Its first ones
        are no fair sample: held-out pictures were taken from among them, class by class.)
    pictures, batch_size : int
        Each batch counts alike, so that a last one that would be smaller is left out.

    Returns
    -------
    nn.Module
        ``model``, in the mode it was in.

    Raises
    ------
    ValueError
        If there are fewer training pictures, or ``batch_size`` is larger than ``pictures``.
    """
    require_integer("pictures", pictures, at_least=2, at_most=len(data.train))
    require_integer("batch_size", batch_size, at_least=2, at_most=pictures)
    count = pictures // batch_size * batch_size
    chosen = torch.arange(count) * len(data.train) // count
    split = Split(data.train.images[chosen], data.train.labels[chosen])
    source = BatchSource(data, split, device=next(model.parameters()).device)
    update_bn((images for images, _ in source.in_order(batch_size)), model)
    return model
