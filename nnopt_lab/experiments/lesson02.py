"""Lesson 2: what schedules, batch sizes, weight decay and early stopping do to a small network."""

from __future__ import annotations

from dataclasses import replace

from nnopt_lab import schedules
from nnopt_lab.experiments.conditions import Condition, Experiment
from nnopt_lab.schedules import Plateau, grow_batch, shrink_batch
from nnopt_lab.training import TrainingSettings

_CNN = {"model": "article_cnn", "training_pictures": 10_000, "validation_pictures": 2000}

SGD = TrainingSettings(
    epochs=2, batch_size=64, learning_rate=0.03, nesterov=False, schedule="constant", evaluate_every_epochs=0.25
)
"""Momentum 0.9; the rate is the highest of a schedule."""

SCHEDULE_CONDITIONS = (
    *(Condition(name=name, settings=SGD, rates=rates, **_CNN) for name, rates in schedules.SCHEDULES.items()),
    Condition(name="plateau", settings=SGD, plateau=Plateau(factor=1 / 3, patience=0), **_CNN),
)

NOISY = replace(SGD, batch_size=12, learning_rate=0.012)
"""A batch so small that the noise, not the curvature, limits what the network reaches at this rate."""

_QUARTER = schedules.step_decay(factor=1 / 4, every=1 / 2)

DECAY_OR_GROW = (
    Condition(name="neither", settings=NOISY, **_CNN),
    Condition(name="decay the rate", settings=NOISY, rates=_QUARTER, **_CNN),
    Condition(
        name="grow the batch", settings=NOISY, batch_sizes=grow_batch(_QUARTER, batch_size=12, largest=48), **_CNN
    ),
    Condition(
        name="decay the rate and shrink the batch",
        settings=NOISY,
        rates=_QUARTER,
        batch_sizes=shrink_batch(_QUARTER, batch_size=12),
        **_CNN,
    ),
)

BASE_BATCH, BASE_RATE = 64, 0.01
BATCH_SIZES = (16, 64, 256, 1024)
TARGET_LOSS = 1.7
_TO_TARGET = replace(SGD, epochs=5, evaluate_every_epochs=0.2)


def _to_target(batch_size: int, learning_rate: float, rule: str) -> Condition:
    return Condition(
        name=f"batch {batch_size}, {rule}",
        settings=replace(_TO_TARGET, batch_size=batch_size, learning_rate=learning_rate),
        target_loss=TARGET_LOSS,
        **_CNN,
    )


BATCH_CONDITIONS = tuple(
    condition
    for size in BATCH_SIZES
    for condition in (
        _to_target(size, BASE_RATE * size / BASE_BATCH, "scaled rate"),
        _to_target(size, BASE_RATE, "fixed rate"),
    )
    if size != BASE_BATCH or condition.name.endswith("scaled rate")  # there both rules give the same run
)

ADAM = TrainingSettings(epochs=15, batch_size=32, learning_rate=0.001, optimizer="adam", schedule="constant")
"""Fifteen epochs on so few pictures that the network learns them by heart."""
_FEW = {"model": "article_cnn", "training_pictures": 2000, "validation_pictures": 2000}

REGULARIZATION = (
    Condition(name="none", settings=ADAM, **_FEW),
    Condition(name="early stopping", settings=replace(ADAM, early_stopping_epochs=3), **_FEW),
    Condition(
        name="L2 in Adam", settings=ADAM, grid=tuple({"weight_decay": decay} for decay in (0.003, 0.01, 0.03)), **_FEW
    ),
    Condition(
        name="AdamW",
        settings=replace(ADAM, optimizer="adamw"),
        grid=tuple({"weight_decay": decay} for decay in (0.3, 1.0, 3.0)),
        **_FEW,
    ),
)

EXPERIMENTS = (
    Experiment(
        name="lesson02_decay_or_grow",
        about="Halfway through a run: divide the rate by 4, multiply the batch by 4 instead, or (backward) divide both",
        conditions=DECAY_OR_GROW,
        seeds=3,
    ),
    Experiment(
        name="lesson02_schedules",
        about="One schedule a condition, all with the same highest rate: two epochs of 10,000 pictures",
        conditions=SCHEDULE_CONDITIONS,
        seeds=5,
    ),
    Experiment(
        name="lesson02_batch_sizes",
        about=f"What it takes to a validation loss of {TARGET_LOSS}, by batch size, at a fixed and a scaled rate",
        conditions=BATCH_CONDITIONS,
        seeds=3,
    ),
    Experiment(
        name="lesson02_regularization",
        about="Adam on 2,000 pictures, fifteen epochs: nothing, early stopping, L2 in the gradient, or AdamW's decay",
        conditions=REGULARIZATION,
        seeds=5,
    ),
)
