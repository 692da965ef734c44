"""Teachers that answer for a batch: asked each time anew, or asked once about everything a student will see.

A teacher's opinion belongs to one picture. Where augmentation moves, mirrors or covers a picture, the teacher must be
asked about the changed one (Beyer et al., 2022, "Knowledge distillation: a good teacher is patient and consistent",
arXiv:2106.05237). `LiveTeacher` does so at every step and costs its forward pass each time. `cache_logits` asks about
every view that flips and shifts can give, once: that is less work if there are fewer views than epochs, or if
several students learn from the same cache. Two views for a flip, times (2r + 1)² for shifts of up to r pixels.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from nnopt_lab.arguments import require_integer
from nnopt_lab.datasets.batches import NO_AUGMENTATION, Augmentation, BatchSource
from nnopt_lab.datasets.image_data import IMAGE_SHAPE, ImageData
from nnopt_lab.training import Batch

View = tuple[int, int, bool]
"""Rows and columns by which a picture is moved, and whether it is mirrored after that."""

_TOLERANCE = 0.01
"""Of fingerprints, which differ by about 50 from one picture to another."""


def frozen(model: nn.Module) -> nn.Module:
    """Return a copy of ``model`` in evaluation mode that no gradient reaches; the original stays as it is."""
    return copy.deepcopy(model).eval().requires_grad_(False)


class LiveTeacher:
    """Answers for a batch by running the teacher on the very pictures that the student sees.

    Parameters
    ----------
    model : nn.Module
        Maps pictures to logits. A frozen copy is asked: training ``model`` later does not change the answers.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = frozen(model).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        """Return the teacher's logits, shape (n, num_classes)."""
        self.model.to(batch.images.device)
        return self.model(batch.images).float()


@dataclass(frozen=True)
class CachedTeacher:
    """Answers for a batch from logits that `cache_logits` asked for.

    It recognizes each picture, and so its view, by a fingerprint of its numbers: logits of another picture are never
    handed out.

    Attributes
    ----------
    logits : Tensor
        float32 on the CPU, shape (views, pictures, num_classes).
    fingerprints : Tensor
        float32 on the CPU, shape (views, pictures).
    """

    logits: Tensor
    fingerprints: Tensor

    def __call__(self, batch: Batch) -> Tensor:
        """Return the teacher's logits, shape (n, num_classes).

        Raises
        ------
        ValueError
            If a picture is none of those that the teacher was asked about.
        """
        device, (views, pictures) = batch.images.device, self.fingerprints.shape
        beyond = int(batch.indices.max()) if len(batch.indices) else 0
        if beyond >= pictures:
            raise ValueError(
                f"The batch has picture {beyond} of the training split, but logits of the first {pictures:,} only were "
                "cached: call cache_logits with the data that you train on."
            )
        expected = self.fingerprints[:, batch.indices].to(device)
        gaps = (expected - fingerprint(batch.images)).abs()
        nearest, view = gaps.min(0)
        if (nearest > _TOLERANCE).any():
            wrong = int(batch.indices[int(nearest.argmax())])
            raise ValueError(
                f"Picture {wrong} of the training split came in none of the {views} views whose logits were cached: "
                "the data are in another order, or the augmentation is another. Call cache_logits with the data and "
                "the augmentation that you train with, or use LiveTeacher."
            )
        return self.logits[view.cpu(), batch.indices].to(device)


@torch.no_grad()
def cache_logits(
    teacher: nn.Module,
    data: ImageData,
    augmentation: Augmentation = NO_AUGMENTATION,
    *,
    batch_size: int = 250,
    device: torch.device | str | None = None,
) -> CachedTeacher:
    """Ask ``teacher`` once about every view of every training picture.

    Parameters
    ----------
    teacher : nn.Module
        Maps pictures to logits. It is left as it is.
    data : ImageData
        Its training split is shown.
    augmentation : Augmentation
        What the student's pictures will undergo; see `views_of`.
    batch_size : int
        Pictures at a time.
    device : optional
        Where the teacher runs; by default where it is.

    Raises
    ------
    ValueError
        If ``augmentation`` cuts squares out, or ``batch_size`` is below 1.
    """
    require_integer("batch_size", batch_size)
    views = views_of(augmentation)
    device = torch.device(device) if device is not None else next(teacher.parameters()).device
    asked = frozen(teacher).to(device, memory_format=torch.channels_last)
    source = BatchSource(data, data.train, device=device)
    logits, fingerprints = [], []
    for view in views:
        for start in range(0, len(source), batch_size):
            images = source.normalize(shown(source.images[start : start + batch_size], view))
            logits.append(asked(images).float().cpu())
            fingerprints.append(fingerprint(images).cpu())
    return CachedTeacher(
        torch.cat(logits).reshape(len(views), len(source), -1),
        torch.cat(fingerprints).reshape(len(views), len(source)),
    )


def views_of(augmentation: Augmentation) -> list[View]:
    """Return every view of a picture that ``augmentation`` can give.

    Raises
    ------
    ValueError
        If it cuts squares out: their places are too many.

    Examples
    --------
    >>> views_of(Augmentation(flip="alternate", shift_pixels=0))
    [(0, 0, False), (0, 0, True)]
    """
    if augmentation.cutout_pixels:
        raise ValueError(
            f"cutout_pixels is {augmentation.cutout_pixels}, but it must be 0 for logits that are cached: the squares "
            "have too many places. Use LiveTeacher."
        )
    shifts = range(-augmentation.shift_pixels, augmentation.shift_pixels + 1)
    mirrored = (False,) if augmentation.flip == "none" else (False, True)
    return list(itertools.product(shifts, shifts, mirrored))


def shown(images: Tensor, view: View) -> Tensor:
    """Return ``images``, shape (n, 3, height, width), in one view; what comes in at a border is the reflection."""
    down, right, mirrored = view
    rows = _reflected(images.shape[2], down).to(images.device)
    columns = _reflected(images.shape[3], right).to(images.device)
    moved = images[:, :, rows][..., columns]
    return moved.flip(-1) if mirrored else moved


def fingerprint(images: Tensor) -> Tensor:
    """Return one number a picture that tells it from others: its numbers times fixed random ones, summed.

    Parameters
    ----------
    images : Tensor
        Normalized, shape (n, 3, 32, 32).

    Returns
    -------
    Tensor
        float32, shape (n,).

    Raises
    ------
    ValueError
        If the pictures are of another size, as those of ``small_image_fraction`` are.
    """
    if images.shape[1:] != IMAGE_SHAPE:
        raise ValueError(
            f"images has shape {tuple(images.shape)}, but it must be (n, {', '.join(map(str, IMAGE_SHAPE))}) for "
            "logits that are cached: set small_image_fraction=0, or use LiveTeacher."
        )
    return (images.float() * _pattern().to(images.device)).sum((1, 2, 3))


@cache
def _pattern() -> Tensor:
    return torch.randn(IMAGE_SHAPE, generator=torch.Generator().manual_seed(0))


def _reflected(size: int, by: int) -> Tensor:
    places = (torch.arange(size) + by).abs()
    return (size - 1) - ((size - 1) - places).abs()
