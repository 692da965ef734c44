"""Weights that share few values: the codebook over their histogram, and how k-means found it."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from nnopt_lab.plotting.quantization import BAR, VALUE
from nnopt_lab.plotting.style import COLORS, INK, MUTED, new_axes, styled, tidy
from nnopt_lab.sharing.shared import SharedLayer

CENTER = COLORS["vermilion"]


def draw_codebook(
    weight: Tensor,
    shared: SharedLayer,
    ax: Axes | None = None,
    *,
    before: SharedLayer | None = None,
    bins: int = 101,
    title: str = "",
) -> Axes:
    """Draw how many weights lie where, and the values that stand for them.

    Parameters
    ----------
    weight : Tensor
        Before it was shared.
    shared : SharedLayer
        Its codebook is drawn, the triangles on top.
    before : SharedLayer, optional
        Another codebook, such as that before fine-tuning, drawn dashed.
    """
    ax = ax or tidy(new_axes(width_px=820, height_px=320))
    flat = weight.detach().cpu().float().flatten().numpy()
    counts, edges = np.histogram(flat, bins=bins)
    top = 1.1 * max(counts.max(), 1)
    with styled():
        ax.stairs(counts, edges, fill=True, facecolor=BAR, edgecolor=VALUE, linewidth=0.6, label="weights")
        if before is not None:
            look = {"color": MUTED, "linewidth": 1.0, "linestyle": "--"}
            ax.vlines(before.codebook.tolist(), 0, 0.93 * top, **look, label="codebook before")
        values = shared.codebook.tolist()
        ax.vlines(values, 0, 0.97 * top, color=CENTER, linewidth=1.2)
        ax.plot(values, [0.97 * top] * len(values), "v", color=CENTER, markersize=6, label=f"{len(values)} values")
        ax.set(ylim=(0, top), xlabel="value", ylabel="how many", title=title)
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    return ax


class CodebookPanel:
    """The histogram of a layer's weights and the centers over it.

    Attributes
    ----------
    artists : list of Artist
        What moves; register each with `LiveFigure.animate`.
    """

    def __init__(self, ax: Axes) -> None:
        """Prepare ``ax``."""
        self._ax, self._bars = ax, None
        self._lines = ax.add_collection(LineCollection([], colors=CENTER, linewidths=1.1), autolim=False)
        look = {"linestyle": "none", "color": CENTER, "markersize": 6}
        self._heads = ax.plot([], [], marker="v", label="centers", **look)[0]
        self.artists = [self._lines, self._heads]
        self.legend_handles = [
            Rectangle((0, 0), 1, 1, facecolor=BAR, edgecolor=VALUE, label="weights"),
            Line2D([], [], marker="v", label="centers", **look),
        ]

    def set_histogram(self, edges: np.ndarray, counts: np.ndarray) -> None:
        """Show other weights; what stands still changes."""
        if self._bars is not None:
            self._bars.remove()
        self._top = 1.1 * max(float(counts.max()), 1.0)
        with styled():
            self._bars = self._ax.stairs(counts, edges, fill=True, facecolor=BAR, edgecolor=VALUE, linewidth=0.6)
        self._ax.set(xlim=(1.04 * edges[0], 1.04 * edges[-1]), ylim=(0, self._top))

    def show(self, centers: np.ndarray) -> None:
        """Show the centers, ascending."""
        self._lines.set_segments([[(at, 0), (at, 0.95 * self._top)] for at in centers])
        self._heads.set_data(centers, np.full(len(centers), 0.95 * self._top))


class PathPanel:
    """The way of each center over the rounds, and the round that is shown.

    Attributes
    ----------
    artists : list of Artist
        What moves; register each with `LiveFigure.animate`.
    """

    def __init__(self, ax: Axes) -> None:
        """Prepare ``ax``."""
        self._ax = ax
        self._paths = ax.add_collection(LineCollection([], colors="#9fc5de", linewidths=1.0), autolim=False)
        self._line = ax.plot([], [], color=INK, linewidth=1.0, linestyle="--")[0]
        self._now = ax.plot([], [], ".", color=CENTER, markersize=7)[0]
        self.artists = [self._paths, self._line, self._now]

    def set_reach(self, low: float, high: float) -> None:
        """Let the axis of values go from ``low`` to ``high``."""
        self._ax.set_ylim(low, high)

    def show(self, path: np.ndarray, shown: int) -> None:
        """Show a path, shape (rounds + 1, clusters), and where its centers stand after ``shown`` rounds."""
        rounds = np.arange(len(path))
        self._ax.set_xlim(-0.02 * len(path), 1.02 * max(len(path) - 1, 1))
        self._paths.set_segments([np.column_stack([rounds, center]) for center in path.T])
        self._line.set_data([shown, shown], self._ax.get_ylim())
        self._now.set_data(np.full(path.shape[1], shown), path[shown])
