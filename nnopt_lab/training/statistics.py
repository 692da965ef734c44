"""Batch norm's statistics, measured anew for a network whose weights were changed without training."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import update_bn

from nnopt_lab.arguments import require_integer
from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.datasets.image_data import ImageData


def refresh_statistics(model: nn.Module, data: ImageData, *, pictures: int = 300, batch_size: int = 100) -> nn.Module:
    """Measure the means and variances of batch norm anew; no weight is changed, nothing is learned.

    They were averaged while other weights were there: after pruning or quantization they are stale, and a network is
    judged too harshly by them (Li et al., 2020, arXiv:2007.02491, section 3.3, "adaptive batch normalization").

    Parameters
    ----------
    model : nn.Module
        Changed in place; one without batch norm stays as it is.
    data : ImageData
        The first ``pictures`` of its training split are passed through, without augmentation.
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
    split = data.train.take(pictures // batch_size * batch_size)
    source = BatchSource(data, split, device=next(model.parameters()).device)
    update_bn((images for images, _ in source.in_order(batch_size)), model)
    return model
