"""Student notebooks, generated from the solved ones.

``notebooks/solutions/NN_name.ipynb`` is the source, ``notebooks/NN_name.ipynb`` its twin: the same cells with the
same ids and nbgrader's metadata, but with every solution region replaced by a stub and every hidden test removed, as
``nbgrader generate_assignment`` does it. A notebook without exercises has no source: it lives in ``notebooks/`` alone.
"""

from __future__ import annotations

import copy
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from nnopt_lab import first_cell
from nnopt_lab.files import write_text
from nnopt_lab.stored_pictures import shrink_pictures

CODE_STUB = 'raise NotImplementedError("your code here")'
TEXT_STUB = "*Your answer here.*"
CELL_TIMEOUT_S = 300
_KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
_LANGUAGE = {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"}


class TwinError(ValueError):
    """A source notebook is not in order; the message names the notebook, the cell and what is wrong."""


def find_sources(notebooks: Path) -> list[Path]:
    """Return the solved notebooks, sorted by name."""
    return sorted((notebooks / "solutions").glob("*.ipynb"))


def find_unpaired(notebooks: Path) -> list[Path]:
    """Return the notebooks in ``notebooks`` that have no source: those without exercises."""
    paired = {source.name for source in find_sources(notebooks)}
    return sorted(path for path in notebooks.glob("*.ipynb") if path.name not in paired)


def student_twin(source: NotebookNode, *, name: str = "the notebook") -> NotebookNode:
    """Return the student's version of a solved notebook, not executed.

    Raises
    ------
    TwinError
        If a region is not closed, stands in a cell that is not marked for it, or would stop the student's notebook.
    """
    twin = complete(source, name=name)
    for cell in twin.cells:
        mark = cell.metadata.get("nbgrader", {})
        where = f"{name}, cell {cell.id!r}"
        stub = CODE_STUB if cell.cell_type == "code" else TEXT_STUB
        text, solutions = _replace_regions(cell.source, "SOLUTION", stub, where)
        text, hidden = _replace_regions(text, "HIDDEN TESTS", None, where)
        if solutions and not mark.get("solution"):
            raise TwinError(
                f"{where}: a solution region stands in a cell that nbgrader's metadata does not mark as solution."
            )
        if hidden and not mark.get("grade"):
            raise TwinError(f"{where}: hidden tests stand in a cell that nbgrader's metadata does not mark as grade.")
        if mark.get("grade") and cell.cell_type == "code" and not hidden:
            raise TwinError(
                f"{where}: a check needs hidden tests that assert, or nbgrader gives its points to everyone."
            )
        if mark.get("solution") and not solutions:
            raise TwinError(f"{where}: a solution cell needs a region ### BEGIN SOLUTION … ### END SOLUTION.")
        if cell.cell_type == "code" and f"\n{CODE_STUB}" in f"\n{text}":
            raise TwinError(f"{where}: put the solution into a function, or the student's notebook stops at its stub.")
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        cell.source = text
    twin.metadata.pop("widgets", None)
    return twin


def complete(notebook: NotebookNode, *, name: str = "the notebook") -> NotebookNode:
    """Return a copy with whole nbgrader metadata, the current first cell and nothing of the machine in its metadata.

    A solution cell needs only ``{"grade_id": …, "solution": true}``, a check ``{"grade_id": …, "grade": true,
    "points": …}``; the rest of nbgrader's schema is filled in.

    Raises
    ------
    TwinError
        If a ``grade_id`` is missing or used twice, or a check has no points.
    """
    notebook = copy.deepcopy(notebook)
    notebook.metadata["kernelspec"], notebook.metadata["language_info"] = NotebookNode(_KERNEL), NotebookNode(_LANGUAGE)
    taken: set[str] = set()
    for cell in notebook.cells:
        if cell.id == first_cell.CELL_ID and cell.cell_type == "code":
            cell.source = first_cell.SOURCE
        cell.metadata.pop("execution", None)
        mark = cell.metadata.get("nbgrader")
        if mark is None:
            continue
        where = f"{name}, cell {cell.id!r}"
        grade, solution = bool(mark.get("grade")), bool(mark.get("solution"))
        grade_id = mark.get("grade_id")
        if not grade_id or grade_id in taken:
            raise TwinError(f"{where}: grade_id is {grade_id!r}, but it must be given and used once.")
        taken.add(grade_id)
        if grade and not mark.get("points"):
            raise TwinError(f"{where}: a check needs points.")
        whole = {
            "schema_version": 3,
            "grade_id": grade_id,
            "grade": grade,
            "solution": solution,
            "locked": bool(mark.get("locked", not solution)),
            "task": False,
            "cell_type": cell.cell_type,
        }
        if grade and cell.cell_type == "code":
            # A verdict's text never varies, so nbval compares it with the committed one.
            cell.metadata["tags"] = sorted({*cell.metadata.get("tags", []), "nbval-check-output"})
        cell.metadata["nbgrader"] = NotebookNode(whole | ({"points": mark["points"]} if grade else {}))
    return notebook


def differences(have: NotebookNode, want: NotebookNode) -> list[str]:
    """Say, cell by cell, where ``have`` is not what generation gives; outputs are not looked at."""
    found = []
    have_cells, want_cells = {cell.id: cell for cell in have.cells}, {cell.id: cell for cell in want.cells}
    for cell_id in have_cells.keys() - want_cells.keys():
        found.append(f"cell {cell_id!r} is not in the source")
    for cell_id, cell in want_cells.items():
        if cell_id not in have_cells:
            found.append(f"cell {cell_id!r} is missing")
            continue
        for field in ("cell_type", "source", "metadata"):
            if have_cells[cell_id][field] != cell[field]:
                found.append(f"cell {cell_id!r} has another {field}")
    if not found and list(have_cells) != list(want_cells):
        found.append("the cells stand in another order")
    for field in ("kernelspec", "language_info"):
        if have.metadata.get(field) != want.metadata.get(field):
            found.append(f"the notebook has another {field}")
    return sorted(found)


def check_twins(notebooks: Path) -> list[str]:
    """Return one line for each cell that drifts from what generation gives; none if all is well.

    Raises
    ------
    TwinError
        If a source is not in order.
    """
    lines = []
    for source in find_sources(notebooks):
        solved = read_notebook(source)
        lines += [f"{source.name} (source): {line}" for line in differences(solved, complete(solved, name=source.name))]
        path = notebooks / source.name
        if not path.exists():
            lines.append(f"{path.name}: the student's twin is missing")
            continue
        lines += [
            f"{path.name}: {line}" for line in differences(read_notebook(path), student_twin(solved, name=source.name))
        ]
    for path in find_unpaired(notebooks):
        notebook = read_notebook(path)
        if any(cell.metadata.get("nbgrader", {}).get("solution") for cell in notebook.cells):
            lines.append(f"{path.name}: has solution cells but no source in solutions/")
        lines += [f"{path.name}: {line}" for line in differences(notebook, complete(notebook, name=path.name))]
    return lines


def write_twins(notebooks: Path, *, run: bool = False, only: tuple[str, ...] = ()) -> Iterator[str]:
    """Complete every source and write its twin; with ``run``, execute both from a fresh kernel and keep the outputs.

    Without ``run``, a twin keeps the outputs of the cells that did not change.

    Parameters
    ----------
    notebooks : Path
        The folder of the notebooks; also the working folder in which they are executed.
    run : bool
        Execute what is written.
    only : tuple of str
        Beginnings of the names to write, such as ``"03"``; all if empty.

    Yields
    ------
    str
        The name of each notebook that was written, after it was.
    """
    for path in find_unpaired(notebooks) + find_sources(notebooks):
        if only and not path.name.startswith(only):
            continue
        original = read_notebook(path)
        solved = complete(original, name=path.name)
        if run:
            solved = execute(solved, notebooks, name=path.name)
        if run or solved != original:
            _write_notebook(path, solved)
            yield path.relative_to(notebooks).as_posix()
        if path.parent == notebooks:
            continue
        twin_path = notebooks / path.name
        twin = student_twin(solved, name=path.name)
        if run:
            twin = execute(twin, notebooks, name=path.name)
        elif twin_path.exists():
            _keep_outputs(twin, read_notebook(twin_path))
        if run or not twin_path.exists() or twin != read_notebook(twin_path):
            _write_notebook(twin_path, twin)
            yield twin_path.relative_to(notebooks).as_posix()


def execute(notebook: NotebookNode, folder: Path, *, name: str = "the notebook") -> NotebookNode:
    """Run a copy top to bottom in a fresh kernel in ``folder``, with an empty ledger; return it with its outputs.

    Raises
    ------
    TwinError
        If a cell raises, takes longer than `CELL_TIMEOUT_S`, or the kernel dies.
    """
    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("widgets", None)
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        with tempfile.TemporaryDirectory() as own:  # the rows of whoever publishes do not belong in the notebook
            client.execute(env={**os.environ, "NNOPT_LAB_LEDGER": str(Path(own) / "ledger.jsonl")})
    except CellTimeoutError as error:
        raise TwinError(f"{name}: a cell took longer than {CELL_TIMEOUT_S} s.") from error
    except CellExecutionError as error:
        failed = next((cell.id for cell in notebook.cells if _failed(cell)), "?")
        raise TwinError(f"{name}, cell {failed!r} raised {error.ename}: {error.evalue}") from error
    except DeadKernelError as error:
        raise TwinError(f"{name}: the kernel died, perhaps for want of memory.") from error
    # The still picture beside every widget serves readers without a kernel; the stored state would double the file.
    notebook.metadata.pop("widgets", None)
    executed = complete(notebook, name=name)
    for cell in executed.cells:
        if cell.cell_type == "code":
            cell.outputs = _without_machine(cell.outputs)
    shrink_pictures(executed)
    return executed


def read_notebook(path: Path) -> NotebookNode:
    """Read a notebook.

    Raises
    ------
    TwinError
        If the file is not a notebook.
    """
    try:
        return nbformat.read(path, as_version=4)
    except (ValueError, nbformat.ValidationError) as error:
        raise TwinError(f"{path} is not a notebook: {' '.join(str(error).split())[:200]}") from error


def _write_notebook(path: Path, notebook: NotebookNode) -> None:
    nbformat.validate(notebook)
    write_text(path, nbformat.writes(notebook, version=4).rstrip("\n") + "\n")


def _replace_regions(text: str, kind: str, stub: str | None, where: str) -> tuple[str, int]:
    """Replace each region from BEGIN to END ``kind`` by ``stub``; return the text and how many there were."""
    lines, count, inside = [], 0, False
    for line in text.split("\n"):
        if f"BEGIN {kind}" in line:
            if inside:
                raise TwinError(f"{where}: BEGIN {kind} stands inside another.")
            inside, count = True, count + 1
            if stub is not None:
                lines.append(line[: len(line) - len(line.lstrip())] + stub)
        elif f"END {kind}" in line:
            if not inside:
                raise TwinError(f"{where}: END {kind} without BEGIN {kind}.")
            inside = False
        elif not inside:
            lines.append(line)
    if inside:
        raise TwinError(f"{where}: BEGIN {kind} without END {kind}.")
    return "\n".join(lines), count


def _keep_outputs(twin: NotebookNode, old: NotebookNode) -> None:
    before = {cell.id: cell for cell in old.cells}
    for cell in twin.cells:
        same = before.get(cell.id)
        if cell.cell_type == "code" and same is not None and same.source == cell.source and same.cell_type == "code":
            cell.outputs, cell.execution_count = same.outputs, same.execution_count


def _failed(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and any(output.output_type == "error" for output in cell.outputs)


def _without_machine(value: object) -> object:
    """Replace this machine's folders in every text of an output; pictures are left as they are."""
    if isinstance(value, str):
        for pattern, neutral in _machine_paths():
            value = pattern.sub(neutral, value)
        return value
    if isinstance(value, dict):
        kept = ((key == "data" and isinstance(item, str)) or key.startswith("image/") for key, item in value.items())
        items = zip(value.items(), kept, strict=True)
        return NotebookNode({key: item if keep else _without_machine(item) for (key, item), keep in items})
    if isinstance(value, list):
        return [_without_machine(item) for item in value]
    return value


def _machine_paths() -> list[tuple[re.Pattern[str], str]]:
    named = {
        os.environ.get("NNOPT_LAB_DATA", ""): "$NNOPT_LAB_DATA",
        sys.prefix: "$VIRTUAL_ENV",
        str(Path(__file__).resolve().parents[1]): ".",
        str(Path.home()): "~",
        tempfile.gettempdir(): "$TMPDIR",
    }
    folders = sorted((path for path in named if len(path) > 1), key=len, reverse=True)
    cell = (re.compile(re.escape(tempfile.gettempdir()) + r"/ipykernel_\d+/\d+\.py"), "<cell>")
    return [cell, *((re.compile(re.escape(path) + r"(?![\w.-])"), named[path]) for path in folders)]
