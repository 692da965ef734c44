"""The parts of one training step, each a function, so that the loop and the clock use the same ones."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnopt_lab.datasets.batches import NO_AUGMENTATION, BatchSource
from nnopt_lab.training.settings import TrainingSettings


@dataclass(frozen=True)
class Batch:
    """What one step trains on.

    Attributes
    ----------
    images : Tensor
        Normalized and augmented, as the network sees them: float32, shape (n, 3, height, width).
    labels : Tensor
        int64, shape (n,).
    indices : Tensor
        Which pictures of the training split they are: int64, shape (n,), on the CPU.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor


Objective = Callable[[nn.Module, Batch], tuple[Tensor, Tensor]]
"""Takes a network and a batch; returns the loss (0-dimensional) and the network's logits, shape (n, num_classes)."""


def default_device() -> torch.device:
    """Return the first GPU (CUDA, then Apple's MPS) or else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def epoch_order(size: int, seed: int, epoch: int) -> Tensor:
    """Return the order in which ``epoch`` shows the pictures: int64, shape (size,)."""
    return torch.randperm(size, generator=_generator(seed, epoch, -1))


def draw_batch(
    source: BatchSource, indices: Tensor, settings: TrainingSettings, *, epoch: int, offset: int, shrink: bool
) -> tuple[Tensor, Tensor]:
    """Return the augmented pictures and labels of one step.

    Parameters
    ----------
    indices : Tensor
        int64 on the CPU, shape (n,).
    epoch, offset : int
        Where the run stands; with the seed, they alone decide the augmentation.
    shrink : bool
        Shrink the pictures to ``settings.small_image_size``.
    """
    if settings.augmentation == NO_AUGMENTATION:
        images, labels = source.batch(indices.to(source.images.device))
    else:
        generator = _generator(settings.seed, epoch, offset)
        images, labels = source.augmented_batch(indices, settings.augmentation, epoch=epoch, generator=generator)
    if shrink:
        images = F.interpolate(images, settings.small_image_size, mode="bilinear", antialias=True)
    return images, labels


def batch_loss(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    settings: TrainingSettings,
    autocast: contextlib.AbstractContextManager[object],
) -> tuple[Tensor, Tensor]:
    """Return the mean loss (0-dimensional) and the logits, shape (n, num_classes)."""
    with autocast:
        logits = model(images)
    return F.cross_entropy(logits.float(), labels, label_smoothing=settings.label_smoothing), logits


def autocast_for(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """Return torch's autocast if ``precision`` asks for it, or if it is ``"auto"`` and pays on ``device``."""
    pays = device.type == "cuda" and torch.cuda.is_bf16_supported()
    if precision == "bfloat16" or (precision == "auto" and pays):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


@contextlib.contextmanager
def buffers_restored_on_error(model: nn.Module) -> Iterator[None]:
    """Put the buffers of ``model`` back if the block fails: a forward pass alone moves batch norm's statistics."""
    before = [buffer.clone() for buffer in model.buffers()]
    try:
        yield
    except BaseException:
        for buffer, old in zip(model.buffers(), before, strict=True):
            buffer.copy_(old)
        raise


def _generator(seed: int, epoch: int, offset: int) -> torch.Generator:
    # A generator for each place in the run: nothing random has to be saved to resume bit-exactly.
    return torch.Generator().manual_seed(((seed * 1_000_003 + epoch) * 1_000_003 + offset) % 2**63)
