"""The ledger: one row for every measured experiment, in a file that several notebooks can append to at once."""

from __future__ import annotations

import html
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import IO

from torch import nn

from nnopt_lab.arguments import require_choice, require_integer, require_number
from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.datasets.cache import cache_folder
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.measuring import Latency, accuracy_interval, bytes_on_disk, measure_latency
from nnopt_lab.models import count
from nnopt_lab.training import evaluate


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured network.

    Attributes
    ----------
    lesson : int
        Number of the lesson that measured it.
    name : str
        What was measured, for example ``"ResNet-20, 90% pruned"``.
    data : str
        The label of the data set.
    accuracy, accuracy_low, accuracy_high : float
        On the test split, 0–1, with its 95% interval.
    parameters, nonzero_parameters, bytes_on_disk, macs : int
        Size, as in `nnopt_lab.models.count` and `nnopt_lab.measuring.bytes_on_disk`.
    latency_ms : float or None
        Median time of one batch of ``batch_size`` pictures; None if it was not measured.
    batch_size : int
        Of the latency.
    seed : int or None
        Of the training.
    device : str
        Where the latency was measured.
    when : str
        Time in ISO 8601.
    note : str
        Anything else.

    Raises
    ------
    ValueError
        If a value cannot be right; the message names it.
    """

    lesson: int
    name: str
    data: str
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    parameters: int
    nonzero_parameters: int
    bytes_on_disk: int
    macs: int
    latency_ms: float | None = None
    batch_size: int = 1
    seed: int | None = None
    device: str = "cpu"
    when: str = field(default_factory=_now)
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("name", "data", "device", "when", "note"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} is {getattr(self, name)!r}, but it must be a text.")
        for name in ("accuracy", "accuracy_low", "accuracy_high"):
            require_number(name, getattr(self, name), at_least=0, at_most=1)
        for name in ("lesson", "parameters", "nonzero_parameters", "bytes_on_disk", "macs"):
            require_integer(name, getattr(self, name), at_least=0)
        require_integer("batch_size", self.batch_size)
        if self.latency_ms is not None:
            require_number("latency_ms", self.latency_ms, above=0)
        if self.seed is not None:
            require_integer("seed", self.seed, at_least=0)


def measure_row(
    model: nn.Module,
    data: ImageData,
    *,
    name: str,
    lesson: int,
    seed: int | None = None,
    note: str = "",
    test_pictures: int | None = None,
    batch_size: int = 100,
    repeats: int = 15,
    latency: Latency | None = None,
) -> Row:
    """Measure everything a `Row` holds, on the device that ``model`` is on.

    Parameters
    ----------
    test_pictures : int, optional
        Evaluate on the first so many test pictures only (they are shuffled); the interval widens. Default: all.
    batch_size, repeats : int
        Of the latency.
    latency : Latency, optional
        As `nnopt_lab.measuring.compare_latency` found it: rows that are to be compared should be timed in turns.
        Default: measured here, with no other network in between.
    """
    split = data.test if test_pictures is None else data.test.take(test_pictures)
    device = next(model.parameters()).device
    measured = evaluate(model, data, split)
    low, high = accuracy_interval(round(measured.accuracy * measured.count), measured.count)
    if latency is None:
        few = BatchSource(data, data.test.take(batch_size), device=device)
        latency = measure_latency(model, few.normalize(few.images), repeats=repeats)
    size = count(model)
    return Row(
        lesson=lesson,
        name=name,
        data=data.label,
        accuracy=measured.accuracy,
        accuracy_low=low,
        accuracy_high=high,
        parameters=size.parameters,
        nonzero_parameters=size.nonzero_parameters,
        bytes_on_disk=bytes_on_disk(model),
        macs=size.macs,
        latency_ms=latency.median_ms,
        batch_size=latency.batch_size,
        seed=seed,
        device=latency.device,
        note=note,
    )


def default_path() -> Path:
    """Return where the ledger lies: ``$NNOPT_LAB_LEDGER``, else the project's ``data`` folder, else the cache."""
    chosen = os.environ.get("NNOPT_LAB_LEDGER")
    if chosen:
        return Path(chosen).expanduser()
    project = Path(__file__).resolve().parents[1]
    if (project / "pyproject.toml").exists() and os.access(project / "data", os.W_OK):
        return project / "data" / "ledger.jsonl"
    return cache_folder() / "ledger.jsonl"


class Ledger:
    """Rows in a file of JSON lines, safe when several processes append at once.

    Parameters
    ----------
    path : path, optional
        Default: `default_path`. The file appears with its first row.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        self.path = Path(path).expanduser() if path is not None else default_path()

    def __repr__(self) -> str:
        return f"Ledger({str(self.path)!r})"

    def append(self, row: Row) -> None:
        """Write ``row`` at the end, or nothing at all.

        Raises
        ------
        OSError
            If the file cannot be written; the message names it.
        """
        line = json.dumps(asdict(row), ensure_ascii=False).encode() + b"\n"
        with self._locked(), self._named_errors(), self.path.open("a+b") as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    line = b"\n" + line  # a line that a crash cut off stays by itself
            try:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(self.path, end)  # a full disk may have taken half of it
                raise

    def rows(self) -> list[Row]:
        """Return all rows, oldest first; a line that is not a row is skipped with a warning that names it."""
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        found = []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                found.append(_row_from(line))
            except (ValueError, TypeError) as error:
                message = f"Line {number} of {str(self.path)!r} is not a whole row and was skipped ({error})."
                warnings.warn(message, stacklevel=2)
        return found

    def table(self) -> Table:
        """Return the rows as a table that prints aligned and shows as HTML in a notebook."""
        return Table(self.rows())

    def clear(self) -> None:
        """Start anew; the rows so far stay beside the file, in ``<name>.old``."""
        with self._locked(), self._named_errors():
            if self.path.exists():
                os.replace(self.path, self.path.with_name(self.path.name + ".old"))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # The lock is a file of its own: the ledger itself may be renamed while another process waits.
        with self._named_errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.with_name(self.path.name + ".lock").open("a+b")
        with file:
            _lock(file)
            yield  # closing the file lets go of the lock, also when the process dies

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            problem = f"cannot write the ledger {self.path}: {error.strerror}; set NNOPT_LAB_LEDGER to another file"
            raise OSError(error.errno, problem) from error


@dataclass(frozen=True)
class Table:
    """Rows as text and as HTML."""

    rows: list[Row]

    HEADINGS = ("lesson", "name", "data", "accuracy (95%)", "parameters", "non-zero", "KiB", "MMACs", "latency", "seed")

    def cells(self) -> list[tuple[str, ...]]:
        """Return what stands in each row, under `HEADINGS`."""
        return [
            (
                str(row.lesson),
                row.name,
                row.data,
                f"{row.accuracy:.1%} ({100 * row.accuracy_low:.1f}–{100 * row.accuracy_high:.1f})",
                f"{row.parameters:,}",
                f"{row.nonzero_parameters:,}",
                f"{row.bytes_on_disk / 1024:,.0f}",
                f"{row.macs / 1e6:,.1f}",
                "–" if row.latency_ms is None else f"{row.latency_ms:.1f} ms / {row.batch_size} on {row.device}",
                "–" if row.seed is None else str(row.seed),
            )
            for row in self.rows
        ]

    def __str__(self) -> str:
        if not self.rows:
            return "The ledger is empty."
        lines = [self.HEADINGS, *self.cells()]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.HEADINGS))]
        text_columns = {1, 2}
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column in text_columns else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if not self.rows:
            return "<p>The ledger is empty.</p>"
        head = "".join(f"<th>{html.escape(heading)}</th>" for heading in self.HEADINGS)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>" for cells in self.cells()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def pareto_front(rows: Sequence[Row], *, cost: str = "bytes_on_disk", gain: str = "accuracy") -> list[Row]:
    """Return the rows that no other beats, by rising ``cost``: none is as cheap and better, or as good and cheaper.

    Raises
    ------
    ValueError
        If ``cost`` or ``gain`` is not a number of `Row`.
    """
    for argument, name in (("cost", cost), ("gain", gain)):
        require_choice(argument, name, NUMBERS)
    known = [row for row in rows if getattr(row, cost) is not None and getattr(row, gain) is not None]
    front: list[Row] = []
    for row in sorted(known, key=lambda row: (getattr(row, cost), -getattr(row, gain))):
        if not front or getattr(row, gain) > getattr(front[-1], gain):
            front.append(row)
    return front


NUMBERS = (
    "accuracy",
    "parameters",
    "nonzero_parameters",
    "bytes_on_disk",
    "macs",
    "latency_ms",
)
"""The fields of `Row` that can be compared."""


def _row_from(line: bytes) -> Row:
    values = json.loads(line)
    if not isinstance(values, dict):
        raise ValueError("it holds no names")
    names = {one.name for one in fields(Row)}
    return Row(**{name: value for name, value in values.items() if name in names})


def _lock(file: IO[bytes]) -> None:
    """Wait for the exclusive lock on ``file``; a file system without locks goes without."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
        return
    with suppress(OSError):  # no locks on some network file systems, where one short write is whole too
        fcntl.flock(file, fcntl.LOCK_EX)
