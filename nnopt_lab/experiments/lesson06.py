"""Lesson 6: what a teacher's opinion adds to labels, for a small student that sees few pictures.

The teacher is the shipped ResNet-20, trained on all training pictures; students see the first 2,000 of them. Seeds
decide a student's first weights, the order of the pictures and their augmentation.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from nnopt_lab import checkpoints
from nnopt_lab.datasets.batches import Augmentation
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.distillation import HardLabels, Hints, SmoothedLabels, SoftLabels, cache_logits
from nnopt_lab.experiments.conditions import Condition, Experiment, Teach
from nnopt_lab.training import Objective, TrainingSettings

STUDYING = TrainingSettings(
    epochs=30,
    batch_size=64,
    learning_rate=0.1,
    weight_decay=5e-4,
    augmentation=Augmentation(flip="alternate", shift_pixels=0),
    evaluate_every_epochs=5,
)
"""Flips only, so that the teacher's logits for every view of a picture can be kept."""

STUDENT = {
    "model": "resnet8",
    "model_options": {"width": 8},
    "settings": STUDYING,
    "training_pictures": 2000,
    "validation_pictures": 2000,
}


def smooth(smoothing: float) -> Teach:
    """Return what spreads a share of each label over all classes: softer labels, and no teacher."""

    def teach(student: nn.Module, data: ImageData, seed: int) -> tuple[nn.Module, Objective]:
        return student, SmoothedLabels(smoothing)

    return teach


def by_decisions(student: nn.Module, data: ImageData, seed: int) -> tuple[nn.Module, Objective]:
    """Teach the class that the teacher finds most likely, whatever the label says."""
    teacher, _ = checkpoints.load("resnet20", data)
    return student, HardLabels(cache_logits(teacher, data, STUDYING.augmentation))


def by_opinion(*, temperature: float, alpha: float) -> Teach:
    """Return what teaches the softened opinion with weight ``alpha``, and the labels with the rest."""

    def teach(student: nn.Module, data: ImageData, seed: int) -> tuple[nn.Module, Objective]:
        teacher, _ = checkpoints.load("resnet20", data)
        logits = cache_logits(teacher, data, STUDYING.augmentation)
        return student, SoftLabels(logits, temperature=temperature, alpha=alpha)

    return teach


def by_features(student: nn.Module, data: ImageData, seed: int) -> tuple[nn.Module, Objective]:
    """Teach what the teacher's second stage puts out, and the labels."""
    teacher, _ = checkpoints.load("resnet20", data)
    hints = Hints(teacher, "stage2", temperature=4.0, alpha=0.0)
    return hints.student(student, seed=seed), hints


STUDENTS = (
    Condition(name="labels only", **STUDENT),
    Condition(name="smoothed labels, no teacher", teach=smooth(0.1), **STUDENT),
    Condition(name="hard labels of the teacher", teach=by_decisions, **STUDENT),
    Condition(name="soft labels", teach=by_opinion(temperature=4.0, alpha=1.0), **STUDENT),
    Condition(name="soft labels and labels", teach=by_opinion(temperature=4.0, alpha=0.5), **STUDENT),
    Condition(name="features and labels", teach=by_features, **STUDENT),
    # At T = 4 gradients are about three times as long at first: a lead that is the rate's would not outlive this one.
    Condition(name="labels only, three times the rate", **STUDENT | {"settings": replace(STUDYING, learning_rate=0.3)}),
)

TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
WEIGHTS = (0.5, 0.9, 1.0)

EXPERIMENTS = (
    Experiment(
        name="lesson06_students",
        about="ResNet-8 of half the width on 2,000 pictures: 30 epochs on labels, on a ResNet-20, or on both",
        conditions=STUDENTS,
        seeds=5,
    ),
    Experiment(
        name="lesson06_map",
        about="The same student at several temperatures T and weights of the teacher",
        conditions=tuple(
            Condition(
                name=f"T = {temperature:g}, weight {alpha:g}",
                teach=by_opinion(temperature=temperature, alpha=alpha),
                **STUDENT,
            )
            for temperature in TEMPERATURES
            for alpha in WEIGHTS
        ),
        seeds=2,
    ),
)
