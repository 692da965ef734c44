"""What a data set is here: uint8 pictures in memory, in three splits, with measured statistics."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nnopt_lab.arguments import require_integer

IMAGE_SHAPE = (3, 32, 32)
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class DataError(ValueError):
    """The data cannot be used as it is; the message names the file and what is allowed."""


@dataclass(frozen=True)
class Split:
    """Pictures and labels that belong together.

    Attributes
    ----------
    images : Tensor
        uint8, shape (n, 3, 32, 32).
    labels : Tensor
        int64, shape (n,).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, count: int) -> Split:
        """Return the first ``count`` pictures (all of them if there are fewer)."""
        count = require_integer("count", count)
        return Split(self.images[:count], self.labels[:count])

    def copy(self) -> Split:
        """Return the same pictures in memory of their own, so that those they were taken from can be freed."""
        return Split(self.images.clone(), self.labels.clone())


@dataclass(frozen=True)
class ImageData:
    """A data set: three splits, the names of the classes, and the training split's statistics.

    Attributes
    ----------
    label : str
        What every plot and table calls it, for example ``"stand-in (not CIFAR-10)"``.
    source : str
        ``"cifar10"``, ``"folder"`` or ``"standin"``.
    origin : str
        Where the pictures came from, in words.
    class_names : tuple of str
        One name a class; a label indexes it.
    train, validation, test : Split
        Disjoint. Choices are made on ``validation``; ``test`` only reports.
    mean, std : tuple of float
        Of the training pictures' channels (red, green, blue), on the scale 0–1.
    """

    label: str
    source: str
    origin: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def splits(self) -> dict[str, Split]:
        """Return the three splits by name."""
        return {"training": self.train, "validation": self.validation, "test": self.test}

    def with_train_size(self, count: int) -> ImageData:
        """Return the same data with only the first ``count`` training pictures."""
        return replace(self, train=self.train.take(count))


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation of each channel, on the scale 0–1.

    A histogram of the 256 values gives both exactly, without a float copy of the pictures.

    Parameters
    ----------
    images : Tensor
        uint8, shape (n, 3, height, width).
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in range(images.shape[1]):
        counts = torch.bincount(images[:, channel].reshape(-1), minlength=256).double()
        weights = counts / counts.sum()
        mean = (weights * values).sum()
        means.append(mean.item())
        stds.append((weights * (values - mean) ** 2).sum().sqrt().item())
    return tuple(means), tuple(stds)


def hold_out(split: Split, *, fraction: float, seed: int) -> tuple[Split, Split]:
    """Split off ``fraction`` of every class, at random but always alike for one ``seed``.

    Returns
    -------
    kept, held_out : Split
        Both in random order. The first pictures of ``kept`` are no fair sample: those of their class that stood
        before them were held out. Of the first 600, a class may have less than half of its share; of 2,000, four
        fifths.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(split), generator=generator)
    labels = split.labels[order]
    held = torch.zeros(len(split), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero().squeeze(1)
        held[members[: max(1, round(fraction * len(members)))]] = True
    return tuple(  # type: ignore[return-value]
        Split(split.images[order[chosen]].contiguous(), split.labels[order[chosen]]) for chosen in (~held, held)
    )


def assemble(
    *,
    label: str,
    source: str,
    origin: str,
    class_names: tuple[str, ...],
    train: Split,
    test: Split,
    validation_fraction: float = 0.1,
    seed: int = 0,
) -> ImageData:
    """Hold out a validation split, measure the statistics of what is left, and put it together."""
    kept, validation = hold_out(train, fraction=validation_fraction, seed=seed)
    mean, std = channel_statistics(kept.images)
    # Shuffled once, so that "the first 1000 test pictures" is a fair sample too.
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))
    test = Split(test.images[order], test.labels[order])
    return ImageData(label, source, origin, class_names, kept, validation, test, mean, std)  # type: ignore[arg-type]
