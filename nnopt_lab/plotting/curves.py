"""Curves of training runs: each function draws on the axes that it is given and returns them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from nnopt_lab.history import Trace
from nnopt_lab.plotting.style import new_axes, run_style, styled, tidy
from nnopt_lab.training import StepRecord

Runs = Sequence[StepRecord] | Mapping[str, Sequence[StepRecord]]
"""The records of one run, or of several by label."""

SMOOTHING = 0.9
"""Of single batches, which jump; what was measured on the validation split is drawn as it is."""


def draw_loss(runs: Runs, ax: Axes | None = None, *, data_label: str = "") -> Axes:
    """Draw the batches' loss, smoothed, as lines and the validation loss as points, over epochs."""
    ax = _prepare(ax, "Loss", "cross-entropy (nats)", data_label)
    _draw_runs(ax, runs, lambda record: record.loss, lambda record: record.validation and record.validation.loss)
    ax.set_ylim(bottom=0)
    return ax


def draw_accuracy(runs: Runs, ax: Axes | None = None, *, data_label: str = "") -> Axes:
    """Draw the batches' accuracy, smoothed, as lines and the validation accuracy as points, over epochs."""
    ax = _prepare(ax, "Accuracy", "correct", data_label)
    _draw_runs(
        ax, runs, lambda record: record.accuracy, lambda record: record.validation and record.validation.accuracy
    )
    ax.set_ylim(0, 1)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return ax


def draw_learning_rate(runs: Runs, ax: Axes | None = None, *, data_label: str = "") -> Axes:
    """Draw the learning rate that each step used, over epochs, on a log scale."""
    ax = _prepare(ax, "Learning rate", "learning rate", data_label, log=True)
    _draw_runs(ax, runs, lambda record: record.learning_rate, smoothing=0.0)
    return ax


def draw_gradient_norm(runs: Runs, ax: Axes | None = None, *, data_label: str = "") -> Axes:
    """Draw the norm of each step's gradient, smoothed, over epochs, on a log scale."""
    ax = _prepare(ax, "Gradient norm", "Euclidean norm", data_label, log=True)
    _draw_runs(ax, runs, lambda record: record.gradient_norm)
    return ax


def _prepare(ax: Axes | None, title: str, unit: str, data_label: str, *, log: bool = False) -> Axes:
    ax = tidy(ax if ax is not None else new_axes(), log=log)
    with styled():
        ax.set_title(f"{title} · {data_label}" if data_label else title)
        ax.set_xlabel("epoch")
        ax.set_ylabel(unit)
    return ax


def _draw_runs(
    ax: Axes,
    runs: Runs,
    value: Callable[[StepRecord], float],
    measured: Callable[[StepRecord], float | None] | None = None,
    *,
    smoothing: float = SMOOTHING,
) -> None:
    several = isinstance(runs, Mapping)
    by_label = runs if several else {"": runs}
    with styled():
        for index, (label, records) in enumerate(by_label.items()):
            style = run_style(index)
            line = Trace(smoothing=smoothing).extend((record.epoch, value(record)) for record in records)
            batch_label = label or ("batches, smoothed" if smoothing else "")
            ax.plot(line.x, line.y, style.line_style, color=style.color, label=batch_label)
            points = [(r.epoch, measured(r)) for r in records if r.validation is not None] if measured else []
            if points:
                ax.plot(
                    *zip(*points, strict=True),
                    style.marker,
                    color=style.color,
                    markeredgecolor="white",
                    label=f"{label}, validation" if label else "validation",
                )
        if several or measured:
            # Beside the axes: inside them some curve would run under it.
            if several and len(by_label) > 1:
                ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
            else:
                ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.2)
