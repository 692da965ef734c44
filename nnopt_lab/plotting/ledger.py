"""The rows of the ledger as points: what a network costs against what it gets right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes

from nnopt_lab.plotting.style import MUTED, new_axes, run_style

if TYPE_CHECKING:
    from nnopt_lab.ledger import Row

TITLES = {
    "accuracy": "test accuracy",
    "parameters": "parameters",
    "nonzero_parameters": "non-zero parameters",
    "bytes_on_disk": "bytes on disk",
    "macs": "multiply–accumulates per picture",
    "latency_ms": "latency (ms)",
}


def draw_ledger(
    rows: Sequence[Row],
    ax: Axes | None = None,
    x: str = "bytes_on_disk",
    y: str = "accuracy",
    *,
    front: Sequence[Row] = (),
    title: str = "",
) -> Axes:
    """Draw each row as a named point; data sets differ in color and marker, accuracy has its 95% interval.

    Parameters
    ----------
    x, y : str
        Fields of `nnopt_lab.ledger.Row`; rows in which one is None are left out.
    front : sequence of Row
        Joined by a line: pass what `nnopt_lab.ledger.pareto_front` returns.
    """
    ax = ax or new_axes(width_px=640, height_px=400)
    shown = [row for row in rows if getattr(row, x) is not None and getattr(row, y) is not None]
    for index, data in enumerate(dict.fromkeys(row.data for row in shown)):
        style = run_style(index)
        group = [row for row in shown if row.data == data]
        ax.errorbar(
            [getattr(row, x) for row in group],
            [getattr(row, y) for row in group],
            xerr=_interval(group) if x == "accuracy" else None,
            yerr=_interval(group) if y == "accuracy" else None,
            fmt=style.marker,
            color=style.color,
            capsize=3,
            label=data,
        )
    for row in shown:
        ax.annotate(row.name, (getattr(row, x), getattr(row, y)), xytext=(6, 4), textcoords="offset points", fontsize=8)
    if front:
        ax.plot(
            [getattr(row, x) for row in front],
            [getattr(row, y) for row in front],
            drawstyle="steps-post",
            color=MUTED,
            linestyle="--",
            zorder=0,
            label="best for its cost",
        )
    if x != "accuracy":
        ax.set_xscale("log")
    ax.set_xlabel(TITLES.get(x, x))
    ax.set_ylabel(TITLES.get(y, y))
    ax.set_title(title)
    if shown:
        ax.legend(loc="best", fontsize=8)
    return ax


def _interval(rows: Sequence[Row]) -> list[list[float]]:
    return [[row.accuracy - row.accuracy_low for row in rows], [row.accuracy_high - row.accuracy for row in rows]]
