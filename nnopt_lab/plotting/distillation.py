"""Distillation as it was measured: which classes a teacher takes for alike, and what α and T did."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from nnopt_lab.plotting.style import INK, new_axes, styled


def draw_similarity(
    similarity: np.ndarray, class_names: Sequence[str], ax: Axes | None = None, *, title: str = ""
) -> Axes:
    """Draw for which other classes a teacher takes the pictures of each class, in percent.

    Parameters
    ----------
    similarity : array
        Shape (K, K): row = the pictures' class, column = the class taken for. The diagonal is left out, and the colors
        reach up to the largest of the rest.
    """
    values = np.array(similarity, dtype=float)
    names = list(class_names)
    ax = ax or new_axes(width_px=720, height_px=460)
    shown = values.copy()
    np.fill_diagonal(shown, np.nan)
    highest = np.nanmax(shown) if np.isfinite(shown).any() else 1.0
    with styled():
        ax.grid(False)
        ax.set_facecolor("#eeeeee")
        ax.imshow(shown, cmap="YlGnBu", vmin=0, vmax=highest, aspect="auto")
        for row, column in np.ndindex(shown.shape):
            if np.isfinite(shown[row, column]):
                color = "white" if shown[row, column] > 0.6 * highest else INK
                ax.text(
                    column, row, f"{100 * shown[row, column]:.0f}", ha="center", va="center", fontsize=7.5, color=color
                )
        ax.set_xticks(range(len(names)), names, rotation=45, ha="right")
        ax.set_yticks(range(len(names)), names)
        ax.set_xlabel("mean probability of this class (%)")
        ax.set_ylabel("pictures of this class")
        ax.set_title(title or "Classes that the teacher finds alike")
    return ax


def draw_temperature_map(
    accuracies: np.ndarray,
    temperatures: Sequence[float],
    alphas: Sequence[float],
    ax: Axes | None = None,
    *,
    labels_only: float | None = None,
    title: str = "",
) -> Axes:
    """Draw the accuracy for each weight α of the teacher (row) and each temperature (column), in percent.

    Parameters
    ----------
    accuracies : array
        Shape (alphas, temperatures), 0–1; NaN where nothing was measured.
    labels_only : float, optional
        Accuracy without a teacher: numbers below it are slanted; the best is bold.
    """
    values = np.asarray(accuracies, dtype=float)
    ax = ax or new_axes(width_px=220 + 74 * len(temperatures), height_px=130 + 40 * len(alphas))
    with styled():
        ax.grid(False)
        image = ax.imshow(values, cmap="YlGnBu", aspect="auto")
        low, high = image.get_clim()
        for row, column in np.ndindex(values.shape):
            value = values[row, column]
            if np.isfinite(value):
                worse = labels_only is not None and value < labels_only
                ax.text(
                    column,
                    row,
                    f"{100 * value:.1f}",
                    ha="center",
                    va="center",
                    fontsize=9,
                    fontstyle="italic" if worse else "normal",
                    fontweight="bold" if value == np.nanmax(values) else "normal",
                    color="white" if value > low + 0.6 * (high - low) else INK,
                )
        ax.set_xticks(range(len(temperatures)), [f"{temperature:g}" for temperature in temperatures])
        ax.set_yticks(range(len(alphas)), [f"{alpha:g}" for alpha in alphas])
        ax.set_xlabel("temperature T")
        ax.set_ylabel("weight α of the teacher")
        said = title or "Validation accuracy (%) by α and T"
        if labels_only is not None:
            said += f"; labels only: {labels_only:.1%}"
        ax.set_title(said)
    return ax
