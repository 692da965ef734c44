"""Momentum's phase diagram: how fast each pair of rate and momentum converges, in closed form."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from nnopt_lab.momentum import slowest_factor, stable_rate
from nnopt_lab.plotting.style import INK, MUTED, new_axes, styled

FACTORS = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Bands of the convergence factor; 1 and above diverges and is left white."""

FAST_TO_SLOW = LinearSegmentedColormap.from_list("fast to slow", ["#08519c", "#6baed6", "#deebf7", "#fff3e0"])
MOST_MOMENTUM = 0.99


def draw_phase_diagram(ax: Axes | None = None, *, condition: float = 1.0) -> Axes:
    """Draw the convergence factor over rate (times the largest curvature) and momentum; white diverges.

    Parameters
    ----------
    condition : float
        The largest curvature over the smallest; the factor is that of the slower direction.
    """
    ax = ax if ax is not None else new_axes(width_px=460, height_px=360)
    rates = np.linspace(0.0, 4.0, 321)[1:]
    momentums = np.linspace(0.0, MOST_MOMENTUM, 200)
    factors = slowest_factor(rates, momentums[:, None], (1 / condition, 1.0))
    with styled():
        ax.grid(False)
        shades = FAST_TO_SLOW(np.linspace(0, 1, len(FACTORS) - 1))
        ax.contourf(rates, momentums, factors, levels=FACTORS, colors=shades, zorder=0)
        lines = ax.contour(rates, momentums, factors, levels=FACTORS[1:-1], colors="white", linewidths=0.8, zorder=0)
        ax.clabel(lines, fontsize=7.5, colors=INK, fmt="%g")
        edge = np.array([stable_rate(1.0, momentum) for momentum in momentums])
        ax.plot(edge, momentums, color=INK, linewidth=1.2, zorder=1)
        ax.text(3.95, 0.04, "diverges", ha="right", color=MUTED)
        ax.set(xlim=(0, 4), ylim=(0, MOST_MOMENTUM), title="Factor by which a step shrinks the distance")
        ax.set_xlabel("rate × largest curvature")
        ax.set_ylabel("momentum")
    return ax
