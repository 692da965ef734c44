"""The first slider a reader moves: gradient descent in a narrow valley."""

from __future__ import annotations

import numpy as np

from nnopt_lab.descent import descend
from nnopt_lab.plotting.style import COLORS, GRID, MUTED, tidy
from nnopt_lab.surfaces import quadratic
from nnopt_lab.widgets.controls import log_slider, slider
from nnopt_lab.widgets.explorer import Explorer, Outcome, explore
from nnopt_lab.widgets.live_figure import LiveFigure

VALLEY = quadratic(condition=25)
STEPS = 60
GOAL = 1e-6


def explore_step_size() -> Explorer:
    """Return an explorer of learning rate and momentum on a valley 25 times steeper across than along."""
    live = LiveFigure(
        columns=2,
        width_px=760,
        height_px=330,
        alt="Left: contours of a narrow valley and the path of gradient descent in it. "
        "Right: its loss by step, on a log scale.",
    )
    valley, curve = live.axes
    tidy(curve, log=True)
    valley.contour(*VALLEY.heights(), levels=np.geomspace(0.5, 150, 9), colors=GRID, linewidths=1.0, zorder=0)
    valley.plot(0, 0, "*", color=MUTED, markersize=10, linestyle="none")
    valley.set(xlim=VALLEY.window[0], ylim=VALLEY.window[1])
    valley.grid(False)
    live.describe(valley, title="The path (★ is the minimum)", x="along the valley", y="across")
    curve.set(xlim=(0, STEPS), ylim=(1e-12, 1e6))
    curve.axhline(GOAL, color=MUTED, linestyle="--", linewidth=1.2)
    curve.annotate("goal", (STEPS, GOAL), xytext=(0, 3), textcoords="offset points", ha="right", color=MUTED)
    live.describe(curve, title="Loss", x="step")
    path_line = live.animate(valley.plot([], [], "o-", color=COLORS["blue"], markersize=3.5, linewidth=1.2)[0])
    loss_line = live.animate(curve.plot([], [], "-", color=COLORS["blue"])[0])

    def update(learning_rate: float, momentum: float) -> Outcome:
        path = descend(VALLEY, ["momentum"], learning_rate=learning_rate, momentum=momentum, steps=STEPS)
        losses = path.losses[0, 0]
        path_line.set_data(*path.positions[0, 0].T)
        loss_line.set_data(np.arange(STEPS + 1), losses)
        steps = path.steps_until(GOAL)[0, 0]
        if np.isfinite(steps):
            return Outcome(
                f"The loss is below {GOAL:g} from step {steps:.0f} on. Can you do it in fewer?", goal_reached=True
            )
        end = losses[-1]
        if not end < losses[0]:
            return Outcome(f"The path diverges: after {STEPS} steps the loss is {end:.2g}. Smaller steps are needed.")
        return Outcome(f"After {STEPS} steps the loss is {end:.2g}.")

    return explore(
        live,
        update,
        controls={
            "learning_rate": log_slider("learning rate", low=0.001, high=0.2, value=0.02, steps_per_decade=30),
            "momentum": slider("momentum", low=0.0, high=0.95, value=0.0, step=0.01),
        },
        goal=f"bring the loss below {GOAL:g} within {STEPS} steps. No learning rate does it alone.",
    )
