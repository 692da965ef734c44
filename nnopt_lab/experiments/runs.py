"""Running an experiment: every condition with every seed, saved after each, so that it can be resumed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import torch

from nnopt_lab.arguments import require_choice, require_integer
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.experiments import lesson01, lesson02, lesson03, lesson04, lesson05, lesson06, speeds
from nnopt_lab.experiments.conditions import Condition, Experiment, Variant
from nnopt_lab.experiments.measures import Row, measure, measure_on_validation, measure_to_target
from nnopt_lab.experiments.results import Results, load_results, results_folder
from nnopt_lab.files import write_text
from nnopt_lab.recipes import describe_machine

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        *lesson01.EXPERIMENTS,
        *lesson02.EXPERIMENTS,
        *lesson03.EXPERIMENTS,
        *lesson04.EXPERIMENTS,
        *lesson05.EXPERIMENTS,
        *lesson06.EXPERIMENTS,
        *speeds.EXPERIMENTS,
    )
}

GRID_SEED = 100
"""Of the runs that pick hyperparameters; the comparison has seeds 0, 1, 2 … and so none of these runs."""


def run_experiment(
    name: str, data: ImageData, *, seeds: int | None = None, compiled: bool = False, folder: Path | None = None
) -> Iterator[Row]:
    """Run what is not yet in the results file of ``name``, yielding each new row, those of the grids first.

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
    chosen = " --data standin" if data.source == "standin" else ""
    results = Results(
        name=name,
        about=experiment.about,
        data=data.label,
        command=f"python -m nnopt_lab experiment {name}{chosen}",
        machine=describe_machine(),
        rows=list(before.rows) if before else [],
        grid=list(before.grid) if before else [],
    )

    def keep(rows: list[Row], row: Row) -> Row:
        rows.append(row)
        write_text(folder / f"{name}.json", json.dumps(asdict(results), indent=1) + "\n")
        return row

    tried = [(row["condition"], row["changes"]) for row in results.grid]
    for condition in experiment.conditions:
        for changes in condition.grid if isinstance(condition, Condition) else ():
            if (condition.name, changes) not in tried:
                yield keep(results.grid, measure_on_validation(condition, data, changes, seed=GRID_SEED))
    there = {(row["condition"], row["seed"]) for row in results.rows}
    for seed in range(count):
        for condition in experiment.conditions:
            if (condition.name, seed) not in there:
                yield keep(results.rows, _measure(condition, data, seed=seed, compiled=compiled, results=results))


def _measure(condition: Condition | Variant, data: ImageData, *, seed: int, compiled: bool, results: Results) -> Row:
    if isinstance(condition, Variant):
        if not torch.cuda.is_available():
            raise ValueError("device is the CPU, but this experiment must run where torch finds an NVIDIA GPU.")
        return speeds.measure_speeds(data, (condition,), device="cuda", steps=100)[0]
    picked = results.picked(condition.name)
    if picked:
        condition = replace(condition, settings=replace(condition.settings, **picked))
    if condition.target_loss is not None:
        return measure_to_target(condition, data, seed=seed) | picked
    return measure(condition, data, seed=seed, compiled=compiled) | picked
