"""Draw a learning-rate schedule by its knots, train a real network with it, and compare the runs."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from functools import partial

import ipywidgets
from torch import nn

from nnopt_lab import models
from nnopt_lab.arguments import require_integer
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.plotting.png import stack_png
from nnopt_lab.schedules import Plateau, Schedule
from nnopt_lab.training import Controls, StepRecord, TrainingDiverged, TrainingSettings, drive, fit
from nnopt_lab.widgets import background, cells
from nnopt_lab.widgets.background import BackgroundRun
from nnopt_lab.widgets.controls import weakly
from nnopt_lab.widgets.display import Displayed
from nnopt_lab.widgets.explorer import Explorer
from nnopt_lab.widgets.live_curves import Pacer
from nnopt_lab.widgets.run_overlay import RunOverlay
from nnopt_lab.widgets.schedule_curve import Plan, ScheduleCurve

GROWTH = 8
"""The largest batch over the first one (or all pictures), where the batch grows instead of the rate falling."""


def design_schedule(
    data: ImageData,
    *,
    model: Callable[[], nn.Module] | None = None,
    settings: TrainingSettings | None = None,
    knot_count: int = 6,
    state: str | None = None,
) -> ScheduleDesigner:
    """Return a designer of learning-rate schedules: knots to drag, the area under the curve, and real runs.

    Parameters
    ----------
    data : ImageData
        Trained and validated on; see `ImageData.with_train_size` for short runs.
    model : callable, optional
        Builds the untrained network, the same each time; default: the article's CNN from one seed.
    settings : TrainingSettings, optional
        Of every run; its ``schedule`` must be ``"constant"``. Its rate is where the peak's slider starts.
        Default: one epoch of SGD with momentum, batches of 64.
    knot_count : int
        How many knots there are, at equal distances.
    state : str, optional
        Where the controls start, as the Share button shows it, or a part of it: ``"schedule=cosine peak=0.05"``.

    Raises
    ------
    ValueError
        If the settings have another schedule, or ``state`` has a name or value that does not exist.
    """
    knot_count = require_integer("knot_count", knot_count, at_least=2, at_most=11)
    settings = settings or TrainingSettings(
        epochs=1.0, batch_size=64, learning_rate=0.05, schedule="constant", evaluate_every_epochs=0.25
    )
    if settings.schedule != "constant":
        raise ValueError(
            f"settings.schedule is {settings.schedule!r}, but it must be 'constant': the designer sets it."
        )
    build = model or partial(models.build, "article_cnn", num_classes=data.num_classes)
    return ScheduleDesigner(build, data, settings, knot_count=knot_count, state=state)


def _records(
    build: Callable[[], nn.Module], data: ImageData, settings: TrainingSettings, plan: Plan, peak: float
) -> Iterator[StepRecord]:
    controls = Controls(peak, settings.momentum, settings.batch_size)
    plateau = Plateau(factor=1 / 3, patience=0) if plan.plateau else None
    records = fit(build(), data, settings, controls=controls)
    return drive(records, controls, rates=plan.rates, batch_sizes=plan.batch_sizes, plateau=plateau)


class ScheduleDesigner(Displayed):
    """What `design_schedule` shows; everything its buttons do can be called from code too.

    Attributes
    ----------
    explorer : Explorer
        Knots and curve; its ``controls`` are ``schedule``, ``falls``, ``peak`` and ``factor_0``, ``factor_1``, …
    runs : dict
        The records of each run so far, by its label.
    run : BackgroundRun or None
        The newest.
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        data: ImageData,
        settings: TrainingSettings,
        *,
        knot_count: int,
        state: str | None,
    ) -> None:
        self.runs: dict[str, list[StepRecord]] = {}
        self.run: BackgroundRun[StepRecord] | None = None
        self._build, self._data, self._settings = build, data, settings
        self._ended: dict[str, str] = {}
        self._count = 0
        self._curve = ScheduleCurve(
            knot_count,
            settings.learning_rate,
            batch_size=settings.batch_size,
            largest=max(settings.batch_size, min(GROWTH * settings.batch_size, len(data.train))),
        )
        self.explorer: Explorer = self._curve.explorer(state)
        self._overlay = RunOverlay(settings.epochs, data.label)
        self._pacer = Pacer()
        self._build_widgets()
        self._show_state()
        cells.register(self)

    @property
    def schedule(self) -> Schedule:
        """The schedule as it is drawn now."""
        return self._curve.schedule(self.explorer.values())

    @property
    def view(self) -> ipywidgets.Widget:
        """All of it in one box."""
        return self._box

    def train(self) -> None:
        """Train a fresh network with the present schedule in the background; a run under way is stopped."""
        self.stop()
        if self.run is not None and self.run.state not in background.ENDED:
            self.run.wait()
        peak = float(self.explorer.controls["peak"].value)
        plan = self._curve.plan(self.explorer.values())
        self._count += 1
        self._label = f"{self._count}: {plan.title}, {peak:.3g}"
        self.runs[self._label] = []
        self._overlay.add(self._label)
        self._pacer = Pacer()
        self.run = BackgroundRun(
            partial(_records, self._build, self._data, self._settings, plan, peak),
            on_item=weakly(self._receive),
            on_change=weakly(self._show_state),
        )
        self.run.start()

    def stop(self) -> None:
        """End the run under way after its present step."""
        if self.run is not None:
            self.run.stop()

    def clear(self) -> None:
        """Forget all runs."""
        self.stop()
        if self.run is not None:
            self.run.wait()
        self.runs.clear()
        self._ended.clear()
        self._overlay.clear()
        self._show_state()

    def wait(self, timeout_s: float | None = None) -> ScheduleDesigner:
        """Block until the run has ended (one is started if there was none) and return the designer.

        A run that diverged returns too; its line says so.

        Raises
        ------
        Exception
            Whatever else ended the run.
        """
        if self.run is None:
            self.train()
        assert self.run is not None
        self.run.wait(timeout_s)
        self._show_state()
        self.update_displayed()
        if self.run.error is not None and not isinstance(self.run.error, TrainingDiverged):
            raise self.run.error
        return self

    def abandon(self) -> None:
        """Stop; called when the cell that made this is run again."""
        self.stop()

    def picture(self) -> tuple[bytes, int, int]:
        """Return the schedule's picture, from the first run on with that of the runs below it, and its size."""
        curve, width, height = self.explorer.figure.picture()
        if not self.runs:
            return curve, width, height
        runs, _, runs_height = self._overlay.live.picture()
        return stack_png(curve, runs), width, height + runs_height

    def alt_text(self) -> str:
        """Return the schedule, and how the runs stand, in words."""
        return f"{self.explorer.alt_text()} {self.summary()}"

    def summary(self) -> str:
        """Return one line for each run."""
        if not self.runs:
            return f"No run yet: press Train. A run takes {self._settings.epochs:g} epochs on {self._data.label}."
        return "\n".join(f"{label}: {self._standing(label)}" for label in self.runs)

    def _standing(self, label: str) -> str:
        records = self.runs[label]
        measured = next((record.validation for record in reversed(records) if record.validation), None)
        says = f"validation accuracy {measured.accuracy:.1%}, loss {measured.loss:.3f}" if measured else "no result yet"
        if records:
            last = records[-1]
            says += f" after {last.epoch:.2f} epochs, {last.step:,} steps, now at rate {last.learning_rate:.2g}"
        return f"{says} ({self._ended.get(label, 'under way')})"

    def _build_widgets(self) -> None:
        button = ipywidgets.Layout(width="104px")
        self.train_button = ipywidgets.Button(description="Train", icon="play", button_style="primary", layout=button)
        self.stop_button = ipywidgets.Button(description="Stop", icon="stop", layout=button)
        self.clear_button = ipywidgets.Button(description="Clear runs", icon="trash", layout=button)
        self.train_button.on_click(weakly(self._press_train))
        self.stop_button.on_click(weakly(self._press_stop))
        self.clear_button.on_click(weakly(self._press_clear))
        self.progress = ipywidgets.FloatProgress(min=0.0, max=1.0, layout=ipywidgets.Layout(width="230px"))
        self.status = ipywidgets.HTML(layout=ipywidgets.Layout(max_width="860px"))
        row = ipywidgets.Layout(flex_flow="row wrap", align_items="center", max_width="880px")
        live = self._overlay.live
        self._box = ipywidgets.VBox(
            [
                self.explorer.view,
                ipywidgets.HBox([self.train_button, self.stop_button, self.clear_button, self.progress], layout=row),
                live.view,
                live.caption,
                self.status,
            ],
            layout=ipywidgets.Layout(align_items="flex-start"),
        )

    def _press_train(self, _: object) -> None:
        self.train()

    def _press_stop(self, _: object) -> None:
        self.stop()

    def _press_clear(self, _: object) -> None:
        self.clear()

    def _receive(self, record: StepRecord) -> None:
        self.runs[self._label].append(record)
        self._overlay.append(self._label, record)
        if self._pacer.is_due():
            self._pacer.spend(self._show_progress)

    def _show_progress(self) -> None:
        self._overlay.draw()
        records = self.runs.get(getattr(self, "_label", ""), [])
        self.progress.value = records[-1].progress if records else 0.0

    def _show_state(self) -> None:
        state = self.run.state if self.run else background.READY
        if self.run is not None and state in background.ENDED and self._label in self.runs:
            diverged = isinstance(self.run.error, TrainingDiverged)
            self._ended[self._label] = "diverged" if diverged else state
        self.stop_button.disabled = state != background.RUNNING
        self.progress.bar_style = {background.FINISHED: "success", background.FAILED: "danger"}.get(state, "")
        self._show_progress()
        lines = html.escape(self.summary()).replace("\n", "<br>")
        self.status.value = f'<div role="status" style="line-height:1.5">{lines}</div>'
