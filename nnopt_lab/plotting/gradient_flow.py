"""Sizes of activations and gradients, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from nnopt_lab.gradient_flow import GradientFlow
from nnopt_lab.plotting.style import new_axes, run_style, styled, tidy

SIZES = 1e-99, 1e99
"""What is drawn of sizes that vanish or overflow."""

LEAST_DECADES = (1e-2, 1e1)
"""Shown at least, so that a healthy network looks level."""


def draw_gradient_flow(flows: Mapping[str, GradientFlow], ax: Axes | None = None) -> Axes:
    """Draw the norm of each layer's weight gradient, one line a network, on a log axis."""
    ax = tidy(ax if ax is not None else new_axes(width_px=520, height_px=320), log=True)
    deepest = 1
    values = []
    with styled():
        for index, (label, flow) in enumerate(flows.items()):
            style = run_style(index)
            layers, norms = layers_to_draw(flow.weight_gradient_norms, first=1)
            ax.plot(layers, norms, style.line_style, color=style.color, marker=style.marker, markersize=4, label=label)
            deepest, values = max(deepest, len(norms)), [*values, *norms]
        ax.set_title("Gradient of each layer's weights")
        ax.set_xlabel("layer, first to last")
        ax.set_ylabel("norm")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.set_xlim(0.5, deepest + 0.5)
        ax.set_ylim(decades_around(np.array(values)))
        if len(flows) > 1:
            ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return ax


def layers_to_draw(sizes: np.ndarray, *, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the layers' numbers, and their sizes within what a log axis can hold."""
    return np.arange(first, first + len(sizes)), np.clip(np.nan_to_num(sizes, nan=SIZES[1]), *SIZES)


def decades_around(sizes: np.ndarray) -> tuple[float, float]:
    """Return limits for a log axis that hold ``sizes`` and `LEAST_DECADES`."""
    low, high = min(LEAST_DECADES[0], sizes.min(initial=1.0)), max(LEAST_DECADES[1], sizes.max(initial=1.0))
    return 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
