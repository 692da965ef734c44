"""What pruning takes away: a matrix before and after, histograms of weights, layers, the schedule of a run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from nnopt_lab.plotting.style import COLORS, INK, MUTED, new_axes, new_figure, styled, tidy
from nnopt_lab.pruning.gradual import cubic_slope, cubic_sparsity

NEGATIVE_TO_POSITIVE = LinearSegmentedColormap.from_list("negative to positive", ["#D55E00", "#f7f5f0", "#0072B2"])
KEPT, REMOVED = COLORS["blue"], COLORS["orange"]
HATCH = "////"
"""On what is removed, so that it is not told by its color alone."""


def draw_matrix(
    matrix: ArrayLike,
    ax: Axes | None = None,
    *,
    kept: ArrayLike | None = None,
    limit: float | None = None,
    title: str = "",
) -> Axes:
    """Draw a matrix as cells with their numbers; negative is orange, positive blue, removed white and hatched.

    Parameters
    ----------
    matrix : array
        Shape (rows, columns).
    kept : bool array, optional
        Of the same shape; where it is False, a hatched 0 stands instead of the number. Default: all kept.
    limit : float, optional
        The size of a number that has the full color; by default that of the largest.
    """
    values = np.asarray(matrix, dtype=float)
    shown = np.ones(values.shape, bool) if kept is None else np.asarray(kept, dtype=bool)
    rows, columns = values.shape
    ax = ax or new_axes(width_px=60 + 54 * columns, height_px=60 + 44 * rows)
    limit = limit or float(np.abs(values).max()) or 1.0
    with styled():
        ax.grid(False)
        colored = np.ma.masked_where(~shown, values)
        ax.imshow(colored, cmap=NEGATIVE_TO_POSITIVE, vmin=-limit, vmax=limit, aspect="auto")
        for row, column in np.ndindex(values.shape):
            value = values[row, column]
            if shown[row, column]:
                color = "white" if abs(value) > 0.62 * limit else INK
                ax.text(column, row, f"{value:.2f}".replace("-", "−"), ha="center", va="center", color=color)
            else:
                _hatch(ax, row, column)
                box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
                ax.text(column, row, "0", ha="center", va="center", color=MUTED, bbox=box)
        ax.set_xticks(range(columns), [str(column + 1) for column in range(columns)])
        ax.set_yticks(range(rows), [str(row + 1) for row in range(rows)])
        ax.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
        ax.grid(True, which="minor", color="white", linewidth=2)
        ax.tick_params(which="both", length=0)
        for spine in ax.spines.values():
            spine.set_visible(False)
        ax.set_xlabel("input")
        ax.set_ylabel("output")
        ax.set_title(title)
    return ax


def draw_before_and_after(
    matrix: ArrayLike, kept: ArrayLike, *, titles: tuple[str, str] = ("before", "after")
) -> Figure:
    """Draw a matrix whole and, beside it, what a mask keeps of it; see `draw_matrix`."""
    values, shown = np.asarray(matrix, dtype=float), np.asarray(kept, dtype=bool)
    rows, columns = values.shape
    figure = new_figure(width_px=2 * (60 + 54 * columns), height_px=64 + 44 * rows)
    figure.set_layout_engine("constrained")
    figure.set_label(
        f"A matrix of {rows} × {columns} numbers {titles[0]} and {titles[1]}: {int((~shown).sum())} became 0."
    )
    with styled():
        left, right = figure.subplots(1, 2)
    draw_matrix(values, left, title=titles[0])
    draw_matrix(values, right, kept=shown, limit=float(np.abs(values).max()) or None, title=titles[1])
    return figure


def draw_weight_histogram(
    weights: ArrayLike,
    kept: ArrayLike | None = None,
    ax: Axes | None = None,
    *,
    threshold: float | None = None,
    bins: int = 61,
    title: str = "",
) -> Axes:
    """Draw how many weights have which value; what is removed is stacked upon what is kept, hatched.

    Parameters
    ----------
    weights : array
        Of any shape.
    kept : bool array, optional
        Of the same shape. Default: all kept.
    threshold : float, optional
        Marked by a line on either side of 0.
    """
    ax = ax or tidy(new_axes(width_px=560, height_px=320))
    values = np.asarray(weights, dtype=float).ravel()
    shown = np.ones(len(values), bool) if kept is None else np.asarray(kept, dtype=bool).ravel()
    # A few far weights would press all others into the middle.
    reach = float(np.quantile(np.abs(values), 0.999)) * 1.05 or 1.0
    outside = float((np.abs(values) > reach).mean())
    edges = np.linspace(-reach, reach, bins + 1)
    with styled():
        looks = [{"facecolor": KEPT, "label": "kept"}]
        parts = [np.histogram(values[shown], edges)[0]]
        if not shown.all():
            looks.append({"facecolor": "white", "edgecolor": REMOVED, "hatch": HATCH, "label": "removed"})
            parts.append(np.histogram(values[~shown], edges)[0])
        base = np.zeros(bins)
        for part, look in zip(parts, looks, strict=True):
            ax.stairs(base + part, edges, baseline=base, fill=True, linewidth=0.6, **look)
            base = base + part
        if threshold is not None:
            for side, label in ((-1, "threshold"), (1, None)):
                ax.axvline(side * threshold, color=INK, linewidth=1.3, linestyle="--", label=label)
        ax.set_xlim(-reach, reach)
        ax.set_ylim(0, 1.06 * max(base.max(), 1))
        ax.set_xlabel(f"weight ({outside:.2%} lie farther out)" if outside else "weight")
        ax.set_ylabel("how many")
        ax.set_title(title)
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    return ax


def draw_sparsity_by_layer(
    sparsities: Mapping[str, float],
    ax: Axes | None = None,
    *,
    weights: Mapping[str, int] | None = None,
    title: str = "Share of the weights that is removed",
) -> Axes:
    """Draw one bar a layer, first layer on top, with its share of zeros as a number.

    Parameters
    ----------
    sparsities : mapping
        By layer, 0–1.
    weights : mapping, optional
        How many weights each layer has, written behind its name.
    """
    ax = ax or tidy(new_axes(width_px=680, height_px=80 + 19 * len(sparsities)))
    places = range(len(sparsities))
    names = [f"{name}  ({weights[name]:,})" if weights else name for name in sparsities]
    with styled():
        ax.barh(places, list(sparsities.values()), height=0.72, color=COLORS["sky"], edgecolor=KEPT, linewidth=0.6)
        for place, share in zip(places, sparsities.values(), strict=True):
            ax.annotate(f"{share:.0%}", (share, place), xytext=(4, 0), textcoords="offset points", va="center")
        ax.set_yticks(places, names)
        ax.set_ylim(len(sparsities) - 0.4, -0.6)
        ax.grid(False, axis="y")
        ax.set_xlim(0, 1.08)
        ax.set_xticks(np.linspace(0, 1, 6))
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        ax.set_title(title)
    return ax


def draw_cubic_schedule(*, initial: float = 0.0, final: float, begin: float = 0.0, end: float = 1.0) -> Figure:
    """Draw the cubic schedule of Zhu & Gupta (2017) over the run: the sparsity, and its derivative beside it."""
    figure = new_figure(width_px=820, height_px=300)
    figure.set_layout_engine("constrained")
    figure.set_label(
        f"The cubic schedule from {initial:.0%} to {final:.0%}: steep at first, flat at its end; beside it its slope."
    )
    progress = np.linspace(0, 1, 401)
    sparsities, slopes = (
        function(progress, initial=initial, final=final, begin=begin, end=end)
        for function in (cubic_sparsity, cubic_slope)
    )
    with styled():
        left, right = (tidy(ax) for ax in figure.subplots(1, 2))
        left.plot(progress, sparsities, color=COLORS["blue"])
        left.axhline(final, color=MUTED, linewidth=1, linestyle="--")
        left.text(0.02, final, f"target {final:.0%}", va="bottom", color=MUTED)
        left.set(ylim=(0, 1.02), title="Sparsity", yticks=np.linspace(0, 1, 6))
        left.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        right.plot(progress, slopes, color=COLORS["vermilion"])
        right.set(ylim=(0, 1.06 * max(slopes.max(), 1e-9)), title="Its slope: share removed per whole run")
        for ax in (left, right):
            ax.axvspan(begin, end, color=COLORS["sky"], alpha=0.15, linewidth=0)
            ax.set_xlim(0, 1)
            ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            ax.set_xlabel("share of the run that is done")
    return figure


def _hatch(ax: Axes, row: int, column: int) -> None:
    ax.add_patch(
        Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor="white", edgecolor="#c4c7cb", hatch=HATCH, linewidth=0)
    )
