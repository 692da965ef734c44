"""Losses of two parameters, each with its gradient, its minima and what it is there to show."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nnopt_lab.arguments import require_integer, require_number

Window = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface:
    """A loss of two parameters.

    Attributes
    ----------
    name, title : str
        What code and readers call it.
    lesson : str
        One sentence: what it shows.
    loss : callable
        Maps points, shape (..., 2), to losses, shape (...).
    gradient : callable
        Maps points, shape (..., 2), to gradients, shape (..., 2).
    minima : ndarray
        float64, shape (m, 2): every global minimum; m is 0 if there is none.
    minimum_loss : float
        The loss there; -inf if there is none.
    window : tuple
        ((x from, x to), (y from, y to)): the part worth drawing.
    start : tuple of float
        A point from which the lesson is seen.
    learning_rate : float
        A sensible one for gradient descent from ``start``.
    curvatures : tuple of float or None
        Eigenvalues of the Hessian where it is the same everywhere, smallest first.
    noise : float
        Standard deviation of what `nnopt_lab.descent.descend` adds to each coordinate of each gradient.

    Examples
    --------
    >>> bowl = quadratic(condition=4)
    >>> bowl.loss(np.array([[2.0, 1.0], [0.0, 0.0]])).tolist()
    [4.0, 0.0]
    >>> bowl.gradient(np.array([2.0, 1.0])).tolist()
    [2.0, 4.0]
    """

    name: str
    title: str
    lesson: str
    loss: Callable[[np.ndarray], np.ndarray]
    gradient: Callable[[np.ndarray], np.ndarray]
    minima: np.ndarray
    minimum_loss: float
    window: Window
    start: tuple[float, float]
    learning_rate: float
    curvatures: tuple[float, float] | None = None
    noise: float = 0.0

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Return how far points, shape (..., 2), are from the nearest minimum: shape (...), NaN if there is none."""
        points = np.asarray(points, dtype=float)
        if len(self.minima) == 0:
            return np.full(points.shape[:-1], np.nan)
        with np.errstate(over="ignore", invalid="ignore"):
            apart = points[..., None, :] - self.minima
            return np.hypot(apart[..., 0], apart[..., 1]).min(axis=-1)

    def heights(self, width: int = 80, height: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the losses on a grid over the window, as contours need them.

        Returns
        -------
        x, y, losses : ndarray
            Shapes (width,), (height,) and (height, width).
        """
        x = np.linspace(*self.window[0], require_integer("width", width, at_least=2))
        y = np.linspace(*self.window[1], require_integer("height", height, at_least=2))
        return x, y, self.loss(np.stack(np.meshgrid(x, y), axis=-1))


def quadratic(
    condition: float = 25.0,
    *,
    angle_degrees: float = 0.0,
    noise: float = 0.0,
    name: str = "quadratic",
    title: str | None = None,
    lesson: str = "Steps must be small enough for the steepest direction, and are then too small for the flattest.",
) -> Surface:
    """Return ½ (u² + condition v²), with u along the valley and v across it.

    Parameters
    ----------
    condition : float
        The larger curvature over the smaller, which is 1.
    angle_degrees : float
        From the x axis to the valley, counterclockwise.
    noise : float
        Standard deviation of the gradient's noise.

    Raises
    ------
    ValueError
        If ``condition`` is below 1, ``noise`` negative, or one of the three not a finite number.
    """
    condition = require_number("condition", condition, at_least=1)
    angle = math.radians(require_number("angle_degrees", angle_degrees))
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    hessian = turn.T @ np.diag([1.0, condition]) @ turn
    own, other = np.diagonal(hessian), hessian[0, 1]
    across = min(7.0, 15 / math.sqrt(condition))
    # Never narrower than 7 either way: a window that shrank with the valley would make every valley look round.
    x_reach, y_reach = np.abs(np.array([[10.0, across], [10.0, -across]]) @ turn).max(axis=0).clip(min=7.0)
    start = np.array([-9.0, 0.75 * across]) @ turn

    def gradient(points: np.ndarray) -> np.ndarray:
        return own * points + other * points[..., ::-1]  # points @ hessian, in half its time for few points

    def loss(points: np.ndarray) -> np.ndarray:
        return 0.5 * (points * gradient(points)).sum(axis=-1)

    return Surface(
        name=name,
        title=title or f"quadratic valley, condition number {condition:g}",
        lesson=lesson,
        loss=loss,
        gradient=gradient,
        minima=np.zeros((1, 2)),
        minimum_loss=0.0,
        window=((-float(x_reach), float(x_reach)), (-float(y_reach), float(y_reach))),
        start=(float(start[0]), float(start[1])),
        learning_rate=1 / condition,
        curvatures=(1.0, condition),
        noise=require_number("noise", noise, at_least=0),
    )


def noisy_quadratic(condition: float = 25.0, *, noise: float = 3.0) -> Surface:
    """Return `quadratic` with noise in every gradient, as a mini-batch has it."""
    return quadratic(
        condition,
        noise=noise,
        name="noisy",
        title=f"noisy valley, condition number {condition:g}",
        lesson="With noise in the gradient a fixed learning rate ends in a cloud around the minimum, wider for larger "
        "rates; only smaller steps or larger batches shrink it.",
    )


def _rosenbrock_loss(points: np.ndarray) -> np.ndarray:
    x, y = points[..., 0], points[..., 1]
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def _rosenbrock_gradient(points: np.ndarray) -> np.ndarray:
    x, y = points[..., 0], points[..., 1]
    above = 200 * (y - x * x)
    gradient = np.empty_like(points)
    gradient[..., 0] = 2 * (x - 1) - 2 * x * above
    gradient[..., 1] = above
    return gradient


def _saddle_loss(points: np.ndarray) -> np.ndarray:
    x, y = points[..., 0], points[..., 1]
    return 0.5 * x**2 - 0.5 * y**2 + 0.25 * y**4


def _saddle_gradient(points: np.ndarray) -> np.ndarray:
    gradient = points.copy()
    y = points[..., 1]
    gradient[..., 1] = y * y * y - y
    return gradient


def _beale_loss(points: np.ndarray) -> np.ndarray:
    x, y = points[..., 0], points[..., 1]
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def _beale_gradient(points: np.ndarray) -> np.ndarray:
    x, y = points[..., 0], points[..., 1]
    square = y * y
    cube = square * y
    first = 1.5 - x + x * y
    second = 2.25 - x + x * square
    third = 2.625 - x + x * cube
    gradient = np.empty_like(points)
    gradient[..., 0] = 2 * (first * (y - 1) + second * (square - 1) + third * (cube - 1))
    gradient[..., 1] = 2 * x * (first + 2 * y * second + 3 * square * third)
    return gradient


def _himmelblau_loss(points: np.ndarray) -> np.ndarray:
    x, y = points[..., 0], points[..., 1]
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


def _himmelblau_gradient(points: np.ndarray) -> np.ndarray:
    x, y = points[..., 0], points[..., 1]
    first = 2 * (x * x + y - 11)
    second = 2 * (x + y * y - 7)
    gradient = np.empty_like(points)
    gradient[..., 0] = 2 * x * first + second
    gradient[..., 1] = first + 2 * y * second
    return gradient


def _plateau_loss(points: np.ndarray) -> np.ndarray:
    return -np.expm1(-0.5 * (points * points).sum(axis=-1))


def _plateau_gradient(points: np.ndarray) -> np.ndarray:
    return points * np.exp(-0.5 * (points * points).sum(axis=-1, keepdims=True))


def _cliff_loss(points: np.ndarray) -> np.ndarray:
    x, y = points[..., 0], points[..., 1]
    return np.expm1(4 * x) / 4 - x + 0.5 * y**2


def _cliff_gradient(points: np.ndarray) -> np.ndarray:
    gradient = points.copy()
    gradient[..., 0] = np.expm1(4 * points[..., 0])
    return gradient


SURFACES: dict[str, Surface] = {
    surface.name: surface
    for surface in (
        quadratic(
            2.0,
            name="bowl",
            title="round bowl, condition number 2",
            lesson="With nearly equal curvatures plain gradient descent needs no help.",
        ),
        quadratic(25.0, name="valley"),
        quadratic(
            100.0,
            angle_degrees=30.0,
            name="ravine",
            title="slanting ravine, condition number 100",
            lesson="A rate for each coordinate helps along the axes: where the ravine slants, AdaGrad and RMSprop lose "
            "their lead; momentum does not mind.",
        ),
        Surface(
            name="rosenbrock",
            title="Rosenbrock's banana",
            lesson="Getting into the curved valley is quick; following its almost flat floor takes most of the steps.",
            loss=_rosenbrock_loss,
            gradient=_rosenbrock_gradient,
            minima=np.array([[1.0, 1.0]]),
            minimum_loss=0.0,
            window=((-2.0, 2.0), (-1.0, 3.0)),
            start=(-1.5, 1.0),
            learning_rate=0.001,
        ),
        Surface(
            name="saddle",
            title="saddle between two minima",
            lesson="Near a saddle the gradient almost vanishes, so that the path lingers there before it falls.",
            loss=_saddle_loss,
            gradient=_saddle_gradient,
            minima=np.array([[0.0, -1.0], [0.0, 1.0]]),
            minimum_loss=-0.25,
            window=((-2.0, 2.0), (-2.0, 2.0)),
            start=(-1.8, 0.001),
            learning_rate=0.1,
        ),
        Surface(
            name="beale",
            title="Beale's function",
            lesson="Steep walls and a flat middle in one picture: no single learning rate suits both.",
            loss=_beale_loss,
            gradient=_beale_gradient,
            minima=np.array([[3.0, 0.5]]),
            minimum_loss=0.0,
            window=((-0.5, 4.5), (-2.0, 2.0)),
            start=(1.0, 1.5),
            learning_rate=0.005,
        ),
        Surface(
            name="himmelblau",
            title="Himmelblau's four minima",
            lesson="Where the path starts, and how large its steps are, decides in which minimum it ends.",
            loss=_himmelblau_loss,
            gradient=_himmelblau_gradient,
            minima=np.array(
                [
                    [3.0, 2.0],
                    [-2.805118086952745, 3.131312518250573],
                    [-3.779310253377747, -3.283185991286170],
                    [3.584428340330492, -1.848126526964404],
                ]
            ),
            minimum_loss=0.0,
            window=((-5.0, 5.0), (-5.0, 5.0)),
            start=(-0.5, -1.0),
            learning_rate=0.01,
        ),
        Surface(
            name="plateau",
            title="plateau with a hole",
            lesson="On a plateau the gradient vanishes: steps in proportion to it hardly move, "
            "those of RMSprop and Adam, which divide by its size, do.",
            loss=_plateau_loss,
            gradient=_plateau_gradient,
            minima=np.zeros((1, 2)),
            minimum_loss=0.0,
            window=((-4.0, 4.0), (-4.0, 4.0)),
            start=(-3.5, 2.0),
            learning_rate=0.1,
        ),
        Surface(
            name="cliff",
            title="cliff beside a gentle slope",
            lesson="One huge gradient on the cliff throws the path far out; clipping the gradient's norm keeps it.",
            loss=_cliff_loss,
            gradient=_cliff_gradient,
            minima=np.zeros((1, 2)),
            minimum_loss=0.0,
            window=((-6.0, 1.5), (-2.0, 2.0)),
            start=(1.0, 1.5),
            learning_rate=0.1,
        ),
        noisy_quadratic(),
    )
}
"""The surfaces of the lessons by name. Rosenbrock (1960); Beale (1958); Himmelblau (1972)."""
