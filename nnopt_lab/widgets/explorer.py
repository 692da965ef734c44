"""Sliders bound to a function and a live figure: what every lesson's explorer is made of."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ipywidgets

from nnopt_lab.widgets import cells
from nnopt_lab.widgets.controls import weakly
from nnopt_lab.widgets.display import Displayed
from nnopt_lab.widgets.live_figure import LiveFigure


@dataclass(frozen=True)
class Outcome:
    """What an explorer says about the present setting, and whether its goal is reached."""

    text: str
    goal_reached: bool = False


def explore(
    figure: LiveFigure,
    update: Callable[..., Outcome | str | None],
    *,
    controls: Mapping[str, ipywidgets.Widget],
    goal: str = "",
) -> Explorer:
    """Return an explorer: each move of a control calls ``update`` with all values, and shows the figure.

    Parameters
    ----------
    figure : LiveFigure
        Its moving parts are registered with `LiveFigure.animate`.
    update : callable
        Takes the controls' values by name, changes the artists, and returns a line to show. What it
        computes belongs in a concept module.
    controls : mapping
        Widgets with a ``value``, by the name of the argument of ``update``.
    goal : str
        What the reader should try to reach.

    Examples
    --------
    >>> import numpy as np
    >>> from nnopt_lab.widgets.controls import slider
    >>> figure = LiveFigure(alt="A sine wave.")
    >>> line = figure.animate(figure.axes[0].plot([], [])[0])
    >>> x = np.linspace(0, 1)
    >>> explorer = explore(
    ...     figure,
    ...     lambda frequency: line.set_data(x, np.sin(frequency * x)),
    ...     controls={"frequency": slider("frequency", low=1, high=9, value=2, step=0.5)},
    ... )
    """
    return Explorer(figure, update, controls=controls, goal=goal)


class Explorer(Displayed):
    """What `explore` shows. Moves that arrive while a picture is made are merged into the newest."""

    def __init__(
        self,
        figure: LiveFigure,
        update: Callable[..., Outcome | str | None],
        *,
        controls: Mapping[str, ipywidgets.Widget],
        goal: str = "",
    ) -> None:
        self.figure = figure
        self.controls = dict(controls)
        self.outcome = Outcome("")
        self.error: Exception | None = None
        self._update = update
        self._busy = threading.Lock()
        self._moved = False
        self.status = ipywidgets.HTML(layout=ipywidgets.Layout(max_width=f"{figure.size_px[0]}px"))
        rows: list[ipywidgets.Widget] = []
        if goal:
            rows.append(ipywidgets.HTML(f"<b>Goal:</b> {html.escape(goal)}"))
        rows += [
            ipywidgets.HBox(
                list(self.controls.values()),
                layout=ipywidgets.Layout(flex_flow="row wrap", max_width=f"{figure.size_px[0]}px"),
            ),
            figure.view,
            figure.caption,
            self.status,
        ]
        self._box = ipywidgets.VBox(rows, layout=ipywidgets.Layout(align_items="flex-start"))
        for control in self.controls.values():
            control.observe(weakly(self._move), names="value")
        self._move(None)
        cells.register(self)

    @property
    def view(self) -> ipywidgets.Widget:
        """Controls, figure and outcome in one box."""
        return self._box

    def picture(self) -> tuple[bytes, int, int]:
        """Return the current picture as PNG, and its width and height in layout pixels."""
        return self.figure.picture()

    def alt_text(self) -> str:
        """Return the picture and the outcome in words."""
        return f"{self.figure.alt} {self.outcome.text}".strip()

    def values(self) -> dict[str, Any]:
        """Return the controls' values by name."""
        return {name: control.value for name, control in self.controls.items()}

    def abandon(self) -> None:
        """Nothing goes on behind an explorer; there is nothing to stop."""

    def _move(self, _: object) -> None:
        self._moved = True
        # Whoever holds the lock sees `_moved` and draws once more, with the newest values.
        while self._moved and self._busy.acquire(blocking=False):
            try:
                self._moved = False
                self._redraw()
            finally:
                self._busy.release()

    def _redraw(self) -> None:
        try:
            with self.figure.update():
                outcome = self._update(**self.values())
        except Exception as error:  # shown in one line: a traceback would land in a log that the reader never opens
            self.error = error
            self.status.value = (
                f'<span role="status" style="color:#b3261e">⚠ {type(error).__name__}: {html.escape(str(error))}</span>'
            )
            return
        self.error = None
        self.outcome = outcome if isinstance(outcome, Outcome) else Outcome(outcome or "")
        mark = "<b>✓ Goal reached.</b> " if self.outcome.goal_reached else ""
        self.status.value = f'<span role="status">{mark}{html.escape(self.outcome.text)}</span>'
