"""Distillation: a small network learns from a large one's opinion."""

from nnopt_lab.distillation.features import HINTS, HintedStudent, Hints, captured, hint_loss
from nnopt_lab.distillation.generations import Generation, train_generations
from nnopt_lab.distillation.losses import (
    FORMS,
    distillation_loss,
    entropy_bits,
    hard_label_loss,
    logit_matching_loss,
    smoothed_label_loss,
    soft_label_loss,
    soften,
)
from nnopt_lab.distillation.objectives import HardLabels, SmoothedLabels, SoftLabels, Teacher
from nnopt_lab.distillation.opinion import Opinion, Said, ask
from nnopt_lab.distillation.standing import Standing
from nnopt_lab.distillation.teachers import CachedTeacher, LiveTeacher, cache_logits, frozen, views_of

__all__ = [
    "FORMS",
    "HINTS",
    "CachedTeacher",
    "Generation",
    "HardLabels",
    "HintedStudent",
    "Hints",
    "LiveTeacher",
    "Opinion",
    "Said",
    "SmoothedLabels",
    "SoftLabels",
    "Standing",
    "Teacher",
    "ask",
    "cache_logits",
    "captured",
    "distillation_loss",
    "entropy_bits",
    "frozen",
    "hard_label_loss",
    "hint_loss",
    "logit_matching_loss",
    "smoothed_label_loss",
    "soft_label_loss",
    "soften",
    "train_generations",
    "views_of",
]
