"""What was measured in and about a network: confusion, values by layer, time by part, one change at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from nnopt_lab.plotting.style import COLORS, INK, new_axes, run_style, styled

if TYPE_CHECKING:
    from nnopt_lab.experiments.results import Summary

_HATCHES = ("", "//", "..", "xx", "\\\\")


def draw_confusion(matrix: Tensor, class_names: Sequence[str], ax: Axes | None = None, *, title: str = "") -> Axes:
    """Draw counts by true class (row) and predicted class (column); only mistakes are colored.

    Parameters
    ----------
    matrix : Tensor
        int64, shape (classes, classes).
    """
    ax = ax or new_axes(width_px=640, height_px=560)
    mistakes = matrix.clone().fill_diagonal_(0)
    largest = max(int(mistakes.max()), 1)
    with styled():
        ax.grid(False)
        ax.imshow(mistakes.numpy(), cmap="Oranges", vmin=0, vmax=largest)
        for row in range(len(matrix)):
            for column in range(len(matrix)):
                count = int(matrix[row, column])
                dark = row != column and count > 0.6 * largest
                if count:
                    color = "white" if dark else INK
                    ax.text(column, row, str(count), ha="center", va="center", fontsize=8.5, color=color)
        ax.set_xticks(range(len(class_names)), class_names, rotation=40, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(len(class_names)), class_names)
        ax.set_xlabel("predicted")
        ax.set_ylabel("true")
        ax.set_title(title)
    return ax


def draw_by_layer(
    groups: Mapping[str, Mapping[str, float]], ax: Axes | None = None, *, xlabel: str, title: str = ""
) -> Axes:
    """Draw one value a layer on a log scale, a color and marker a group: ``groups[group][layer]``."""
    names = list(next(iter(groups.values())))
    ax = ax or new_axes(width_px=760, height_px=90 + 32 * len(names))
    with styled():
        for index, (group, values) in enumerate(groups.items()):
            style = run_style(index)
            points = [values[name] for name in names]
            ax.plot(points, range(len(names)), style.marker, color=style.color, label=group, markersize=8)
        ax.set_xscale("log")
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_xlabel(xlabel)
        ax.set_title(title)
        if len(groups) > 1:
            ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    return ax


def draw_parts(
    parts: Mapping[str, Mapping[str, float]], ax: Axes | None = None, *, xlabel: str, title: str = ""
) -> Axes:
    """Draw horizontal bars stacked from parts, ``parts[bar][part]``; each part has a color and a hatch."""
    ax = ax or new_axes(width_px=820, height_px=110 + 48 * len(parts))
    left = dict.fromkeys(parts, 0.0)
    with styled():
        for index, part in enumerate(dict.fromkeys(name for values in parts.values() for name in values)):
            widths = [values.get(part, 0.0) for values in parts.values()]
            ax.barh(
                list(parts),
                widths,
                left=list(left.values()),
                height=0.62,
                color=run_style(index).color,
                hatch=_HATCHES[index % len(_HATCHES)],
                edgecolor="white",
                label=part,
            )
            for bar, width in zip(parts, widths, strict=True):
                left[bar] += width
        ax.set_yticks(range(len(parts)), list(parts))
        ax.invert_yaxis()
        ax.grid(False, axis="y")
        ax.set_xlabel(xlabel)
        ax.set_title(title)
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    return ax


def draw_conditions(
    summaries: Sequence[Summary], ax: Axes | None = None, *, xlabel: str = "test accuracy", title: str = ""
) -> Axes:
    """Draw the mean of each condition, top to bottom, with its 95% interval and its number.

    The axis begins where the first interval does: points, unlike bars, need no zero, and intervals room.
    """
    ax = ax or new_axes(width_px=820, height_px=100 + 36 * len(summaries))
    reaches = [0.0 if math.isnan(summary.half_width) else summary.half_width for summary in summaries]
    with styled():
        for row, (summary, reach) in enumerate(zip(summaries, reaches, strict=True)):
            ax.errorbar(summary.mean, row, xerr=reach or None, fmt="o", color=COLORS["blue"], capsize=4, markersize=6)
            end = (summary.mean + reach, row)
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            ax.annotate(f"{summary.mean:.1%}", end, xytext=(9, 0), textcoords="offset points", va="center", bbox=box)
        ax.set_yticks(range(len(summaries)), [summary.condition for summary in summaries])
        ax.set_ylim(len(summaries) - 0.5, -0.5)
        low = min(summary.mean - reach for summary, reach in zip(summaries, reaches, strict=True))
        high = max(summary.mean + reach for summary, reach in zip(summaries, reaches, strict=True))
        room = max(high - low, 0.02)
        ax.set_xlim(max(0.0, low - 0.08 * room), high + 0.18 * room)
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if room > 0.05 else 1))
        ax.set_xlabel(xlabel)
        ax.set_title(title)
    return ax
