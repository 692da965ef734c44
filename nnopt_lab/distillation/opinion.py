"""What a teacher thinks of single pictures and, on average, of each class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.distillation.losses import entropy_bits, soften
from nnopt_lab.training import predict


@dataclass(frozen=True)
class Said:
    """A teacher's opinion of one picture at one temperature.

    Attributes
    ----------
    label : int
        The picture's class.
    probabilities : list of float
        One a class.
    ranked : list of int
        The classes from the most to the least likely.
    entropy_bits : float
        Of the probabilities.
    mean_of_label : list of float
        The mean probabilities of all pictures of the same label.
    most_alike : int
        The class of the highest mean beside the label.
    """

    label: int
    probabilities: list[float]
    ranked: list[int]
    entropy_bits: float
    mean_of_label: list[float]
    most_alike: int


@dataclass(frozen=True)
class Opinion:
    """A teacher's logits of some pictures, and what a temperature makes of them.

    Attributes
    ----------
    logits : Tensor
        float32, shape (n, K).
    labels : Tensor
        int64, shape (n,).
    class_names : tuple of str
        K names.
    """

    logits: Tensor
    labels: Tensor
    class_names: tuple[str, ...]

    def of(self, picture: int, temperature: float) -> Said:
        """Return what the teacher says of one picture at one temperature."""
        label = int(self.labels[picture])
        probabilities = soften(self.logits[picture], temperature)
        mean = soften(self.logits[self.labels == label], temperature).mean(0)
        others = mean.clone()
        others[label] = -1.0
        return Said(
            label,
            probabilities.tolist(),
            probabilities.argsort(descending=True).tolist(),
            entropy_bits(self.logits[picture], temperature).item(),
            mean.tolist(),
            int(others.argmax()),
        )

    def entropies(self, picture: int, temperatures: Tensor) -> Tensor:
        """Return the entropy of one picture in bits at each of ``temperatures``, shape (m,)."""
        return entropy_bits(self.logits[picture] / temperatures[:, None])

    def similarity(self, temperature: float) -> Tensor:
        """Return the mean probabilities of the pictures of each class.

        Returns
        -------
        Tensor
            Shape (K, K): row = the pictures' class, column = what the teacher takes it for; rows sum to 1, and are NaN
            where there is no picture.
        """
        probabilities = soften(self.logits, temperature)
        members = torch.nn.functional.one_hot(self.labels, len(self.class_names)).float()
        return (members.T @ probabilities) / members.sum(0)[:, None]

    def right(self) -> float:
        """Return the share of the pictures of which the teacher finds the label most likely."""
        return (self.logits.argmax(1) == self.labels).float().mean().item()

    def from_sure_to_unsure(self, *, temperature: float = 4.0) -> list[int]:
        """Return all pictures, sorted by the entropy at ``temperature``, lowest first."""
        return entropy_bits(self.logits, temperature).argsort(stable=True).tolist()


def ask(teacher: nn.Module, data: ImageData, *, pictures: int = 500) -> Opinion:
    """Return what ``teacher`` thinks of the first ``pictures`` validation pictures, which it has not been trained on.

    Raises
    ------
    ValueError
        If ``pictures`` is below 1, or the teacher's classes are not as many as the data's.
    """
    split = data.validation.take(pictures)
    logits = predict(teacher, BatchSource(data, split, device=next(teacher.parameters()).device)).cpu()
    if logits.shape[1] != data.num_classes:
        raise ValueError(
            f"teacher tells {logits.shape[1]} classes apart, but {data.label!r} has {data.num_classes}: choose a "
            "teacher of these data."
        )
    return Opinion(logits, split.labels, data.class_names)
