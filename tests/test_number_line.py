"""A grid over a few numbers: what is rounding, what is clipping, and the explorer of both."""

from __future__ import annotations

import math
import re
import time

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from sweeping import assert_fine, sweep

from nnopt_lab.quantization import choose_grid, rounded, signal_to_noise_db
from nnopt_lab.quantization.number_line import best_clip, clipped_grid, grid_error
from nnopt_lab.widgets import explore_grid
from nnopt_lab.widgets.number_line import VALUES

NUMBERS = torch.tensor(VALUES)


@given(
    values=st.lists(st.floats(-3, 3, width=32), min_size=2, max_size=12).filter(
        lambda some: max(map(abs, some)) > 0.01
    ),
    bits=st.integers(2, 8),
    clip=st.floats(0.2, 1.0),
    symmetric=st.booleans(),
)
@example(values=[3.0, -3.0], bits=5, clip=1.0, symmetric=False)
def test_rounding_and_clipping_are_all_of_the_error(values, bits, clip, symmetric):
    numbers = torch.tensor(values)
    grid = clipped_grid(numbers, bits=bits, symmetric=symmetric, clip=clip)
    error = grid_error(numbers, grid)
    squared = (numbers - rounded(numbers, grid)).double().square().mean().item()
    assert error.rounding + error.clipping == pytest.approx(squared, rel=1e-9, abs=1e-15)
    assert error.rounding <= (grid.scale.item() / 2) ** 2 * (1 + 1e-4)
    assert error.decibels == signal_to_noise_db(numbers, rounded(numbers, grid))
    whole = grid_error(numbers, clipped_grid(numbers, bits=bits, symmetric=symmetric))
    assert whole.clipping == 0


def test_the_best_clip_is_the_best_of_all_that_were_given():
    clips = [0.5, 0.8, 0.9, 1.0]
    best, error = best_clip(NUMBERS, bits=3, symmetric=False, clips=clips)
    tried = {clip: grid_error(NUMBERS, clipped_grid(NUMBERS, bits=3, symmetric=False, clip=clip)) for clip in clips}
    assert best == 0.9 and error == tried[0.9] and error.decibels == max(one.decibels for one in tried.values())
    assert error.clipping > 0  # of these five, the best clips some


def test_nothing_moves_on_a_grid_made_for_it():
    numbers = torch.tensor([-1.0, 0.0, 0.5])
    assert grid_error(numbers, choose_grid(-1.0, 1.0, bits=3, symmetric=True)).decibels < math.inf
    assert grid_error(numbers, choose_grid(-1.0, 0.5, bits=2, symmetric=False)).decibels == math.inf


@pytest.mark.parametrize("clip", [0.0, -1.0, 1.5, float("nan")])
def test_a_clip_that_is_no_share_is_refused(clip):
    with pytest.raises(ValueError, match="clip is"):
        clipped_grid(NUMBERS, bits=3, symmetric=True, clip=clip)


def test_every_control_reaches_both_ends():
    explorer = explore_grid()
    assert_fine(explorer)
    sweep(explorer)
    explorer.restore("grid=affine bits=8 clip=0.2")
    sweep(explorer)
    explorer.reset()
    assert explorer.state() == "bits=2 clip=1 grid=symmetric"


def test_what_is_said_is_what_is_so():
    explorer = explore_grid(state="bits=3 clip=0.7 grid=affine")
    grid = clipped_grid(NUMBERS, bits=3, symmetric=False, clip=0.7)
    error = grid_error(NUMBERS, grid)
    assert f"rounding {error.rounding:.4f} + clipping {error.clipping:.4f}" in explorer.outcome.text
    assert f"signal to noise {error.decibels:.1f} dB" in explorer.outcome.text
    assert explorer.outcome.text.startswith(f"8 numbers from {grid.low:.3g} to {grid.high:.3g}")


def test_only_the_best_clip_reaches_the_goal():
    explorer = explore_grid(state="bits=3")
    reached = {"symmetric": [], "affine": []}
    for kind, found in reached.items():
        explorer.controls["grid"].value = kind
        for clip in np.arange(0.2, 1.001, 0.01):
            explorer.controls["clip"].value = round(float(clip), 2)
            if explorer.outcome.goal_reached:
                found.append(round(float(clip), 2))
    assert reached["symmetric"] == [] and 1 <= len(reached["affine"]) <= 4
    explorer.restore(f"clip={reached['affine'][0]} bits=8")
    assert not explorer.outcome.goal_reached


def test_the_readers_own_numbers():
    explorer = explore_grid([3.0, -1.0, 0.1])
    sweep(explorer)
    again = eval(explorer.share(), {"explore_grid": explore_grid, "values": [3.0, -1.0, 0.1]})
    assert again.state() == explorer.state() and again.outcome == explorer.outcome
    assert eval(explore_grid().share(), {"explore_grid": explore_grid}).state() == "bits=2 clip=1 grid=symmetric"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([0.0, 0.0], "values has 2 numbers, but it must hold at least one that is not 0."),
        ([1.0, float("nan")], "values is nan, but it must be a finite number."),
    ],
)
def test_numbers_without_a_grid_are_refused(values, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        explore_grid(values)


def test_a_move_takes_few_milliseconds():
    explorer = explore_grid(state="bits=4")
    times = []
    for clip in np.arange(0.3, 0.9, 0.02):
        began = time.process_time()
        explorer.controls["clip"].value = float(clip)
        times.append(time.process_time() - began)
    assert np.median(times) < 0.05  # on an idle core it is a fifth of this
