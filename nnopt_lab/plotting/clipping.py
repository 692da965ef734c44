"""One gradient and what clipping makes of it, as arrows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle

from nnopt_lab.plotting.style import COLORS, INK, MUTED, new_axes, styled, tidy

LOOKS: dict[str, dict[str, object]] = {
    "gradient": {"color": INK, "linestyle": "-", "linewidth": 1.4},
    "clipped by value": {"color": COLORS["vermilion"], "linestyle": "-", "linewidth": 2.4},
    "clipped by norm": {"color": COLORS["blue"], "linestyle": "-", "linewidth": 2.4},
    "standardized": {"color": COLORS["purple"], "linestyle": ":", "linewidth": 2.0},
}
"""Of each arrow, by its name."""

REACH = 5.5


def draw_clipping(vectors: Mapping[str, np.ndarray], limit: float, ax: Axes | None = None) -> Axes:
    """Draw vectors from the origin, and the square and the circle that clipping keeps them in.

    Parameters
    ----------
    vectors : mapping
        Shape (2,), by a name of `LOOKS`.
    limit : float
        Half the square's side and the circle's radius.
    """
    ax = prepare_clipping(ax if ax is not None else new_axes(width_px=420, height_px=380))
    for artist in clip_shapes(ax):
        set_limit(artist, limit)
    for name, vector in vectors.items():
        point_arrow(add_arrow(ax, name), vector)
    with styled():
        ax.legend(handles=[ax.plot([], [], label=name, **LOOKS[name])[0] for name in vectors], loc="upper left")
    return ax


def prepare_clipping(ax: Axes) -> Axes:
    """Set ``ax`` up for arrows: one unit is as long across as up."""
    tidy(ax)
    with styled():
        ax.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal")
        ax.set_title("The gradient, clipped")
        ax.set_xlabel("∂J/∂x")
        ax.set_ylabel("∂J/∂y")
    return ax


def clip_shapes(ax: Axes) -> list[Rectangle | Circle]:
    """Return a square and a circle on ``ax``, to be sized by `set_limit`."""
    square = Rectangle((0, 0), 0, 0, fill=False, edgecolor=LOOKS["clipped by value"]["color"], linestyle="--")
    circle = Circle((0, 0), 0, fill=False, edgecolor=LOOKS["clipped by norm"]["color"], linestyle="--")
    return [ax.add_patch(shape) for shape in (square, circle)]


def set_limit(shape: Rectangle | Circle, limit: float) -> None:
    """Give the square or the circle its size."""
    if isinstance(shape, Circle):
        shape.set_radius(limit)
    else:
        shape.set_bounds(-limit, -limit, 2 * limit, 2 * limit)


def add_arrow(ax: Axes, name: str) -> FancyArrowPatch:
    """Return an arrow from the origin, to be pointed by `point_arrow`."""
    return ax.add_patch(
        FancyArrowPatch((0, 0), (0, 0), arrowstyle="-|>", mutation_scale=13, shrinkA=0, shrinkB=0, **LOOKS[name])
    )


def point_arrow(arrow: FancyArrowPatch, vector: np.ndarray) -> None:
    """Let ``arrow`` point at ``vector``; what has no direction is not drawn."""
    arrow.set_visible(bool(np.isfinite(vector).all() and np.any(vector)))
    if arrow.get_visible():
        arrow.set_positions((0, 0), tuple(vector))


def prepare_turning(ax: Axes) -> Axes:
    """Set ``ax`` up for the angle by which clipping turns a gradient, over the limit."""
    tidy(ax)
    with styled():
        ax.set(xlim=(0, REACH), ylim=(-2, 47))
        ax.axhline(45, color=MUTED, linestyle=(0, (6, 3)), linewidth=1.2)
        ax.annotate(
            "of two numbers: never more than 45°",
            (REACH, 45),
            xytext=(0, -11),
            textcoords="offset points",
            ha="right",
            color=MUTED,
        )
        ax.set_title("Turned by (degrees)")
        ax.set_xlabel("clip limit")
    return ax
