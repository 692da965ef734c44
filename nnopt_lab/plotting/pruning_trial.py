"""The panels of the pruning explorers: parts that stand still, and parts that move with a slider."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle, StepPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from nnopt_lab.plotting.pruning import HATCH, KEPT, NEGATIVE_TO_POSITIVE, REMOVED
from nnopt_lab.plotting.style import COLORS, INK, MUTED, styled

NAMES_SHOWN = 26
"""Bars whose names find room one under the other."""
BAR_HEIGHT = 0.8
CORNER, NUMBERS_SHOWN = 24, 6
"""Rows and columns of a matrix that are drawn, and up to how many with their numbers."""
REMOVED_LOOK = {"fill": True, "facecolor": "white", "edgecolor": REMOVED, "hatch": HATCH, "linewidth": 0.6}
_FAINT = "#b4b9bf"


def set_histogram(ax: Axes, edges: np.ndarray, counts: np.ndarray) -> None:
    """Draw a histogram of which nothing is kept, hatched; what `add_kept` returns then covers what is."""
    with styled():
        ax.stairs(counts, edges, **REMOVED_LOOK, zorder=1)
        ax.set_xlim(edges[0], edges[-1])
        ax.set_ylim(0, 1.05 * max(counts.max(), 1))


def add_kept(ax: Axes, edges: np.ndarray) -> StepPatch:
    """Return the part of a histogram that is kept; give it counts by ``set_data(counts)``."""
    return ax.stairs(np.zeros(len(edges) - 1), edges, fill=True, facecolor=KEPT, edgecolor=KEPT, linewidth=0.6)


def add_threshold(ax: Axes) -> tuple[Line2D, Line2D]:
    """Return two lines that `move_threshold` puts at either side of 0."""
    look = {"color": INK, "linewidth": 1.4, "linestyle": "--"}
    return ax.plot([], [], label="threshold", **look)[0], ax.plot([], [], **look)[0]


def move_threshold(lines: tuple[Line2D, Line2D], threshold: float | None) -> None:
    """Put the lines at −threshold and +threshold, or hide them."""
    for line, side in zip(lines, (-1, 1), strict=True):
        if threshold is None:
            line.set_data([], [])
        else:
            line.set_data([side * threshold] * 2, line.axes.get_ylim())


def legend_handles() -> list[Rectangle]:
    """Return what stands for kept and removed in a legend."""
    return [
        Rectangle((0, 0), 1, 1, facecolor=KEPT, label="kept"),
        Rectangle((0, 0), 1, 1, **REMOVED_LOOK, label="removed"),
    ]


NAMES_ROOM = 0.92
"""Left of 0, for the names of layers: in widths of a bar of 100%."""


def set_layer_bars(ax: Axes, names: Sequence[str], *, names_at: str = "left") -> PolyCollection:
    """Write the layers' names one under the other and return bars that `move_layer_bars` moves.

    The names stand at the ``"left"`` of 0, or at the ``"right"`` end under bars that are short.
    """
    count, beside = len(names), names_at == "left"
    with styled():
        ax.set(xlim=(-NAMES_ROOM if beside else 0, 1), ylim=(count - 0.4, -0.6))
        if beside:
            ax.set_xticks([0, 0.5, 1])
            ax.spines["left"].set_visible(False)
            ax.plot([0, 0], [count - 0.4, -0.6], color=MUTED, linewidth=0.8)
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        ax.yaxis.set_major_locator(NullLocator())
        ax.grid(False, axis="y")
        every = -(-count // NAMES_SHOWN)
        for place in range(0, count, every):
            look = {"ha": "right", "va": "center", "fontsize": 7.5, "color": INK, "zorder": 3}
            across = {} if beside else {"transform": ax.get_yaxis_transform()}  # whatever the axis reaches to
            ax.text(-0.03 if beside else 0.985, place, names[place], **look, **across)
        # Clear enough to read the names through.
        return ax.add_collection(
            PolyCollection([], facecolor=REMOVED, edgecolor=REMOVED, linewidth=0.6, alpha=0.4), autolim=False
        )


def move_layer_bars(bars: PolyCollection, shares: Sequence[float]) -> None:
    """Show one share a layer, 0–1."""
    half = BAR_HEIGHT / 2
    bars.set_verts(
        [
            [(0, place - half), (share, place - half), (share, place + half), (0, place + half)]
            for place, share in enumerate(shares)
        ]
    )


class TriedPoints:
    """What was measured so far over something that is to be traded for it, and the present point with its interval.

    Attributes
    ----------
    artists : list of Artist
        What moves; register each with `LiveFigure.animate`.
    legend_handles : list of Artist
        What the legend names.
    """

    def __init__(self, ax: Axes) -> None:
        """Prepare the moving parts on ``ax``."""
        now = {"color": COLORS["vermilion"], "markersize": 8, "markeredgecolor": "white", "label": "now"}
        self._others = ax.plot([], [], ".", color=_FAINT, markersize=6, label="other ways")[0]
        self._way = ax.plot([], [], "-o", color=COLORS["blue"], linewidth=1.2, markersize=4, label="this way")[0]
        self._interval = ax.plot([], [], "_-", color=INK, linewidth=1.4, markersize=9)[0]
        self._now = ax.plot([], [], "D", **now)[0]
        self.artists = [self._others, self._way, self._interval, self._now]
        self.legend_handles = [self._way, self._others, self._now]

    def show_measured(self, way: np.ndarray, others: np.ndarray) -> None:
        """Show what was measured, float arrays of points of shape (n, 2), and no present point."""
        self._way.set_data(*way[way[:, 0].argsort()].T)
        self._others.set_data(*others.T)
        self._interval.set_data([], [])
        self._now.set_data([], [])

    def show_now(self, x: float, accuracy: float, interval: tuple[float, float]) -> None:
        """Show the present point with its interval."""
        self._interval.set_data([x] * 2, interval)
        self._now.set_data([x], [accuracy])


class AccuracyPanel(TriedPoints):
    """Accuracy over sparsity."""

    def __init__(self, ax: Axes, *, whole: float, goal: tuple[float, float]) -> None:
        """Draw what stands still on ``ax``: the whole network's accuracy, and the corner where the goal lies."""
        sparsity, accuracy = goal
        with styled():
            ax.set_xlim(-0.02, 1.02)
            ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            draw_goal(ax, (sparsity, 1.02), accuracy, whole=whole)
        super().__init__(ax)


def draw_goal(ax: Axes, x: tuple[float, float], accuracy: float, *, whole: float) -> None:
    """Draw the corner where a goal lies, between two ends of ``x`` and above ``accuracy``, and the whole accuracy."""
    ax.set_ylim(-0.02, 1.04)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.set_yticks(np.linspace(0, 1, 6))
    look = {"facecolor": "#e3f4ee", "edgecolor": COLORS["green"], "linewidth": 0.9, "zorder": 1}
    ax.add_patch(Rectangle((x[0], accuracy), x[1] - x[0], 1.04 - accuracy, **look))
    ax.annotate(
        "goal ↑",
        (x[1], accuracy),
        xytext=(-3, -3),
        textcoords="offset points",
        ha="right",
        va="top",
        color=COLORS["green"],
        fontsize=8,
    )
    ax.axhline(whole, color=MUTED, linewidth=1.0, linestyle="--")


class ThresholdPanels:
    """Histogram, matrix before and matrix after, for a threshold that moves.

    Attributes
    ----------
    artists : list of Artist
        What moves; register each with `LiveFigure.animate`.
    """

    def __init__(self, axes: Sequence[Axes]) -> None:
        """Prepare three axes."""
        self._histogram, self._before, self._after = axes
        self._still: list[Artist] = []
        self._removed = self._histogram.add_patch(StepPatch([0.0], [0.0, 1.0], **REMOVED_LOOK, zorder=2))
        self._lines = add_threshold(self._histogram)
        # What is removed is covered, all at once: redrawing numbers one by one would take longer than all the rest.
        self._cover = self._after.add_collection(PolyCollection([], facecolor="white", linewidth=0), autolim=False)
        self._zeros = self._after.plot([], [], linestyle="none", color=_FAINT)[0]
        for ax in (self._before, self._after):
            with styled():
                ax.grid(False)
                for axis in (ax.xaxis, ax.yaxis):
                    axis.set_major_locator(MaxNLocator(5, integer=True))
                    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value + 1:.0f}"))
        self.artists = [self._removed, *self._lines, self._cover, self._zeros]

    def set_matrix(self, matrix: np.ndarray) -> None:
        """Show another matrix, shape (outputs, inputs), of which nothing is removed."""
        for artist in self._still:
            artist.remove()
        self._matrix = matrix[:CORNER, :CORNER]
        rows, columns = self._matrix.shape
        reach = float(np.abs(matrix).max())
        edges = np.linspace(-reach, reach, (61 if matrix.size > 200 else 15) + 1)
        counts = np.histogram(matrix, edges)[0]
        numbered = max(rows, columns) <= NUMBERS_SHOWN
        with styled():
            self._still = [
                self._histogram.stairs(counts, edges, fill=True, facecolor=KEPT, edgecolor="white", linewidth=0.4)
            ]
            for ax in (self._before, self._after):
                look = {"cmap": NEGATIVE_TO_POSITIVE, "vmin": -reach, "vmax": reach, "aspect": "auto", "zorder": 1}
                self._still.append(ax.imshow(self._matrix, **look))
                for (row, column), value in np.ndenumerate(self._matrix) if numbered else ():
                    look = {"ha": "center", "va": "center", "fontsize": 8.5, "color": _on(value, reach)}
                    self._still.append(ax.text(column, row, f"{value:.2f}".replace("-", "−"), **look))
                ax.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
        self._histogram.set(xlim=(-reach, reach), ylim=(0, 1.05 * counts.max()))
        self._removed.set_data(counts, edges)
        self._zeros.set_marker("$0$" if numbered else "x")
        self._zeros.set_markersize(min(6.0, 90 / max(rows, columns)))

    def show(self, threshold: float, kept: np.ndarray) -> None:
        """Show what a threshold removes; ``kept`` is bool, of the matrix's shape."""
        move_threshold(self._lines, threshold)
        top = self._histogram.get_ylim()[1]
        between = Rectangle((-threshold, 0), 2 * threshold, top, transform=self._histogram.transData)
        self._removed.set_clip_path(between)
        rows, columns = np.nonzero(~kept[:CORNER, :CORNER])
        corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
        self._cover.set_verts(np.column_stack([columns, rows])[:, None] + corners)
        self._zeros.set_data(columns, rows)


def is_cut(matrix: np.ndarray) -> bool:
    """Tell whether `ThresholdPanels` show only the corner of a matrix."""
    return max(matrix.shape) > CORNER


def _on(value: float, reach: float) -> str:
    return "white" if abs(value) > 0.62 * reach else INK
