"""A learning-rate schedule as a curve over its area, in a live figure."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon
from matplotlib.text import Text
from matplotlib.ticker import PercentFormatter

from nnopt_lab.plotting.style import COLORS, styled, tidy


def prepare_schedule(ax: Axes) -> None:
    """Set ``ax`` up for a schedule: the rate over the share of the run that is done."""
    tidy(ax)
    with styled():
        ax.set(xlim=(0, 1), ylim=(0, 1))
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def add_schedule(ax: Axes) -> tuple[Polygon, Line2D, Line2D, Line2D, Text]:
    """Return the area, the curve, the knots, the batch sizes and the words that `move_schedule` moves."""
    area = ax.add_patch(Polygon(np.zeros((3, 2)), facecolor=COLORS["sky"], alpha=0.3, edgecolor="none"))
    curve = ax.plot([], [], color=COLORS["blue"], linewidth=2.0, label="rate")[0]
    knots = ax.plot([], [], "o", color=COLORS["blue"], markersize=8, markeredgecolor="white", clip_on=False)[0]
    batch = ax.plot([], [], "--", color=COLORS["vermilion"], linewidth=1.6, label="batch, share of the largest")[0]
    words = ax.text(1.0, 1.03, "", transform=ax.transAxes, ha="right", color=COLORS["blue"], family="DejaVu Sans")
    return area, curve, knots, batch, words


def move_schedule(
    artists: tuple[Polygon, Line2D, Line2D, Line2D, Text],
    rates: np.ndarray,
    places: np.ndarray,
    knot_rates: np.ndarray,
    *,
    batch_shares: np.ndarray | None = None,
    words: str = "",
) -> None:
    """Show a schedule.

    Parameters
    ----------
    artists : tuple
        From `add_schedule`.
    rates : ndarray
        Shape (steps,): the rate of each of equally long steps.
    places, knot_rates : ndarray
        Shape (knots,): where the knots are, as shares of the run, and their rates.
    batch_shares : ndarray, optional
        Shape (steps,): the batch size of each step as a share of the largest; drawn up to the top of the axes.
    words : str
        Stand over the curve.
    """
    area, curve, knots, batch, said = artists
    ends = np.linspace(0, 1, len(rates) + 1)
    curve.set_data(ends, np.append(rates, rates[-1]))
    area.set_xy(np.column_stack([[0, *ends, 1], [0, *rates, rates[-1], 0]]))
    knots.set_data(places, knot_rates)
    said.set_text(words)
    batch.set_visible(batch_shares is not None)
    if batch_shares is not None:
        top = curve.axes.get_ylim()[1] / 1.08
        batch.set_data(ends, top * np.append(batch_shares, batch_shares[-1]))
