"""Heavy-ball momentum on a quadratic, in closed form: which rates are stable, and how fast they are.

On ½ h x² the step v ← μ v + h x, x ← x − η v is linear: (x, v) is multiplied by one 2×2 matrix. Its largest
eigenvalue in absolute value is the factor by which the distance to the minimum shrinks a step in the long run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nnopt_lab.arguments import require_number, require_numbers


def convergence_factor(rate_times_curvature: np.ndarray | float, momentum: np.ndarray | float) -> np.ndarray | float:
    """Return the factor by which one step shrinks the distance to the minimum in the long run.

    The eigenvalues solve λ² − (1 + μ − η h) λ + μ = 0 (Polyak, 1964). Where they are complex, both have
    absolute value √μ: the path swings, and neither rate nor curvature changes how fast it settles.

    Parameters
    ----------
    rate_times_curvature : ndarray or float
        η h.
    momentum : ndarray or float
        μ; broadcast against ``rate_times_curvature``.

    Returns
    -------
    ndarray or float
        float64, of the shape the two broadcast to; 1 and above does not converge.

    Raises
    ------
    ValueError
        If a rate times curvature is negative, a momentum outside 0–1, or either not finite.

    Examples
    --------
    >>> float(convergence_factor(0.5, 0.0)), float(convergence_factor(2.5, 0.0)), float(convergence_factor(1.0, 0.25))
    (0.5, 1.5, 0.5)
    """
    rates = require_numbers("rate_times_curvature", rate_times_curvature, at_least=0)
    momentums = require_numbers("momentum", momentum, at_least=0, at_most=1)
    # Half the eigenvalues' sum, and half their difference squared.
    middle = (1 + momentums - rates) / 2
    spread = middle**2 - momentums
    real = np.abs(middle) + np.sqrt(np.maximum(spread, 0))
    return np.where(spread < 0, np.sqrt(momentums), real)[()]


def slowest_factor(
    learning_rate: np.ndarray | float, momentum: np.ndarray | float, curvatures: Sequence[float]
) -> np.ndarray | float:
    """Return the `convergence_factor` of the direction that shrinks slowest, among all ``curvatures``.

    Parameters
    ----------
    learning_rate, momentum : ndarray or float
        η and μ, broadcast against each other.
    curvatures : sequence of float
        Eigenvalues of the Hessian, all positive.
    """
    hessian = require_numbers("curvatures", curvatures, above=0)
    if hessian.ndim != 1 or hessian.size == 0:
        raise ValueError(f"curvatures is {curvatures!r}, but it must be a sequence of at least one number.")
    rates = require_numbers("learning_rate", learning_rate, at_least=0)
    return np.max(convergence_factor(rates[..., None] * hessian, np.asarray(momentum)[..., None]), axis=-1)


def stable_rate(curvature: float, momentum: float = 0.0) -> float:
    """Return the rate 2 (1 + μ) / h below which the path converges and above which it diverges.

    Examples
    --------
    >>> stable_rate(25.0), stable_rate(25.0, 0.5)
    (0.08, 0.12)
    """
    curvature = require_number("curvature", curvature, above=0)
    return 2 * (1 + require_number("momentum", momentum, at_least=0, below=1)) / curvature


def best_rate(condition: float) -> float:
    """Return the best rate without momentum, 2 / (1 + condition), for curvatures from 1 to ``condition``.

    The factor is then (condition − 1) / (condition + 1).
    """
    return 2 / (1 + require_number("condition", condition, at_least=1))


def best_rate_and_momentum(condition: float) -> tuple[float, float]:
    """Return the best rate and momentum for curvatures from 1 to ``condition`` (Polyak, 1964).

    η = (2 / (√condition + 1))² and μ = ((√condition − 1) / (√condition + 1))²; the factor is then √μ.
    Where the smallest curvature is h rather than 1, divide the rate by h.
    """
    root = math.sqrt(require_number("condition", condition, at_least=1))
    return (2 / (root + 1)) ** 2, ((root - 1) / (root + 1)) ** 2
