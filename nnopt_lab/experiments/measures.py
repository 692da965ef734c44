"""What one condition gives with one seed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial

import torch
from torch import nn

from nnopt_lab import checkpoints, models
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.experiments.conditions import AfterStep, Condition
from nnopt_lab.optimizers import TorchOptimizer
from nnopt_lab.training import Controls, Evaluation, StepRecord, TrainingDiverged, default_device, drive, evaluate, fit

Row = dict[str, object]


def measure(condition: Condition, data: ImageData, *, seed: int, compiled: bool = False) -> Row:
    """Train one condition with one seed and report it on the test split.

    Parameters
    ----------
    compiled : bool
        Train the network as torch compiles it: the same, but faster after a minute.

    Returns
    -------
    dict
        ``condition``, ``seed``, ``diverged``, ``parameters``, ``nonzero_parameters``, ``macs``, ``test_accuracy``,
        ``test_loss``, ``last_batch_loss``, ``training_accuracy``, ``steps``, ``curve`` and ``elapsed_s``. The curve
        holds one [epoch, validation loss, validation accuracy] for each evaluation. A network that diverged is
        reported as it was before the step that failed. If it did not begin with random weights, ``accuracy_before``
        is that of the (compressed) network on the validation split before any training. ``bytes`` is the size of its
        file, if the condition says how it is stored.
    """
    data = _share_of(condition, data)
    model, after_step = _build(condition, data, seed=seed)
    size: Row = {**asdict(models.count(model))}
    model.to(default_device())
    if condition.start is not None:
        size["accuracy_before"] = round(evaluate(model, data, data.validation).accuracy, 4)
    if compiled:
        torch.compiler.reset()  # it gives up on a network that it met in too many shapes
        model.compile()
    began = time.perf_counter()
    row: Row = {"condition": condition.name, "seed": seed, "diverged": False}
    records: list[StepRecord] = []
    try:
        if condition.settings is not None:
            records.extend(_train(model, condition, data, seed=seed, after_step=after_step))
    except TrainingDiverged:
        row["diverged"] = True
    measured = evaluate(model, data, data.test)
    size["nonzero_parameters"] = sum(int(parameter.count_nonzero()) for parameter in model.parameters())
    trained: Row = {
        "test_accuracy": round(measured.accuracy, 4),
        "test_loss": round(measured.loss, 4),
        "last_batch_loss": round(records[-1].loss, 4) if records else None,
        "training_accuracy": round(evaluate(model, data, data.train.take(5000)).accuracy, 4),
        "steps": len(records),
        "curve": [
            [round(record.epoch, 3), round(record.validation.loss, 4), round(record.validation.accuracy, 4)]
            for record in records
            if record.validation
        ],
        "elapsed_s": round(time.perf_counter() - began, 1),
    }
    if condition.stored_bytes is not None:
        size["bytes"] = condition.stored_bytes(model.cpu())
    return row | size | trained


def measure_on_validation(condition: Condition, data: ImageData, changes: dict[str, float], *, seed: int) -> Row:
    """Train one condition with ``changes`` to its settings; the test split is not looked at.

    Returns
    -------
    dict
        ``condition``, ``seed``, ``changes``, ``diverged``, ``validation_loss``, ``validation_accuracy``, the
        last of the run; None if it diverged.
    """
    data = _share_of(condition, data)
    changed = replace(condition, settings=replace(condition.settings, **changes))
    last: Evaluation | None = None
    diverged = False
    try:
        model, after_step = _build(condition, data, seed=seed)
        for record in _train(model, changed, data, seed=seed, after_step=after_step):
            last = record.validation or last
    except TrainingDiverged:
        diverged, last = True, None
    return {
        "condition": condition.name,
        "seed": seed,
        "changes": changes,
        "diverged": diverged,
        "validation_loss": round(last.loss, 4) if last else None,
        "validation_accuracy": round(last.accuracy, 4) if last else None,
    }


def measure_to_target(condition: Condition, data: ImageData, *, seed: int) -> Row:
    """Train until the validation loss is at most ``condition.target_loss``, or to the end of the run.

    Returns
    -------
    dict
        ``condition``, ``seed``, ``diverged``, ``batch_size``, ``learning_rate``, ``lowest_loss`` seen,
        ``images_per_cpu_s`` (pictures trained on in a second of processor time, evaluation not counted),
        ``reached``, and what it took to reach the target, None if it was not: ``steps``, ``pictures`` and ``cpu_s``.

    Raises
    ------
    ValueError
        If the condition has no target.
    """
    if condition.target_loss is None:
        raise ValueError("target_loss is None, but measure_to_target needs a number.")
    data = _share_of(condition, data)
    settings = condition.settings
    # `fit` evaluates within a step; evaluating here instead keeps it out of the clock, but for the very last step.
    apart = replace(condition, settings=replace(settings, evaluate_every_epochs=settings.epochs))
    model, after_step = _build(condition, data, seed=seed)
    steps, pictures, cpu_s, diverged = 0, 0.0, 0.0, False
    evaluations: list[tuple[int, float]] = []
    next_evaluation = settings.evaluate_every_epochs
    began = time.process_time()
    with closing(_train(model, apart, data, seed=seed, after_step=after_step)) as records:  # type: ignore[type-var]
        try:
            for record in records:
                if record.validation is None:
                    cpu_s += time.process_time() - began
                    steps, pictures = record.step, record.epoch * len(data.train)
                if record.validation or record.epoch >= next_evaluation - 1e-9:
                    next_evaluation += settings.evaluate_every_epochs
                    loss = (record.validation or evaluate(model, data, data.validation)).loss
                    evaluations.append((record.step, loss))
                    if loss <= condition.target_loss:
                        break
                began = time.process_time()
        except TrainingDiverged:
            diverged = True
    row: Row = {
        "condition": condition.name,
        "seed": seed,
        "diverged": diverged,
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "lowest_loss": round(min(loss for _, loss in evaluations), 4) if evaluations else None,
        "images_per_cpu_s": round(pictures / cpu_s) if cpu_s else None,
    }
    reached_at = step_of_crossing(evaluations, condition.target_loss)
    if reached_at is None or not steps:
        return row | {"reached": False, "steps": None, "pictures": None, "cpu_s": None}
    return row | {
        "reached": True,
        "steps": round(reached_at, 1),
        "pictures": round(reached_at * pictures / steps),
        "cpu_s": round(reached_at * cpu_s / steps, 2),
    }


def step_of_crossing(evaluations: Sequence[tuple[int, float]], target_loss: float) -> float | None:
    """Return the step at which straight lines between (step, loss) pairs first reach ``target_loss``, if they do.

    Examples
    --------
    >>> step_of_crossing([(10, 2.0), (20, 1.0)], 1.25)
    17.5
    """
    step_before, loss_before = 0, math.inf
    for step, loss in evaluations:
        if loss <= target_loss:
            share = (loss_before - target_loss) / (loss_before - loss) if math.isfinite(loss_before) else 1.0
            return step_before + share * (step - step_before)
        step_before, loss_before = step, loss
    return None


def _share_of(condition: Condition, data: ImageData) -> ImageData:
    if condition.training_pictures is not None:
        data = data.with_train_size(condition.training_pictures)
    if condition.validation_pictures is not None:
        data = replace(data, validation=data.validation.take(condition.validation_pictures))
    return data


def _build(condition: Condition, data: ImageData, *, seed: int) -> tuple[nn.Module, AfterStep | None]:
    if condition.start is None:
        model = models.build(condition.model, seed=seed, num_classes=data.num_classes, **condition.model_options)
    else:
        model, _ = checkpoints.load(condition.start, data)
    return condition.compress(model, data, seed) if condition.compress else (model, None)


def _train(
    model: nn.Module, condition: Condition, data: ImageData, *, seed: int, after_step: AfterStep | None
) -> Iterator[StepRecord]:
    settings = replace(condition.settings, seed=seed)
    controls = Controls.of(settings)
    trained, objective = condition.teach(model, data, seed) if condition.teach else (model, None)
    rule = condition.rule and partial(TorchOptimizer, rule=condition.rule, learning_rate=settings.learning_rate)
    return drive(
        fit(
            trained,
            data,
            settings,
            controls=controls,
            optimizer=rule or None,
            objective=objective,
            after_step=after_step,
        ),
        controls,
        rates=condition.rates,
        batch_sizes=condition.batch_sizes,
        plateau=condition.plateau and replace(condition.plateau),  # a fresh one for each run
    )
