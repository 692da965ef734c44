"""Sliders with a description, keyboard access and a sensible range, alike in ipywidgets 7 and 8."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable

import ipywidgets

from nnopt_lab.arguments import require_number

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
    return ipywidgets.FloatLogSlider(
        description=description,
        base=10,
        min=math.log10(low),
        max=math.log10(high),
        step=1 / steps_per_decade,
        value=value,
        readout_format=".2g",
        style=_STYLE,
        layout=_layout(),
    )


def choice(description: str, options: Iterable[object], *, value: object) -> ipywidgets.SelectionSlider:
    """Return a slider over a few given values."""
    return ipywidgets.SelectionSlider(
        description=description, options=list(options), value=value, style=_STYLE, layout=_layout()
    )


def weakly(method: Callable[..., None]) -> Callable[..., None]:
    """Return a callback that does not keep the method's object alive: ipywidgets keeps every widget it ever made."""
    reference = weakref.WeakMethod(method)

    def call(*arguments: object) -> None:
        alive = reference()
        if alive is not None:
            alive(*arguments)

    return call
