"""Moving each control of an explorer to both ends, and what must hold wherever it stands."""

from __future__ import annotations

import re

import ipywidgets
import numpy as np

from nnopt_lab.widgets.explorer import Explorer


def ends_of(control: ipywidgets.Widget) -> list[object]:
    """Return the lowest and the highest value of a slider, and every value of a menu."""
    if hasattr(control, "options"):
        return [option[1] if isinstance(option, tuple) else option for option in control.options]
    if isinstance(control, ipywidgets.FloatLogSlider):
        return [control.base**control.min, control.base**control.max]
    return [control.min, control.max]


def assert_fine(explorer: Explorer) -> None:
    """Nothing failed, and neither words nor lines hold a number that is none."""
    assert explorer.error is None, explorer.error
    assert explorer.outcome.text and not re.search(r"\b(nan|inf)\b", explorer.outcome.text)
    for ax in explorer.figure.axes:
        for line in ax.lines:
            assert np.isfinite(np.asarray(line.get_data(), dtype=float)).all()


def sweep(explorer: Explorer, *more: ipywidgets.Widget) -> None:
    """Move each control, and ``more``, to its ends and back."""
    for control in [*explorer.controls.values(), *more]:
        before = control.value
        for end in ends_of(control):
            control.value = end
            assert_fine(explorer)
        control.value = before
        assert_fine(explorer)
