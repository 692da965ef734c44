"""Surfaces from above, and the paths of optimizers on them; each function draws on the axes that it is given."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

from nnopt_lab.descent import Trajectories
from nnopt_lab.optimizers import RULES
from nnopt_lab.plotting.style import INK, MUTED, RunStyle, new_axes, run_style, styled, tidy
from nnopt_lab.surfaces import Surface, Window

LOW_TO_HIGH = LinearSegmentedColormap.from_list("low to high", ["#b9cbdd", "#dfe8f1", "#fbfcfd"])
"""Low ground is dark; all of it is light enough for any path to be seen."""

SHARES_BELOW = (0.0, 0.01, 0.03, 0.07, 0.13, 0.21, 0.31, 0.43, 0.56, 0.7, 0.85, 1.0)
"""Contours by the share of the picture that lies below them: any surface, steep or flat, shows its form."""

LOSS_RANGE = 1e-14, 1e14
DISTANCE_RANGE = 1e-15, 1e15
"""What log axes are given; what is below, or not a number, is moved to the edge."""

LOWEST_DRAWN = 1e-9
"""Log axes reach down to here at most; below lies rounding, or boredom."""

FAR = 1e3
"""A path is cut so many windows away: what follows is not seen, and may be infinite."""


def rule_style(name: str, index: int = 0) -> RunStyle:
    """Return the style of a rule, the same in every picture; paths of another name have that of their ``index``."""
    names = sorted(RULES, key="adamw".__eq__)  # last, so that it does not take a color from those seen most
    style = run_style(names.index(name) if name in names else len(names) + index)
    return replace(style, marker="<") if name == "adamw" else style  # else it looks like gradient descent on a surface


def draw_surface(surface: Surface, ax: Axes | None = None) -> Axes:
    """Draw ``surface`` from above: shades and contours over its window, and a star on every minimum."""
    ax = ax if ax is not None else new_axes(width_px=440, height_px=360)
    x, y, heights = surface.heights(80, 60)
    levels = np.unique(np.quantile(heights[np.isfinite(heights)], SHARES_BELOW))
    with styled():
        ax.grid(False)
        if len(levels) > 1:
            shades = np.linspace(0, 1, len(levels) - 1)
            bands = ax.contourf(x, y, heights, levels=levels, colors=LOW_TO_HIGH(shades), antialiased=True, zorder=0)
            bands.set(edgecolor="white", linewidth=0.8)  # the contours are the bands' edges: no second set to compute
        ax.plot(*surface.minima.T, "*", color=INK, markersize=11, markeredgecolor="white", linestyle="none", zorder=1)
        ax.set(xlim=surface.window[0], ylim=surface.window[1], xlabel="x", ylabel="y", title=surface.title)
    return ax


def draw_paths(trajectories: Trajectories, surface: Surface, ax: Axes | None = None, *, start: int = 0) -> Axes:
    """Draw the paths from one start over the surface from above; one that diverges goes to the edge and says so.

    Parameters
    ----------
    start : int
        Which of the starts.
    """
    ax = draw_surface(surface, ax)
    with styled():
        for index, name in enumerate(trajectories.names):
            style = rule_style(name, index)
            points, edge = path_to_edge(trajectories.positions[index, start], surface.window)
            ax.plot(*points.T, label=_title(name), markevery=marks_every(len(points)), **path_look(style))
            place_word(add_word(ax, style), edge if trajectories.diverged[index, start] else None, surface.window)
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return ax


def draw_losses(trajectories: Trajectories, surface: Surface, ax: Axes | None = None, *, start: int = 0) -> Axes:
    """Draw by step how far the losses are above the least one (the losses themselves if there is no least one)."""
    log = bool(np.isfinite(surface.minimum_loss))
    ax = _curves_axes(ax, log=log, title="Loss above the minimum" if log else "Loss")
    return _draw_curves(trajectories, ax, [losses_to_draw(losses[start], surface) for losses in trajectories.losses])


def draw_distances(trajectories: Trajectories, surface: Surface, ax: Axes | None = None, *, start: int = 0) -> Axes:
    """Draw by step how far the paths are from the nearest minimum."""
    ax = _curves_axes(ax, log=True, title="Distance to the minimum")
    apart = [distances_to_draw(positions[start], surface) for positions in trajectories.positions]
    return _draw_curves(trajectories, ax, apart)


def losses_to_draw(losses: np.ndarray, surface: Surface) -> np.ndarray:
    """Return ``losses`` above the surface's least one, within what a log axis can hold; nothing is left infinite."""
    if not np.isfinite(surface.minimum_loss):
        return np.clip(np.nan_to_num(losses, nan=LOSS_RANGE[1]), -LOSS_RANGE[1], LOSS_RANGE[1])
    return np.clip(np.nan_to_num(losses - surface.minimum_loss, nan=LOSS_RANGE[1]), *LOSS_RANGE)


def distances_to_draw(positions: np.ndarray, surface: Surface) -> np.ndarray:
    """Return the distances of ``positions``, shape (..., 2), to the minimum, within what a log axis can hold."""
    return np.clip(np.nan_to_num(surface.distance(positions), nan=DISTANCE_RANGE[1]), *DISTANCE_RANGE)


def decay_to_draw(first: float, factor: float, steps: int) -> np.ndarray:
    """Return the straight line on a log axis that shrinks (or grows) by ``factor`` a step from ``first``."""
    with np.errstate(over="ignore"):
        return np.clip(first * np.power(float(factor), np.arange(steps + 1)), *DISTANCE_RANGE)


def path_to_edge(points: np.ndarray, window: Window) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Return what of a path can be drawn, and where it leaves the window for good.

    Parameters
    ----------
    points : ndarray
        Shape (steps + 1, 2); may be infinite or NaN from some step on.

    Returns
    -------
    drawn : ndarray
        Shape (k, 2), finite: the points up to the first that is far outside.
    edge : tuple of float or None
        The point on the window's border; None if the path ends inside, or never was there.
    """
    lows, highs = np.transpose(window)
    middle, reach = (lows + highs) / 2, (highs - lows) / 2
    with np.errstate(over="ignore", invalid="ignore"):
        out = np.abs((points - middle) / reach).max(axis=1)  # above 1: outside; NaN: nowhere
    far = np.flatnonzero(~(out < FAR))
    drawn = points[: far[0] + 1] if len(far) else points
    if len(drawn) > 1 and not np.isfinite(drawn[-1]).all():
        drawn = drawn[:-1]
    inside = np.flatnonzero(out[: len(drawn)] <= 1)
    if not len(inside) or inside[-1] == len(drawn) - 1:
        return drawn, None
    here, there = ((point - middle) / reach for point in drawn[inside[-1] : inside[-1] + 2])
    step = there - here
    moves = step != 0
    share = ((np.sign(step) - here)[moves] / step[moves]).min()
    crossing = here + share * step
    return drawn, tuple((middle + reach * np.clip(crossing, -1, 1)).tolist())


def marks_every(points: int) -> int:
    """Return how many steps lie between markers, so that they do not hide the line."""
    return max(1, points // 40)


def path_look(style: RunStyle) -> dict[str, object]:
    """Return how a path is drawn: by color and marker."""
    return {
        "color": style.color,
        "marker": style.marker,
        "markersize": 4.0,
        "markeredgecolor": "white",
        "markeredgewidth": 0.4,
        "linewidth": 1.3,
    }


def end_look(style: RunStyle) -> dict[str, object]:
    """Return how the point that a path has reached is drawn."""
    return {**path_look(style), "linestyle": "none", "markersize": 8.0, "markeredgewidth": 1.0}


def legend_look(name: str, index: int = 0) -> Line2D:
    """Return what stands for a path in a legend: its line as in the curves, its marker as on the surface."""
    style = rule_style(name, index)
    return Line2D([], [], color=style.color, linestyle=style.line_style, marker=style.marker, label=_title(name))


def add_word(ax: Axes, style: RunStyle) -> Annotation:
    """Return the word that `place_word` moves; it is hidden at first."""
    return ax.annotate(
        "diverges",
        (0, 0),
        xytext=(0, 0),
        textcoords="offset points",
        color=style.color,
        fontsize=8,
        fontweight="bold",
        bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
        visible=False,
    )


def place_word(word: Annotation, edge: tuple[float, float] | None, window: Window) -> None:
    """Put ``word`` beside ``edge``, where its path diverges, on the inner side; None hides it."""
    word.set_visible(edge is not None)
    if edge is not None:
        right, upper = (place > sum(ends) / 2 for place, ends in zip(edge, window, strict=True))
        word.xy = edge
        word.set_position((-4 if right else 4, -4 if upper else 4))
        word.set(ha="right" if right else "left", va="top" if upper else "bottom")


def clear_still(ax: Axes) -> None:
    """Take away all that stands still on ``ax``, and leave what moves."""
    for artist in [*ax.collections, *ax.lines, *ax.texts]:
        if artist.axes is not None and not artist.get_animated():  # contours take their labels along
            artist.remove()


def prepare_curves(losses: Axes, distances: Axes, *, surface: Surface, goal: float) -> None:
    """Set axes up for the losses and distances of paths on ``surface``; those set up before are changed where needed.

    Parameters
    ----------
    goal : float
        How far above the least loss a line is drawn.
    """
    lows, highs = np.transpose(surface.window)
    heights = surface.heights(40, 30)[2]
    log = bool(np.isfinite(surface.minimum_loss))
    if losses.get_yscale() != ("log" if log else "linear") or distances.get_yscale() != "log":
        _curves_axes(losses, log=log, title="Loss above the minimum" if log else "Loss")
        _curves_axes(distances, log=True, title="Distance to the minimum")
    clear_still(losses)
    distances.set_ylim(1e-3, _decade_above(float(np.hypot(*(highs - lows)))))
    if not log:
        losses.set_ylim(float(heights.min()), float(heights.max()))
        return
    losses.set_ylim(goal / 10, _decade_above(float(heights.max()) - surface.minimum_loss))
    losses.axhline(goal, color=MUTED, linestyle=(0, (6, 3)), linewidth=1.2)
    # Outside, beside the line: within the axes a curve would strike it through.
    beside = {"xytext": (3, 0), "textcoords": "offset points", "color": MUTED, "fontsize": 9, "va": "center"}
    losses.annotate("goal", (1, goal), xycoords=("axes fraction", "data"), family="DejaVu Sans", **beside)


def _decade_above(value: float) -> float:
    return 10.0 ** math.ceil(math.log10(value))


def _title(name: str) -> str:
    return RULES[name].title if name in RULES else name


def _curves_axes(ax: Axes | None, *, log: bool, title: str) -> Axes:
    ax = ax if ax is not None else new_axes(width_px=440, height_px=300)
    ax.set_ylim(0.1, 1.0)  # positive, whatever the scale was before
    ax.set_yscale("log" if log else "linear")
    ax.set_autoscaley_on(True)
    tidy(ax, log=log)
    with styled():
        ax.set_title(title)
        ax.set_xlabel("step")
    return ax


def _draw_curves(trajectories: Trajectories, ax: Axes, curves: list[np.ndarray]) -> Axes:
    with styled():
        for index, (name, curve) in enumerate(zip(trajectories.names, curves, strict=True)):
            style = rule_style(name, index)
            ax.plot(curve, style.line_style, color=style.color, label=_title(name))
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return ax
