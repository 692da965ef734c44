"""What ships says how to remake it: those commands must be there, and do what the file says."""

from __future__ import annotations

import importlib.util
import json
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from nnopt_lab.experiments import EXPERIMENTS, load_results
from nnopt_lab.recipes import RECIPES

DATA = Path(__file__).resolve().parents[1] / "data"
FILES = sorted([*(DATA / "checkpoints").glob("*.json"), *(DATA / "results").glob("*.json")])


def commands_in(value: object) -> Iterator[str]:
    """Yield all commands of a shipped file, however deep."""
    if isinstance(value, dict):
        found = [value.get("command"), *value.get("commands", [])]
        yield from (command for command in found if command is not None)
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from commands_in(inner)


def named_by(command: str) -> tuple[str, str]:
    """Return what a command runs ("train", "experiment" or a module) and the name that it passes."""
    python, flag, module, *arguments = shlex.split(command)
    assert (python, flag) == ("python", "-m")
    return (arguments[0], arguments[1]) if module == "nnopt_lab" else (module, "")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_shipped_command_names_what_there_is(path: Path) -> None:
    commands = list(commands_in(json.loads(path.read_text())))
    assert commands
    for command in commands:
        kind, name = named_by(command)
        if kind.startswith("benchmarks"):
            assert importlib.util.find_spec(kind) is not None, f"{path.name}: {command}"
        else:
            known = {"train": RECIPES, "experiment": EXPERIMENTS}
            assert name in known[kind], f"{path.name}: {command}"


def runs_in(path: Path) -> list[dict]:
    found = json.loads(path.read_text())
    return found.get("runs", [found] if "recipe" in found else [])


RUNS = [(path.stem, run) for path in FILES for run in runs_in(path)]


@pytest.mark.parametrize(("stem", "run"), RUNS, ids=[f"{stem}-{run['recipe']}" for stem, run in RUNS])
def test_a_shipped_run_has_the_settings_of_its_recipe(stem: str, run: dict) -> None:
    recipe = RECIPES[run["recipe"]]
    assert named_by(run["command"]) == ("train", recipe.name)
    assert run["model"] == recipe.model
    assert run.get("start") == recipe.start
    today = json.loads(json.dumps(asdict(recipe.settings)))
    assert {name: today[name] for name in run["settings"]} == run["settings"]


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if load_results(name) is not None])
def test_recorded_results_are_those_of_their_experiment(name: str) -> None:
    results, experiment = load_results(name), EXPERIMENTS[name]
    assert results.about == experiment.about
    assert {row["condition"] for row in results.rows} <= {condition.name for condition in experiment.conditions}


def test_the_stand_in_tells_a_residual_network_from_the_articles() -> None:
    results = load_results("standin_difficulty")
    gap = results.difference("ResNet-8, half width", "the articles' CNN")
    assert min(row["test_accuracy"] for row in results.rows if row["condition"] == "ResNet-8, half width") >= 0.9
    assert gap.mean - gap.half_width >= 0.1
