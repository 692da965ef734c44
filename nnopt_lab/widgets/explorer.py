"""Sliders bound to a function and a live figure: what every lesson's explorer is made of."""

from __future__ import annotations

import html
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ipywidgets

from nnopt_lab.widgets import cells
from nnopt_lab.widgets.controls import Player, weakly
from nnopt_lab.widgets.display import Displayed
from nnopt_lab.widgets.live_figure import LiveFigure
from nnopt_lab.widgets.saved_state import exact, read_state, set_control, write_state


@dataclass(frozen=True)
class Outcome:
    """What an explorer says about the present setting, line by line, and whether its goal is reached."""

    text: str
    goal_reached: bool = False


def explore(
    figure: LiveFigure,
    update: Callable[..., Iterator[Outcome | str] | Outcome | str | None],
    *,
    controls: Mapping[str, ipywidgets.Widget],
    goal: str = "",
    call: str = "",
    follow: Mapping[str, Callable[[Any], None]] | None = None,
    player: Player | None = None,
    state: str | None = None,
) -> Explorer:
    """Return an explorer: each move of a control calls ``update`` with all values, and shows the figure.

    Parameters
    ----------
    figure : LiveFigure
        Its moving parts are registered with `LiveFigure.animate`.
    update : callable
        Takes the controls' values by name, changes the artists, and returns a line to show. What it
        computes belongs in a concept module. One that takes long yields several: the picture is shown after each,
        and what is still to come is dropped when a control has moved in the meantime.
    controls : mapping
        Widgets with a ``value``, by the name of the argument of ``update``.
    goal : str
        What the reader should try to reach.
    call : str
        How the reader makes this explorer, up to the argument ``state``, as in ``"explore_descent("``; what
        the Share button shows begins so.
    follow : mapping, optional
        By a control's name, what is called with its new value before ``update``, to move other controls.
    player : Player, optional
        Shows the picture step by step; ``update`` then takes ``shown``, the step up to which it is shown.
    state : str, optional
        Where the controls start; as `Explorer.state` returns it, or a part of that.

    Raises
    ------
    ValueError
        If ``state`` names an unknown control or a value that the control cannot have.

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
    >>> explorer.state()
    'frequency=2'
    """
    return Explorer(figure, update, controls=controls, goal=goal, call=call, follow=follow, player=player, state=state)


class Explorer(Displayed):
    """What `explore` shows. Moves that arrive while a picture is made are merged into the newest."""

    def __init__(
        self,
        figure: LiveFigure,
        update: Callable[..., Iterator[Outcome | str] | Outcome | str | None],
        *,
        controls: Mapping[str, ipywidgets.Widget],
        goal: str = "",
        call: str = "",
        follow: Mapping[str, Callable[[Any], None]] | None = None,
        player: Player | None = None,
        state: str | None = None,
    ) -> None:
        self.figure = figure
        self.controls = dict(controls)
        self.player = player
        self.outcome = Outcome("")
        self.error: Exception | None = None
        self._update = update
        self._call = call
        self._follow = dict(follow or {})
        self._busy = threading.Lock()
        self._moved = False
        self._held = 0
        self._lay_out(goal)
        for control in self.controls.values():
            control.observe(weakly(self._move), names="value")
        if player is not None:
            player.slider.observe(weakly(self._play), names="value")
        with self._hold():
            for name, moved in self._follow.items():
                moved(self.controls[name].value)
            if state is not None:
                self.restore(state)
        self._first = self.state()
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
        """Return the controls' values by name, as `state` writes them."""
        return {name: exact(control.value) for name, control in self.controls.items()}

    def state(self) -> str:
        """Return the controls' values as one line, which `restore` understands."""
        return write_state(self.controls)

    def restore(self, state: str) -> None:
        """Set the controls to what ``state`` says, and leave those alone that it does not name.

        Raises
        ------
        ValueError
            If a word names an unknown control or a value it cannot have; nothing is changed then.
        """
        pairs = read_state(state, self.controls)
        before = self.state()
        with self._hold():
            try:
                self._set(pairs)
            except ValueError:
                self._set(read_state(before, self.controls))
                raise

    def reset(self) -> None:
        """Go back to where the controls started."""
        self.restore(self._first)

    def share(self) -> str:
        """Return the code that makes this explorer anew as it stands."""
        state = json.dumps(self.state())
        return f"{self._call}state={state})" if self._call else f"restore({state})"

    def abandon(self) -> None:
        """Nothing goes on behind an explorer; there is nothing to stop."""

    def _lay_out(self, goal: str) -> None:
        width = f"{self.figure.size_px[0]}px"
        button = ipywidgets.Layout(width="88px")
        self.reset_button = ipywidgets.Button(description="Reset", icon="undo", layout=button)
        self.share_button = ipywidgets.Button(description="Share", icon="link", layout=button)
        self.reset_button.on_click(weakly(self._press_reset))
        self.share_button.on_click(weakly(self._press_share))
        self.shared = ipywidgets.Text(
            description="restore with",
            style={"description_width": "92px"},
            layout=ipywidgets.Layout(width=width, max_width="100%", display="none"),
        )
        self.status = ipywidgets.HTML(layout=ipywidgets.Layout(max_width=width))
        row = ipywidgets.Layout(flex_flow="row wrap", max_width=width)
        buttons = [*(self.player.views if self.player else []), self.reset_button, self.share_button]
        rows: list[ipywidgets.Widget] = [ipywidgets.HTML(f"<b>Goal:</b> {html.escape(goal)}")] if goal else []
        rows += [
            ipywidgets.HBox(list(self.controls.values()), layout=row),
            ipywidgets.HBox(buttons, layout=row),
            self.shared,
            self.figure.view,
            self.figure.caption,
            self.status,
        ]
        self._box = ipywidgets.VBox(rows, layout=ipywidgets.Layout(align_items="flex-start"))

    def _press_reset(self, _: object) -> None:
        self.reset()

    def _press_share(self, _: object) -> None:
        self.shared.layout.display = "flex"
        self.shared.value = self.share()

    def _set(self, pairs: Mapping[str, str]) -> None:
        # In the order of the controls: those that others follow come first.
        for name, control in self.controls.items():
            if name in pairs:
                set_control(name, control, pairs[name])

    @contextmanager
    def _hold(self) -> Iterator[None]:
        """Let several controls move before one picture is made of them."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self._show()

    def _move(self, change: dict[str, Any]) -> None:
        with self._hold():
            for name, control in self.controls.items():
                if control is change["owner"] and name in self._follow:
                    self._follow[name](change["new"])
            if self.player is not None:
                self.player.show_all()

    def _play(self, _: object) -> None:
        self._show()

    def _show(self) -> None:
        self._moved = True
        # Whoever holds the lock sees `_moved` and draws once more, with the newest values.
        while self._moved and not self._held and self._busy.acquire(blocking=False):
            try:
                self._moved = False
                self._redraw()
            finally:
                self._busy.release()

    def _redraw(self) -> None:
        values = self.values()
        if self.player is not None:
            values["shown"] = self.player.slider.value
        try:
            for outcome in self._outcomes(values):
                self._tell(outcome)
                if self._moved:
                    break
        except Exception as error:  # shown in one line: a traceback would land in a log that the reader never opens
            self.error = error
            self.status.value = (
                f'<span role="status" style="color:#b3261e">⚠ {type(error).__name__}: {html.escape(str(error))}</span>'
            )

    def _outcomes(self, values: dict[str, Any]) -> Iterator[Outcome | str | None]:
        """Yield each outcome after the picture that belongs to it."""
        with self.figure.update():
            made = self._update(**values)
            rest = made if isinstance(made, Iterator) else iter([made])
            first = next(rest, None)
        yield first
        while True:
            with self.figure.lock:
                following = next(rest, self)
                if following is self:  # there is none
                    return
                with self.figure.update():
                    pass
            yield following

    def _tell(self, outcome: Outcome | str | None) -> None:
        self.error = None
        self.outcome = outcome if isinstance(outcome, Outcome) else Outcome(outcome or "")
        mark = "<b>✓ Goal reached.</b> " if self.outcome.goal_reached else ""
        lines = html.escape(self.outcome.text).replace("\n", "<br>")
        self.status.value = f'<div role="status" style="line-height:1.5">{mark}{lines}</div>'
        if self.shared.layout.display == "flex":
            self.shared.value = self.share()
