"""Panels of curves that grow while a run goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import PercentFormatter

from nnopt_lab.arguments import require_choice
from nnopt_lab.history import Trace
from nnopt_lab.plotting.curves import SMOOTHING
from nnopt_lab.plotting.style import run_style, tidy
from nnopt_lab.widgets.live_figure import LiveFigure

SCALES = ("linear", "log", "percent")


@dataclass(frozen=True)
class Series:
    """One curve of a panel.

    Attributes
    ----------
    label : str
        Shown in the legend.
    value : callable
        Takes a record and returns the number to draw, or None where there is none.
    smoothing : float
        See `nnopt_lab.history.Trace`.
    points : bool
        Draw markers joined by a thin line, for what is measured now and then.
    """

    label: str
    value: Callable[[Any], float | None]
    smoothing: float = 0.0
    points: bool = False


@dataclass(frozen=True)
class Panel:
    """One axes of a live picture: ``scale`` is ``"linear"`` (with 0), ``"log"`` or ``"percent"`` (of 0–1).

    ``limits`` are those that the vertical axis begins with, if not the usual ones.
    """

    title: str
    series: tuple[Series, ...]
    scale: str = "linear"
    limits: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        require_choice("scale", self.scale, SCALES)


LOSS = Panel(
    "Loss (cross-entropy)",
    (
        Series("batches", lambda record: record.loss, smoothing=SMOOTHING),
        Series("validation", lambda record: record.validation and record.validation.loss, points=True),
    ),
)
ACCURACY = Panel(
    "Accuracy",
    (
        Series("batches", lambda record: record.accuracy, smoothing=SMOOTHING),
        Series("validation", lambda record: record.validation and record.validation.accuracy, points=True),
    ),
    scale="percent",
)
RATES = Panel(
    "Rate and gradient",
    (
        Series("learning rate", lambda record: record.learning_rate),
        Series("gradient norm", lambda record: record.gradient_norm, smoothing=SMOOTHING),
    ),
    scale="log",
)
RATE_AND_BATCH = Panel(
    "Rate and batch size",
    (
        Series("learning rate", lambda record: record.learning_rate),
        Series("batch size", lambda record: record.batch_size),
    ),
    scale="log",
)
"""On one log scale: equal factors of the two are equally high steps."""


class Pacer:
    """Allows drawing at a limited rate and for a limited share of the time.

    Parameters
    ----------
    max_share : float
        Of all time since the start that may go into drawing.
    min_interval_s : float
        Between two pictures.
    head_start_s : float
        Drawing time allowed on credit, so that a run shows something at once.
    """

    def __init__(self, *, max_share: float = 0.02, min_interval_s: float = 0.22, head_start_s: float = 0.15) -> None:
        self.max_share, self.min_interval_s, self.head_start_s = max_share, min_interval_s, head_start_s
        self.began = time.perf_counter()
        self.spent_s = 0.0
        self._last = -np.inf

    def is_due(self) -> bool:
        """Tell whether another picture is within both limits."""
        now = time.perf_counter()
        allowed = self.head_start_s + self.max_share * (now - self.began)
        return now - self._last >= self.min_interval_s and self.spent_s <= allowed

    def spend(self, draw: Callable[[], None]) -> None:
        """Call ``draw`` and book its time."""
        began = time.perf_counter()
        draw()
        self._last = time.perf_counter()
        self.spent_s += self._last - began


class LiveCurves:
    """A `LiveFigure` of panels over a common horizontal axis.

    Parameters
    ----------
    panels : sequence of Panel
        From left to right.
    x : callable
        Takes a record and returns its horizontal position.
    x_end : float
        Where the horizontal axis ends.
    x_label, title, alt : str
        Words in and about the picture.
    shared_legend : bool
        All panels show the same runs in the same order: one legend over all of them, instead of one each.
    """

    def __init__(
        self,
        panels: Sequence[Panel],
        *,
        x: Callable[[Any], float],
        x_end: float,
        x_label: str,
        title: str,
        alt: str,
        shared_legend: bool = False,
        width_px: int = 860,
        height_px: int = 290,
    ) -> None:
        self.panels = tuple(panels)
        self.figure = LiveFigure(
            columns=len(self.panels),
            width_px=width_px,
            height_px=height_px,
            title=title,
            shared_legend=shared_legend,
            alt=alt,
        )
        self._x = x
        self._x_end = x_end
        self._lines = []
        for panel, ax in zip(self.panels, self.figure.axes, strict=True):
            tidy(ax, log=panel.scale == "log")
            if panel.scale == "percent":
                ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            self.figure.describe(ax, title=panel.title, x=x_label)
            for index, series in enumerate(panel.series):
                style = run_style(index)
                # A measured point at the very edge is shown whole.
                marks = (
                    {"marker": style.marker, "linewidth": 1.0, "markeredgecolor": "white", "clip_on": False}
                    if series.points
                    else {}
                )
                line = ax.plot([], [], style.line_style, color=style.color, label=series.label, **marks)[0]
                self._lines.append(self.figure.animate(line))
            if not shared_legend:
                self.figure.legend(ax, columns=len(panel.series))
        if shared_legend:
            self.figure.legend_of_all(self._lines[-len(self.panels[-1].series) :])
        self.clear()

    def clear(self) -> None:
        """Forget all curves; the picture changes with the next `draw`."""
        with self.figure.lock:
            self._traces = [Trace(smoothing=series.smoothing) for panel in self.panels for series in panel.series]
            for panel, ax in zip(self.panels, self.figure.axes, strict=True):
                ax.set_xlim(0, self._x_end)
                ax.set_ylim(*(panel.limits or {"percent": (0, 1), "log": (0.1, 1)}.get(panel.scale, (0, 1))))

    def append(self, record: Any) -> None:
        """Add one record to every curve; nothing is drawn."""
        with self.figure.lock:
            x = self._x(record)
            series = (series for panel in self.panels for series in panel.series)
            for one, trace in zip(series, self._traces, strict=True):
                value = one.value(record)
                if value is not None:
                    trace.append(x, value)

    def draw(self) -> None:
        """Show what was added so far."""
        with self.figure.update():
            traces = iter(zip(self._lines, self._traces, strict=True))
            for panel, ax in zip(self.panels, self.figure.axes, strict=True):
                shown = [next(traces) for _ in panel.series]
                for series, (line, trace) in zip(panel.series, shown, strict=True):
                    line.set_data(trace.x, trace.y)
                    if not series.points:
                        line.set_marker("o" if len(trace.x) == 1 else "")  # one point makes no line
                if panel.scale != "percent" and any(len(trace.y) for _, trace in shown):
                    lowest = [0.0] if panel.scale == "linear" else []
                    self.figure.fit(ax, y=np.concatenate([lowest, *(trace.y for _, trace in shown)]))
