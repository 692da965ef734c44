"""The panels of the quantization explorers: parts that stand still, and parts that move with a slider."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, ScalarFormatter

from nnopt_lab.plotting.pruning_trial import BAR_HEIGHT, TriedPoints, draw_goal, set_layer_bars
from nnopt_lab.plotting.quantization import BAR, CLIPPED, LEVEL, LEVELS_DRAWN, VALUE, grid_marks, label_heights, plain
from nnopt_lab.plotting.style import COLORS, INK, MUTED, styled
from nnopt_lab.quantization.grids import Grid

MOST_DECIBELS, NAMES_TO = 50.0, 82.0
"""Beyond so many decibels an error is of no account; from there on the axis has room for names."""


class NumberLinePanel:
    """A few numbers, the grid below them, and an arrow from each to where it is rounded.

    Attributes
    ----------
    artists : list of Artist
        What moves; register each with `LiveFigure.animate`.
    """

    def __init__(self, ax: Axes, values: Sequence[float]) -> None:
        """Draw the numbers on ``ax``."""
        self._values = np.asarray(values, dtype=float)
        low, high = min(0.0, self._values.min()), max(0.0, self._values.max())
        reach = max(-low, high)  # a symmetric grid reaches as far to the other side
        with styled():
            ax.set(xlim=(-1.1 * reach, 1.1 * reach), ylim=(-0.3, 1.45))
            ax.yaxis.set_major_locator(NullLocator())
            ax.plot(self._values, np.ones(len(values)), "o", color=VALUE, markersize=7, zorder=3)
            for value, up in zip(self._values, label_heights(values, 0.16 * reach), strict=True):
                ax.text(value, 1.12 + 0.13 * up, plain(value), ha="center", va="bottom", color=INK, fontsize=8.5)
        look = {"linestyle": "none", "markersize": 6, "clip_on": False}
        self._lines = {
            kept: ax.add_collection(LineCollection([], colors=color, linestyles=style, linewidths=1.3), autolim=False)
            for kept, color, style in ((True, INK, "-"), (False, CLIPPED, "--"))
        }
        self._heads = {
            True: ax.plot([], [], "v", color=INK, label="its place", **look)[0],
            False: ax.plot([], [], "D", color=CLIPPED, label="its place, clipped", **look)[0],
        }
        self._axis = ax.plot([], [], color=LEVEL, linewidth=1.0)[0]
        self._levels = ax.plot([], [], "|", color=LEVEL, markersize=13, markeredgewidth=1.4, label="grid")[0]
        self.artists = [self._axis, self._levels, *self._lines.values(), *self._heads.values()]

    def show(self, levels: np.ndarray, restored: np.ndarray) -> None:
        """Show a grid and what it makes of the numbers: shape (levels,) and (numbers,)."""
        half = (levels[1] - levels[0]) / 2
        kept = (self._values >= levels[0] - half) & (self._values <= levels[-1] + half)
        self._axis.set_data([levels[0], levels[-1]], [0, 0])
        self._levels.set_data(levels, np.zeros(len(levels)))
        for inside, lines in self._lines.items():
            pairs = zip(self._values[kept == inside], restored[kept == inside], strict=True)
            ends = np.array([[(value, 0.94), (end, 0.1)] for value, end in pairs]).reshape(-1, 2, 2)
            lines.set_segments(ends)
            self._heads[inside].set_data(ends[:, 1, 0], ends[:, 1, 1])


class DecibelsTried:
    """The signal-to-noise ratio over the clip: what was tried so far, and the present point."""

    def __init__(self, ax: Axes, *, highest: float) -> None:
        """Prepare ``ax`` up to ``highest`` decibels."""
        with styled():
            ax.set(xlim=(0, 1.04), ylim=(0, highest))
        now = {"color": COLORS["vermilion"], "markersize": 8, "markeredgecolor": "white", "label": "now"}
        self._tried = ax.plot([], [], "o", color=VALUE, markersize=4, label="this grid")[0]
        self._others = ax.plot([], [], ".", color="#b4b9bf", markersize=6, label="others")[0]
        self._now = ax.plot([], [], "D", **now)[0]
        self.artists = [self._others, self._tried, self._now]

    def show(self, tried: np.ndarray, others: np.ndarray, now: tuple[float, float]) -> None:
        """Show points of clip and decibels: shape (n, 2) each, and the present one."""
        self._tried.set_data(*tried.T)
        self._others.set_data(*others.T)
        self._now.set_data([now[0]], [now[1]])


class GridPanel:
    """The histogram of a layer's weights, and over it the numbers of its grid, or below it those of its grids.

    Attributes
    ----------
    artists : list of Artist
        What moves; register each with `LiveFigure.animate`.
    """

    def __init__(self, ax: Axes) -> None:
        """Prepare ``ax``."""
        self._ax, self._bars = ax, None
        self._one = ax.add_collection(LineCollection([], colors=COLORS["orange"], linewidths=1.0), autolim=False)
        # So fine a grid that its lines would run together.
        self._band = ax.add_patch(Rectangle((0, 0), 0, 0, facecolor=COLORS["orange"], alpha=0.25, linewidth=0))
        marks = {"markersize": 5, "markeredgewidth": 0.9, "clip_on": True}
        self._rows = ax.plot([], [], "|", color=COLORS["orange"], **marks)[0]
        self.artists = [self._band, self._one, self._rows]
        self.legend_handles = [
            Rectangle((0, 0), 1, 1, facecolor=BAR, edgecolor=VALUE, label="weights"),
            Line2D([], [], color=COLORS["orange"], label="numbers of the grid"),
        ]
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 0 else ""))

    def set_histogram(self, edges: np.ndarray, counts: np.ndarray) -> None:
        """Show other weights; what stands still changes."""
        if self._bars is not None:
            self._bars.remove()
        self._top = 1.06 * max(float(counts.max()), 1.0)
        with styled():
            self._bars = self._ax.stairs(counts, edges, fill=True, facecolor=BAR, edgecolor=VALUE, linewidth=0.6)
        reach = max(abs(edges[0]), abs(edges[-1]))
        self._ax.set(xlim=(-1.04 * reach, 1.04 * reach), ylim=(-0.52 * self._top, self._top))

    def show(self, grid: Grid | None) -> None:
        """Show a grid, or none."""
        x, y = (np.zeros(0), np.zeros(0)) if grid is None else grid_marks(grid, self._top)
        one = grid is not None and grid.scale.ndim == 0
        low = -0.52 * self._top if not one else 0.0
        lines = one and len(x) <= LEVELS_DRAWN
        self._one.set_segments([[(at, low), (at, self._top)] for at in x] if lines else [])
        self._band.set_bounds(*(x[0], low, x[-1] - x[0], self._top - low) if one and not lines else (0, 0, 0, 0))
        self._rows.set_data(([], []) if one else (x, y))
        bottom = low if grid is not None and not one else 0.0  # room for rows only where there are some
        if self._ax.get_ylim()[0] != bottom:
            self._ax.set_ylim(bottom, self._top)


class ErrorPanel:
    """One bar a layer for the decibels of its weights, and a mark for those of its inputs.

    Attributes
    ----------
    artists : list of Artist
        What moves; register each with `LiveFigure.animate`.
    """

    def __init__(self, ax: Axes, names: Sequence[str]) -> None:
        """Write the layers' names on ``ax``."""
        self._bars = set_layer_bars(ax, names, names_at="right")
        look = {"linestyle": "none", "markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.5}
        self._marks = ax.plot([], [], marker="D", color=COLORS["blue"], label="inputs", **look)[0]
        with styled():
            ax.set_xlim(0, NAMES_TO)
            ax.xaxis.set_major_locator(FixedLocator(np.arange(0, MOST_DECIBELS + 1, 10)))
            ax.xaxis.set_major_formatter(ScalarFormatter())
        self.artists = [self._bars, self._marks]
        bar = Rectangle((0, 0), 1, 1, facecolor=COLORS["orange"], alpha=0.4, label="weights")
        self.legend_handles = [bar, self._marks]

    def show(self, weights: Sequence[float], inputs: Sequence[float]) -> None:
        """Show decibels, one a layer; of a layer without an error (infinite) nothing is drawn."""
        half = BAR_HEIGHT / 2
        self._bars.set_verts(
            [
                [(0, place - half), (end, place - half), (end, place + half), (0, place + half)]
                for place, end in enumerate(np.clip(weights, 0, MOST_DECIBELS))
                if np.isfinite(weights[place])
            ]
        )
        known = np.isfinite(inputs)
        self._marks.set_data(np.clip(inputs, 0, MOST_DECIBELS)[known], np.flatnonzero(known))


class FilePanel(TriedPoints):
    """Accuracy over the share of the real network's file, and the best so far."""

    def __init__(self, ax: Axes, *, whole: float, goal: float) -> None:
        """Draw what stands still on ``ax``: the real network's accuracy, and from which accuracy on a file counts."""
        with styled():
            ax.set_xscale("log", base=2)
            ax.set_xlim(0.04, 1.12)
            ax.xaxis.set_major_locator(FixedLocator([1 / 16, 1 / 8, 1 / 4, 1 / 2, 1]))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}%"))
            draw_goal(ax, (0.04, 1.12), goal, whole=whole)
        star = {"color": COLORS["green"], "markersize": 21, "markeredgecolor": "white", "label": "best so far"}
        self._best = ax.plot([], [], "*", linestyle="none", **star)[0]
        super().__init__(ax)
        self.artists.insert(0, self._best)

    def show_best(self, share: float, accuracy: float) -> None:
        """Show the smallest file so far that reaches the goal."""
        self._best.set_data([share], [accuracy])


class NoisePanel:
    """Decibels over bits: the line of 6.02 dB a bit, curves of all ways to choose the range, and the present point.

    Attributes
    ----------
    artists : list of Artist
        What moves; register each with `LiveFigure.animate`.
    """

    def __init__(self, ax: Axes, *, bits: Sequence[int], line: Sequence[float], ways: int) -> None:
        """Draw the line on ``ax``, and prepare ``ways`` other curves."""
        with styled():
            ax.plot(bits, line, "--", color=MUTED, linewidth=1.2, label="6.02 dB a bit")
            ax.set(xlim=(bits[0] - 0.3, bits[-1] + 0.3), ylim=(0, line[-1] + 2))
            ax.xaxis.set_major_locator(FixedLocator(list(bits)))
        self._bits, self._top = bits, line[-1] + 1  # where nothing moves, decibels are infinite
        self._others = [ax.plot([], [], color="#c8ccd1", linewidth=1.0)[0] for _ in range(ways)]
        self._others[0].set_label("other ways")
        self._way = ax.plot([], [], "-o", color=COLORS["blue"], linewidth=1.4, markersize=4, label="this way")[0]
        now = {"color": COLORS["vermilion"], "markersize": 9, "markeredgecolor": "white", "label": "now"}
        self._now = ax.plot([], [], "D", **now)[0]
        self.artists = [*self._others, self._way, self._now]

    def show(self, way: Sequence[float], others: Sequence[Sequence[float]], now: tuple[int, float]) -> None:
        """Show decibels at all bits, of the present way and of the others, and the present point."""
        for line, decibels in zip([self._way, *self._others], [way, *others], strict=True):
            line.set_data(self._bits, np.minimum(decibels, self._top))
        self._now.set_data([now[0]], [min(now[1], self._top)])
