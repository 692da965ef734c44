"""Distillation as it was measured: a teacher's opinion, students side by side, and what α and T did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from nnopt_lab.plotting.style import INK, MUTED, new_axes, run_style, styled, tidy

_BESIDE = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0}


def draw_opinion(
    probabilities: Mapping[str, Sequence[float]],
    class_names: Sequence[str],
    ax: Axes | None = None,
    *,
    label: int | None = None,
    title: str = "",
) -> Axes:
    """Draw what a teacher thinks of one picture, a group of bars a class, a bar for each temperature.

    Parameters
    ----------
    probabilities : mapping
        By what the legend says, as ``"T = 4"``: one probability a class.
    label : int, optional
        The picture's class, which is marked.
    """
    count = len(probabilities)
    ax = ax or tidy(new_axes(width_px=820, height_px=90 + len(class_names) * (12 + 12 * count)))
    height = 0.8 / count
    places = np.arange(len(class_names))
    with styled():
        for index, (name, values) in enumerate(probabilities.items()):
            style = run_style(index)
            at = places + (index - (count - 1) / 2) * height
            ax.barh(
                at,
                values,
                height=0.92 * height,
                color=style.color,
                label=name,
                hatch=("", "//", "..", "xx")[index % 4],
                edgecolor="white",
            )
            for place, value in zip(at, values, strict=True):
                ax.text(value + 0.006, place, f"{value:.1%}", va="center", fontsize=7, color=MUTED)
        names = [f"{name} (its label)" if index == label else name for index, name in enumerate(class_names)]
        ax.set_yticks(places, names)
        ax.set_ylim(len(class_names) - 0.5, -0.5)
        ax.set_xlim(0, 1.12)
        ax.set_xticks(np.linspace(0, 1, 6))
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        ax.grid(False, axis="y")
        ax.set_xlabel("probability")
        ax.set_title(title or "A teacher's opinion of one picture")
        if count > 1:
            ax.legend(**_BESIDE)
    return ax


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


def draw_students(
    curves: Mapping[str, Sequence[tuple[float, float]] | Sequence[Sequence[tuple[float, float]]]],
    ax: Axes | None = None,
    *,
    teacher: float | None = None,
    title: str = "",
) -> Axes:
    """Draw the validation accuracy of several students over epochs; of one with several seeds, the mean and the range.

    Parameters
    ----------
    curves : mapping
        By student: (epoch, accuracy) pairs of one run, or a list of such runs, all measured at the same epochs.
    teacher : float, optional
        The teacher's accuracy, drawn as a line.
    """
    ax = ax or tidy(new_axes(width_px=820, height_px=340))
    with styled():
        if teacher is not None:
            ax.axhline(teacher, color=MUTED, linewidth=1.2, linestyle="--", label=f"teacher: {teacher:.1%}")
        for index, (name, runs) in enumerate(curves.items()):
            style = run_style(index)
            values = np.asarray(runs, dtype=float)
            values = values[None] if values.ndim == 2 else values
            epochs, accuracies = values[0, :, 0], values[:, :, 1]
            if len(accuracies) > 1:
                ax.fill_between(
                    epochs, accuracies.min(0), accuracies.max(0), color=style.color, alpha=0.15, linewidth=0
                )
            ax.plot(
                epochs,
                accuracies.mean(0),
                style.line_style,
                marker=style.marker,
                color=style.color,
                markeredgecolor="white",
                label=name,
            )
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        ax.set_xlabel("epoch")
        ax.set_ylabel("validation accuracy")
        ax.set_title(title or "Students side by side")
        ax.legend(**_BESIDE)
    return ax


def draw_conditions(
    values: Mapping[str, Sequence[float]],
    ax: Axes | None = None,
    *,
    half_widths: Mapping[str, float],
    baseline: str | None = None,
    xlabel: str = "test accuracy",
    title: str = "",
) -> Axes:
    """Draw one row a condition: each seed as a dot, the mean as a bar across, and its interval.

    Parameters
    ----------
    values : mapping
        By condition: one number a seed, 0–1.
    half_widths : mapping
        By condition: half of the interval of the mean (`nnopt_lab.experiments.summarize`); NaN draws none.
    baseline : str, optional
        A condition whose mean is drawn through all rows.
    """
    ax = ax or tidy(new_axes(width_px=820, height_px=110 + 38 * len(values)))
    names = list(values)
    with styled():
        if baseline is not None:
            ax.axvline(float(np.mean(values[baseline])), color=MUTED, linewidth=1.2, linestyle="--", zorder=1)
        for row, name in enumerate(names):
            style = run_style(row)
            seeds, mean = np.asarray(values[name], dtype=float), float(np.mean(values[name]))
            # Dots of equal value lie beside each other, above the interval.
            ax.plot(
                seeds, row - 0.2 - 0.05 * (np.arange(len(seeds)) % 2), "o", color=style.color, alpha=0.6, markersize=4.5
            )
            if np.isfinite(half_widths[name]):
                ax.errorbar(mean, row + 0.08, xerr=half_widths[name], color=style.color, capsize=4, linewidth=1.8)
            ax.plot(mean, row + 0.08, style.marker, color=style.color, markersize=8, markeredgecolor="white")
            told = f"{mean:.1%}" + (f" ± {100 * half_widths[name]:.1f}" if np.isfinite(half_widths[name]) else "")
            ax.text(1.01, row, told, transform=ax.get_yaxis_transform(), va="center", fontsize=8.5, color=INK)
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.grid(False, axis="y")
        ax.xaxis.set_major_formatter(PercentFormatter(1.0))
        ax.set_xlabel(f"{xlabel} (dots: seeds; bar: 95% interval of the mean)")
        ax.set_title(title)
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
