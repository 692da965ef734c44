"""The explorer of rate and batch size: every control to both ends, divergence is labeled, and the goal is in reach."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.text import Text

from nnopt_lab.widgets.noise_explorer import GOAL, LOSSES, PICTURES, explore_noise


def values_of(control) -> list[object]:
    if hasattr(control, "options"):
        return [option[1] if isinstance(option, tuple) else option for option in control.options]
    return [control.base**end for end in control.span] if hasattr(control, "base") else [control.min, control.max]


def assert_fine(explorer) -> None:
    assert explorer.error is None and explorer.outcome.text
    assert not any(word in explorer.outcome.text.split() for word in ("nan", "inf"))
    for ax in explorer.figure.axes:
        for line in ax.lines:
            assert np.isfinite(np.asarray(line.get_data(), dtype=float)).all()


def words(explorer) -> list[str]:
    return [text.get_text() for ax in explorer.figure.axes for text in ax.texts if type(text) is Text]


def test_every_control_alone_reaches_all_its_values() -> None:
    explorer = explore_noise()
    for control in explorer.controls.values():
        before = control.value
        for value in values_of(control):
            control.value = value
            assert_fine(explorer)
        control.value = before


def test_all_controls_together_reach_their_ends() -> None:
    explorer = explore_noise()
    for ends in itertools.product((0, -1), repeat=len(explorer.controls)):
        for control, end in zip(explorer.controls.values(), ends, strict=True):
            control.value = values_of(control)[end]
        assert_fine(explorer)


@pytest.mark.parametrize("state", ["learning_rate=2.4", "learning_rate=0.5 rate_after=16 change_at=0.9"])
def test_a_run_that_diverges_is_drawn_to_the_edge_and_labeled(state: str) -> None:
    explorer = explore_noise(state=state)
    assert words(explorer) == ["diverges ↑"] * 2 and "diverges" in explorer.outcome.text
    assert not explorer.outcome.goal_reached
    for ax in explorer.figure.axes:
        assert max(line.get_ydata()[-1] for line in ax.lines if len(line.get_ydata()) > 2) > LOSSES[1]
    explorer.controls["learning_rate"].value = 0.1
    explorer.controls["rate_after"].value = 1.0
    assert words(explorer) == ["", ""]


def test_the_goal_needs_a_change_on_the_way_and_is_then_in_reach() -> None:
    explorer = explore_noise()
    assert not explorer.outcome.goal_reached
    for rate, batch in itertools.product(np.geomspace(0.02, 1.9, 12), (1, 2, 4, 8, 16, 32, 64, 128)):
        explorer.controls["learning_rate"].value, explorer.controls["batch_size"].value = rate, batch
        assert not explorer.outcome.goal_reached
    there = explore_noise(state="learning_rate=1.2 batch_size=64 change_at=0.5 rate_after=0.5 batch_after=4")
    assert there.outcome.goal_reached and f"{40} steps" in there.outcome.text
    line = there.figure.axes[0].lines[2]
    assert line.get_xdata()[-1] == PICTURES and line.get_ydata()[-1] < GOAL


def test_what_share_shows_makes_the_explorer_anew() -> None:
    explorer = explore_noise(state="batch_size=32 batch_after=16")
    again = eval(explorer.share(), {"explore_noise": explore_noise})
    assert again.state() == explorer.state() and again.outcome == explorer.outcome
