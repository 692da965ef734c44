"""What an experiment is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.schedules import BatchSizes, Plateau, Schedule
from nnopt_lab.training import Objective, TrainingSettings

AfterStep = Callable[[nn.Module, float], None]
"""As in `nnopt_lab.training.fit`."""

StoredBytes = Callable[[nn.Module], int]
"""Takes the trained network and returns the size of the file in which it would be stored."""

Compress = Callable[[nn.Module, ImageData, int], tuple[nn.Module, AfterStep | None]]
"""Takes a network, the data and the seed; returns the network to train and what is done after each step."""


Teach = Callable[[nn.Module, ImageData, int], tuple[nn.Module, Objective]]
"""Takes a student, the data it will see and the seed; returns what is trained, the student in it, and on which loss."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One thing that is tried: a network, its settings and how much data it gets.

    Attributes
    ----------
    name : str
        What plots and tables call it.
    model, model_options : str, dict
        As in `nnopt_lab.models.build`.
    settings : TrainingSettings or None
        The seed is set by the experiment. None: the network is measured without training.
    training_pictures, validation_pictures : int or None
        None: all.
    rule : str or None
        A rule of `nnopt_lab.optimizers.RULES` that trains instead of ``settings.optimizer``.
    rates, batch_sizes, plateau : optional
        As in `nnopt_lab.training.drive`.
    start : str or None
        Shipped checkpoint that the network begins as, such as ``"resnet20"``; None begins with random weights.
    compress : callable or None
        Called once, before the training.
    teach : callable or None
        Gives the loss; None is the cross-entropy with the labels.
    stored_bytes : callable or None
        Gives ``bytes`` in the results.
    grid : tuple of dict
        Changes to ``settings`` that are tried once each before the comparison; the validation loss picks.
    target_loss : float or None
        Stop at this validation loss and report what it took.
    """

    name: str
    model: str
    settings: TrainingSettings | None
    model_options: dict[str, object] = field(default_factory=dict)
    training_pictures: int | None = None
    validation_pictures: int | None = None
    rule: str | None = None
    rates: Schedule | None = None
    batch_sizes: BatchSizes | None = None
    plateau: Plateau | None = None
    start: str | None = None
    compress: Compress | None = None
    teach: Teach | None = None
    stored_bytes: StoredBytes | None = None
    grid: tuple[dict[str, float], ...] = ()
    target_loss: float | None = None


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way of computing the same training step: memory layout, number format, compiled or not."""

    name: str
    channels_last: bool = False
    precision: str = "float32"
    compiled: bool = False


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Conditions that are compared on the same data over the same seeds (or variants that are timed, once)."""

    name: str
    about: str
    conditions: tuple[Condition, ...] | tuple[Variant, ...]
    seeds: int = 3
