"""Optimizers let loose on a surface: drag a slider, and every path bends at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

from nnopt_lab.arguments import require_choice, require_integer, require_number
from nnopt_lab.descent import Trajectories, descend
from nnopt_lab.gradient_transforms import Transform, clip_by_norm, clip_by_value, normalize_gradient
from nnopt_lab.optimizers import RULES
from nnopt_lab.plotting import descent as drawing
from nnopt_lab.surfaces import SURFACES, Surface
from nnopt_lab.widgets.controls import Player, Toggles, integer_slider, log_slider, menu, set_range, set_value, slider
from nnopt_lab.widgets.explorer import Explorer, Outcome, explore
from nnopt_lab.widgets.live_figure import LiveFigure

OFFERED = ("gd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "lion")

PRESSED = ("gd", "momentum", "rmsprop", "adam")
STEPS = 100
MOST_STEPS = 400
RATES = 1e-4, 2.0

TRANSFORMS: dict[str, tuple[str, Callable[[float], Transform | None]]] = {
    "none": ("as it is", lambda limit: None),
    "clip_value": ("clipped by value", clip_by_value),
    "clip_norm": ("clipped by norm", clip_by_norm),
    "normalize": ("normalized", lambda limit: normalize_gradient()),
}


@dataclass(frozen=True)
class Goal:
    """What the reader should reach on a surface.

    Attributes
    ----------
    above_minimum : float
        How far above the least loss a path may still be.
    steps : int
        From which step on, at the latest; fewer is a better score.

    Raises
    ------
    ValueError
        If ``above_minimum`` is not above 0, or ``steps`` below 1.
    """

    above_minimum: float = 1e-3
    steps: int = 100

    def __post_init__(self) -> None:
        require_number("above_minimum", self.above_minimum, above=0)
        require_integer("steps", self.steps)


GOALS = {"noisy": Goal(above_minimum=1.0)}
"""Where a thousandth is out of reach."""


def explore_descent(
    *,
    surfaces: Sequence[Surface] | Mapping[str, Surface] | None = None,
    rules: Sequence[str] = OFFERED,
    goal: Goal | None = None,
    state: str | None = None,
) -> Explorer:
    """Return an explorer of optimizers on surfaces: their paths, losses and distances to the minimum.

    Every path begins at the same start, has the same hyperparameters, and is given the same noise.

    Parameters
    ----------
    surfaces : sequence or mapping of Surface, optional
        What the menu offers; default: `nnopt_lab.surfaces.SURFACES`. Measured ones may be among them.
    rules : sequence of str
        Names of `nnopt_lab.optimizers.RULES`, one button each.
    goal : Goal, optional
        For all surfaces; default: within 0.001 of the least loss after at most 100 steps (1.0 in noise).
    state : str, optional
        Where the controls start, as `Explorer.state` returns it or a part of it:
        ``"surface=ravine optimizers=gd,adam learning_rate=0.02"``. Naming a surface sets its own start and rate,
        unless those are named too.

    Raises
    ------
    ValueError
        If a rule is unknown, there is no surface, or ``state`` has a name or value that does not exist.
    """
    offered = {rule: RULES[require_choice("rules", rule, RULES)].title for rule in rules}
    if not offered:
        raise ValueError("rules is empty, but it must name at least one rule.")
    if surfaces is None:
        surfaces = SURFACES
    by_name = {s.name: s for s in (surfaces.values() if isinstance(surfaces, Mapping) else surfaces)}
    if not by_name:
        raise ValueError("surfaces is empty, but it must hold at least one Surface.")
    first = by_name.get("valley", next(iter(by_name.values())))
    controls = {
        "surface": menu("surface", {s.title: s.name for s in by_name.values()}, value=first.name),
        "optimizers": Toggles(offered, value=[rule for rule in PRESSED if rule in offered] or list(offered)[:1]),
        "learning_rate": log_slider("learning rate", low=RATES[0], high=RATES[1], value=0.01, steps_per_decade=30),
        "momentum": slider("momentum", low=0.0, high=0.99, value=0.9, step=0.01),
        "beta2": slider("β₂", low=0.5, high=0.999, value=0.99, step=0.001, digits=3),
        "weight_decay": slider("weight decay", low=0.0, high=2.0, value=0.0, step=0.05),
        "noise": slider("noise", low=0.0, high=10.0, value=0.0, step=0.1, digits=1),
        "transform": menu("gradient", {title: name for name, (title, _) in TRANSFORMS.items()}, value="none"),
        "limit": log_slider("clip limit", low=0.01, high=100.0, value=1.0),
        "start_x": slider("start x", low=-1.0, high=1.0, value=0.0, step=0.01),
        "start_y": slider("start y", low=-1.0, high=1.0, value=0.0, step=0.01),
        "steps": integer_slider("steps", low=10, high=MOST_STEPS, value=STEPS, step=10),
    }
    player = Player("shown to step", steps=STEPS)

    def follow_surface(name: str) -> None:
        surface = by_name[name]
        for key, ends, value in zip(("start_x", "start_y"), surface.window, surface.start, strict=True):
            set_range(controls[key], low=min(ends[0], value), high=max(ends[1], value), value=value)
        set_value(controls["learning_rate"], float(np.clip(surface.learning_rate, *RATES)))
        controls["noise"].max = max(10.0, surface.noise)
        controls["noise"].value = surface.noise

    picture = _Picture(tuple(offered))
    scores = _Scores(goal)

    def update(
        *,
        surface: str,
        optimizers: tuple[str, ...],
        learning_rate: float,
        momentum: float,
        beta2: float,
        weight_decay: float,
        noise: float,
        transform: str,
        limit: float,
        start_x: float,
        start_y: float,
        steps: int,
        shown: int,
    ) -> Outcome:
        chosen = by_name[surface]
        paths = None
        if optimizers:
            paths = descend(
                chosen,
                optimizers,
                start=(start_x, start_y),
                steps=steps,
                learning_rate=learning_rate,
                momentum=momentum,
                beta2=beta2,
                weight_decay=weight_decay,
                noise=noise,
                transform=TRANSFORMS[transform][1](limit),
            )
        picture.show(chosen, paths, scores.goal_of(chosen), steps=steps, shown=shown)
        return scores.judge(chosen, paths)

    return explore(
        picture.live,
        update,
        controls=controls,
        goal="bring a path below the dashed line, and keep it there, in as few steps as you can.",
        call="explore_descent(" if surfaces is SURFACES else "explore_descent(surfaces=surfaces, ",
        follow={"surface": follow_surface, "steps": player.set_steps},
        player=player,
        state=state,
    )


class _Picture:
    """The live figure: the surface with the paths, their losses, and their distances to the minimum."""

    def __init__(self, rules: tuple[str, ...]) -> None:
        self.live = LiveFigure(
            columns=3,
            widths=(1.5, 1.0, 1.0),
            width_px=900,
            height_px=380,
            shared_legend=True,
            alt="Left: a loss surface from above and the paths of optimizers on it. "
            "Middle: their losses by step. Right: their distances to the minimum.",
        )
        self._rules = rules
        self._surface: Surface | None = None
        self._shown_rules: tuple[str, ...] | None = None
        ground, *curves = self.live.axes
        self._movers: dict[str, _Movers] = {}
        for index, rule in enumerate(rules):
            style = drawing.rule_style(rule, index)
            self._movers[rule] = _Movers(
                path=self.live.animate(ground.plot([], [], **drawing.path_look(style))[0]),
                end=self.live.animate(ground.plot([], [], **drawing.end_look(style))[0]),
                word=self.live.animate(drawing.add_word(ground, style)),
                curves=[self.live.animate(ax.plot([], [], style.line_style, color=style.color)[0]) for ax in curves],
            )

    def show(self, surface: Surface, paths: Trajectories | None, goal: Goal, *, steps: int, shown: int) -> None:
        """Move all artists to ``paths`` up to step ``shown``."""
        curve_axes = self.live.axes[1:]
        if surface is not self._surface:
            self._change_surface(surface, goal)
        for ax in curve_axes:
            if ax.get_xlim() != (0, steps):
                ax.set_xlim(0, steps)
        names = paths.names if paths else ()
        if names != self._shown_rules:
            self._shown_rules = names
            self.live.legend_of_all([drawing.legend_look(name) for name in names])
        for rule, movers in self._movers.items():
            movers.set_visible(rule in names)
        if paths is None:
            return
        losses = drawing.losses_to_draw(paths.losses[:, 0], surface)
        distances = drawing.distances_to_draw(paths.positions[:, 0], surface)
        step_numbers = np.arange(shown + 1)
        for index, name in enumerate(names):
            movers = self._movers[name]
            points, edge = drawing.path_to_edge(paths.positions[index, 0, : shown + 1], surface.window)
            movers.path.set_data(*points.T)
            movers.path.set_markevery(drawing.marks_every(len(points)))
            movers.end.set_data(*points[-1:].T)
            drawing.place_word(movers.word, edge if paths.diverged[index, 0] else None, surface.window)
            for line, values in zip(movers.curves, (losses[index], distances[index]), strict=True):
                line.set_data(step_numbers, values[: shown + 1])
        # Of the whole paths, so that the limits rest while an animation runs; never up to where a path diverges to.
        for ax, values in zip(curve_axes, (losses, distances), strict=True):
            lowest = drawing.LOWEST_DRAWN if ax.get_yscale() == "log" else -np.inf
            self.live.fit(ax, y=np.clip(values.ravel(), lowest, ax.get_ylim()[1]))

    def _change_surface(self, surface: Surface, goal: Goal) -> None:
        self._surface = surface
        ground, losses, distances = self.live.axes
        drawing.clear_still(ground)
        drawing.draw_surface(surface, ground)
        drawing.prepare_curves(losses, distances, surface=surface, goal=goal.above_minimum)
        self.live.redraw(ground)


@dataclass(frozen=True)
class _Movers:
    """What moves for one optimizer."""

    path: Line2D
    end: Line2D
    word: Annotation
    curves: list[Line2D]

    def set_visible(self, visible: bool) -> None:
        for artist in (self.path, self.end, self.word, *self.curves):
            artist.set_visible(visible)


class _Scores:
    """Judges paths against the goal, and keeps the best score on each surface."""

    def __init__(self, goal: Goal | None) -> None:
        self._goal = goal
        self._best: dict[str, float] = {}

    def goal_of(self, surface: Surface) -> Goal:
        """Return what is to be reached on ``surface``."""
        return self._goal or GOALS.get(surface.name, Goal())

    def judge(self, surface: Surface, paths: Trajectories | None) -> Outcome:
        """Return a line on the surface, one on each path, and one on the score."""
        about = f"{surface.title[0].upper()}{surface.title[1:]}. {surface.lesson}"
        if paths is None:
            return Outcome(f"{about}\nNo optimizer is chosen: press one of the buttons.")
        goal = self.goal_of(surface)
        # Else a start on the minimum would be the best score of all. (Sliders hold a few digits of a start.)
        own = surface.loss(np.array(surface.start))
        lower = paths.losses[0, 0, 0] < own - 1e-4 * (1 + abs(own))
        reached = paths.steps_until(surface.minimum_loss + goal.above_minimum)[:, 0]
        lines = [
            f"{RULES[name].title}: {_result(steps, diverged, losses, surface)}"
            for name, steps, diverged, losses in zip(
                paths.names, reached, paths.diverged[:, 0], paths.losses[:, 0], strict=True
            )
        ]
        best = float(reached.min())
        within = f"within {goal.above_minimum:g} of the least loss"
        if lower:
            score = "No score from here: this start lies lower than the surface's own, to which Reset goes back."
            return Outcome("\n".join([about, " · ".join(lines), score]))
        self._best[surface.name] = min(best, self._best.get(surface.name, np.inf))
        if best > goal.steps:
            score = f"Goal: {within} by step {goal.steps}."
        else:
            score = f"Score: {within} from step {best:.0f} on. Your best here: {self._best[surface.name]:.0f}."
        return Outcome("\n".join([about, " · ".join(lines), score]), goal_reached=best <= goal.steps)


def _result(steps: float, diverged: bool, losses: np.ndarray, surface: Surface) -> str:
    if diverged:
        return "diverges"
    if np.isfinite(steps):
        return f"there from step {steps:.0f} on"
    if np.isfinite(surface.minimum_loss):
        return f"ends {losses[-1] - surface.minimum_loss:.3g} above the least loss"
    return f"ends at loss {losses[-1]:.3g}"
