"""Curvatures at random critical points, how many of the points are minima, and the gradient's length near one."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Polygon
from matplotlib.text import Text

from nnopt_lab.plotting.style import COLORS, INK, MUTED, styled, tidy

EDGES = np.linspace(-2.0, 3.2, 53)
"""Of the histogram; 0 is one of them, so that no bar is up and down at once."""

LENGTHS = 1e-6, 1e3
"""What is drawn of the gradient's length."""


def prepare_curvatures(ax: Axes) -> Axes:
    """Set ``ax`` up for a histogram of curvatures, with a line where down turns into up."""
    tidy(ax)
    with styled():
        ax.set(xlim=(EDGES[0], EDGES[-1]), ylim=(0, 10))
        ax.axvline(0, color=INK, linewidth=1.2)
        for at, ha, word in ((-0.06, "right", "← down"), (0.06, "left", "up →")):
            ax.text(at, 9.8, word, ha=ha, va="top", fontsize=8, color=MUTED)
    return ax


def add_bars(ax: Axes) -> tuple[Polygon, Polygon]:
    """Return the histogram's part below 0 and its part above, to be shaped by `shape_bars`."""
    looks = (("vermilion", "///"), ("blue", ""))
    return tuple(  # type: ignore[return-value]
        ax.add_patch(
            Polygon([(0, 0)], facecolor=COLORS[color], edgecolor="white", linewidth=0, hatch=hatch, alpha=0.85)
        )
        for color, hatch in looks
    )


def shape_bars(bars: tuple[Polygon, Polygon], shares: np.ndarray) -> None:
    """Give the histogram its heights: ``shares`` between each of `EDGES` and the next."""
    for bar, side in zip(bars, (EDGES[1:] <= 1e-9, EDGES[:-1] >= -1e-9), strict=True):
        lefts, rights, heights = EDGES[:-1][side], EDGES[1:][side], 100 * shares[side]
        x = np.concatenate([[lefts[0]], np.stack([lefts, rights], axis=1).ravel(), [rights[-1]]])
        bar.set_xy(np.stack([x, np.concatenate([[0.0], np.repeat(heights, 2), [0.0]])], axis=1))


def prepare_shares(ax: Axes, dimensions: tuple[int, ...]) -> Axes:
    """Set ``ax`` up for percentages over the number of dimensions."""
    tidy(ax)
    with styled():
        ax.set_xscale("log")
        ax.set(xlim=(dimensions[0] / 1.3, dimensions[-1] * 1.3), ylim=(-4, 104))
        ax.set_xticks([10, 100, 1000], ["10", "100", "1,000"])
        ax.minorticks_off()
    return ax


def prepare_lengths(ax: Axes, steps: int) -> tuple[Axes, Text]:
    """Set ``ax`` up for the gradient's length by step; the word says that it leaves the picture."""
    tidy(ax, log=True)
    with styled():
        ax.set(xlim=(0, steps), ylim=LENGTHS)
        word = ax.text(0, LENGTHS[1] * 0.5, "", color=COLORS["vermilion"], va="top", fontsize=8)
    return ax, word


def draw_lengths_to_edge(lengths: np.ndarray, word: Text) -> np.ndarray:
    """Return ``lengths`` within reach of the axes, and put ``word`` where they leave it upward."""
    leaves = np.flatnonzero(lengths > LENGTHS[1])
    word.set_text("leaves ↑" if len(leaves) else "")
    if len(leaves):
        room_right = leaves[0] < len(lengths) / 2
        word.set_x(leaves[0] + (len(lengths) if room_right else -len(lengths)) / 40)
        word.set_ha("left" if room_right else "right")
    return np.clip(lengths, LENGTHS[0] / 10, LENGTHS[1] * 10)
