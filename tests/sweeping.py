"""Moving each control of an explorer to both ends, and what must hold wherever it stands."""

from __future__ import annotations

import re

import ipywidgets
import numpy as np

from nnopt_lab.widgets.controls import Toggles
from nnopt_lab.widgets.explorer import Explorer


def ends_of(control: ipywidgets.Widget) -> list[object]:
    """Return the lowest and the highest value of a slider, every value of a menu, and of toggles none and all."""
    if isinstance(control, Toggles):
        return [(), control.options]
    if hasattr(control, "options"):
        return [option[1] if isinstance(option, tuple) else option for option in control.options]
    if isinstance(control, ipywidgets.FloatLogSlider):
        return [control.base**end for end in control.span]
    return [control.min, control.max]


def assert_fine(explorer: Explorer) -> None:
    """Nothing failed, and neither words nor lines hold a number that is none."""
    assert explorer.error is None, explorer.error
    assert explorer.outcome.text and not re.search(r"\b(nan|inf)\b", explorer.outcome.text)
    for ax in explorer.figure.axes:
        assert np.isfinite([*ax.get_xlim(), *ax.get_ylim()]).all()
        for line in ax.lines:
            assert np.isfinite(np.asarray(line.get_data(), dtype=float)).all()


def sweep(explorer: Explorer, *more: ipywidgets.Widget, but: tuple[str, ...] = ()) -> None:
    """Move each control but those named, and ``more``, to its ends and back; then all of them together, and back."""
    moved = [*(control for name, control in explorer.controls.items() if name not in but), *more]
    for control in moved:
        before = control.value
        for end in ends_of(control):
            control.value = end
            assert_fine(explorer)
        control.value = before
        assert_fine(explorer)
    first = [control.value for control in moved]
    for pick in (0, -1):
        for control in moved:
            control.value = ends_of(control)[pick]
            assert_fine(explorer)
    for control, value in zip(moved, first, strict=True):
        control.value = value
