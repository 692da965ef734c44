"""Accuracies with their intervals, over anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from nnopt_lab.plotting.style import BESIDE, MUTED, new_axes, run_style, styled, tidy


def draw_accuracies(
    points: Mapping[str, Sequence[tuple[float, float, float, float]]],
    ax: Axes | None = None,
    *,
    reference: float | None = None,
    reference_name: str = "reference",
    xlabel: str = "",
    ylabel: str = "accuracy",
    title: str = "",
) -> Axes:
    """Draw accuracies with their intervals, a marker and line a method.

    Parameters
    ----------
    points : mapping
        By method: (place on the x-axis, accuracy, low, high) of each measurement, accuracies 0–1.
    reference : float, optional
        An accuracy to compare with, drawn as a line under ``reference_name``.
    """
    ax = ax or tidy(new_axes(width_px=820, height_px=350))
    with styled():
        if reference is not None:
            label = f"{reference_name}: {reference:.1%}"
            ax.axhline(reference, color=MUTED, linewidth=1.2, linestyle="--", label=label)
        for index, (name, rows) in enumerate(points.items()):
            style = run_style(index)
            x, y, low, high = np.asarray(sorted(rows), dtype=float).T
            ax.errorbar(
                x,
                y,
                yerr=np.stack([y - low, high - y]).clip(min=0),
                fmt=style.marker,
                linestyle=style.line_style,
                linewidth=1.2,
                color=style.color,
                capsize=3,
                markersize=6,
                label=name,
            )
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
        ax.set_xlabel(xlabel)
        ax.set_ylabel(ylabel)
        ax.set_title(title)
        ax.legend(**BESIDE)
    return ax
