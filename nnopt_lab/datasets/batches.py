"""Batches straight from memory: one gather picks, shifts and flips a whole batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nnopt_lab.arguments import require_choice, require_integer
from nnopt_lab.datasets.image_data import ImageData, Split

FLIPS = ("none", "random", "alternate")


@dataclass(frozen=True)
class Augmentation:
    """What is done to a training picture before the network sees it.

    Attributes
    ----------
    flip : str
        ``"none"``; ``"random"``: mirrored with probability ½; ``"alternate"``: mirrored in every other
        epoch, starting from a random one for each picture, so that two epochs show both sides
        (Jordan, 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", section 3.6).
    shift_pixels : int
        Moved by up to this many pixels each way; what comes in is the picture's reflection.
    cutout_pixels : int
        Side of a square set to the mean color (DeVries & Taylor, 2017); 0 for none.
    """

    flip: str = "random"
    shift_pixels: int = 2
    cutout_pixels: int = 0

    def __post_init__(self) -> None:
        require_choice("flip", self.flip, FLIPS)
        require_integer("shift_pixels", self.shift_pixels, at_least=0, at_most=16)
        require_integer("cutout_pixels", self.cutout_pixels, at_least=0, at_most=32)


NO_AUGMENTATION = Augmentation(flip="none", shift_pixels=0, cutout_pixels=0)


class BatchSource:
    """Pictures of one split on one device, handed out as normalized float batches.

    Parameters
    ----------
    data : ImageData
        Gives the statistics for normalization.
    split : Split
        The pictures to hand out.
    device : torch.device or str
        Where the pictures are kept and the batches made.
    channels_last : bool
        Memory layout of the batches; the faster one for convolutions on most processors.
    """

    def __init__(
        self, data: ImageData, split: Split, *, device: torch.device | str = "cpu", channels_last: bool = True
    ) -> None:
        self.images = split.images.to(device)
        self.labels = split.labels.to(device)
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        shape = (1, 3, 1, 1)
        # (x/255 − mean)/std as one multiplication and one addition.
        self.scale = (1 / (255 * torch.tensor(data.std))).to(device).reshape(shape)
        self.offset = (-torch.tensor(data.mean) / torch.tensor(data.std)).to(device).reshape(shape)

    def __len__(self) -> int:
        return len(self.labels)

    def normalize(self, images: Tensor) -> Tensor:
        """Turn uint8 pictures, shape (n, 3, 32, 32), into floats of mean 0 and standard deviation 1."""
        return torch.addcmul(self.offset, images.to(torch.float32, memory_format=self.layout), self.scale)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the normalized pictures, shape (n, 3, 32, 32), and labels, shape (n,), at ``indices``."""
        return self.normalize(self.images[indices]), self.labels[indices]

    def augmented_batch(
        self, indices: Tensor, augmentation: Augmentation, *, epoch: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Like `batch`, with each picture shifted, flipped and cut out as ``augmentation`` says.

        ``generator`` lives on the CPU, so that one seed gives the same pictures on every device.
        """
        device = self.images.device
        rows, columns = random_positions(len(indices), indices.cpu(), augmentation, epoch=epoch, generator=generator)
        rows, columns = rows.to(device), columns.to(device)
        channels = torch.arange(3, device=device)[None, :, None, None]
        picked = indices.to(device)[:, None, None, None]
        images = self.normalize(self.images[picked, channels, rows[:, None, :, None], columns[:, None, None, :]])
        if augmentation.cutout_pixels:
            hidden = random_squares(len(indices), augmentation.cutout_pixels, generator=generator)
            images.masked_fill_(hidden[:, None].to(device), 0.0)  # 0 is the mean color after normalization
        return images, self.labels[indices.to(device)]

    def in_order(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every picture once, unaugmented and in order, for evaluation."""
        for start in range(0, len(self), batch_size):
            yield self.normalize(self.images[start : start + batch_size]), self.labels[start : start + batch_size]


def random_positions(
    count: int, indices: Tensor, augmentation: Augmentation, *, epoch: int, generator: torch.Generator, size: int = 32
) -> tuple[Tensor, Tensor]:
    """Choose which source row and column each output row and column shows.

    Returns
    -------
    rows, columns : Tensor
        int64, shape (count, size): a shift with reflection at the borders, columns reversed for a flip.
    """
    reach = augmentation.shift_pixels
    steps = torch.arange(size)
    shifts = torch.randint(-reach, reach + 1, (2, count, 1), generator=generator)
    positions = (steps + shifts).abs()  # reflect at the first pixel …
    positions = (size - 1) - ((size - 1) - positions).abs()  # … and at the last
    rows, columns = positions
    if augmentation.flip == "random":
        flipped = torch.rand(count, generator=generator) < 0.5
    elif augmentation.flip == "alternate":
        # A fixed pseudo-random bit for each picture (Knuth's multiplicative hash), turned every epoch.
        flipped = (((indices * 2654435761) >> 13) + epoch) % 2 == 1
    else:
        return rows, columns
    return rows, torch.where(flipped[:, None], columns.flip(1), columns)


def random_squares(count: int, side: int, *, generator: torch.Generator, size: int = 32) -> Tensor:
    """Return a bool mask, shape (count, size, size), of one square each; squares may stick out at the border."""
    corners = torch.randint(-(side // 2), size - side // 2, (2, count, 1), generator=generator)
    steps = torch.arange(size)
    rows, columns = (steps >= corners) & (steps < corners + side)
    return rows[:, :, None] & columns[:, None, :]
