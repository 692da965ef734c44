"""One gradient, clipped by value and by norm: which of them turns it, and how far."""

from __future__ import annotations

import math

import numpy as np

from nnopt_lab.gradient_transforms import angle_degrees, clip_by_norm, clip_by_value, standardize_gradient
from nnopt_lab.plotting import clipping as drawing
from nnopt_lab.widgets.controls import slider
from nnopt_lab.widgets.explorer import Explorer, Outcome, explore
from nnopt_lab.widgets.live_figure import LiveFigure

LIMITS = np.linspace(0.05, 5.5, 56)
GOAL_DEGREES = 40


def explore_clipping(*, state: str | None = None) -> Explorer:
    """Return an explorer of one gradient of two parameters and of what clipping makes of it.

    Left: the gradient, clipped by value, clipped by norm, and standardized (less its mean, over its deviation: a
    mistake). Right: the angle by which clipping turns it, over the limit.

    Parameters
    ----------
    state : str, optional
        Where the controls start, as `Explorer.state` returns it or a part of it, as in ``"x=4 y=1 limit=1"``.

    Raises
    ------
    ValueError
        If ``state`` has a name or value that does not exist.
    """
    live = LiveFigure(
        columns=2,
        widths=(1.05, 1.0),
        width_px=820,
        height_px=400,
        alt="Left: a gradient as an arrow, clipped by value into a square and by norm into a circle. "
        "Right: the angle by which each turns it, over the clip limit.",
    )
    arrows_axes, turning = live.axes
    drawing.prepare_clipping(arrows_axes)
    drawing.prepare_turning(turning)
    live.describe(arrows_axes, title="The gradient, clipped", x="∂J/∂x", y="∂J/∂y")
    live.describe(turning, title="Turned by (degrees)", x="clip limit")
    shapes = [live.animate(shape) for shape in drawing.clip_shapes(arrows_axes)]
    arrows = {name: live.animate(drawing.add_arrow(arrows_axes, name)) for name in drawing.LOOKS}
    lines = {
        name: live.animate(turning.plot([], [], label=name, **drawing.LOOKS[name])[0])
        for name in ("clipped by value", "clipped by norm")
    }
    points = {
        name: live.animate(turning.plot([], [], "o", color=drawing.LOOKS[name]["color"], markersize=8)[0])
        for name in lines
    }
    live.legend(turning)
    named = [turning.plot([], [], label=name, **drawing.LOOKS[name])[0] for name in ("gradient", "standardized")]
    live.legend(arrows_axes, handles=named)

    def update(x: float, y: float, limit: float) -> Outcome:
        gradient = np.array([x, y])
        clips = {"clipped by value": clip_by_value, "clipped by norm": clip_by_norm}
        vectors = {"gradient": gradient, "standardized": standardize_gradient()(gradient)}
        vectors |= {name: clip(limit)(gradient) for name, clip in clips.items()}
        for shape in shapes:
            drawing.set_limit(shape, limit)
        for name, arrow in arrows.items():
            drawing.point_arrow(arrow, vectors[name])
        turned = {name: float(angle_degrees(gradient, vector)) for name, vector in vectors.items()}
        for name, clip in clips.items():
            lines[name].set_data(LIMITS, [angle_degrees(gradient, clip(at)(gradient)) for at in LIMITS])
            points[name].set_data([limit], [turned[name]])
        if not gradient.any():
            return Outcome("A gradient of zero has no direction that could be turned.")
        by_value, by_norm = vectors["clipped by value"], vectors["clipped by norm"]
        return Outcome(
            f"By value: ({by_value[0]:.2f}, {by_value[1]:.2f}), turned by {turned['clipped by value']:.1f}°. "
            f"By norm: ({by_norm[0]:.2f}, {by_norm[1]:.2f}), turned by {turned['clipped by norm']:.1f}°.\n"
            + _standardized(turned["standardized"]),
            goal_reached=turned["clipped by value"] >= GOAL_DEGREES,
        )

    return explore(
        live,
        update,
        controls={
            "x": slider("∂J/∂x", low=-5.0, high=5.0, value=4.0, step=0.1, digits=1),
            "y": slider("∂J/∂y", low=-5.0, high=5.0, value=1.5, step=0.1, digits=1),
            "limit": slider("clip limit", low=0.05, high=5.0, value=2.0, step=0.05),
        },
        goal=f"turn the gradient by at least {GOAL_DEGREES}° by clipping its values. Can clipping its norm turn it?",
        call="explore_clipping(",
        state=state,
    )


def _standardized(degrees: float) -> str:
    if math.isnan(degrees):
        return "Standardized (less the mean, over the deviation): 0/0, since both numbers are the same."
    return f"Standardized (less the mean, over the deviation): turned by {degrees:.1f}°, and always a diagonal."
