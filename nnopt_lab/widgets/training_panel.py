"""Training before the reader's eyes: live curves, buttons, and sliders that act on the run under way."""

from __future__ import annotations

import copy
import html
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import ipywidgets
import torch
from torch import nn

from nnopt_lab.arguments import require_choice, require_integer
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.history import Trace, time_left_s
from nnopt_lab.training import Controls, StepRecord, TrainingDiverged, TrainingSettings, fit
from nnopt_lab.widgets import background, cells
from nnopt_lab.widgets.background import BackgroundRun
from nnopt_lab.widgets.controls import choice, log_slider, set_nearest, slider, weakly
from nnopt_lab.widgets.display import Displayed
from nnopt_lab.widgets.live_curves import ACCURACY, LOSS, RATES, LiveCurves, Pacer, Panel

CONTROLS = ("learning_rate", "momentum", "batch_size")


class FreshModel:
    """Gives the same untrained network at every start: from a function, or by restoring one network's first weights."""

    def __init__(self, source: nn.Module | Callable[[], nn.Module]) -> None:
        self._source = source
        self.model: nn.Module | None = None
        if isinstance(source, nn.Module):
            self.model = source
            self._first = copy.deepcopy(source.state_dict())

    def renew(self) -> nn.Module:
        """Return the network as it was before any training."""
        if isinstance(self._source, nn.Module):
            self._source.load_state_dict(self._first)
            return self._source
        self.model = self._source()
        return self.model


def _records(
    fresh: FreshModel,
    data: ImageData,
    settings: TrainingSettings,
    controls: Controls,
    device: torch.device | str | None,
) -> Iterator[StepRecord]:
    return fit(fresh.renew(), data, settings, controls=controls, device=device)


def train_live(
    model: nn.Module | Callable[[], nn.Module],
    data: ImageData,
    settings: TrainingSettings,
    *,
    start: bool = False,
    title: str | None = None,
    controls: Sequence[str] = CONTROLS,
    third_panel: Panel = RATES,
    device: torch.device | str | None = None,
) -> TrainingPanel:
    """Return a panel that trains ``model`` on ``data`` in the background of its cell.

    Parameters
    ----------
    model : nn.Module or callable
        A network, or a function that builds one. Each start begins with the same first weights.
    data : ImageData
        Trained on and validated on; its label stands over the curves.
    settings : TrainingSettings
        Where the sliders start, and all that they do not move.
    start : bool
        Start at once instead of at the button.
    title : str, optional
        Names the run over the curves; the network's class name by default.
    controls : sequence of str
        Which sliders there are: ``"learning_rate"``, ``"momentum"``, ``"batch_size"``.
    third_panel : Panel
        What stands beside loss and accuracy.
    device : optional
        Default: a GPU if there is one.

    Raises
    ------
    ValueError
        If the batch is larger than the training split, or a control is unknown.
    """
    require_integer("batch_size", settings.batch_size, at_most=len(data.train))
    if title is None:
        title = type(model).__name__ if isinstance(model, nn.Module) else "Training"
    values = Controls.of(settings)
    fresh = FreshModel(model)
    panel = TrainingPanel(
        partial(_records, fresh, data, settings, values, device),
        fresh=fresh,
        controls=values,
        sliders={name: control_slider(name, values, len(data.train)) for name in controls},
        panels=(LOSS, ACCURACY, third_panel),
        epochs=settings.epochs,
        title=title,
        data_label=data.label,
    )
    if start:
        panel.start()
    return panel


def control_slider(name: str, values: Controls, train_size: int) -> ipywidgets.Widget:
    """Return the slider for one control, set to its value in ``values``."""
    require_choice("control", name, CONTROLS)
    if name == "learning_rate":
        rate = values.learning_rate
        control = log_slider("learning rate", low=min(1e-4, rate), high=max(10.0, rate), value=rate)
        set_nearest(control, rate)  # or the browser moves it to its own grid, and another rate is trained with
        return control
    if name == "momentum":
        return slider("momentum", low=0.0, high=max(0.99, values.momentum), value=values.momentum, step=0.01)
    powers = {2**exponent for exponent in range(3, 11) if 2**exponent <= train_size}
    return choice("batch size", sorted(powers | {values.batch_size}), value=values.batch_size)


class TrainingPanel(Displayed):
    """What `train_live` shows; everything its buttons do can be called from code too.

    Attributes
    ----------
    records : list of StepRecord
        Of the run so far; emptied by a new start.
    controls : Controls
        What the sliders act on.
    run : BackgroundRun
        The thread behind it.
    """

    def __init__(
        self,
        make: Callable[[], Iterator[StepRecord]],
        *,
        fresh: FreshModel,
        controls: Controls,
        sliders: dict[str, ipywidgets.Widget],
        panels: Sequence[Panel],
        epochs: float,
        title: str,
        data_label: str,
        shared_legend: bool = False,
    ) -> None:
        self.records: list[StepRecord] = []
        self.controls = controls
        self.sliders = sliders
        self.run: BackgroundRun[StepRecord] = BackgroundRun(
            make, on_item=weakly(self._receive), on_change=weakly(self._show_state)
        )
        self._fresh = fresh
        self._epochs, self._title, self._data_label = epochs, title, data_label
        self._pacer = Pacer()
        self._rate = Trace(smoothing=0.9)
        self.curves = LiveCurves(
            panels,
            x=lambda record: record.epoch,
            x_end=epochs,
            x_label="epoch",
            title=f"{title} · {data_label}",
            shared_legend=shared_legend,
            alt=f"Live curves of training {title} on {data_label}: " + ", ".join(panel.title for panel in panels) + ".",
        )
        self._build_widgets()
        self.curves.draw()
        self._show_state()
        cells.register(self)

    @property
    def model(self) -> nn.Module | None:
        """The network that is being trained; None before the first start of one that is built by a function."""
        return self._fresh.model

    @property
    def state(self) -> str:
        """As `BackgroundRun.state`."""
        return self.run.state

    @property
    def error(self) -> BaseException | None:
        """What ended a failed run, for example `TrainingDiverged`."""
        return self.run.error

    def start(self) -> None:
        """Train from the first weights; a run under way is stopped before."""
        self.run.stop()
        if self.run.state not in (background.READY, *background.ENDED):
            self.run.wait()
        self.records = []
        self._rate = Trace(smoothing=0.9)
        self.curves.clear()
        self._pacer = Pacer()
        self.run.start()

    def pause(self) -> None:
        """Hold the run after the step under way."""
        self.run.pause()

    def resume(self) -> None:
        """Go on after `pause`."""
        self.run.resume()

    def stop(self) -> None:
        """End the run after the step under way."""
        self.run.stop()

    def abandon(self) -> None:
        """Stop; called when the cell that made this panel is run again."""
        self.run.stop()

    def wait(self, timeout_s: float | None = None) -> TrainingPanel:
        """Block until training has ended (it is started, or resumed, if need be) and return the panel.

        An interrupt pauses the run. A run that diverged returns too: `error` tells.

        Raises
        ------
        Exception
            Whatever else ended the run.
        """
        if self.state == background.READY:
            self.start()
        self.resume()
        self.run.wait(timeout_s)
        # Shown from this thread as well: what a cell's own thread sends is kept in the notebook's file.
        self._show_state()
        self.update_displayed()
        if self.error is not None and not isinstance(self.error, TrainingDiverged):
            raise self.error
        return self

    @property
    def view(self) -> ipywidgets.Widget:
        """All of it in one box."""
        return self._box

    def picture(self) -> tuple[bytes, int, int]:
        """Return the curves as PNG, and their width and height in layout pixels."""
        return self.curves.figure.picture()

    def alt_text(self) -> str:
        """Return the curves, and how the run stands, in words."""
        return f"{self.curves.figure.alt} {self.summary()}"

    def summary(self) -> str:
        """Return one line on how the run stands."""
        if self.state == background.READY:
            return "Ready: press Start."
        if isinstance(self.error, TrainingDiverged):
            return f"Diverged: {self.error}"
        if self.error is not None:
            return f"Failed: {type(self.error).__name__}: {self.error}"
        epochs = self.records[-1].epoch if self.records else 0.0
        line = f"{self.state.capitalize()}: {_amount(epochs)} of {_amount(self._epochs)} epochs"
        line += f" in {_clock(self.run.active_s)} on {self._data_label}"
        measured = next((record.validation for record in reversed(self.records) if record.validation), None)
        if measured is not None:
            line += f"; validation accuracy {measured.accuracy:.1%}, loss {measured.loss:.3f}"
        return line + "."

    def _build_widgets(self) -> None:
        button = ipywidgets.Layout(width="104px")
        self.start_button = ipywidgets.Button(description="Start", icon="play", button_style="primary", layout=button)
        self.pause_button = ipywidgets.Button(description="Pause", icon="pause", layout=button)
        self.stop_button = ipywidgets.Button(description="Stop", icon="stop", layout=button)
        self.start_button.on_click(weakly(self._press_start))
        self.pause_button.on_click(weakly(self._press_pause))
        self.stop_button.on_click(weakly(self._press_stop))
        self.progress = ipywidgets.FloatProgress(
            description="progress",
            min=0.0,
            max=1.0,
            style={"description_width": "62px"},
            layout=ipywidgets.Layout(width="230px"),
        )
        self.rate_label = ipywidgets.Label(layout=ipywidgets.Layout(min_width="260px"))
        self.status = ipywidgets.HTML(layout=ipywidgets.Layout(max_width="860px"))
        for one in self.sliders.values():
            one.observe(weakly(self._move), names="value")
        wrap = ipywidgets.Layout(flex_flow="row wrap", align_items="center", max_width="880px")
        self._box = ipywidgets.VBox(
            [
                ipywidgets.HBox(
                    [self.start_button, self.pause_button, self.stop_button, self.progress, self.rate_label],
                    layout=wrap,
                ),
                ipywidgets.HBox(list(self.sliders.values()), layout=wrap),
                self.curves.figure.view,
                self.curves.figure.caption,
                self.status,
            ],
            layout=ipywidgets.Layout(align_items="flex-start"),
        )

    def _press_start(self, _: object) -> None:
        self.start()

    def _press_pause(self, _: object) -> None:
        if self.state == background.PAUSED:
            self.resume()
        else:
            self.pause()

    def _press_stop(self, _: object) -> None:
        self.stop()

    def _move(self, change: dict[str, object]) -> None:
        name = next(name for name, one in self.sliders.items() if one is change["owner"])
        self._turn(name, change["new"])

    def _turn(self, name: str, value: object) -> None:
        """Let the slider ``name`` act on the run under way."""
        setattr(self.controls, name, value)

    def _receive(self, record: StepRecord) -> None:
        self.records.append(record)
        self.curves.append(record)
        self._rate.append(record.step, record.images_per_s)
        if self._pacer.is_due():
            self._pacer.spend(self._show_progress)

    def _show_progress(self) -> None:
        self.curves.draw()
        if self.records:
            last = self.records[-1]
            self.progress.value = last.progress
            left = _clock(time_left_s(last.progress, self.run.active_s))
            epochs = f"epoch {_amount(last.epoch)} of {_amount(self._epochs)}"
            self.rate_label.value = f"{left} left · {self._rate.last:,.0f} images/s · {epochs}"
        else:
            self.progress.value, self.rate_label.value = 0.0, ""

    def _show_state(self) -> None:
        state = self.state
        ended, under_way = state in background.ENDED, state in (background.RUNNING, background.PAUSED)
        self.start_button.description, self.start_button.icon = (
            ("Start", "play") if state == background.READY else ("Restart", "refresh")
        )
        self.pause_button.description, self.pause_button.icon = (
            ("Resume", "play") if state == background.PAUSED else ("Pause", "pause")
        )
        self.pause_button.disabled = self.stop_button.disabled = not under_way
        self.progress.bar_style = {background.FINISHED: "success", background.FAILED: "danger"}.get(state, "")
        if ended or state == background.PAUSED or not self.records:
            self._show_progress()
        self.status.value = _status_html(self.summary(), failed=self.error is not None)


def _status_html(text: str, *, failed: bool) -> str:
    mark, color = ("⚠ ", "#b3261e") if failed else ("", "inherit")
    return f'<span role="status" style="color:{color};line-height:1.5">{mark}{html.escape(text)}</span>'


def _amount(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _clock(seconds: float) -> str:
    if seconds == float("inf"):
        return "–:––"
    return f"{int(seconds) // 3600}:" * (seconds >= 3600) + f"{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"
