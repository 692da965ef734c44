"""Experiments are resumable, measured on the test split, and summarized with Student's t."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from nnopt_lab import checkpoints, models
from nnopt_lab.experiments import EXPERIMENTS, lesson04, lesson05, lesson06, load_results, run_experiment
from nnopt_lab.experiments import runs as runs_module
from nnopt_lab.experiments.conditions import Condition, Experiment
from nnopt_lab.experiments.results import summarize
from nnopt_lab.pruning import prunable_layers
from nnopt_lab.quantization import quantized_layers
from nnopt_lab.sharing import untie_weights
from nnopt_lab.training import TrainingSettings

QUICK = TrainingSettings(epochs=1, batch_size=32, learning_rate=0.01)
TINY = Experiment(
    name="tiny",
    about="two rates",
    conditions=(
        Condition(name="low", model="article_cnn", settings=QUICK),
        Condition(name="exploding", model="article_cnn", settings=replace(QUICK, epochs=3, learning_rate=1e9)),
    ),
    seeds=2,
)


@pytest.fixture
def tiny_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXPERIMENTS, "tiny", TINY)


def test_rows_are_kept_and_only_what_is_missing_is_run(tiny_experiment, tiny_data, tmp_path) -> None:
    first = list(run_experiment("tiny", tiny_data, seeds=1, folder=tmp_path))
    assert [(row["condition"], row["seed"]) for row in first] == [("low", 0), ("exploding", 0)]
    assert [row["diverged"] for row in first] == [False, True]
    again = list(run_experiment("tiny", tiny_data, folder=tmp_path))
    assert [row["seed"] for row in again] == [1, 1]
    results = load_results("tiny", folder=tmp_path)
    assert results is not None and results.data == tiny_data.label and len(results.rows) == 4
    assert [(item.condition, item.count) for item in results.summaries()] == [("low", 2), ("exploding", 2)]


def test_one_seed_gives_the_same_row_twice(tiny_experiment, tiny_data) -> None:
    condition = TINY.conditions[0]
    first, second = (runs_module.measure(condition, tiny_data, seed=3) for _ in range(2))
    assert first["test_accuracy"] == second["test_accuracy"] and first["test_loss"] == second["test_loss"]


@pytest.mark.parametrize("condition", [*lesson04.WEIGHTS, *lesson04.CHANNELS], ids=lambda condition: condition.name)
def test_what_lesson_4_removes_stays_removed(condition, standin_data) -> None:
    few = replace(
        standin_data.with_train_size(64), validation=standin_data.validation.take(64), test=standin_data.test.take(64)
    )
    row = runs_module.measure(
        replace(condition, settings=replace(condition.settings, epochs=1, batch_size=16)), few, seed=1
    )
    dense = models.build("resnet20")
    weights = sum(weight.numel() for weight in dense.parameters() if weight.ndim > 1)
    removed = next((rate for rate in (0.7, 0.9) if f"{rate:.0%} of weights" in condition.name), 0)
    assert row["parameters"] - row["nonzero_parameters"] == pytest.approx(removed * weights, abs=200)
    halved = condition in lesson04.CHANNELS
    assert row["macs"] / models.count(dense).macs == pytest.approx(0.48 if halved else 1, abs=0.02)
    assert ("accuracy_before" in row) == (condition.start is not None)


@pytest.mark.parametrize(
    ("condition", "values"),
    [
        *((condition, 2**bits) for condition, bits in zip(lesson05.STATIC[1:], (8, 8, 4, 4, 4, 4), strict=True)),
        *((condition, count) for condition, count in zip(lesson05.WEIGHTS[1:], (16, 16, 4, 2), strict=True)),
    ],
    ids=lambda item: getattr(item, "name", item),
)
def test_lesson_5_leaves_as_few_values_as_it_says(condition, values, standin_data) -> None:
    few = replace(
        standin_data.with_train_size(64), validation=standin_data.validation.take(64), test=standin_data.test.take(64)
    )
    settings = condition.settings and replace(condition.settings, epochs=1, batch_size=16)
    row = runs_module.measure(replace(condition, settings=settings), few, seed=1)
    assert row["steps"] == (4 if settings else 0) and (row["last_batch_loss"] is None) == (settings is None)
    whole, _ = checkpoints.load("resnet20", standin_data)
    bits = math.log2(values)
    # All but the indices: headers, scales or codebooks, biases, batch norm, and layers that stay as they are.
    assert row["bytes"] == pytest.approx(models.count(whole).parameters * bits / 8, abs=40_000)
    made, _ = condition.compress(whole, few, 1)
    if "shared" in condition.name:
        weights = [layer.weight[None] for layer in prunable_layers(untie_weights(made)[0]).values()]
    else:
        weights = [layer.quantized_weight() for layer in quantized_layers(made).values()]
        weights = [weight[None] for weight in weights] if "per tensor" in condition.name else weights
    assert all(len(row.unique()) <= values for weight in weights for row in weight)


def test_lesson_6_teaches_the_same_student_in_different_ways(standin_data) -> None:
    few = replace(standin_data, test=standin_data.test.take(64))
    rows = []
    for condition in lesson06.STUDENTS:
        settings = replace(condition.settings, epochs=1)
        quick = replace(condition, settings=settings, training_pictures=128, validation_pictures=64)
        rows.append(runs_module.measure(quick, few, seed=1))
    student = models.count(models.build("resnet8", width=8))
    # The projection of the features is thrown away: it is not counted.
    assert all((row["parameters"], row["macs"]) == (student.parameters, student.macs) for row in rows)
    assert student.macs <= models.count(models.build("resnet20")).macs / 4
    losses = [row["last_batch_loss"] for row in rows]
    # Of these pictures the teacher decides each as the label does, so hard labels are the labels again.
    assert losses[2] == losses[0] and len(set(losses)) == len(losses) - 1


def test_results_on_other_data_are_not_mixed(tiny_experiment, tiny_data, tmp_path) -> None:
    list(run_experiment("tiny", tiny_data, seeds=1, folder=tmp_path))
    other = replace(tiny_data, label="another set")
    with pytest.raises(ValueError, match="data is 'another set'.*holds results on"):
        list(run_experiment("tiny", other, folder=tmp_path))
    assert len(json.loads((tmp_path / "tiny.json").read_text())["rows"]) == 2


def test_an_unknown_experiment_names_the_nearest(tiny_data) -> None:
    with pytest.raises(ValueError, match="lesson03_steps"):
        next(run_experiment("lesson3_steps", tiny_data))


def test_missing_results_are_none(tmp_path) -> None:
    assert load_results("nothing", folder=tmp_path) is None


def test_the_interval_is_students(tmp_path) -> None:
    summary = summarize("a", [0.5, 0.6, 0.7])
    # t(0.975, 2) · 0.1 / √3
    assert summary.mean == pytest.approx(0.6)
    assert summary.half_width == pytest.approx(4.303 * 0.1 / 3**0.5)
    assert summarize("b", [0.5]).half_width != summarize("b", [0.5]).half_width  # one run has no interval
