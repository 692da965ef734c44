"""What an experiment measures: grids that pick on validation, runs to a target, and the results that ship."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from nnopt_lab.experiments import EXPERIMENTS, load_results, results_folder, run_experiment
from nnopt_lab.experiments import runs as runs_module
from nnopt_lab.experiments.conditions import Condition, Experiment
from nnopt_lab.experiments.measures import measure, measure_on_validation, measure_to_target, step_of_crossing
from nnopt_lab.experiments.results import Results
from nnopt_lab.schedules import Plateau, grow_batch, step_decay
from nnopt_lab.training import TrainingSettings

QUICK = TrainingSettings(epochs=2, batch_size=12, learning_rate=0.01, schedule="constant")
RACER = Condition(
    name="racer",
    model="article_cnn",
    settings=QUICK,
    rule="momentum",
    grid=({"learning_rate": 1e-6}, {"learning_rate": 0.02}, {"learning_rate": 1e9}),
)


@pytest.fixture
def race(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXPERIMENTS, "race", Experiment(name="race", about="a grid", conditions=(RACER,), seeds=2))


def test_the_grid_runs_first_and_its_best_validation_loss_picks(race, tiny_data, tmp_path):
    rows = list(run_experiment("race", tiny_data, folder=tmp_path))
    grid, compared = rows[:3], rows[3:]
    assert [row["changes"]["learning_rate"] for row in grid] == [1e-6, 0.02, 1e9]
    assert [row["diverged"] for row in grid] == [False, False, True]
    assert {row["seed"] for row in grid} == {runs_module.GRID_SEED}
    assert not any("test" in key for row in grid for key in row)
    assert [(row["seed"], row["learning_rate"]) for row in compared] == [(0, 0.02), (1, 0.02)]
    stored = load_results("race", folder=tmp_path)
    assert stored is not None and stored.grid == grid and stored.rows == compared
    assert list(run_experiment("race", tiny_data, folder=tmp_path)) == []


def test_a_grid_that_was_cut_short_goes_on(race, tiny_data, tmp_path):
    running = run_experiment("race", tiny_data, folder=tmp_path)
    next(running)
    running.close()
    rest = list(run_experiment("race", tiny_data, folder=tmp_path))
    assert [row.get("changes", {}).get("learning_rate") for row in rest] == [0.02, 1e9, None, None]


def test_the_test_split_does_not_pick(tiny_data):
    data = replace(tiny_data, test=replace(tiny_data.test, labels=tiny_data.test.labels + 10_000))
    assert measure_on_validation(RACER, data, {"learning_rate": 0.02}, seed=0)["validation_loss"] > 0


def test_what_was_picked_is_the_lowest_loss_that_did_not_diverge():
    rows = [
        {"condition": "a", "changes": {"x": 1}, "diverged": False, "validation_loss": 1.0},
        {"condition": "a", "changes": {"x": 2}, "diverged": False, "validation_loss": 0.5},
        {"condition": "a", "changes": {"x": 3}, "diverged": True, "validation_loss": None},
        {"condition": "b", "changes": {"x": 4}, "diverged": True, "validation_loss": None},
    ]
    results = Results("n", "about", "data", "command", {}, [], grid=rows)
    assert results.picked("a") == {"x": 2}
    assert results.picked("none tried") == {}
    with pytest.raises(ValueError, match="grid of 'b'"):
        results.picked("b")


def test_differences_are_taken_seed_by_seed():
    scores = {"a": [0.5, 0.7, 0.6], "b": [0.4, 0.6, 0.5, 0.9]}
    rows = [
        {"condition": name, "seed": seed, "test_accuracy": score}
        for name, found in scores.items()
        for seed, score in enumerate(found)
    ]
    results = Results("n", "about", "data", "command", {}, rows)
    found = results.difference("a", "b")
    assert (found.condition, found.count) == ("a − b", 3)
    assert found.mean == pytest.approx(0.1)
    assert found.half_width == pytest.approx(0.0, abs=1e-12)  # each seed gives the same difference
    with pytest.raises(ValueError, match="second is 'c'"):
        results.difference("a", "c")
    apart = replace(results, rows=[rows[0], rows[-1]])
    with pytest.raises(ValueError, match="seed in common"):
        apart.difference("a", "b")


def test_results_without_a_grid_can_still_be_read(tmp_path):
    old = {"name": "old", "about": "", "data": "", "command": "", "machine": {}, "rows": []}
    (tmp_path / "old.json").write_text(json.dumps(old))
    results = load_results("old", folder=tmp_path)
    assert results is not None and results.grid == []


def test_a_row_holds_the_curve_and_follows_the_schedules(tiny_data):
    decay = step_decay(factor=1 / 3)
    plain = Condition(name="plain", model="article_cnn", settings=replace(QUICK, evaluate_every_epochs=0.5))
    grown = replace(plain, name="grown", batch_sizes=grow_batch(decay, batch_size=12, largest=108))
    few = replace(plain, name="few", training_pictures=48, validation_pictures=5)
    rows = {condition.name: measure(condition, tiny_data, seed=1) for condition in (plain, grown, few)}
    assert rows["plain"]["steps"] == 18 and rows["few"]["steps"] == 8 and rows["grown"]["steps"] < 18
    assert [epoch for epoch, _, _ in rows["plain"]["curve"]] == pytest.approx([0.556, 1.0, 1.556, 2.0])
    assert all(loss > 0 and 0 <= accuracy <= 1 for _, loss, accuracy in rows["plain"]["curve"])


def test_each_run_has_a_plateau_of_its_own(tiny_data):
    condition = Condition(
        name="plateau",
        model="article_cnn",
        settings=replace(QUICK, learning_rate=1e-12, epochs=3),
        plateau=Plateau(factor=0.5, patience=0),
    )
    measure(condition, tiny_data, seed=0)
    assert condition.plateau.current == 1.0


def to_target(target: float, **changes: object) -> Condition:
    wanted = replace(QUICK, epochs=20, learning_rate=0.02, evaluate_every_epochs=0.5)
    return Condition(name="target", model="article_cnn", settings=replace(wanted, **changes), target_loss=target)


def test_a_run_to_a_target_stops_there(tiny_data):
    row = measure_to_target(to_target(1.0), tiny_data, seed=0)
    assert row["reached"] and not row["diverged"]
    assert row["lowest_loss"] <= 1.0
    assert 0 < row["steps"] < 20 * 9
    assert row["pictures"] == pytest.approx(row["steps"] * 12, rel=0.01)
    assert row["cpu_s"] == pytest.approx(row["pictures"] / row["images_per_cpu_s"], rel=0.1, abs=0.01)


@pytest.mark.parametrize(
    ("evaluations", "step"),
    [
        ([(10, 2.0), (20, 1.0)], 15.0),
        ([(10, 2.0), (20, 1.75), (30, 1.25), (40, 1.6)], 25.0),
        ([(10, 1.0)], 10.0),  # nothing is known of the loss before the first evaluation
        ([(10, 1.5)], 10.0),
        ([(10, 2.0), (20, 1.6)], None),
        ([(10, float("inf")), (20, 1.0)], 20.0),
        ([(10, float("nan")), (20, 1.0)], 20.0),
        ([], None),
    ],
)
def test_the_target_is_met_between_two_evaluations(evaluations, step):
    assert step_of_crossing(evaluations, 1.5) == step


def test_a_harder_target_takes_longer(tiny_data):
    easy, hard = (measure_to_target(to_target(target), tiny_data, seed=0) for target in (1.2, 0.8))
    assert easy["steps"] < hard["steps"]


def test_a_target_that_is_not_reached_says_so(tiny_data):
    row = measure_to_target(to_target(1e-9, epochs=1), tiny_data, seed=0)
    assert not row["reached"]
    assert row["steps"] is row["pictures"] is row["cpu_s"] is None
    assert row["lowest_loss"] > 1e-9 and row["images_per_cpu_s"] > 0


def test_a_run_to_a_target_that_diverges_says_so(tiny_data):
    row = measure_to_target(to_target(1e-9, learning_rate=1e9), tiny_data, seed=0)
    assert row["diverged"] and not row["reached"]


def test_without_a_target_there_is_nothing_to_measure(tiny_data):
    with pytest.raises(ValueError, match="target_loss is None"):
        measure_to_target(replace(to_target(1.0), target_loss=None), tiny_data, seed=0)


def test_the_experiment_runner_measures_to_the_target(monkeypatch, tiny_data, tmp_path):
    experiment = Experiment(name="target", about="steps to a loss", conditions=(to_target(1.2),), seeds=1)
    monkeypatch.setitem(EXPERIMENTS, "target", experiment)
    (row,) = run_experiment("target", tiny_data, folder=tmp_path)
    assert row["reached"]


SHIPPED = sorted(set(EXPERIMENTS) & {path.stem for path in results_folder().glob("*.json")})


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_results_are_those_of_the_experiment_as_it_stands(name):
    results, experiment = load_results(name), EXPERIMENTS[name]
    assert results is not None
    assert results.command.startswith(f"python -m nnopt_lab experiment {name}")
    for condition in experiment.conditions:
        seeds = [row["seed"] for row in results.rows if row["condition"] == condition.name]
        assert seeds == list(range(len(seeds))) and len(seeds) >= min(3, experiment.seeds)
        grid = [row["changes"] for row in results.grid if row["condition"] == condition.name]
        assert grid == list(getattr(condition, "grid", ()))
    assert {row["condition"] for row in results.rows} == {condition.name for condition in experiment.conditions}


def test_conditions_of_one_experiment_have_names_of_their_own():
    for experiment in EXPERIMENTS.values():
        names = [condition.name for condition in experiment.conditions]
        assert len(names) == len(set(names)), experiment.name
