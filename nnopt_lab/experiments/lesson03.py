"""Lesson 3: from the articles' recipe to a residual network, one idea at a time, always two epochs."""

from __future__ import annotations

from dataclasses import replace

from nnopt_lab.datasets.batches import Augmentation
from nnopt_lab.experiments.conditions import Condition, Experiment
from nnopt_lab.training import TrainingSettings

AS_PRINTED = TrainingSettings(epochs=2, batch_size=100, learning_rate=0.001, nesterov=False, schedule="constant")
"""The articles' recipe: SGD 0.001 with momentum 0.9, batch 100, two epochs."""

HIGHER_RATE = replace(AS_PRINTED, learning_rate=0.03)
SCHEDULED = replace(AS_PRINTED, learning_rate=0.05, schedule="one_cycle")
RESIDUAL = replace(SCHEDULED, learning_rate=0.15, weight_decay=5e-4, nesterov=True)
AUGMENTED = replace(RESIDUAL, augmentation=Augmentation(flip="random", shift_pixels=2))

_PLAIN = {"width": 8, "batch_norm": False, "shortcuts": False}

STEPS = (
    Condition(name="as printed", model="article_cnn", settings=AS_PRINTED),
    Condition(name="rate 0.001 → 0.03", model="article_cnn", settings=HIGHER_RATE),
    Condition(name="+ one-cycle schedule", model="article_cnn", settings=SCHEDULED),
    Condition(name="8 plain 3×3 layers", model="resnet8", model_options=_PLAIN, settings=SCHEDULED),
    Condition(name="+ batch norm", model="resnet8", model_options=_PLAIN | {"batch_norm": True}, settings=RESIDUAL),
    Condition(name="+ shortcuts (ResNet-8)", model="resnet8", model_options={"width": 8}, settings=RESIDUAL),
    Condition(name="+ augmentation", model="resnet8", model_options={"width": 8}, settings=AUGMENTED),
)

# The stand-in has to tell methods apart: the same pictures and epochs for a small ResNet and the articles' CNN.
_STANDIN = replace(
    RESIDUAL, epochs=4, batch_size=64, learning_rate=0.25, augmentation=Augmentation(flip="alternate", shift_pixels=2)
)
STANDIN = (
    Condition(name="ResNet-8, half width", model="resnet8", model_options={"width": 8}, settings=_STANDIN),
    Condition(name="the articles' CNN", model="article_cnn", settings=replace(_STANDIN, learning_rate=0.05)),
)

EXPERIMENTS = (
    Experiment(
        name="standin_difficulty",
        about="A small ResNet and the articles' CNN on the stand-in, four epochs each; run with --data standin",
        conditions=STANDIN,
    ),
    Experiment(
        name="lesson03_steps",
        about="From the articles' recipe to a residual network, one idea at a time, two epochs each",
        conditions=STEPS,
    ),
)
