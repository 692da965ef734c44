"""Measurements with noise, and the lines through them."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from nnopt_lab.noisy_data import NoisyLine
from nnopt_lab.plotting.style import styled, tidy

MOST_POINTS = 256
"""More than so many measurements are not told apart."""

X_REACH = 1.9
CLEAN_LOSSES = 1e-5, 1e2


def prepare_data(ax: Axes) -> Axes:
    """Set ``ax`` up for measurements and lines."""
    tidy(ax)
    with styled():
        ax.set(xlim=(-X_REACH, X_REACH), ylim=(-6, 7))
    return ax


def prepare_losses(ax: Axes, steps: int) -> Axes:
    """Set ``ax`` up for losses by step."""
    tidy(ax, log=True)
    with styled():
        ax.set(xlim=(0, steps), ylim=CLEAN_LOSSES)
    return ax


def points_to_draw(line: NoisyLine) -> tuple[np.ndarray, np.ndarray]:
    """Return the first measurements, at most `MOST_POINTS`."""
    return line.x[:MOST_POINTS], line.y[:MOST_POINTS]


def line_to_draw(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the line with intercept and slope ``theta``."""
    x = np.array([-X_REACH, X_REACH])
    return x, theta[0] + theta[1] * x


def losses_to_draw(losses: np.ndarray) -> np.ndarray:
    """Return ``losses`` within what the axes can hold."""
    return np.clip(losses, CLEAN_LOSSES[0] / 10, CLEAN_LOSSES[1] * 10)
