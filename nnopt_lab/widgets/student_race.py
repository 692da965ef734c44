"""Students that are trained side by side, each on something else: labels, a teacher's opinion, its features."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import ipywidgets
from torch import nn

from nnopt_lab.arguments import require_number
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.distillation.features import Hints
from nnopt_lab.distillation.standing import Standing
from nnopt_lab.plotting.curves import SMOOTHING
from nnopt_lab.training import Controls, Objective, TrainingSettings, fit
from nnopt_lab.widgets.controls import log_slider, set_nearest, slider
from nnopt_lab.widgets.race import RaceRecord, lane_panel, last_accuracies, side_by_side, validation_panel
from nnopt_lab.widgets.training_panel import FreshModel, TrainingPanel, control_slider

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.25, 32.0


def race_students(
    build: Callable[[], nn.Module],
    data: ImageData,
    settings: TrainingSettings,
    *,
    objectives: Mapping[str, Objective | None],
    goal_points: float = 2.0,
    start: bool = False,
    title: str = "Students",
) -> StudentRace:
    """Return a panel that trains equal students on the same batches, a step each in turn.

    Sliders act on the race under way: the learning rate of all students, the temperature of all that have one, and the
    weight α of the teacher for those that mix it with the labels.

    Parameters
    ----------
    build : callable
        Returns the untrained student, the same each time.
    data : ImageData
        Trained and validated on.
    settings : TrainingSettings
        Of all students.
    objectives : mapping
        By what the legend says: an objective of `nnopt_lab.distillation`, or None for labels only. They stay as they
        are: the race works with copies, which share their teacher.
    goal_points : float
        By how many points of validation accuracy the best of the others is to beat the first.
    start : bool
        Start at once instead of at the button.

    Raises
    ------
    ValueError
        If there are fewer than two students, or ``goal_points`` is not above 0.
    """
    if len(objectives) < 2:
        raise ValueError(f"objectives has {len(objectives)} students, but it must have at least two to compare.")
    require_number("goal_points", goal_points, above=0)
    race = StudentRace(build, data, settings, objectives=objectives, goal_points=goal_points, title=title)
    if start:
        race.start()
    return race


class StudentRace(TrainingPanel):
    """What `race_students` shows: a `TrainingPanel` whose records are `RaceRecord`.

    Attributes
    ----------
    objectives : dict
        Of the race under way; the sliders act on them.
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        data: ImageData,
        settings: TrainingSettings,
        *,
        objectives: Mapping[str, Objective | None],
        goal_points: float,
        title: str,
    ) -> None:
        self.objectives = {name: copy.copy(objective) for name, objective in objectives.items()}
        self._goal_points = goal_points
        self._pictures = len(data.validation)
        self._tempered = [name for name, one in self.objectives.items() if getattr(one, "alpha", 0) > 0]
        self._mixed = [name for name in self._tempered if self.objectives[name].alpha < 1]
        controls = Controls.of(settings)
        names = {name: name for name in self.objectives}
        super().__init__(
            partial(_students, build, data, settings, controls, self.objectives),
            fresh=FreshModel(build),
            controls=controls,
            sliders={
                "learning_rate": control_slider("learning_rate", controls, len(data.train)),
                **self._teacher_sliders(),
            },
            # Not the losses, which are different ones.
            panels=(
                lane_panel(
                    "Accuracy of the batches, smoothed",
                    names,
                    lambda record: record.accuracy,
                    scale="percent",
                    smoothing=SMOOTHING,
                ),
                validation_panel(names),
            ),
            epochs=settings.epochs,
            title=title,
            data_label=data.label,
            shared_legend=True,
        )

    def reached(self) -> dict[str, float]:
        """Return the last validation accuracy of each student; one that diverged early may have none."""
        return last_accuracies(self.records)

    def standing(self) -> Standing | None:
        """Return how the students compare by now; None before the first and another one are measured."""
        reached = self.reached()
        in_order = {name: reached[name] for name in self.objectives if name in reached}
        compared = len(in_order) > 1 and next(iter(in_order)) == next(iter(self.objectives))
        return Standing(in_order, self._pictures) if compared else None

    def goal_reached(self) -> bool:
        """Tell whether the best of the others is by now as many points above the first as the goal asks for."""
        standing = self.standing()
        return standing is not None and standing.points_gained >= self._goal_points

    def summary(self) -> str:
        """Return one line on how the race stands, and one on its goal."""
        first = next(iter(self.objectives))
        line = f"{super().summary()} Goal: a student at least {self._goal_points:g} points above {first!r}."
        standing = self.standing()
        if self.error is not None or standing is None:
            return line
        told = ", ".join(_with_interval(standing, name) for name in (standing.first, standing.best))
        mark = "✓ Goal reached" if self.goal_reached() else "Not reached"
        gained = f"{standing.points_gained:+.1f} points on {standing.pictures:,} validation pictures"
        return f"{line} {mark}, {gained}: {told}. One run each: another seed gives other numbers."

    def _teacher_sliders(self) -> dict[str, ipywidgets.Widget]:
        sliders: dict[str, ipywidgets.Widget] = {}
        if self._tempered:
            all_of_them = [self.objectives[name].temperature for name in self._tempered]
            low, high = min(LOWEST_TEMPERATURE, *all_of_them), max(HIGHEST_TEMPERATURE, *all_of_them)
            sliders["temperature"] = log_slider("temperature", low=low, high=high, value=all_of_them[0])
            set_nearest(sliders["temperature"], all_of_them[0])  # or the browser moves it to its own grid
        if self._mixed:
            alpha = self.objectives[self._mixed[0]].alpha
            sliders["alpha"] = slider("α (teacher)", low=0.0, high=1.0, value=alpha, step=0.01)
        return sliders

    def _turn(self, name: str, value: object) -> None:
        if name == "learning_rate":
            super()._turn(name, value)
            return
        for student in self._mixed if name == "alpha" else self._tempered:
            setattr(self.objectives[student], name, value)


def _with_interval(standing: Standing, name: str) -> str:
    low, high = standing.interval(name)
    return f"{name} {standing.accuracies[name]:.1%} (95% interval {low:.1%} to {high:.1%})"


def _students(
    build: Callable[[], nn.Module],
    data: ImageData,
    settings: TrainingSettings,
    controls: Controls,
    objectives: Mapping[str, Objective | None],
) -> Iterator[RaceRecord]:
    def student(objective: Objective | None) -> nn.Module:
        return objective.student(build()) if isinstance(objective, Hints) else build()

    return side_by_side(
        {
            name: fit(student(objective), data, settings, controls=controls, objective=objective)
            for name, objective in objectives.items()
        }
    )
