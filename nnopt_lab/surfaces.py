"""Losses that can be drawn, and the paths of optimizers on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnopt_lab.arguments import require_integer, require_number


@dataclass(frozen=True)
class Path:
    """Where an optimizer went.

    Attributes
    ----------
    points : ndarray
        float64, shape (steps + 1, dimensions); the first is the start.
    losses : ndarray
        float64, shape (steps + 1,).
    """

    points: np.ndarray
    losses: np.ndarray

    def steps_until(self, loss: float) -> int | None:
        """Return the first step from which on the loss stays below ``loss``, or None if it ends above."""
        above = np.flatnonzero(~(self.losses < loss))
        first = 0 if len(above) == 0 else int(above[-1]) + 1
        return first if first < len(self.losses) else None


def quadratic_loss(points: np.ndarray, curvatures: tuple[float, ...]) -> np.ndarray:
    """Return ½ Σᵢ hᵢ xᵢ² for points of shape (…, dimensions)."""
    return 0.5 * (np.asarray(curvatures) * points**2).sum(axis=-1)


def quadratic_path(
    start: tuple[float, ...],
    *,
    curvatures: tuple[float, ...],
    learning_rate: float,
    momentum: float = 0.0,
    steps: int = 60,
) -> Path:
    """Follow gradient descent with heavy-ball momentum (Polyak, 1964) down ½ Σᵢ hᵢ xᵢ².

    The convention is that of ``torch.optim.SGD``: v ← μ v + ∇L(x), x ← x − η v.

    Parameters
    ----------
    start : tuple of float
        First point.
    curvatures : tuple of float
        hᵢ, one a dimension; steps larger than 2/max(hᵢ) diverge without momentum.
    learning_rate, momentum : float
        η and μ.
    steps : int
        Steps taken.

    Raises
    ------
    ValueError
        If the lengths differ or a hyperparameter is out of range.

    Examples
    --------
    >>> quadratic_path((1.0,), curvatures=(1.0,), learning_rate=0.5, steps=3).points.ravel().tolist()
    [1.0, 0.5, 0.25, 0.125]
    """
    if len(start) != len(curvatures):
        raise ValueError(f"start has {len(start)} numbers, but it must have {len(curvatures)}, one for each curvature.")
    require_number("learning_rate", learning_rate, above=0)
    require_number("momentum", momentum, at_least=0, below=1)
    require_integer("steps", steps)
    hessian = np.asarray(curvatures, dtype=float)
    points = np.empty((steps + 1, len(start)))
    points[0] = start
    velocity = np.zeros(len(start))
    # A diverging path may overflow to infinity; that is an answer, not a mistake.
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(steps):
            velocity = momentum * velocity + hessian * points[step]
            points[step + 1] = points[step] - learning_rate * velocity
        return Path(points, quadratic_loss(points, curvatures))
