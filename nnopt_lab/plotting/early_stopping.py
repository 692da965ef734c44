"""A run that over-fits, and where early stopping ends it, on axes that a live figure redraws."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from nnopt_lab.plotting.style import COLORS, GRID, MUTED, styled

if TYPE_CHECKING:
    from nnopt_lab.training.early_stopping import EarlyStop, WatchedRun

ROOM = 1.12, 1.5
"""Over the largest loss and accuracy."""


class StoppingPanels:
    """The loss and the accuracy of a run, up to where a rule stops it and beyond.

    Attributes
    ----------
    artists : list of Artist
        What moves; register each with `LiveFigure.animate`.
    handles : list of Line2D or Rectangle
        For the legends of the loss and of the accuracy: of what moves, and what stands still.
    """

    def __init__(self, loss: Axes, accuracy: Axes, run: WatchedRun) -> None:
        """Draw on the two axes what does not depend on the rule."""
        self._epochs = run.epochs
        self._values = run.losses, np.array([measured.accuracy for measured in run.validation])
        self._curves: list[Line2D] = []
        self._stars: list[Line2D] = []
        self._ends: list[Line2D] = []
        self._saved: list[Rectangle] = []
        highest = max(run.losses.max(), run.training_losses.max())
        most_right = min(1.0, ROOM[1] * max(self._values[1].max(), 0.1))
        with styled():
            loss.set(xlim=(0, run.epochs[-1]), ylim=(0, ROOM[0] * highest))
            accuracy.set(xlim=(0, run.epochs[-1]), ylim=(0, most_right))
            accuracy.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            self._training = loss.plot(
                run.epochs, run.training_losses, "--", color=COLORS["orange"], label="training loss"
            )[0]
            for ax, values in zip((loss, accuracy), self._values, strict=True):
                ax.plot(run.epochs, values, ".-", color=MUTED, linewidth=0.8, markersize=4, alpha=0.6)
                top = ax.get_ylim()[1]
                look = {"facecolor": GRID, "alpha": 0.45, "hatch": "//", "edgecolor": "white", "linewidth": 0}
                self._saved.append(ax.add_patch(Rectangle((0, 0), 0, top, label="not trained", **look)))
                self._curves.append(
                    ax.plot([], [], "o-", color=COLORS["blue"], markersize=4, label="validation", clip_on=False)[0]
                )
                self._ends.append(ax.plot([], [], ":", color=COLORS["vermilion"], linewidth=2, label="stops")[0])
                self._stars.append(
                    ax.plot(
                        [], [], "*", color=COLORS["vermilion"], markersize=15, markeredgecolor="white",
                        label="weights kept", clip_on=False, zorder=5,
                    )[0]
                )  # fmt: skip
        self.artists: list[Artist] = [*self._saved, *self._curves, *self._ends, *self._stars]
        self.handles = [self._curves[0], self._training], [self._stars[1], self._ends[1], self._saved[1]]

    def show(self, stop: EarlyStop) -> None:
        """Show where the run ends."""
        last = self._epochs[stop.made - 1]
        for values, curve, star, end, saved in zip(
            self._values, self._curves, self._stars, self._ends, self._saved, strict=True
        ):
            curve.set_data(self._epochs[: stop.made], values[: stop.made])
            star.set_data([self._epochs[stop.kept]], [values[stop.kept]])
            end.set_data([last, last], [0, saved.get_height()])
            saved.set_x(last)
            saved.set_width(self._epochs[-1] - last)
