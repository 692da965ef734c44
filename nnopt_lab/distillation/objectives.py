"""What `nnopt_lab.training.fit` takes as ``objective``: a student's loss on one batch, with a teacher in it.

An objective is a plain object with a few numbers. They are read at every step, so that a slider may change them while
the student trains, and nothing else is remembered, so that a run which is resumed goes on bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from nnopt_lab.arguments import require_number
from nnopt_lab.distillation.losses import distillation_loss, hard_label_loss, smoothed_label_loss
from nnopt_lab.training import Batch

Teacher = Callable[[Batch], Tensor]
"""Takes a batch and returns logits, shape (n, num_classes): `LiveTeacher` or `CachedTeacher`."""


@dataclass
class SoftLabels:
    """Learn from the teacher's softened opinion, and from the labels: `distillation_loss`.

    Attributes
    ----------
    teacher : Teacher
        Answers for each batch.
    temperature : float
        Above 0.
    alpha : float
        Weight of the teacher, 0–1; 1 does without labels.

    Raises
    ------
    ValueError
        If ``temperature`` is not above 0 or ``alpha`` not between 0 and 1.
    """

    teacher: Teacher
    temperature: float = 4.0
    alpha: float = 1.0

    def __post_init__(self) -> None:
        require_number("temperature", self.temperature, above=0)
        require_number("alpha", self.alpha, at_least=0, at_most=1)

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss and the student's logits."""
        logits = model(batch.images)
        opinion = self.teacher(batch)
        loss = distillation_loss(logits, opinion, batch.labels, temperature=self.temperature, alpha=self.alpha)
        return loss, logits


@dataclass
class HardLabels:
    """Learn from the teacher's decisions alone: the class that it finds most likely."""

    teacher: Teacher

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss and the student's logits."""
        logits = model(batch.images)
        return hard_label_loss(logits, self.teacher(batch)), logits


@dataclass
class SmoothedLabels:
    """Learn from labels that are softened without a teacher: the control for `SoftLabels`.

    Attributes
    ----------
    smoothing : float
        Share of the label that is spread over all classes: at least 0 and below 1.
    """

    smoothing: float = 0.1

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss and the student's logits."""
        logits = model(batch.images)
        return smoothed_label_loss(logits, batch.labels, smoothing=self.smoothing), logits
