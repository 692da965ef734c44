"""Sliders, menus and buttons with a description, keyboard access and a sensible range, alike in ipywidgets 7 and 8."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Mapping

import ipywidgets
import traitlets

from nnopt_lab.arguments import require_choice, require_number

_STYLE = {"description_width": "92px"}
SLIDER_WIDTH = "272px"


def _layout() -> ipywidgets.Layout:
    return ipywidgets.Layout(width=SLIDER_WIDTH)


def slider(
    description: str, *, low: float, high: float, value: float, step: float, digits: int = 2
) -> ipywidgets.FloatSlider:
    """Return a slider over ``low`` … ``high`` in steps."""
    require_number("value", value, at_least=low, at_most=high)
    return ipywidgets.FloatSlider(
        description=description,
        min=low,
        max=high,
        value=value,
        step=step,
        readout_format=f".{digits}f",
        style=_STYLE,
        layout=_layout(),
    )


def integer_slider(description: str, *, low: int, high: int, value: int, step: int = 1) -> ipywidgets.IntSlider:
    """Return a slider over whole numbers."""
    require_number("value", value, at_least=low, at_most=high)
    return ipywidgets.IntSlider(
        description=description, min=low, max=high, value=value, step=step, style=_STYLE, layout=_layout()
    )


def log_slider(
    description: str, *, low: float, high: float, value: float, steps_per_decade: int = 20
) -> ipywidgets.FloatLogSlider:
    """Return a slider over positive numbers on which equal distances are equal factors."""
    require_number("low", low, above=0)
    require_number("value", value, at_least=low, at_most=high)
    control = ipywidgets.FloatLogSlider(
        description=description,
        base=10,
        min=math.log10(low),
        max=math.log10(high),
        step=1 / steps_per_decade,
        value=value,
        readout_format=".2g" if high < 100 else ".3g",  # not 1.0e+2
        style=_STYLE,
        layout=_layout(),
    )
    control.span = math.log10(low), math.log10(high)  # what it is meant for; `set_value` moves its ends a little
    return control


def choice(description: str, options: Iterable[object], *, value: object) -> ipywidgets.SelectionSlider:
    """Return a slider over a few given values."""
    return ipywidgets.SelectionSlider(
        description=description, options=list(options), value=value, style=_STYLE, layout=_layout()
    )


def menu(description: str, options: Mapping[str, str], *, value: str) -> ipywidgets.Dropdown:
    """Return a drop-down menu, wide enough for its longest text; ``options`` maps what is shown to its value."""
    layout = ipywidgets.Layout(width="max-content", min_width=SLIDER_WIDTH)
    return ipywidgets.Dropdown(
        description=description, options=list(options.items()), value=value, style=_STYLE, layout=layout
    )


def set_range(control: ipywidgets.FloatSlider, *, low: float, high: float, value: float) -> None:
    """Give a slider another range and value, in about a hundred steps."""
    _set_on_grid(control, low, high, (high - low) / 100, at=value, value=value)


def set_log_range(control: ipywidgets.FloatLogSlider, *, low: float, high: float, value: float) -> None:
    """Give a log slider another range, and set it to exactly ``value``, or to the end that is nearest."""
    control.span = math.log10(low), math.log10(high)
    set_nearest(control, value)


def set_nearest(control: ipywidgets.FloatLogSlider, value: float) -> None:
    """Set a log slider to exactly ``value``, or to the end of its range that is nearest."""
    low, high = (control.base**end for end in control.span)
    set_value(control, min(max(value, low), high))


def nearest_step(control: ipywidgets.FloatSlider, value: float) -> float:
    """Return the value nearest to ``value`` at which the handle of ``control`` can stand."""
    steps = round((min(max(value, control.min), control.max) - control.min) / control.step)
    return round(control.min + steps * control.step, 9)


def set_value(control: ipywidgets.FloatLogSlider, value: float) -> None:
    """Set a log slider to exactly ``value``."""
    _set_on_grid(control, *control.span, control.step, at=math.log10(value), value=value)


def _set_on_grid(
    control: ipywidgets.FloatSlider | ipywidgets.FloatLogSlider,
    low: float,
    high: float,
    step: float,
    *,
    at: float,
    value: float,
) -> None:
    # The browser moves a value to the nearest whole step from the lower end, so the ends are put, outward, where
    # it stays. Never is the lower end above the upper one.
    low = at - math.ceil((at - low) / step - 1e-9) * step - 1e-12
    high = at + math.ceil((high - at) / step - 1e-9) * step + 1e-12
    control.min, control.max = min(low, control.min), max(high, control.max)
    control.step, control.value = step, value
    control.min, control.max = low, high


class Toggles(ipywidgets.HBox):
    """A row of buttons of which any number may be pressed.

    Parameters
    ----------
    options : mapping
        What stands on each button, by its value.
    value : iterable of str
        The values of the pressed ones.

    Raises
    ------
    ValueError
        If a value is not among ``options``.
    """

    value = traitlets.Tuple()

    def __init__(self, options: Mapping[str, str], *, value: Iterable[str]) -> None:
        self.options = tuple(options)
        self._buttons = {
            name: ipywidgets.ToggleButton(
                description=title, layout=ipywidgets.Layout(width="auto", min_width="64px", margin="2px")
            )
            for name, title in options.items()
        }
        super().__init__(list(self._buttons.values()), layout=ipywidgets.Layout(flex_flow="row wrap"))
        for button in self._buttons.values():
            button.observe(weakly(self._press), names="value")
        self.value = tuple(value)

    @traitlets.validate("value")
    def _in_order(self, proposal: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
        chosen = {require_choice("value", name, self.options) for name in proposal["value"]}
        return tuple(name for name in self.options if name in chosen)

    @traitlets.observe("value")
    def _show(self, change: dict[str, tuple[str, ...]]) -> None:
        for name, button in self._buttons.items():
            button.value = name in change["new"]
            button.icon = "check" if button.value else ""

    def _press(self, change: dict[str, object]) -> None:
        pressed = {name for name, button in self._buttons.items() if button is change["owner"]}
        self.value = tuple(set(self.value) | pressed if change["new"] else set(self.value) - pressed)


class Player:
    """Buttons and a slider that show a path step by step: play, pause, stop, or drag by hand.

    Attributes
    ----------
    slider : IntSlider
        Its value is the step up to which the path is shown.
    """

    def __init__(self, description: str, *, steps: int) -> None:
        self.play = ipywidgets.Play(
            min=0, max=steps, value=steps, interval=100, show_repeat=False, layout=ipywidgets.Layout(width="120px")
        )
        self.slider = integer_slider(description, low=0, high=steps, value=steps)
        # In the browser, where the clock of the animation is.
        self._link = ipywidgets.jslink((self.play, "value"), (self.slider, "value"))
        self.set_steps(steps)

    @property
    def views(self) -> list[ipywidgets.Widget]:
        """The widgets to lay out."""
        return [self.play, self.slider]

    @property
    def playing(self) -> bool:
        """Whether an animation is under way."""
        return bool(getattr(self.play, "playing", False) or getattr(self.play, "_playing", False))  # ipywidgets 8, or 7

    def set_steps(self, steps: int) -> None:
        """Let a path have so many steps; a whole animation takes about five seconds."""
        for widget in (self.play, self.slider):
            widget.max = steps
        # A divisor, or the animation would stop short of the last step.
        self.play.step = max(step for step in range(1, max(1, steps // 50) + 1) if steps % step == 0)

    def show_all(self) -> None:
        """Go to the last step, unless an animation is under way."""
        if not self.playing:
            for widget in (self.play, self.slider):
                widget.value = widget.max


def weakly(method: Callable[..., None]) -> Callable[..., None]:
    """Return a callback that does not keep the method's object alive: ipywidgets keeps every widget it ever made."""
    reference = weakref.WeakMethod(method)

    def call(*arguments: object) -> None:
        alive = reference()
        if alive is not None:
            alive(*arguments)

    return call
