"""The students' notebooks: generated as nbgrader would, executed, and the committed ones not drifted."""

from __future__ import annotations

import copy
import importlib
import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from nnopt_lab import first_cell, twins
from nnopt_lab.cli import main

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
SOURCES = twins.find_sources(NOTEBOOKS)

CHECKS = """\
from nnopt_lab.exercises import close, exercise, require

@exercise(title="Double", points=2, minutes=1)
def check_double(answer):
    require(close(answer(3), 6), "twice three is six")
"""
SOLUTION = """\
def double(number):
    \"\"\"Return twice the number.\"\"\"
    ### BEGIN SOLUTION
    return 2 * number
    ### END SOLUTION"""
CHECK = """\
verdict = check_double(double)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict
### END HIDDEN TESTS
verdict"""


def solved_notebook() -> nbformat.NotebookNode:
    cells = [
        new_markdown_cell("# A lesson", id="title"),
        new_code_cell("import nnopt_lab", id=first_cell.CELL_ID),
        new_code_cell(CHECKS, id="checks"),
        new_code_cell(SOLUTION, id="double", metadata={"nbgrader": {"grade_id": "double", "solution": True}}),
        new_code_cell(
            CHECK, id="double-check", metadata={"nbgrader": {"grade_id": "double-check", "grade": True, "points": 2}}
        ),
        new_code_cell("import os\nprint(os.getcwd(), __import__('sys').prefix)", id="where"),
    ]
    return new_notebook(cells=cells)


def cell_of(notebook: nbformat.NotebookNode, cell_id: str) -> nbformat.NotebookNode:
    return next(cell for cell in notebook.cells if cell.id == cell_id)


def text_of(cell: nbformat.NotebookNode) -> str:
    return "".join(output["data"]["text/plain"] for output in cell.outputs if output.output_type == "execute_result")


def write(folder: Path, notebook: nbformat.NotebookNode, name: str = "solutions/09_tiny.ipynb") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> Path:
    """A folder with one source and its twin, both executed by the command line's own function."""
    folder = tmp_path_factory.mktemp("notebooks")
    write(folder, solved_notebook())
    written = list(twins.write_twins(folder, run=True))
    assert written == ["solutions/09_tiny.ipynb", "09_tiny.ipynb"]
    return folder


def test_solution_becomes_a_stub_and_hidden_tests_go():
    twin = twins.student_twin(solved_notebook())
    assert cell_of(twin, "double").source == (
        'def double(number):\n    """Return twice the number."""\n    raise NotImplementedError("your code here")'
    )
    assert cell_of(twin, "double-check").source == "verdict = check_double(double)\nverdict"
    assert [cell.id for cell in twin.cells] == [cell.id for cell in solved_notebook().cells]


def test_metadata_is_nbgraders_whole_schema():
    twin = twins.student_twin(solved_notebook())
    assert cell_of(twin, "double").metadata["nbgrader"] == {
        "schema_version": 3,
        "grade_id": "double",
        "grade": False,
        "solution": True,
        "locked": False,
        "task": False,
        "cell_type": "code",
    }
    check = cell_of(twin, "double-check").metadata["nbgrader"]
    assert (check["grade"], check["locked"], check["points"], check["solution"]) == (True, True, 2, False)


def test_generation_leaves_the_source_alone_and_is_stable():
    source = solved_notebook()
    before = copy.deepcopy(source)
    assert twins.student_twin(source) == twins.student_twin(source)
    assert source == before
    complete = twins.complete(source)
    assert twins.complete(complete) == complete


def test_first_cell_is_kept_current():
    assert cell_of(twins.student_twin(solved_notebook()), first_cell.CELL_ID).source == first_cell.SOURCE


def test_markdown_answers_become_a_place_to_write():
    notebook = solved_notebook()
    marked = {"nbgrader": {"grade_id": "why", "grade": True, "solution": True, "points": 1}}
    notebook.cells.append(
        new_markdown_cell("Why?\n\n### BEGIN SOLUTION\nBecause.\n### END SOLUTION", id="why", metadata=marked)
    )
    assert cell_of(twins.student_twin(notebook), "why").source == "Why?\n\n*Your answer here.*"


@pytest.mark.parametrize(
    "cell_id, source, mark, message",
    [
        ("double", "x = 1", None, "a solution cell needs a region"),
        ("double", "def f():\n    ### BEGIN SOLUTION\n    pass", None, "BEGIN SOLUTION without END SOLUTION"),
        ("double", "def f():\n    pass\n    ### END SOLUTION", None, "END SOLUTION without BEGIN SOLUTION"),
        ("double", "### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION", None, "stands inside another"),
        ("double", "### BEGIN SOLUTION\nx = 1\n### END SOLUTION", None, "put the solution into a function"),
        ("checks", SOLUTION, None, "does not mark as solution"),
        ("checks", CHECK, None, "does not mark as grade"),
        ("double-check", "check_double(double)", None, "a check needs hidden tests"),
        ("double-check", CHECK, {"grade_id": "double", "grade": True, "points": 2}, "grade_id is 'double'"),
        ("double-check", CHECK, {"grade": True, "points": 2}, "grade_id is None"),
        ("double-check", CHECK, {"grade_id": "c", "grade": True}, "a check needs points"),
    ],
)
def test_faulty_source_is_named(cell_id, source, mark, message):
    notebook = solved_notebook()
    cell = cell_of(notebook, cell_id)
    cell.source = source
    if mark:
        cell.metadata["nbgrader"] = nbformat.from_dict(mark)
    with pytest.raises(twins.TwinError, match=f"lesson.ipynb, cell '{cell_id}': .*{re.escape(message)}"):
        twins.student_twin(notebook, name="lesson.ipynb")


def test_run_stores_outputs_counts_and_verdicts(executed):
    source = twins.read_notebook(executed / "solutions/09_tiny.ipynb")
    twin = twins.read_notebook(executed / "09_tiny.ipynb")
    assert text_of(cell_of(source, "double-check")) == "✓ Double: passed (2 of 2 points)"
    assert text_of(cell_of(twin, "double-check")) == "· Double: not attempted yet (2 points)"
    for notebook in (source, twin):
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
        assert not any("execution" in cell.metadata for cell in notebook.cells)
        assert (
            notebook.metadata["kernelspec"]["name"] == "python3" and "version" not in notebook.metadata["language_info"]
        )


def test_run_leaves_no_folder_of_this_machine_in_outputs(executed):
    text = (executed / "09_tiny.ipynb").read_text(encoding="utf-8")
    where = json.dumps(cell_of(twins.read_notebook(executed / "09_tiny.ipynb"), "where").outputs)
    assert str(executed) not in text and "$TMPDIR" in where and "$VIRTUAL_ENV" in where


def test_fresh_twins_do_not_drift_and_need_no_writing(executed):
    assert twins.check_twins(executed) == []
    assert list(twins.write_twins(executed)) == []


@pytest.mark.parametrize(
    "change, drift",
    [
        (lambda twin: cell_of(twin, "double").update(source="x"), "cell 'double' has another source"),
        (lambda twin: cell_of(twin, "double").metadata.clear(), "cell 'double' has another metadata"),
        (lambda twin: twin.cells.pop(0), "cell 'title' is missing"),
        (lambda twin: twin.cells.append(new_code_cell("1", id="new")), "cell 'new' is not in the source"),
        (lambda twin: twin.cells.reverse(), "the cells stand in another order"),
        (lambda twin: twin.metadata.pop("kernelspec"), "the notebook has another kernelspec"),
    ],
)
def test_drift_is_told_cell_by_cell(executed, tmp_path, change, drift, capsys):
    write(tmp_path, twins.read_notebook(executed / "solutions/09_tiny.ipynb"))
    twin = twins.read_notebook(executed / "09_tiny.ipynb")
    change(twin)
    write(tmp_path, twin, "09_tiny.ipynb")
    assert drift in "\n".join(twins.check_twins(tmp_path))
    assert main(["twins", "--check", "--folder", str(tmp_path)]) == 1
    assert f"09_tiny.ipynb: {drift}" in capsys.readouterr().out
    assert main(["twins", "--folder", str(tmp_path)]) == 0
    assert twins.check_twins(tmp_path) == []
    kept = cell_of(twins.read_notebook(tmp_path / "09_tiny.ipynb"), "checks")
    assert kept.execution_count == 2  # what did not change keeps its output


def test_missing_twin_and_missing_source_are_told(executed, tmp_path):
    source = twins.read_notebook(executed / "solutions/09_tiny.ipynb")
    write(tmp_path, source)
    write(tmp_path, source, "08_orphan.ipynb")
    lines = twins.check_twins(tmp_path)
    assert "09_tiny.ipynb: the student's twin is missing" in lines
    assert "08_orphan.ipynb: has solution cells but no source in solutions/" in lines


def test_failing_cell_is_named_and_nothing_is_written(tmp_path):
    path = write(tmp_path, new_notebook(cells=[new_code_cell("1 / 0", id="boom")]), "00_broken.ipynb")
    before = path.read_bytes()
    with pytest.raises(twins.TwinError, match="00_broken.ipynb, cell 'boom' raised ZeroDivisionError"):
        list(twins.write_twins(tmp_path, run=True))
    assert path.read_bytes() == before


def test_file_that_is_no_notebook_is_named(tmp_path):
    (tmp_path / "09_text.ipynb").write_text("hello")
    with pytest.raises(twins.TwinError, match=r"09_text\.ipynb is not a notebook"):
        twins.check_twins(tmp_path)


def test_committed_twins_do_not_drift():
    assert twins.check_twins(NOTEBOOKS) == [], "run: python -m nnopt_lab twins --run"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_committed_checks_pass_when_solved_and_wait_when_not(source):
    for path, sign in ((source, "✓"), (NOTEBOOKS / source.name, "·")):
        checks = [
            cell
            for cell in twins.read_notebook(path).cells
            if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("grade")
        ]
        assert checks, f"{path.name} has no checks"
        for cell in checks:
            assert text_of(cell).startswith(sign), f"{path.name}, cell {cell.id!r}: {text_of(cell) or 'no verdict'}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_committed_points_are_those_of_the_checks(source):
    for cell in twins.read_notebook(source).cells:
        mark = cell.metadata.get("nbgrader", {})
        if cell.cell_type == "code" and mark.get("grade"):
            named = set(re.findall(r"(lesson\d\d\w*)\.(\w+)\(", cell.source))
            checks = [getattr(importlib.import_module(f"nnopt_lab.exercises.{module}"), name) for module, name in named]
            assert sum(check.points for check in checks) == mark["points"], f"{source.name}, cell {cell.id!r}"
