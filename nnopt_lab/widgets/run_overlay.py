"""Several runs in one live picture, so that they can be compared."""

from __future__ import annotations

from matplotlib.ticker import PercentFormatter

from nnopt_lab.history import Trace
from nnopt_lab.plotting.curves import SMOOTHING
from nnopt_lab.plotting.style import run_style, tidy
from nnopt_lab.training import StepRecord
from nnopt_lab.widgets.live_figure import LiveFigure

MOST_RUNS = 7
"""Side by side in the picture; then the oldest gives way."""


class RunOverlay:
    """The loss of the batches and the validation accuracy of several runs, in one live picture.

    Parameters
    ----------
    epochs : float
        Where the horizontal axes end.
    data_label : str
        Stands over the picture.
    """

    def __init__(self, epochs: float, data_label: str) -> None:
        self.live = LiveFigure(
            columns=2,
            width_px=860,
            height_px=290,
            title=data_label,
            alt=f"Runs on {data_label}. Left: the loss of the batches, smoothed. Right: the validation accuracy.",
        )
        loss, accuracy = self.live.axes
        tidy(loss)
        loss.set(xlim=(0, epochs), ylim=(0, 2.5))
        tidy(accuracy)
        accuracy.set(xlim=(0, epochs), ylim=(0, 1))
        accuracy.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        self.live.describe(loss, title="Loss of the batches, smoothed", x="epoch")
        self.live.describe(accuracy, title="Validation accuracy", x="epoch")
        self._lines = []
        for index in range(MOST_RUNS):
            style = run_style(index)
            marks = {"marker": style.marker, "markeredgecolor": "white", "clip_on": False}
            self._lines.append(
                (
                    self.live.animate(loss.plot([], [], style.line_style, color=style.color)[0]),
                    self.live.animate(accuracy.plot([], [], style.line_style, color=style.color, **marks)[0]),
                )
            )
        self.clear()

    def add(self, label: str) -> None:
        """Make room for a run."""
        with self.live.lock:
            if len(self._traces) == MOST_RUNS:
                del self._traces[next(iter(self._traces))]
            taken = {slot for slot, *_ in self._traces.values()}
            slot = next(slot for slot in range(MOST_RUNS) if slot not in taken)
            self._traces[label] = (slot, Trace(smoothing=SMOOTHING), Trace())
            self._name_runs()

    def append(self, label: str, record: StepRecord) -> None:
        """Add one record to a run; nothing is drawn."""
        with self.live.lock:
            _, loss, accuracy = self._traces[label]
            loss.append(record.epoch, record.loss)
            if record.validation is not None:
                accuracy.append(record.epoch, record.validation.accuracy)

    def clear(self) -> None:
        """Forget all runs; the picture changes with the next `draw`."""
        with self.live.lock:
            self._traces: dict[str, tuple[int, Trace, Trace]] = {}
            self._name_runs()

    def draw(self) -> None:
        """Show what was added so far."""
        with self.live.update():
            for lines in self._lines:
                for line in lines:
                    line.set_data([], [])
            for slot, *traces in self._traces.values():
                for line, trace in zip(self._lines[slot], traces, strict=True):
                    line.set_data(trace.x, trace.y)
                self.live.fit(self.live.axes[0], y=traces[0].y)

    def _name_runs(self) -> None:
        shown = [(label, *self._lines[slot]) for label, (slot, *_) in self._traces.items()]
        for label, *lines in shown:
            for line in lines:
                line.set_label(label)
        half = (len(shown) + 1) // 2
        self.live.legend(self.live.axes[0], columns=2, handles=[line for _, line, _ in shown[:half]])
        self.live.legend(self.live.axes[1], columns=2, handles=[line for _, _, line in shown[half:]])
