"""Self-distillation: a network teaches one that is built alike, which then teaches the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from torch import nn

from nnopt_lab.arguments import require_integer, require_number
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.distillation.objectives import SoftLabels, Teacher
from nnopt_lab.distillation.teachers import LiveTeacher, cache_logits, views_of
from nnopt_lab.training import Evaluation, TrainingSettings, fit


@dataclass(frozen=True)
class Generation:
    """One network of a family.

    Attributes
    ----------
    number : int
        0 learned from labels only.
    model : nn.Module
        Trained, in evaluation mode.
    validation : Evaluation
        At the end of its training.
    """

    number: int
    model: nn.Module
    validation: Evaluation


def train_generations(
    build: Callable[[int], nn.Module],
    data: ImageData,
    settings: TrainingSettings,
    *,
    generations: int = 2,
    temperature: float = 1.0,
    alpha: float = 0.5,
) -> Iterator[Generation]:
    """Train a network on labels, then others on the soft labels of the one before, and yield each when it is done.

    "Born-again networks" (Furlanello et al., 2018, arXiv:1805.04770). A generation that is no better than the one
    before tells that nothing was gained; compare over several seeds.

    Parameters
    ----------
    build : callable
        Takes a seed, another for each generation, and returns an untrained network.
    data : ImageData
        Trained on and validated on.
    settings : TrainingSettings
        Of every generation; its seed rises by 1 from one to the next.
    generations : int
        After the first.
    temperature, alpha : float
        As in `SoftLabels`. The paper takes the teacher's and the labels' cross-entropy, at temperature 1.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    require_integer("generations", generations)
    require_number("temperature", temperature, above=0)
    require_number("alpha", alpha, at_least=0, at_most=1)
    objective: SoftLabels | None = None
    for number in range(generations + 1):
        seed = settings.seed + number
        model = build(seed)
        records = fit(model, data, replace(settings, seed=seed), objective=objective)
        validation = [record.validation for record in records if record.validation][-1]
        yield Generation(number, model.eval(), validation)
        if number < generations:
            objective = SoftLabels(_teacher(model, data, settings), temperature=temperature, alpha=alpha)


def _teacher(model: nn.Module, data: ImageData, settings: TrainingSettings) -> Teacher:
    """Return the one that costs less, and answers alike."""
    if settings.augmentation.cutout_pixels or settings.small_image_fraction:
        return LiveTeacher(model)
    pays = len(views_of(settings.augmentation)) < settings.epochs
    return cache_logits(model, data, settings.augmentation) if pays else LiveTeacher(model)
