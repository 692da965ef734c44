"""The values of controls as one line of words ``name=value``, and back."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import ipywidgets

from nnopt_lab.arguments import require_choice, require_integer, require_number
from nnopt_lab.widgets.controls import Toggles, set_value

EXAMPLE = "surface=ravine learning_rate=0.02"


def write_state(controls: Mapping[str, ipywidgets.Widget]) -> str:
    """Return the values of ``controls`` as one line that `set_control` can read word by word.

    Examples
    --------
    >>> write_state({"rate": ipywidgets.FloatSlider(value=0.02), "layer": ipywidgets.Dropdown(options=["conv 1"])})
    "rate=0.02 layer='conv 1'"
    """
    return " ".join(f"{name}={shlex.quote(_written(control.value))}" for name, control in controls.items())


def read_state(state: str, controls: Mapping[str, ipywidgets.Widget]) -> dict[str, str]:
    """Return the words of ``state`` by the name of their control.

    Raises
    ------
    ValueError
        If a word is not ``name=value``, or there is no control of that name.
    """
    try:
        words = shlex.split(state)
    except (ValueError, AttributeError):  # a quotation mark too many, or no text at all
        raise ValueError(f"state is {state!r}, but it must be words such as {EXAMPLE!r}.") from None
    pairs: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"state has the word {word!r}, but each must be name=value, as in {EXAMPLE!r}.")
        pairs[require_choice("a name in state", name, controls)] = value
    return pairs


def set_control(name: str, control: ipywidgets.Widget, text: str) -> None:
    """Set ``control`` to what ``text`` says.

    Raises
    ------
    ValueError
        If ``text`` is not a value that the control can have.
    """
    about = f"{name} in state"
    if isinstance(control, Toggles):
        chosen = [word for word in text.split(",") if word]
        control.value = tuple(require_choice(about, word, control.options) for word in chosen)
    elif hasattr(control, "options"):
        values = [option[1] if isinstance(option, tuple) else option for option in control.options]
        by_text = {_written(value): value for value in values}
        control.value = by_text[require_choice(about, text, by_text)]
    elif isinstance(control, ipywidgets.IntSlider):
        control.value = require_integer(about, _number(text), at_least=control.min, at_most=control.max)
    else:
        log = isinstance(control, ipywidgets.FloatLogSlider)
        ends = [control.base**end for end in control.span] if log else [control.min, control.max]
        # Round ends are said and allowed, and so are those that the slider really has.
        low, high = min(ends[0], float(f"{ends[0]:g}")), max(ends[1], float(f"{ends[1]:g}"))
        value = require_number(about, _number(text), at_least=low, at_most=high)
        if log:
            set_value(control, value)
        else:
            control.value = value


def exact(value: Any) -> Any:
    """Return ``value`` as a state holds it: floats to 9 digits, so that what is drawn can be restored to the last bit.

    Browsers send a slider's value back with rounding errors of their own.
    """
    return float(f"{value:.9g}") if isinstance(value, float) else value


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _number(text: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
