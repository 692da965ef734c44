"""Running an experiment: every condition with every seed, saved after each, so that it can be resumed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import torch

from nnopt_lab import models
from nnopt_lab.arguments import require_choice, require_integer
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.experiments import lesson03, speeds
from nnopt_lab.experiments.conditions import Condition, Experiment, Variant
from nnopt_lab.experiments.results import Results, load_results, results_folder
from nnopt_lab.files import write_text
from nnopt_lab.recipes import describe_machine
from nnopt_lab.training import TrainingDiverged, evaluate, fit

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment for experiment in (*lesson03.EXPERIMENTS, *speeds.EXPERIMENTS)
}


def run_experiment(
    name: str, data: ImageData, *, seeds: int | None = None, folder: Path | None = None
) -> Iterator[dict[str, object]]:
    """Run what is not yet in the results file of ``name``, yielding each new row.

    Conditions take turns within a seed, so that a run that is cut short still compares them fairly.

    Raises
    ------
    ValueError
        If ``name`` is unknown, the results there were measured on other data, or a GPU is needed and missing.
    """
    experiment = EXPERIMENTS[require_choice("experiment", name, EXPERIMENTS)]
    count = require_integer("seeds", experiment.seeds if seeds is None else seeds)
    folder = folder or results_folder()
    before = load_results(name, folder=folder)
    if before is not None and before.data != data.label:
        raise ValueError(
            f"data is {data.label!r}, but {folder / name}.json holds results on {before.data!r}; delete it first."
        )
    rows = list(before.rows) if before else []
    there = {(row["condition"], row["seed"]) for row in rows}
    chosen = " --data standin" if data.source == "standin" else ""
    for seed in range(count):
        for condition in experiment.conditions:
            if (condition.name, seed) in there:
                continue
            row = (
                _time_on_gpu(condition, data) if isinstance(condition, Variant) else measure(condition, data, seed=seed)
            )
            rows.append(row)
            results = Results(
                name=name,
                about=experiment.about,
                data=data.label,
                command=f"python -m nnopt_lab experiment {name}{chosen}",
                machine=describe_machine(),
                rows=rows,
            )
            write_text(folder / f"{name}.json", json.dumps(asdict(results), indent=1) + "\n")
            yield row


def _time_on_gpu(variant: Variant, data: ImageData) -> dict[str, object]:
    if not torch.cuda.is_available():
        raise ValueError("device is the CPU, but this experiment must run where torch finds an NVIDIA GPU.")
    return speeds.measure_speeds(data, (variant,), device="cuda", steps=100)[0]


def measure(condition: Condition, data: ImageData, *, seed: int) -> dict[str, object]:
    """Train one condition with one seed and report it on the test split."""
    model = models.build(condition.model, seed=seed, num_classes=data.num_classes, **condition.model_options)
    if condition.training_pictures is not None:
        data = data.with_train_size(condition.training_pictures)
    began = time.perf_counter()
    row: dict[str, object] = {"condition": condition.name, "seed": seed, "diverged": False}
    losses: list[float] = []
    try:
        losses.extend(record.loss for record in fit(model, data, replace(condition.settings, seed=seed)))
    except TrainingDiverged:
        row["diverged"] = True
    measured = evaluate(model, data, data.test)
    return row | {
        "test_accuracy": round(measured.accuracy, 4),
        "test_loss": round(measured.loss, 4),
        "last_batch_loss": round(losses[-1], 4) if losses else None,
        "training_accuracy": round(evaluate(model, data, data.train.take(5000)).accuracy, 4),
        "elapsed_s": round(time.perf_counter() - began, 1),
    }
