"""A learning-rate schedule as a curve over its area, in a live figure."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon
from matplotlib.ticker import PercentFormatter

from nnopt_lab.plotting.style import COLORS, styled, tidy


def prepare_schedule(ax: Axes) -> None:
    """Set ``ax`` up for a schedule: the rate over the share of the run that is done."""
    tidy(ax)
    with styled():
        ax.set(xlim=(0, 1), ylim=(0, 1))
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def add_schedule(ax: Axes) -> tuple[Polygon, Line2D, Line2D]:
    """Return the area, the curve and the knots that `move_schedule` moves."""
    area = ax.add_patch(Polygon(np.zeros((3, 2)), facecolor=COLORS["sky"], alpha=0.3, edgecolor="none"))
    curve = ax.plot([], [], color=COLORS["blue"], linewidth=2.0)[0]
    knots = ax.plot([], [], "o", color=COLORS["blue"], markersize=8, markeredgecolor="white", clip_on=False)[0]
    return area, curve, knots


def move_schedule(
    artists: tuple[Polygon, Line2D, Line2D], rates: np.ndarray, places: np.ndarray, knot_rates: np.ndarray
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
    """
    area, curve, knots = artists
    ends = np.linspace(0, 1, len(rates) + 1)
    curve.set_data(ends, np.append(rates, rates[-1]))
    area.set_xy(np.column_stack([[0, *ends, 1], [0, *rates, rates[-1], 0]]))
    knots.set_data(places, knot_rates)
