"""A few numbers on a line, rounded to a grid whose bits and width the reader moves."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike

from nnopt_lab.arguments import require_numbers
from nnopt_lab.plotting import quantization_trial as drawing
from nnopt_lab.plotting.quantization import said_decibels
from nnopt_lab.quantization.grids import rounded
from nnopt_lab.quantization.number_line import best_clip, clipped_grid, grid_error
from nnopt_lab.widgets.controls import integer_slider, menu, slider
from nnopt_lab.widgets.explorer import Explorer, Outcome, explore
from nnopt_lab.widgets.live_figure import LiveFigure

VALUES = (-0.55, -0.2, 0.55, 1.0, 2.1)
"""The last is an outlier: a grid that reaches it is coarse for the others."""
LEAST_CLIP, CLIP_STEP = 0.2, 0.01
GOAL_BITS, GOAL_WITHIN_DB = 3, 0.1
GRIDS = {"affine": "affine (from end to end)", "symmetric": "symmetric (around 0)"}


def explore_grid(values: ArrayLike | None = None, *, state: str | None = None) -> Explorer:
    """Return an explorer of one grid over a few numbers.

    Left: the numbers, and an arrow from each to the number of the grid that it becomes. Right: the signal-to-noise
    ratio of every clip that was tried.

    Parameters
    ----------
    values : array, optional
        Some 2 to 12 numbers, not all 0. Default: five, one of them an outlier.
    state : str, optional
        Where the controls start, as `Explorer.state` returns it or a part of it, as in ``"bits=3 clip=0.7"``.

    Raises
    ------
    ValueError
        If ``values`` are not finite or all 0, or ``state`` has a name or value that does not exist.
    """
    numbers = torch.as_tensor(require_numbers("values", VALUES if values is None else values), dtype=torch.float32)
    numbers = numbers.flatten()
    if not numbers.any():
        raise ValueError(f"values has {len(numbers)} numbers, but it must hold at least one that is not 0.")
    clips = np.round(np.arange(LEAST_CLIP, 1 + CLIP_STEP / 2, CLIP_STEP), 9).tolist()
    best = {kind: best_clip(numbers, bits=GOAL_BITS, symmetric=kind == "symmetric", clips=clips)[1] for kind in GRIDS}
    highest = max(error.decibels for error in best.values())
    live = LiveFigure(
        columns=2,
        widths=(1.7, 1.0),
        width_px=900,
        height_px=300,
        alt="Left: numbers on a line, the grid below them, and an arrow from each number to where it is rounded. "
        "Right: the signal-to-noise ratio of each clip that was tried.",
    )
    line, noise = live.axes
    live.describe(line, title="Numbers and their grid", x="value")
    live.describe(noise, title="Signal to noise", x="clip (share of the range)", y="dB")
    arrows = drawing.NumberLinePanel(line, numbers.tolist())
    decibels = drawing.DecibelsTried(noise, highest=50.0)
    for artist in [*arrows.artists, *decibels.artists]:
        live.animate(artist)
    live.legend(line, columns=3)
    live.legend(noise, columns=3)
    tried: dict[tuple[int, str], dict[float, float]] = {}

    def update(bits: int, clip: float, grid: str) -> Outcome:
        chosen = clipped_grid(numbers, bits=bits, symmetric=grid == "symmetric", clip=clip)
        error = grid_error(numbers, chosen)
        levels = chosen.levels().numpy()
        arrows.show(levels, rounded(numbers, chosen).numpy())
        tried.setdefault((bits, grid), {})[clip] = min(error.decibels, 50.0)
        others = [point for key, found in tried.items() if key != (bits, grid) for point in found.items()]
        decibels.show(
            np.array(list(tried[bits, grid].items())),
            np.array(others).reshape(-1, 2),
            (clip, min(error.decibels, 50.0)),
        )
        return Outcome(
            f"{len(levels)} numbers from {levels[0]:.3g} to {levels[-1]:.3g}, {chosen.scale.item():.3g} apart. "
            f"Mean squared error: rounding {error.rounding:.4f} + clipping {error.clipping:.4f} = "
            f"{error.rounding + error.clipping:.4f}: {said_decibels(error.decibels)}.",
            goal_reached=bits == GOAL_BITS and error.decibels >= highest - GOAL_WITHIN_DB,
        )

    return explore(
        live,
        update,
        controls={
            "bits": integer_slider("bits", low=2, high=8, value=2),
            "clip": slider("clip", low=LEAST_CLIP, high=1.0, value=1.0, step=CLIP_STEP),
            "grid": menu("grid", {title: kind for kind, title in GRIDS.items()}, value="symmetric"),
        },
        goal=f"with {GOAL_BITS} bits, find the grid and the clip with the highest signal-to-noise ratio "
        f"(to {GOAL_WITHIN_DB:g} dB).",
        call="explore_grid(" if values is None else "explore_grid(values, ",
        state=state,
    )
