"""Momentum's phase diagram, with the present point on it and the path beside it."""

from __future__ import annotations

import numpy as np

from nnopt_lab.descent import descend
from nnopt_lab.momentum import best_rate_and_momentum, slowest_factor
from nnopt_lab.plotting import descent as drawing
from nnopt_lab.plotting.momentum import MOST_MOMENTUM, draw_phase_diagram
from nnopt_lab.plotting.style import COLORS, INK, styled, tidy
from nnopt_lab.surfaces import quadratic
from nnopt_lab.widgets.controls import choice, slider
from nnopt_lab.widgets.explorer import Explorer, Outcome, explore
from nnopt_lab.widgets.live_figure import LiveFigure

CONDITIONS = (1, 2, 5, 10, 25, 100)
STEPS = 100
CLOSE = 0.02
"""A factor counts as the best one when it is at most so much larger: what the sliders can tell apart."""


def explore_momentum(*, state: str | None = None) -> Explorer:
    """Return an explorer of rate and momentum on a quadratic valley.

    Left: the closed-form convergence factor (Polyak, 1964) over rate and momentum, and the present point. Middle: the
    path of the heavy ball. Right: its distance to the minimum, and the slope that the closed form predicts.

    Parameters
    ----------
    state : str, optional
        Where the controls start, as `Explorer.state` returns it or a part of it, as in ``"condition=25 momentum=0.6"``.

    Raises
    ------
    ValueError
        If ``state`` has a name or value that does not exist.
    """
    live = LiveFigure(
        columns=3,
        widths=(1.25, 1.0, 1.0),
        width_px=900,
        height_px=350,
        alt="Left: momentum's phase diagram with the present point. Middle: the path of the heavy ball on a quadratic "
        "valley. Right: its distance to the minimum by step, beside the slope of the closed form.",
    )
    diagram, ground, curve = live.axes
    tidy(curve, log=True)
    curve.set(xlim=(0, STEPS), ylim=(1e-6, 1e3))
    live.describe(curve, title="Distance to the minimum", x="step")
    point = live.animate(
        diagram.plot(
            [], [], "o", color=COLORS["vermilion"], markersize=9, markeredgecolor="white", markeredgewidth=1.5
        )[0]
    )
    star = live.animate(
        diagram.plot([], [], "*", color=INK, markersize=13, markeredgecolor="white", linestyle="none")[0]
    )
    found: set[int] = set()
    style = drawing.rule_style("momentum")
    path_line = live.animate(ground.plot([], [], **drawing.path_look(style))[0])
    word = live.animate(drawing.add_word(ground, style))
    measured = live.animate(curve.plot([], [], color=style.color, label="the path")[0])
    predicted = live.animate(curve.plot([], [], "--", color=INK, linewidth=1.2, label="closed form's slope")[0])
    live.legend(curve)
    shown: list[float] = []

    def update(condition: int, rate_times_curvature: float, momentum: float) -> Outcome:
        surface = quadratic(condition)
        if shown != [condition]:
            shown[:] = [condition]
            _draw_still(live, condition)
        # The largest curvature of `quadratic` is its condition number.
        path = descend(
            surface, ["momentum"], learning_rate=rate_times_curvature / condition, momentum=momentum, steps=STEPS
        )
        point.set_data([rate_times_curvature], [momentum])
        points, edge = drawing.path_to_edge(path.positions[0, 0], surface.window)
        path_line.set_data(*points.T)
        drawing.place_word(word, edge if path.diverged[0, 0] else None, surface.window)
        distances = drawing.distances_to_draw(path.positions[0, 0], surface)
        factor = float(slowest_factor(rate_times_curvature, momentum, (1 / condition, 1.0)))
        steps = np.arange(STEPS + 1)
        measured.set_data(steps, distances)
        predicted.set_data(steps, drawing.decay_to_draw(distances[0], factor, STEPS))
        outcome = _judge(condition, factor)
        if outcome.goal_reached:
            found.add(condition)
        best_rate, best_momentum = best_rate_and_momentum(condition)
        star.set_data([best_rate * condition], [best_momentum])
        star.set_visible(condition in found)  # not before: the reader is to find it
        return outcome

    return explore(
        live,
        update,
        controls={
            "condition": choice("condition", CONDITIONS, value=10),
            "rate_times_curvature": slider("rate × curv.", low=0.02, high=4.0, value=0.5, step=0.02),
            "momentum": slider("momentum", low=0.0, high=MOST_MOMENTUM, value=0.0, step=0.01),
        },
        goal="find the darkest spot: the rate and momentum that converge fastest, for each condition number.",
        call="explore_momentum(",
        state=state,
    )


def _draw_still(live: LiveFigure, condition: float) -> None:
    diagram, ground, _ = live.axes
    for ax in (diagram, ground):
        drawing.clear_still(ax)
        live.redraw(ax)
    draw_phase_diagram(diagram, condition=condition)
    drawing.draw_surface(quadratic(condition), ground)
    with styled():
        diagram.set_title("Shrink factor a step (★ best, once found)", y=1.0, pad=22)
        ground.set_title("The path", y=1.0, pad=22)


def _judge(condition: float, factor: float) -> Outcome:
    best = best_rate_and_momentum(condition)[1] ** 0.5
    if factor >= 1:
        return Outcome(f"The closed form says {factor:.3f} a step: the path does not converge.")
    says = f"The closed form says that a step shrinks the distance to {factor:.3f} of it in the long run"
    return Outcome(f"{says}; the best possible here is {best:.3f}.", goal_reached=factor <= best + CLOSE)
