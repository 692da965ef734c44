"""A line through measurements with noise: what more data mends, and what only smaller steps or larger batches do."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nnopt_lab.arguments import require_integer, require_number
from nnopt_lab.surfaces import Surface

TRUTH = 0.5, 1.0
"""Intercept and slope of the line that is measured."""

REACH = 3.2


@dataclass(frozen=True, eq=False)
class NoisyLine:
    """Measurements y = intercept + slope · x + noise; the parameters θ are (intercept, slope).

    The x have mean 0 and mean square 1 (uniform from −√3 to √3), so that the **clean loss**, half the mean squared
    distance between a line and the true one over all x, is ½ |θ − truth|².

    Attributes
    ----------
    x, y : ndarray
        float64, shape (examples,).
    """

    x: np.ndarray
    y: np.ndarray

    def data_loss(self, theta: np.ndarray) -> np.ndarray:
        """Return half the mean squared error on the measurements, for θ of shape (..., 2): shape (...)."""
        # From means over the data, so that a path of many θ needs one pass over many examples.
        x, square, y, product = _moments(self.x, self.y)
        intercept, slope = theta[..., 0], theta[..., 1]
        squares = intercept**2 + slope**2 * square + np.mean(self.y**2)
        return np.maximum(0.0, squares / 2 + intercept * slope * x - intercept * y - slope * product)

    def least_squares(self) -> np.ndarray:
        """Return the θ that is best on the measurements: shape (2,)."""
        return np.linalg.lstsq(np.stack([np.ones_like(self.x), self.x], axis=1), self.y, rcond=None)[0]


def clean_loss(theta: np.ndarray) -> np.ndarray:
    """Return ½ |θ − truth|² for θ of shape (..., 2): shape (...)."""
    return 0.5 * ((theta - np.array(TRUTH)) ** 2).sum(axis=-1)


def clean_surface() -> Surface:
    """Return the clean loss as a surface of two parameters, intercept and slope."""
    return Surface(
        name="clean",
        title="clean loss",
        lesson="What a line loses against the true one.",
        loss=clean_loss,
        gradient=lambda points: points - np.array(TRUTH),
        minima=np.array([TRUTH]),
        minimum_loss=0.0,
        window=tuple((at - REACH, at + REACH) for at in TRUTH),  # type: ignore[arg-type]
        start=(TRUTH[0] - 2.6, TRUTH[1] - 2.2),
        learning_rate=0.2,
    )


def measure_line(examples: int, *, noise: float, seed: int = 0) -> NoisyLine:
    """Return measurements of the true line; fewer of them are the first of more, and less noise is the same, smaller.

    Parameters
    ----------
    examples : int
        At least 3, so that no line goes through all of them.
    noise : float
        Standard deviation of what is added to each y.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> measure_line(50, noise=0.0).least_squares().round(6).tolist()
    [0.5, 1.0]
    """
    examples = require_integer("examples", examples, at_least=3)
    noise = require_number("noise", noise, at_least=0)
    x_seed, noise_seed = np.random.SeedSequence(require_integer("seed", seed, at_least=0)).spawn(2)
    x = np.random.default_rng(x_seed).uniform(-math.sqrt(3), math.sqrt(3), examples)
    added = noise * np.random.default_rng(noise_seed).standard_normal(examples)
    return NoisyLine(x, TRUTH[0] + TRUTH[1] * x + added)


def line_error(examples: int, *, noise: float) -> float:
    """Return the clean loss of the best line on so many measurements, averaged over data sets: about noise² / examples.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    examples = require_integer("examples", examples, at_least=3)
    return require_number("noise", noise, at_least=0) ** 2 / examples


@dataclass(frozen=True, eq=False)
class LineFits:
    """Where gradient descent and SGD went on the same measurements.

    Attributes
    ----------
    full, stochastic : ndarray
        θ of gradient descent, and of SGD: float64, shape (steps + 1, 2), the start first.
    best_on_data : ndarray
        The least-squares solution: shape (2,).
    """

    full: np.ndarray
    stochastic: np.ndarray
    best_on_data: np.ndarray

    @property
    def average(self) -> np.ndarray:
        """Mean θ of SGD's second half (Polyak & Juditsky, 1992): shape (2,)."""
        return self.stochastic[len(self.stochastic) // 2 :].mean(axis=0)

    @property
    def settled_loss(self) -> float:
        """Mean clean loss of SGD over its second half."""
        return float(clean_loss(self.stochastic[len(self.stochastic) // 2 :]).mean())


def fit_line(line: NoisyLine, *, learning_rate: float, batch_size: int, steps: int = 400, seed: int = 0) -> LineFits:
    """Follow gradient descent on all of the measurements, and SGD on ``batch_size`` of them drawn anew each step.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    rate = require_number("learning_rate", learning_rate, above=0)
    size = require_integer("batch_size", batch_size)
    count = require_integer("steps", steps)
    draws = np.random.default_rng(require_integer("seed", seed, at_least=0)).random((count, size))
    chosen = (draws * len(line.x)).astype(np.int64)
    everything = np.tile(_moments(line.x, line.y), (count, 1))
    batches = _moments(line.x[chosen], line.y[chosen])
    return LineFits(_walk(everything, rate), _walk(batches, rate), line.least_squares())


def _moments(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the means of x, x², y and xy over the last axis, which say all of a batch's gradient: shape (..., 4)."""
    return np.stack([x.mean(-1), (x**2).mean(-1), y.mean(-1), (x * y).mean(-1)], axis=-1)


def _walk(moments: np.ndarray, rate: float) -> np.ndarray:
    intercept, slope = clean_surface().start
    path = [(intercept, slope)]
    for x, square, y, product in moments.tolist():
        error, error_by_x = intercept + slope * x - y, intercept * x + slope * square - product
        intercept, slope = intercept - rate * error, slope - rate * error_by_x
        path.append((intercept, slope))
    return np.array(path)
