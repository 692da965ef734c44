"""Features as hints: a layer of the student learns to put out what a layer of the teacher puts out::

    hints = Hints(teacher, layer="stage2")
    hinted = hints.student(student)
    for record in fit(hinted, data, settings, objective=hints): ...
    evaluate(hinted.student, data, data.test)

Romero et al. (2015), "FitNets: hints for thin deep nets", arXiv:1412.6550, section 2.2. The student's layer has fewer
channels than the teacher's, so a 1×1 convolution that is trained along and thrown away afterwards maps one to the
other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnopt_lab.arguments import require_choice, require_integer, require_number
from nnopt_lab.datasets.image_data import IMAGE_SHAPE
from nnopt_lab.distillation.losses import distillation_loss
from nnopt_lab.distillation.teachers import frozen
from nnopt_lab.training import Batch

HINTS = ("squared", "cosine")


def hint_loss(student_features: Tensor, teacher_features: Tensor, *, kind: str = "squared") -> Tensor:
    """Return how far the student's features are from the teacher's.

    Parameters
    ----------
    student_features, teacher_features : Tensor
        Shape (n, channels, height, width). The larger of two heights and widths is averaged down to the smaller. No
        gradient flows into the teacher's.
    kind : str
        ``"squared"``: the mean squared difference over that of the teacher's features from their mean, so that 1 is
        what a student reaches that knows their mean only. ``"cosine"``: 1 − the cosine of the angle between the
        channels at each place, the mean over places and pictures; it does not ask for the features' size.

    Raises
    ------
    ValueError
        If the numbers of pictures or channels differ, or ``kind`` is unknown.
    """
    require_choice("kind", kind, HINTS)
    student, teacher = student_features.float(), teacher_features.detach().float()
    if student.ndim != 4 or student.shape[:2] != teacher.shape[:2]:
        raise ValueError(
            f"teacher_features has shape {tuple(teacher.shape)}, but student_features has {tuple(student.shape)}: both "
            "must be (pictures, channels, height, width), of as many pictures and channels."
        )
    side = tuple(min(sizes) for sizes in zip(student.shape[2:], teacher.shape[2:], strict=True))
    student, teacher = F.adaptive_avg_pool2d(student, side), F.adaptive_avg_pool2d(teacher, side)
    if kind == "cosine":
        return (1 - F.cosine_similarity(student, teacher, dim=1)).mean()
    return F.mse_loss(student, teacher) / teacher.var(correction=0).clamp(min=1e-12)


@contextlib.contextmanager
def captured(model: nn.Module, layer: str) -> Iterator[list[Tensor]]:
    """Collect what ``layer`` of ``model`` puts out inside the block; the hook is gone after it, whatever happens.

    Raises
    ------
    ValueError
        If there is no such layer.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 1))
    >>> with captured(model, "0") as outputs:
    ...     _ = model(torch.zeros(1, 3, 2, 2))
    >>> outputs[0].shape
    torch.Size([1, 4, 2, 2])
    """
    modules = dict(model.named_modules())
    module = modules[require_choice("layer", layer, [name for name in modules if name])]
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(lambda _, __, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


class HintedStudent(nn.Module):
    """A student together with the projection of its features, so that both are trained, saved and resumed as one.

    Parameters
    ----------
    student : nn.Module
        Maps pictures to logits. It is trained in place: take it out again as `student`.
    layer : str
        The student's layer that gets the hint, such as ``"stage2"``.
    channels : int
        Of the teacher's layer.
    seed : int
        Of the projection's first weights.

    Raises
    ------
    ValueError
        If there is no such layer, or it does not put out feature maps.
    """

    def __init__(self, student: nn.Module, *, layer: str, channels: int, seed: int = 0) -> None:
        super().__init__()
        require_integer("channels", channels)
        self.student, self.layer = student, layer
        # Not torch's own first weights, which would draw from the global generator.
        self.projection = nn.utils.skip_init(nn.Conv2d, _channels_of(student, layer), channels, 1)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.projection.weight.normal_(0, self.projection.in_channels**-0.5, generator=generator)
            self.projection.bias.zero_()
        self.to(next(student.parameters()).device)

    def forward(self, images: Tensor) -> Tensor:
        """Return the student's logits; the projection plays no part."""
        return self.student(images)

    def with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the student's logits and its projected features."""
        with captured(self.student, self.layer) as outputs:
            logits = self.student(images)
        return logits, self.projection(outputs[-1])


@dataclass
class Hints:
    """Learn from the teacher's features, its softened opinion and the labels; for a `HintedStudent`.

    Attributes
    ----------
    teacher : nn.Module
        Asked at every step, as its features are too large to be kept. `frozen` copies it.
    layer : str
        Of the teacher.
    kind : str
        As in `hint_loss`.
    weight : float
        Of the hint, beside a loss of weight 1.
    temperature, alpha : float
        As in `SoftLabels`. With α = 0 the student learns from features and labels only.
    student_layer : str, optional
        The student's layer that gets the hint; by default the one that is named as the teacher's.

    Raises
    ------
    ValueError
        If there is no such layer, or a number is out of range.
    """

    teacher: nn.Module
    layer: str
    kind: str = "squared"
    weight: float = 1.0
    temperature: float = 4.0
    alpha: float = 0.0
    student_layer: str | None = None

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, HINTS)
        require_number("weight", self.weight, at_least=0)
        require_number("temperature", self.temperature, above=0)
        require_number("alpha", self.alpha, at_least=0, at_most=1)
        _channels_of(self.teacher, self.layer)
        self.teacher = frozen(self.teacher).to(memory_format=torch.channels_last)

    def student(self, model: nn.Module, *, layer: str | None = None, seed: int = 0) -> HintedStudent:
        """Return ``model`` with a projection of its ``layer``; by default ``student_layer``."""
        layer = layer or self.student_layer or self.layer
        return HintedStudent(model, layer=layer, channels=_channels_of(self.teacher, self.layer), seed=seed)

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss and the student's logits."""
        if not isinstance(model, HintedStudent):
            raise ValueError(
                f"model is a {type(model).__name__}, but it must be a HintedStudent: it has the projection."
            )
        self.teacher.to(batch.images.device)
        with torch.no_grad(), captured(self.teacher, self.layer) as outputs:
            opinion = self.teacher(batch.images)
        logits, features = model.with_features(batch.images)
        loss = distillation_loss(logits, opinion, batch.labels, temperature=self.temperature, alpha=self.alpha)
        return loss + self.weight * hint_loss(features, outputs[-1], kind=self.kind), logits


@torch.no_grad()
def _channels_of(model: nn.Module, layer: str) -> int:
    was_training = model.training
    model.eval()
    try:
        with captured(model, layer) as outputs:
            model(torch.zeros(1, *IMAGE_SHAPE, device=next(model.parameters()).device))
    finally:
        model.train(was_training)
    if not outputs or outputs[-1].ndim != 4:
        raise ValueError(f"layer is {layer!r}, but it must be one that puts out feature maps, such as 'stage2'.")
    return outputs[-1].shape[1]
