"""The committed notebooks are executed, whole and small; that they run is tested by nbval in the same pytest run."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest

from nnopt_lab import first_cell, twins

PROJECT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((PROJECT / "notebooks").rglob("*.ipynb"))
NOTEBOOKS = [path for path in NOTEBOOKS if ".ipynb_checkpoints" not in path.parts]
MAX_BYTES = 1_000_000

every_notebook = pytest.mark.parametrize(
    "path", NOTEBOOKS, ids=lambda path: path.relative_to(PROJECT / "notebooks").as_posix()
)


def test_there_are_notebooks_and_pytest_runs_them(pytestconfig):
    assert NOTEBOOKS
    assert "notebooks" in pytestconfig.getini("testpaths")
    assert pytestconfig.getoption("nbval_lax") and pytestconfig.getoption("nbval_current_env")


@every_notebook
def test_notebook_is_committed_executed_from_top_to_bottom(path):
    cells = [cell for cell in twins.read_notebook(path).cells if cell.cell_type == "code" and cell.source.strip()]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), (
        "run: python -m nnopt_lab twins --run"
    )
    errors = [cell.id for cell in cells for output in cell.outputs if output.output_type == "error"]
    warnings = [cell.id for cell in cells for output in cell.outputs if output.get("name") == "stderr"]
    assert (errors, warnings) == ([], [])


@every_notebook
def test_notebook_is_small_enough_to_be_shown_on_the_web(path):
    assert path.stat().st_size < MAX_BYTES


@every_notebook
def test_notebook_begins_with_a_title_and_the_cell_that_finds_the_workbook(path):
    notebook = twins.read_notebook(path)
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.lstrip().startswith("# ")
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert (first.id, first.source) == (first_cell.CELL_ID, first_cell.SOURCE)


@every_notebook
def test_notebook_names_no_folder_of_a_machine(path):
    text = path.read_text(encoding="utf-8")
    places = ("/home/", "/Users/", ":\\\\Users", f"{tempfile.gettempdir()}/", f"{Path.home()}/", f"{PROJECT}/")
    assert [place for place in places if place in text] == []


def test_readme_and_first_cell_name_the_same_repository():
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    owner_and_name = first_cell.REPOSITORY.removeprefix("https://github.com/")
    badges = re.findall(r"(?:github\.com|/gh|/github)/([\w-]+/[\w-]+)", readme)
    assert badges and set(badges) == {owner_and_name}
